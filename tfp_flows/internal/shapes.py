"""Shape checks whose errors say expected, received and remedy; batch helpers."""

import operator
from collections.abc import Callable
from collections.abc import Sequence

import tensorflow as tf

__all__ = [
  'as_event_shape',
  'batch_shape',
  'broadcast_batch',
  'ensure',
  'last_size',
  'reshape',
  'static_or_dynamic',
  'with_flat_batch',
]


def as_event_shape(event_shape: Sequence[int], owner: str) -> tuple[int, ...]:
  """Returns `event_shape` as a tuple of ints: `(D,)` or `(H, W, C)`."""
  if isinstance(event_shape, int):
    event_shape = (event_shape,)
  try:
    shape = tf.TensorShape(event_shape).as_list()
  except (TypeError, ValueError, OverflowError):  # No shape at all, or no rank.
    shape = None
  is_known = shape is not None and all(n and n < 2**31 for n in shape)
  if not is_known or len(shape) not in (1, 3):
    given = event_shape if shape is None else shape
    raise ValueError(
      f'{owner} expects a static event shape [D] or [H, W, C] of positive '
      f'sizes; received {given}. Reshape the data, for example with '
      f'`tfb.Reshape`.'
    )
  return tuple(shape)


def batch_shape(x: tf.Tensor, event_ndims: int) -> tf.Tensor | list[int]:
  """The leading shape of `x`: static where it is known."""
  static = x.shape[: x.shape.rank - event_ndims]
  if static.is_fully_defined():
    return static.as_list()
  return tf.shape(x)[: x.shape.rank - event_ndims]


def ensure(x: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
  """`x`, known to have `shape`."""
  known = x.shape.rank is not None and shape.rank is not None
  if known and all(a is not None or b is None for a, b in zip(x.shape, shape)):
    return x  # In graphs forward mode does not know `tf.ensure_shape`.
  return tf.ensure_shape(x, shape)


def last_size(shape: int | Sequence[int]) -> int:
  """`D` of a shape `[D]`, or of `D` itself."""
  try:
    return operator.index(shape)  # type: ignore[arg-type]
  except TypeError:
    return int(shape[-1])  # type: ignore[index]


def static_or_dynamic(x: tf.Tensor) -> tf.Tensor | list[int]:
  """The shape of `x`: static if it is known."""
  return x.shape.as_list() if x.shape.is_fully_defined() else tf.shape(x)


def with_flat_batch(
  fn: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, event_ndims: int
) -> tf.Tensor:
  """Applies `fn`, which takes one batch dimension, under any batch shape."""
  if x.shape.rank == event_ndims + 1:
    return fn(x)
  event = x.shape[x.shape.rank - event_ndims :]
  y = fn(tf.reshape(x, [-1, *event]))
  return reshape(y, batch_shape(x, event_ndims), y.shape[1:])


def reshape(
  x: tf.Tensor, batch: tf.Tensor | list[int], event: Sequence[int] | tf.TensorShape
) -> tf.Tensor:
  """Reshapes `x` to `[*batch, *event]`, statically if `batch` is a list."""
  if isinstance(batch, list):
    return tf.reshape(x, [*batch, *event])
  return tf.reshape(x, tf.concat([batch, list(event)], axis=0))


def broadcast_batch(x: tf.Tensor, event_ndims: int, condition: tf.Tensor) -> tf.Tensor:
  """`x` with the batch shape that it has together with `condition`."""
  batch = x.shape[: x.shape.rank - event_ndims]
  static = _broadcast_shapes(batch, condition.shape[:-1])
  if static == batch and static.is_fully_defined():
    return x
  event = x.shape[x.shape.rank - event_ndims :]
  if static.is_fully_defined():
    return tf.broadcast_to(x, static + event)
  both = tf.broadcast_dynamic_shape(tf.shape(x)[: batch.rank], tf.shape(condition)[:-1])
  x = tf.broadcast_to(x, tf.concat([both, tf.shape(x)[batch.rank :]], axis=0))
  return tf.ensure_shape(x, static + event)


def _broadcast_shapes(batch, other):
  try:
    return tf.broadcast_static_shape(batch, other)
  except ValueError as error:
    raise ValueError(
      f'Expected `condition` with a batch shape that broadcasts against that of the '
      f'events, {batch.as_list()}; received {other.as_list()}.'
    ) from error
