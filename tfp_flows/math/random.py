"""Random numbers that are the same in eager mode, in graphs and under XLA."""

from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ['normal', 'rademacher', 'uniform']

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


def rademacher(shape: Any, seed: tf.Tensor, dtype: Any = tf.float32) -> tf.Tensor:
  """Numbers that are -1 or 1, each with probability 1/2."""
  bits = tf.random.stateless_uniform(
    shape, seed, minval=None, maxval=None, dtype=tf.int32, alg='philox'
  )
  return tf.where(bits < 0, -tf.ones([], dtype), tf.ones([], dtype))


def normal(shape: Any, seed: tf.Tensor, dtype: Any = tf.float32) -> tf.Tensor:
  """Standard normal numbers, by the method of Box and Muller."""
  u = uniform(tf.concat([[2], shape], axis=0), seed, dtype)
  radius = tf.sqrt(-2.0 * tf.math.log1p(-u[0]))
  return radius * tf.cos(2.0 * np.pi * u[1])
