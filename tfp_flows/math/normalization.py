"""What makes activations mean 0 and variance 1."""

import numpy as np
import tensorflow as tf

__all__ = ['log_scale_of']


def log_scale_of(deviation: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
  """`-log(deviation)`, and 0 where nothing varies.

  Args:
    deviation: standard deviation of each channel.
    mean: its mean; a deviation within the rounding of it counts as none.

  Returns:
    The log of the scale that makes the variance 1; a constant channel keeps its
    scale.
  """
  resolution = 10.0 * np.finfo(mean.dtype.as_numpy_dtype).eps
  varies = deviation > resolution * tf.abs(mean)
  return -tf.math.log(tf.where(varies, deviation, tf.ones_like(deviation)))
