"""Named configurations: one flagfile per published result."""
