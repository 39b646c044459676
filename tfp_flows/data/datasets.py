"""One loader for all data sets."""

import dataclasses
import hashlib

import numpy as np
import tensorflow as tf

from tfp_flows.data import images
from tfp_flows.data import tabular
from tfp_flows.data import toy

__all__ = ['TABLES', 'Data', 'load']

TABLES = ('.csv', '.csv.gz', '.npy')
_HELD_OUT = 20_000  # Points of toys for validation, and as many for the test.


@dataclasses.dataclass
class Data:
  """A data set in three parts.

  Attributes:
    train, validation, test: unbatched `tf.data.Dataset`s of `(x,)` or
      `(x, label)`, in a fixed order, of known cardinality.
    event_shape: of `x`: `(D,)` or `(H, W, C)`.
    num_bins: number of values of a pixel, or None for continuous data.
    num_classes: number of labels, or None.
    mean: what was subtracted from each column of a table.
    deviation: what each column was divided by then.
    digest: tells the examples from others: of arrays that of their bytes, of TensorFlow
      Datasets the name, the version and the sizes of the splits.
  """

  train: tf.data.Dataset
  validation: tf.data.Dataset
  test: tf.data.Dataset
  event_shape: tuple[int, ...]
  num_bins: int | None = None
  num_classes: int | None = None
  mean: np.ndarray | None = None
  deviation: np.ndarray | None = None
  digest: str = ''

  def in_units(self, x: np.ndarray) -> np.ndarray:
    """Undoes the standardization of a table, if there was one."""
    return x if self.mean is None else x * self.deviation + self.mean


def load(
  name: str,
  data_dir: str | None = None,
  download: bool | None = None,
  image_size: int | None = None,
  standardize: bool = True,
  num_points: int = 20_000,
  seed: int = 0,
) -> Data:
  """Loads a data set by name.

  * `'digits'`: the 8x8 digits of scikit-learn, 17 grey levels. In an order fixed
    by `seed`, the last 20 % are the test set, the last 10 % of the rest the
    validation set.
  * a name of `TOYS`: `num_points` points for training, 20,000 each for validation
    and test.
  * a path ending in `.csv`, `.csv.gz` or `.npy`: a table, split as the digits.
  * any other: the image set of that name in TensorFlow Datasets. The validation
    set is its `validation` split or else the last 10 % of `train`, the test set
    is its `test` split or else `validation`.

  Args:
    name: see above.
    data_dir: of TensorFlow Datasets.
    download: see `tfds_images`.
    image_size: see `tfds_images`.
    standardize: whether the columns of tables are scaled to mean 0 and variance
      1 over the training set; likelihoods are then those of the scaled data.
    num_points: of toys, for training.
    seed: int, of the order of digits and tables, and of the toys.

  Raises:
    ValueError: if there is no such data set, or it cannot be used.
  """
  if image_size is not None and (
    name == 'digits' or name in toy.TOYS or name.endswith(TABLES)
  ):
    raise ValueError(
      f'Expected --image_size with images of TensorFlow Datasets only; received '
      f'{image_size} with {name!r}.'
    )
  if name == 'digits':
    return _from_arrays(*images.digits(seed), num_bins=17, num_classes=10)
  if name in toy.TOYS:
    counts = [num_points, _HELD_OUT, _HELD_OUT]
    points = [toy.sample(name, n, [seed, i]) for i, n in enumerate(counts)]
    return Data(*map(_slices, points), event_shape=(2,), digest=_digest(*points))
  if name.endswith(TABLES):
    return _table(name, standardize, seed)
  return _tfds(name, data_dir, download, image_size)


def _digest(*arrays):
  found = hashlib.blake2b(digest_size=8)
  for array in arrays:
    found.update(np.ascontiguousarray(array))
  return found.hexdigest()


def _slices(*parts):
  return tf.data.Dataset.from_tensor_slices(parts)


def _bounds(count, name):
  if count < 10:
    raise ValueError(
      f'Expected at least 10 examples, to split into training, validation and '
      f'test; {name} has {count}.'
    )
  train_and_validation = count - count // 5
  train = train_and_validation - max(1, train_and_validation // 10)
  return [
    slice(train),
    slice(train, train_and_validation),
    slice(train_and_validation, None),
  ]


def _from_arrays(x, labels, num_bins, num_classes):
  parts = [_slices(x[b], labels[b]) for b in _bounds(len(x), 'the data set')]
  return Data(*parts, x.shape[1:], num_bins, num_classes, digest=_digest(x, labels))


def _table(path, standardize, seed):
  table = tabular.read_table(path)
  digest = _digest(table)
  table = table[np.random.default_rng(seed).permutation(len(table))]
  parts = [table[b] for b in _bounds(len(table), path)]
  # Also a table that keeps its scale must have columns that vary.
  mean, deviation = tabular.moments(parts[0])
  if not standardize:
    mean = deviation = None
  else:
    parts = [(part - mean) / deviation for part in parts]
  return Data(
    *map(_slices, parts),
    table.shape[1:],
    mean=mean,
    deviation=deviation,
    digest=digest,
  )


def _tfds(name, data_dir, download, image_size):
  splits, shape, num_classes, contents = images.tfds_images(
    name, data_dir, download, image_size
  )
  if 'train' not in splits:
    raise ValueError(
      f"Expected a data set with a split 'train'; {name!r} has {sorted(splits)}."
    )
  if 'validation' in splits and 'test' in splits:
    parts = splits['train'](), splits['validation'](), splits['test']()
  else:
    train, validation = splits['train']('[:90%]'), splits['train']('[90%:]')
    last = next((k for k in ('test', 'validation') if k in splits), None)
    if last is None:
      raise ValueError(
        f"Expected a data set with a split 'test' or 'validation'; {name!r} has "
        f'{sorted(splits)}.'
      )
    parts = train, validation, splits[last]()
  digest = _digest(np.frombuffer(contents.encode(), np.uint8))
  return Data(*parts, shape, 256, num_classes, digest=digest)
