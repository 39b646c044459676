"""What the rest of the library hides: private TFP, the Keras bridge, checks."""
