"""Random numbers that are the same in eager mode, in graphs and under XLA."""

from typing import Any

import tensorflow as tf

__all__ = ['uniform']

_BITS = {tf.float32: (tf.uint32, 24), tf.float64: (tf.uint64, 53)}


def uniform(shape: Any, seed: tf.Tensor, dtype: Any = tf.float32) -> tf.Tensor:
  """Uniform numbers in [0, 1).

  `tf.random.stateless_uniform` gives other floats under XLA than in eager mode
  for one seed; its integers are the same, and are what these floats are made of.

  Args:
    shape: of the result.
    seed: stateless seed `[2]`.
    dtype: `tf.float32` (multiples of 2^-24) or `tf.float64` (of 2^-53).

  Returns:
    Tensor of `shape`.
  """
  dtype = tf.as_dtype(dtype)
  integer, digits = _BITS[dtype]
  bits = tf.random.stateless_uniform(
    shape, seed, minval=None, maxval=None, dtype=integer, alg='philox'
  )
  shift = tf.constant(8 * integer.size - digits, integer)
  return tf.cast(tf.bitwise.right_shift(bits, shift), dtype) * 2.0**-digits
