"""What comes into a `FlowModel`: checked, and in batches of one shape."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.training import diagnosis

__all__ = [
  'Checker',
  'array_examples',
  'batches',
  'check_examples',
  'check_values',
  'without_autotuning',
]

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
  x = np.asarray(x)
  check_shape(x.shape, event_shape)
  if not len(x):
    raise ValueError(EMPTY)
  check_values(x, num_bins)
  return x


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
  if not tf.TensorShape(shape).is_compatible_with([None, *event_shape]):
    raise ValueError(
      f'Expected examples of shape {[None, *event_shape]}; received '
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
  """Checks the examples of data sets as they are read.

  TensorFlow wraps an error raised while a data set is read; `original` has it as
  it was.
  """

  def __init__(self, event_shape: Sequence[int], check: Callable[[np.ndarray], Any]):
    self._event_shape, self._check = event_shape, check
    self.original: ValueError | None = None

  def __call__(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """`dataset`, of tuples of batches, whose first parts are checked."""
    spec = dataset.element_spec[0]
    check_shape(spec.shape, self._event_shape)
    # TensorFlow would fail before it reads a batch.
    check_numbers(spec.dtype)
    if dataset.cardinality() == 0:
      raise ValueError(EMPTY)
    return dataset.map(
      lambda *parts: (self._checked(parts[0]), *parts[1:]),
      num_parallel_calls=tf.data.AUTOTUNE,
    )

  def _checked(self, x):
    checked = tf.numpy_function(self._run, [x], x.dtype, stateful=False)
    return tf.ensure_shape(checked, x.shape)

  def _run(self, batch):
    try:
      self._check(batch)
    except ValueError as error:
      self.original = error
      raise
    return batch


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
  examples = examples.concatenate(filler)
  examples = examples.batch(batch_size, drop_remainder=True).prefetch(2)
  return without_autotuning(examples)


def without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """`dataset` with the parallel calls and buffers that it asks for, or a default.

  TensorFlow's thread that tunes them sleeps for up to a minute, and often does not
  hear that its iterator is deleted, which waits for it: at the end of a program, too.
  """
  options = tf.data.Options()
  options.autotune.enabled = False
  return dataset.with_options(options)
