"""Stateless seeds."""

import random
from typing import Any

import tensorflow as tf

__all__ = ['default_seed', 'nth', 'split', 'stateless_seed']


def default_seed(seed: int | None = None) -> int:
  """`seed`, or one that `keras.utils.set_random_seed` fixes."""
  return random.randrange(2**31 - 1) if seed is None else seed


def stateless_seed(seed: Any) -> tf.Tensor:
  """Returns the int32 seed `[2]` of an int, or the given one.

  TFP takes an int as the seed of a stateful generator, which gives other numbers
  at each call; here the same int always gives the same numbers.

  Raises:
    ValueError: if it is neither an int nor two ints.
  """
  seed = tf.convert_to_tensor(seed)
  if not seed.dtype.is_integer or seed.shape not in ([], [2]):
    raise ValueError(
      f'Expected an int or a stateless seed of two ints; received {seed}.'
    )
  seed = tf.cast(seed, tf.int32)
  return tf.stack([0, seed]) if seed.shape.rank == 0 else seed


def nth(seed: tf.Tensor, i: int) -> tf.Tensor:
  """The last of `split(seed, i + 1)`."""
  # The default algorithm is another one under XLA if a number is negative.
  return tf.random.experimental.stateless_fold_in(seed, -i, alg='philox') if i else seed


def split(seed: tf.Tensor, count: int) -> list[tf.Tensor]:
  """`count` seeds; the first is `seed` itself, the others are made of it."""
  return [nth(seed, i) for i in range(count)]
