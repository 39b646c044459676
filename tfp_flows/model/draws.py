"""How many examples are drawn, and in which parts."""

import math
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ['in_parts', 'sample_shape']

_MOST = 2**31 - 1


def sample_shape(n: Any, condition: tf.Tensor | None) -> list[int] | tf.Tensor:
  """The shape of the draws for each row of the condition.

  Args:
    n: an int, a shape, or a tensor of either; None: one draw for each row of the
      condition, and `[1]` if there are no rows.
    condition: `[..., K]` or None.

  Returns:
    A list of ints; a vector if `n` is a tensor of a graph.

  Raises:
    ValueError: if `n` is something else.
  """
  if n is None:
    return [] if condition is not None and condition.shape.rank > 1 else [1]
  if tf.is_symbolic_tensor(n):
    return tf.reshape(n, [-1])
  try:
    sizes = np.asarray(n)
  except ValueError:  # A ragged list.
    sizes = np.asarray(None)
  is_shape = sizes.ndim < 2 and (not sizes.size or sizes.dtype.kind in 'iu')
  if not is_shape or (sizes < 0).any() or math.prod(sizes.reshape(-1).tolist()) > _MOST:
    raise ValueError(
      f'Expected n to be the number or the shape of the draws for each row of the '
      f'condition, as 16 or [2, 8]; received {n!r}.'
    )
  return [int(size) for size in sizes.reshape(-1)]


def in_parts(
  fn: Callable[..., Any],
  values: Any,
  rows: tf.Tensor | None,
  total: int,
  num_elements: int,
) -> Any:
  """`fn(values, rows)`, computed in parts of a few sizes, as they are compiled.

  Args:
    fn: `fn(values, rows, i)` of part `i`, by example; returns a structure.
    values: structure of `[total, ...]`, of at least one example.
    rows: `[R, K]` or None; example `j` has row `j % R`.
    total: number of examples that are returned.
    num_elements: size of an example, by which memory is bounded.
  """
  found, start = [], 0
  for i, size in enumerate(_sizes(total, _largest(num_elements))):
    # What is missing to a size is filled up with the last.
    index = tf.minimum(tf.range(start, start + size), max(total - 1, 0))
    part = tf.nest.map_structure(lambda t, at=index: tf.gather(t, at), values)
    row = None if rows is None else tf.gather(rows, index % tf.shape(rows)[0])
    kept = min(size, total - start)
    found.append(tf.nest.map_structure(lambda t, k=kept: t[:k], fn(part, row, i)))
    start += kept
  return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *found)


def _largest(num_elements):
  """The most examples of a part: activations of each take much more than itself."""
  return min(max(2 ** (16 - math.ceil(math.log2(max(num_elements, 1)))), 64), 4096)


def _sizes(total: int, largest: int) -> Iterator[int]:
  """Sizes of parts, each 16 times a power of 8, that hold `total` together.

  As large as may be without more than half of a part being wasted, so that there are
  few parts and few sizes.
  """
  sizes = [min(16 * 8**i, largest) for i in range(4)]
  sizes = sorted(set(sizes), reverse=True)
  left = max(total, 1)
  while left > 0:
    size = next((s for s in sizes if left > s // 2), sizes[-1])
    yield size
    left -= size
