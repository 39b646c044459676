"""From the containers that Keras takes to checked batches for a `FlowModel`."""

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.model import inputs
from tfp_flows.model import likelihood as likelihood_lib

__all__ = ['ModelInputs', 'first_examples', 'split']


class ModelInputs:
  """Checks and batches the data of one model.

  Data are arrays; a `tf.data.Dataset`, generator or `keras.utils.PyDataset` of batches
  `x`, `(x, condition)` or `(x, condition, sample_weight)`.
  """

  def __init__(self, likelihood: likelihood_lib.Likelihood):
    self._likelihood = likelihood
    self._event_shape = tuple(likelihood.distribution.event_shape)
    self.checker = inputs.Checker(self._check_batch)

  @staticmethod
  def is_array(x: Any) -> bool:
    """Whether `x` is all examples in one, and not a container of batches."""
    return hasattr(x, '__array__') or isinstance(x, (list, tuple))

  def check(self, x: Any, is_whole: bool = True) -> np.ndarray:
    """Examples as an array; see `inputs.check_examples`.

    Those of one batch, of data that may be sorted, say nothing about the spread of a
    column: their digits are not checked unless `is_whole`.
    """
    x = inputs.check_examples(x, self._event_shape, self._likelihood.num_bins)
    if is_whole and self._likelihood.num_bins is None:
      inputs.check_digits(x, self._likelihood.distribution.dtype)
    return x

  def check_condition(self, condition: Any, is_whole: bool = True) -> Any:
    """The condition of examples, as an array or None, checked as these are."""
    self._likelihood.check_condition(condition, per_example=True)
    if condition is None:
      return None
    condition = np.asarray(condition)
    inputs.check_condition_values(condition)
    if is_whole and condition.dtype != bool:
      dtype = self._likelihood.distribution.dtype
      inputs.check_digits(condition, dtype, 'columns of the condition')
    return condition

  def batch(self, x: Any, condition: Any = None, weight: Any = None) -> tuple[Any, ...]:
    """The parts of one batch, checked, without those at its end that are None."""
    parts: tuple[Any, ...] = (
      self.check(x, False),
      self.check_condition(condition, False),
      weight,
    )
    if condition is not None and len(parts[1]) != len(parts[0]):
      raise ValueError(
        f'Expected as many conditions as examples, {len(parts[0])}; received '
        f'{len(parts[1])}.'
      )
    while parts[-1] is None:
      parts = parts[:-1]
    return parts

  def batches(
    self,
    x: Any,
    condition: Any = None,
    weight: Any = None,
    batch_size: int | None = None,
    order: int | None = None,
    replicas: int = 1,
    fill: bool = True,
    as_dataset: bool = False,
  ) -> Any:
    """Checked batches of `x`, a container that Keras takes.

    Args:
      x: see the class.
      condition: of arrays; containers have their own.
      weight: likewise.
      batch_size: of arrays; None is 32.
      order: seed of the order of arrays, or None to keep it.
      replicas: what the size of a whole set in one batch is a multiple of.
      fill: see `inputs.batches`.
      as_dataset: whether a `tf.data.Dataset` is returned whatever `x` is.
    """
    if isinstance(x, tf.data.Dataset):
      return self._of_dataset(x)
    if isinstance(x, keras.utils.PyDataset) or inspect.isgenerator(x):
      checked = self._of_generator(x) if inspect.isgenerator(x) else _Checked(x, self)
      return _as_dataset(checked) if as_dataset else checked
    self._likelihood.check_condition(condition)
    if not self.is_array(x):
      raise ValueError(
        f'Expected arrays, a tf.data.Dataset, a generator or a keras.utils.PyDataset; '
        f'received {type(x).__name__}.'
      )
    x, condition = self.check(x), self.check_condition(condition)
    if self._likelihood.num_bins is None:
      x = x.astype(self._likelihood.distribution.dtype.as_numpy_dtype)
    examples = inputs.array_examples(x, condition, weight)
    size = min(batch_size or 32, len(x))
    if size == len(x):
      size += -size % replicas
    return inputs.batches(examples, size, order, fill=fill)

  def as_tuples(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """`dataset` with elements that are tuples.

    Raises:
      ValueError: if they are something else, as dictionaries.
    """
    spec = dataset.element_spec
    if isinstance(spec, tuple) and 1 <= len(spec) <= 3:
      return dataset
    if isinstance(spec, tf.TensorSpec):
      return dataset.map(lambda x: (x,))
    keys = f' with {sorted(spec)}' if isinstance(spec, dict) else ''
    raise ValueError(
      f'Expected a data set of x, (x, condition) or (x, condition, sample_weight); '
      f'received one of {type(spec).__name__}{keys}. Choose the parts, for example by '
      f"`dataset.map(lambda d: d['image'])`."
    )

  def _of_dataset(self, dataset):
    dataset = self.as_tuples(dataset)
    spec = dataset.element_spec
    inputs.check_shape(spec[0].shape, self._event_shape)
    self._likelihood.check_condition(spec[1] if len(spec) > 1 else None, True)
    return self.checker(dataset)

  def _of_generator(self, batches) -> Iterator[tuple[Any, ...]]:
    for data in batches:
      yield self.kept(data)

  def kept(self, data: Any) -> tuple[Any, ...]:
    """One batch of a container, checked; Keras would bury the error."""
    try:
      return self.batch(*keras.utils.unpack_x_y_sample_weight(data))
    except ValueError as error:
      self.checker.original = error
      raise

  def _check_batch(self, x, condition=None):
    if len(x):
      self.check(x, is_whole=False)
    if condition is not None:
      inputs.check_condition_values(condition)


def _as_dataset(container):
  """The batches of a generator or a `PyDataset`, of any number of examples."""
  if isinstance(container, keras.utils.PyDataset):
    first, count = container[0], container.num_batches

    def batches():
      indices = itertools.count() if count is None else range(count)
      yield from (container[i] for i in indices)
      container.on_epoch_end()

  else:
    first, count = next(container, None), None
    if first is None:
      raise ValueError(inputs.EMPTY)
    # Goes on where it was, as Keras does with generators.
    rest = itertools.chain([first], container)
    batches = lambda: rest  # noqa: E731
  kept = [i for i, part in enumerate(first) if part is not None]
  parts = [np.asarray(first[i]) for i in kept]
  dataset = tf.data.Dataset.from_generator(
    lambda: (tuple(batch[i] for i in kept) for batch in batches()),
    output_signature=tuple(tf.TensorSpec([None, *p.shape[1:]], p.dtype) for p in parts),
  )
  if count is not None:
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
  if len(kept) == len(first):
    return dataset
  return dataset.map(lambda x, weight: (x, None, weight))


class _Checked(keras.utils.PyDataset):
  """The batches of another one, checked."""

  def __init__(self, batches: keras.utils.PyDataset, checks: ModelInputs):
    super().__init__(
      workers=batches.workers,
      use_multiprocessing=batches.use_multiprocessing,
      max_queue_size=batches.max_queue_size,
    )
    self._batches, self._checks = batches, checks

  @property
  def num_batches(self) -> int | None:
    return self._batches.num_batches

  def __len__(self) -> int:
    return len(self._batches)

  def __getitem__(self, index: int) -> tuple[Any, ...]:
    return self._checks.kept(self._batches[index])

  def on_epoch_begin(self) -> None:
    self._batches.on_epoch_begin()

  def on_epoch_end(self) -> None:
    self._batches.on_epoch_end()


def first_examples(dataset: tf.data.Dataset, count: int) -> tuple[Any, Any]:
  """Examples and condition of the first batches that have `count` of them."""
  batches, total = [], 0
  for batch in dataset.as_numpy_iterator():
    batches.append(batch)
    total += len(batch[0])
    if total >= count:
      break
  if not batches:
    raise ValueError(inputs.EMPTY)
  parts = [None if p[0] is None else np.concatenate(p) for p in zip(*batches)]
  return parts[0], parts[1] if len(parts) > 1 else None


def split(
  x: Any, condition: Any, sample_weight: Any, fraction: float
) -> tuple[Any, ...]:
  """Arrays without their last `fraction`, and that as the data of a validation."""
  x = np.asarray(x)
  start = int(len(x) * (1.0 - fraction))
  parts = [x, condition, sample_weight]
  train = [None if p is None else np.asarray(p)[:start] for p in parts]
  validation = [None if p is None else np.asarray(p)[start:] for p in parts]
  return *train, tuple(validation)
