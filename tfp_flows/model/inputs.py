"""What comes into a `FlowModel`: checked, and in batches of one shape."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.model import diagnosis

__all__ = [
  'Checker',
  'array_examples',
  'batches',
  'check_condition_values',
  'check_container',
  'check_digits',
  'check_event',
  'check_examples',
  'check_shape',
  'check_values',
  'without_autotuning',
]

# Of examples, to judge the spread of a column.
_ENOUGH_FOR_SPREAD = 16
# Between neighbouring numbers, in standard deviations of a column.
_LARGEST_STEP = 0.05

EMPTY = 'Expected at least one example; received an empty data set.'


def check_examples(
  x: Any, event_shape: tuple[int, ...], num_bins: int | None
) -> np.ndarray:
  """Returns examples as an array, or says what is wrong with them.

  Args:
    x: examples `[N, *event_shape]`.
    event_shape: of the model.
    num_bins: number of pixel values, or None for continuous data.

  Raises:
    ValueError: if there is no example, the shape is another one, or a pixel is not an
      integer in `[0, num_bins - 1]`.
    NonFiniteError: a `ValueError`, if a number is NaN or infinite.
  """
  try:
    x = np.asarray(x)
  except ValueError:
    raise ValueError(
      f'Expected one array of examples; received a {type(x).__name__} of '
      f'{len(x)} with different shapes. Pass a condition by itself, as in '
      f'fit(x, condition).'
    ) from None
  check_shape(x.shape, event_shape)
  if not len(x):
    raise ValueError(EMPTY)
  check_values(x, num_bins)
  return x


def check_digits(x: np.ndarray, dtype: tf.DType, owner: str = 'columns') -> None:
  """Raises `ValueError` if examples or conditions lose their digits as `dtype`.

  That is so where a number of a column is so large beside the spread of the column that
  steps of `dtype` are wider than a twentieth of its standard deviation: a column of
  times in seconds in float32. A few examples say nothing about a spread.
  """
  if len(x) < _ENOUGH_FOR_SPREAD or dtype == tf.float64 or not x.size:
    return
  x = x.reshape(len(x), -1)
  with np.errstate(over='ignore', invalid='ignore'):
    spread = x.std(axis=0, dtype=np.float64)
    step = np.abs(x).max(axis=0).astype(np.float64) * np.finfo(np.float32).eps
  lost = np.flatnonzero((spread > 0) & (step > _LARGEST_STEP * spread))
  if lost.size:
    i = lost[0]
    raise ValueError(
      f'Expected {owner} whose digits {dtype.name} keeps; received numbers up to '
      f'{np.abs(x[:, i]).max():.6g} with a standard deviation of {spread[i]:.3g} in '
      f'{"column" if lost.size == 1 else "columns"} '
      f'{", ".join(str(c) for c in lost[:10])}, where {dtype.name} has steps of '
      f'{step[i]:.3g}. Subtract the mean of each column in float64 first, or build the '
      f'model with dtype=tf.float64.'
    )


def check_condition_values(condition: np.ndarray) -> None:
  """Raises `ValueError` unless a condition consists of finite numbers."""
  if condition.dtype == bool:
    return
  check_numbers(condition.dtype)
  bad = int((~np.isfinite(condition)).sum())
  if bad:
    raise diagnosis.NonFiniteError(
      f'Expected a condition of finite numbers; received {bad} NaN or infinite ones. '
      f'Remove or impute them.',
      layer='the condition',
      what='batch',
    )


def check_values(x: np.ndarray, num_bins: int | None) -> None:
  """The part of `check_examples` that is about numbers, for any shape."""
  check_numbers(x.dtype)
  if not np.isfinite(x).all():
    raise diagnosis.NonFiniteError(
      f'Expected finite numbers; received {int((~np.isfinite(x)).sum())} NaN or '
      f'infinite ones. Remove or impute them.',
      layer='the batch',
      what='batch',
    )
  if num_bins is not None:
    check_pixels(x, num_bins)
  elif not np.issubdtype(x.dtype, np.floating):
    raise ValueError(
      f'Expected floating-point examples; received dtype {x.dtype}. Integers '
      f'have no density: pass `dequantization=tff.UniformDequantization(...)`, '
      f'or cast what is continuous.'
    )


def check_numbers(dtype: np.dtype | tf.DType) -> None:
  """Raises `ValueError` unless `dtype` is one of NumPy's real numbers."""
  kind = dtype.as_numpy_dtype if isinstance(dtype, tf.DType) else dtype
  if not (np.issubdtype(kind, np.integer) or np.issubdtype(kind, np.floating)):
    raise ValueError(
      f'Expected integers or floating-point numbers; received dtype {dtype.name}. '
      f"Cast what are numbers, as `tf.cast(x, 'float32')` does."
    )


def check_shape(shape: Sequence[int | None], event_shape: Sequence[int]) -> None:
  """Raises `ValueError` unless `shape` is `[N, *event_shape]`."""
  if tf.TensorShape(shape).is_compatible_with([None, *event_shape]):
    return
  remedy = 'Reshape the data or build the model for its shape.'
  if tf.TensorShape(shape).is_compatible_with(event_shape):
    remedy = 'That is one example: pass batches, as `dataset.batch(64)` makes them.'
  raise ValueError(
    f'Expected examples of shape {[None, *event_shape]}; received {list(shape)}. '
    f'{remedy}'
  )


def check_container(x: Any) -> None:
  """Raises `ValueError` if `x` holds batches where one is expected."""
  if isinstance(x, tf.data.Dataset) or isinstance(x, Iterator):
    raise ValueError(
      f'Expected an array or a tensor of examples; received a {type(x).__name__}. '
      f'Pass its batches one by one, or the whole of it to `evaluate` for the mean.'
    )


