"""Random numbers that are the same in eager mode, in graphs and under XLA."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.internal import example_keys

__all__ = ['for_examples', 'normal', 'rademacher', 'uniform']

_BITS = {tf.float32: (tf.uint32, 24), tf.float64: (tf.uint64, 53)}


Bits = Callable[[tf.Tensor], tf.Tensor]


def uniform(
  shape: Any,
  seed: tf.Tensor,
  dtype: Any = tf.float32,
  scramble: Bits = lambda bits: bits,
) -> tf.Tensor:
  """Uniform numbers in [0, 1).

  `tf.random.stateless_uniform` gives other floats under XLA than in eager mode
  for one seed; its integers are the same, and are what these floats are made of.

  Args:
    shape: of the result.
    seed: stateless seed `[2]`.
    dtype: `tf.float32` (multiples of 2^-24) or `tf.float64` (of 2^-53).
    scramble: of the random bits.

  Returns:
    Tensor of `shape`, or of that of the scrambled bits.
  """
  dtype = tf.as_dtype(dtype)
  integer, digits = _BITS[dtype]
  bits = tf.random.stateless_uniform(
    shape, seed, minval=None, maxval=None, dtype=integer, alg='philox'
  )
  bits = scramble(bits)
  shift = tf.constant(8 * integer.size - digits, integer)
  return tf.cast(tf.bitwise.right_shift(bits, shift), dtype) * 2.0**-digits


def rademacher(
  shape: Any,
  seed: tf.Tensor,
  dtype: Any = tf.float32,
  scramble: Bits = lambda bits: bits,
) -> tf.Tensor:
  """Numbers that are -1 or 1, each with probability 1/2."""
  bits = tf.random.stateless_uniform(
    shape, seed, minval=None, maxval=None, dtype=tf.int32, alg='philox'
  )
  return tf.where(scramble(bits) < 0, -tf.ones([], dtype), tf.ones([], dtype))


def normal(
  shape: Any,
  seed: tf.Tensor,
  dtype: Any = tf.float32,
  scramble: Bits = lambda bits: bits,
) -> tf.Tensor:
  """Standard normal numbers, by the method of Box and Muller."""
  u = uniform(tf.concat([[2], shape], axis=0), seed, dtype, scramble)
  radius = tf.sqrt(-2.0 * tf.math.log1p(-u[0]))
  return radius * tf.cos(2.0 * np.pi * u[1])


def for_examples(
  draw: Callable[..., tf.Tensor],
  shape: Any,
  seed: tf.Tensor,
  dtype: Any = tf.float32,
  axis: int = 0,
  keys: tf.Tensor | None = None,
) -> tf.Tensor:
  """`draw(shape, seed, dtype)`, the noise of a batch of examples.

  Called by each of several replicas of a `tf.distribute` strategy, it draws for the
  global batch and returns the part of this replica: with the same seed in all of them,
  and examples in equal parts, the noise is that of one process.

  With `keys` the noise of an example depends on its key, and not on its place.

  Args:
    draw: `uniform`, `rademacher` or `normal`.
    shape: of the result, the noise for the examples of one replica.
    seed: stateless seed `[2]`.
    dtype: of the result.
    axis: the first of the examples.
    keys: of the examples, `[*batch, 2]`, whose axes are those of `shape` from `axis`
      on.
  """
  if keys is not None:
    return _of_keys(draw, tf.convert_to_tensor(shape), seed, dtype, axis, keys)
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return draw(shape, seed, dtype)
  count, part = context.num_replicas_in_sync, context.replica_id_in_sync_group
  static = tf.get_static_value(shape)
  sizes = tf.unstack(tf.stack(shape)) if static is None else [int(n) for n in static]
  start = tf.one_hot(axis, len(sizes), part * sizes[axis], 0, dtype=tf.int32)
  whole = [n * count if i == axis else n for i, n in enumerate(sizes)]
  return tf.slice(draw(whole, seed, dtype), start, sizes)


def _of_keys(draw, shape, seed, dtype, axis, keys):
  """`draw` for one example, scrambled for each of them."""
  ndims = keys.shape.rank - 1
  event_ndims = shape.shape[0] - axis - ndims
  one = tf.concat([shape[:axis], [1] * ndims, shape[axis + ndims :]], axis=0)

  def scramble(bits):
    return example_keys.scramble(bits, keys, event_ndims)

  return draw(one, seed, dtype, scramble)
