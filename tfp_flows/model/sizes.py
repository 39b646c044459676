"""Steps that are compiled for few sizes of batches."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

__all__ = ['Sized', 'fill_up', 'graph_function']

# A batch is filled up to at most so many times its size.
_LARGEST_FILLING = 16

Batch = tuple[tf.Tensor, tf.Tensor | None, tf.Tensor | None]


class Sized:
  """A function of batches, with a graph for each of few sizes.

  XLA compiles each size anew, which takes seconds, and cannot compile gradients of
  loops in graphs that do not know the size. So every graph here has one size, and a
  batch smaller than one that was seen before is filled up to that with rows of weight
  0: the last batch of a data set needs no program of its own.
  """

  def __init__(
    self, fn: Callable[..., Any], jit_compile: bool, fills: bool, per_row: bool = False
  ):
    """Creates the function.

    Args:
      fn: of the parts of a batch. If they are filled up: of examples, condition and
        weights, of which the condition may be None.
      jit_compile: whether XLA compiles it.
      fills: whether batches may be filled up: not if weights have no meaning to `fn`.
      per_row: whether `fn` returns one row for each example.
    """
    self._fn, self._jit_compile = fn, jit_compile
    self._fills, self._per_row = fills, per_row
    self._sizes: set[int] = set()
    self._functions: dict[Any, Callable[..., Any]] = {}

  def __call__(self, *batch: Any) -> Any:
    """`fn` of a batch, which has one example or more."""
    batch = tuple(t if t is None else tf.convert_to_tensor(t) for t in batch)
    count = batch[0].shape[0]
    size = self._size_for(count)
    if self._fills:
      batch = fill_up(batch, size)
    result = self._traced(batch)(*batch)
    if self._per_row and size > count:
      result = tf.nest.map_structure(lambda t: t[:count], result)
    return result

  def _size_for(self, count):
    larger = [n for n in self._sizes if count <= n <= _LARGEST_FILLING * count]
    size = min(larger, default=count) if self._fills else count
    self._sizes.add(size)
    return size

  def _traced(self, batch):
    key = tuple(t if t is None else (*t.shape, t.dtype) for t in batch)
    if key not in self._functions:
      self._functions[key] = graph_function(self._fn, self._jit_compile)
    return self._functions[key]


def graph_function(fn: Callable[..., Any], jit_compile: bool) -> Callable[..., Any]:
  """`tf.function` of `fn`, for arguments of one shape.

  TensorFlow warns of code that is traced often, and counts by the code of a function,
  which those of all shapes and models share. A `partial` has none, and counts alone.
  """
  own = functools.partial(fn)
  return tf.function(own, autograph=False, jit_compile=jit_compile)


def fill_up(batch: Batch, size: int) -> Batch:
  """`batch` with weights and with `size` rows; those added have weight 0."""
  x, condition, weight = batch
  count = x.shape[0]
  if weight is None:
    weight = tf.ones([count])
  if size == count:
    return x, condition, weight
  rows = tf.range(size) % count
  x, condition = (t if t is None else tf.gather(t, rows) for t in (x, condition))
  weight = tf.reshape(weight, [count])
  return x, condition, tf.pad(weight, [[0, size - count]])