def check_event(shape: Sequence[int], event_shape: Sequence[int]) -> None:
  """Raises `ValueError` unless `shape` is `[..., *event_shape]`."""
  ndims = len(event_shape)
  if len(shape) < ndims or tuple(shape[len(shape) - ndims :]) != tuple(event_shape):
    raise ValueError(
      f'Expected examples of shape [..., {", ".join(map(str, event_shape))}]; received '
      f'{list(shape)}. Reshape the data or build the model for its shape.'
    )


def check_pixels(x: np.ndarray, num_bins: int) -> None:
  """Raises `ValueError` unless `x` holds integers in `[0, num_bins - 1]`."""
  if not x.size:
    return
  low, high = x.min(), x.max()
  if low < 0 or high > num_bins - 1:
    raise ValueError(
      f'Expected pixel values in [0, {num_bins - 1}]; received values in '
      f'[{low:g}, {high:g}]. Undo any scaling, or build the model with another '
      f'`num_bins`.'
    )
  if np.issubdtype(x.dtype, np.floating) and (x != np.floor(x)).any():
    raise ValueError(
      f'Expected integer pixel values in [0, {num_bins - 1}]; received '
      f'fractions in [{low:g}, {high:g}]. Undo any scaling or noise: the model '
      f'dequantizes itself.'
    )


class Checker:
  """Checks batches of data sets as they are read.

  TensorFlow wraps an error raised while a data set is read; `original` has it as
  it was.
  """

  def __init__(self, check: Callable[..., Any]):
    """Creates the checker.

    Args:
      check: called with the arrays of examples and, if there is one, the condition.
    """
    self._check = check
    self.original: ValueError | None = None

  def __call__(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """`dataset`, of tuples of batches, whose first two parts are checked."""
    # TensorFlow would fail before it reads a batch.
    check_numbers(dataset.element_spec[0].dtype)
    if dataset.cardinality() == 0:
      raise ValueError(EMPTY)
    return dataset.map(self._checked, num_parallel_calls=tf.data.AUTOTUNE)

  def _checked(self, *parts):
    given = [p for p in parts[:2] if p is not None]
    found = tf.numpy_function(self.run, given, [p.dtype for p in given], stateful=False)
    found = [tf.ensure_shape(f, p.shape) for f, p in zip(found, given)]
    if parts[1:2] == (None,):
      found.append(None)
    return *found, *parts[2:]

  def run(self, *arrays: np.ndarray) -> list[np.ndarray]:
    """`arrays`, checked; keeps the error."""
    try:
      self._check(*arrays)
    except ValueError as error:
      self.original = error
      raise
    return list(arrays)


def array_examples(
  x: np.ndarray, condition: Any, sample_weight: Any
) -> tf.data.Dataset:
  """Unbatched `(x, condition, weight)` of arrays; `condition` may be None.

  Raises:
    ValueError: if the arrays differ in length.
  """
  if sample_weight is None:
    sample_weight = np.ones([len(x)], np.float32)
  weights = np.asarray(sample_weight, np.float32)
  if weights.ndim != 1 and weights.shape != (len(weights), 1):
    raise ValueError(
      f'Expected one weight per example, [{len(x)}]; received {list(weights.shape)}.'
    )
  parts = dict(examples=x, weights=weights.reshape(-1))
  if condition is not None:
    parts['conditions'] = np.asarray(condition)
  for name, value in parts.items():
    if len(value) != len(x):
      raise ValueError(
        f'Expected as many {name} as examples, {len(x)}; received {len(value)}.'
      )
  return tf.data.Dataset.from_tensor_slices(parts).map(
    lambda e: (e['examples'], e.get('conditions'), e['weights'])
  )


def batches(
  examples: tf.data.Dataset,
  batch_size: int,
  shuffle_seed: int | tf.Tensor | None = None,
  shuffle_buffer: int = 50_000,
  count: int | None = None,
  fill: bool = True,
) -> tf.data.Dataset:
  """Batches `(x, condition, weight)`, all of one shape.

  The last batch is filled up with repeated examples of weight 0, so that XLA
  compiles one program and no example is lost.

  Args:
    examples: unbatched, of known cardinality.
    batch_size: positive int; at most as many examples as there are make a batch.
    shuffle_seed: None to keep the order; an int for a new order in each epoch; an
      int64 scalar tensor for one order.
    shuffle_buffer: how many examples are shuffled at a time.
    count: number of examples, to be given inside of other data sets.
    fill: whether the last batch is filled up, or else smaller.
  """
  if count is None:
    count = int(examples.cardinality())
  batch_size = max(1, min(batch_size, count))
  missing = -count % batch_size
  filler = examples.repeat().take(missing)
  filler = filler.map(lambda x, c, w: (x, c, tf.zeros_like(w)))
  if shuffle_seed is not None:
    examples = examples.shuffle(
      tf.constant(min(count, shuffle_buffer), tf.int64),
      seed=shuffle_seed,
      reshuffle_each_iteration=not tf.is_tensor(shuffle_seed),
    )
  if fill:
    examples = examples.concatenate(filler)
  examples = examples.batch(batch_size, drop_remainder=fill).prefetch(2)
  return without_autotuning(examples)


def without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """`dataset` with the parallel calls and buffers that it asks for, or a default.

  TensorFlow's thread that tunes them sleeps for up to a minute, and often does not
  hear that its iterator is deleted, which waits for it: at the end of a program, too.
  """
  options = tf.data.Options()
  options.autotune.enabled = False
  return dataset.with_options(options)
