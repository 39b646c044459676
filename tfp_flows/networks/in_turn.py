"""The numbers of a masked network found in turn, each unit computed but once."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

__all__ = ['Find', 'Rows', 'blocks_of', 'find_in_turn', 'padded']

# From the outputs for one number, `[N, P]`, and from which one it is: the number,
# `[N]`, and what is summed over all numbers, `[N]`.
Find = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class Rows(NamedTuple):
  """One layer of the network, by the steps that compute its units.

  Attributes:
    kernel: `[D, n, inputs]`; the inputs are those of all steps of the layer before.
    bias: `[D, n, 1]`, or `[D, n, N]` if it differs from example to example.
  """

  kernel: tf.Tensor
  bias: tf.Tensor


def blocks_of(degrees: np.ndarray, count: int) -> np.ndarray:
  """The units of each degree from 0 to `count - 1`, `[count, most]`; -1 for none."""
  members = [np.flatnonzero(degrees == degree) for degree in range(count)]
  blocks = np.full([count, max(1, *map(len, members))], -1)
  for block, units in zip(blocks, members):
    block[: len(units)] = units
  return blocks


def padded(values: tf.Tensor, blocks: np.ndarray, axis: int) -> tf.Tensor:
  """The slices of `values` that `blocks` names, and zeros for -1."""
  paddings = [[0, 0]] * values.shape.rank
  paddings[axis] = [0, 1]
  index = np.where(blocks < 0, values.shape[axis], blocks)
  return tf.gather(tf.pad(values, paddings), index, axis=axis)


def find_in_turn(
  layers: Sequence[Rows],
  activation: Callable[..., Any],
  find: Find,
  start: tf.Tensor,
  unrolled: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Finds number after number from the outputs of the network for it.

  Step `i` computes the units of degree `i`, which see the `i` numbers that are known,
  then the outputs for the next number, then that number. What is not known yet counts
  as zero.

  Args:
    layers: from the first hidden layer to the outputs, with `n = P`.
    activation: of the hidden layers, elementwise.
    find: from the outputs, and the place in the order, counted from 0, to the number.
    start: zeros `[D, N]`, of the dtype of the numbers.
    unrolled: whether the steps are no loop.

  Returns:
    The numbers by their places, `[D, N]`, and the sum over the steps, `[N]`.
  """
  *hidden, last = layers
  dtype, count = last.kernel.dtype, start.shape[0]
  batch = tf.shape(start)[1]
  stores = [
    tf.zeros(tf.stack([*rows.kernel.shape[:2], batch]), dtype) for rows in hidden
  ]

  def step(i, numbers, total, *stores):
    known, updated = tf.cast(numbers, dtype), list(stores)
    for k, rows in enumerate(hidden):
      updated[k] = _put(updated[k], i, activation(_units(rows, i, known)))
      known = tf.reshape(updated[k], [-1, batch])
    outputs = tf.transpose(_units(last, i, known))
    number, summand = find(outputs, i)
    return i + 1, _put(numbers, i, number), total + summand, *updated

  state: tuple[Any, ...] = (0, start, tf.zeros_like(start[0]), *stores)
  if unrolled:
    for _ in range(count):
      state = step(*state)
  else:
    state = tf.while_loop(
      lambda i, *_: i < count, step, state, maximum_iterations=count
    )
  return state[1], state[2]


def _units(rows, i, known):
  return tf.matmul(rows.kernel[i], known) + rows.bias[i]


def _put(store, i, value):
  return tf.tensor_scatter_nd_update(store, [[i]], value[tf.newaxis])
