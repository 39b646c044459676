"""One loader for all data sets."""

import dataclasses
import hashlib
import os

import numpy as np
import tensorflow as tf

from tfp_flows.data import description
from tfp_flows.data import image_files
from tfp_flows.data import images
from tfp_flows.data import tabular
from tfp_flows.data import toy

__all__ = ['FILES', 'Data', 'is_path', 'load']

FILES = ('.csv', '.csv.gz', '.npy', '.npz')
_HELD_OUT = 20_000  # Points of toys for validation, and as many for the test.


@dataclasses.dataclass
class Data(description.Description):
  """A data set in three parts.

  Attributes:
    train, validation, test: unbatched `tf.data.Dataset`s of `(x,)` or
      `(x, label)`, in a fixed order, of known cardinality.
    repeating: the columns of a table, from 0, that are integers or rounded.
    rows: `'train'`, `'validation'` and `'test'` -> the row in the file, from 0, of each
      example of a table; empty for others.
  """

  train: tf.data.Dataset
  validation: tf.data.Dataset
  test: tf.data.Dataset
  repeating: tuple[int, ...] = ()
  rows: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def is_path(name: str) -> bool:
  """Whether `load` reads files at `name`: the others are names of data sets."""
  path = os.path.expanduser(name)
  return (
    path.endswith(FILES)
    or os.path.isabs(path)
    or path.startswith(('./', '../'))
    or ('/' in path and os.path.isdir(path))
  )


def load(
  name: str,
  data_dir: str | None = None,
  download: bool | None = None,
  image_size: int | None = None,
  standardize: bool = True,
  num_points: int = 20_000,
  seed: int = 0,
  scale: tuple[np.ndarray, np.ndarray] | None = None,
) -> Data:
  """Loads a data set by name.

  * `'digits'`: the 8x8 digits of scikit-learn, 17 grey levels. In an order fixed
    by `seed`, the last 20 % are the test set, the last 10 % of the rest the
    validation set.
  * a name of `TOYS`: `num_points` points for training, 20,000 each for validation
    and test.
  * a path ending in `.csv`, `.csv.gz` or `.npy`: a table, split as the digits.
  * a path ending in `.npy` or `.npz`: images, see `image_files.from_arrays`.
  * the path of a folder, with a slash in it: images, see `image_files.from_folder`.
  * any other: the image set of that name in TensorFlow Datasets. The validation
    set is its `validation` split or else the last 10 % of `train`, the test set
    is its `test` split or else `validation`.

  Args:
    name: see above.
    data_dir: of TensorFlow Datasets.
    download: see `tfds_images`.
    image_size: None, or the side of a square to which the centre of each image is
      scaled: for sets whose images differ in size.
    standardize: whether the columns of tables are scaled to mean 0 and variance
      1 over the training set; likelihoods are then those of the scaled data. See
      `tabular.scale` for what is done without.
    num_points: of toys, for training.
    seed: int, of the order of digits, tables and image files, and of the toys.
    scale: mean and deviation that a table is scaled by instead; 0 and 1 for none.

  Raises:
    ValueError: if there is no such data set, or it cannot be used.
  """
  if image_size is not None and (
    name == 'digits' or name in toy.TOYS or name.endswith(('.csv', '.csv.gz'))
  ):
    raise ValueError(
      f'Expected image_size=N with images of TensorFlow Datasets or of files only; '
      f'received {image_size} with {name!r}.'
    )
  if name == 'digits':
    return _digits(seed)
  if name in toy.TOYS:
    counts = [num_points, _HELD_OUT, _HELD_OUT]
    points = [toy.sample(name, n, [seed, i]) for i, n in enumerate(counts)]
    return Data(*map(_slices, points), event_shape=(2,), digest=_digest(*points))
  if is_path(name):
    return _from_files(os.path.expanduser(name), image_size, standardize, seed, scale)
  return _tfds(name, data_dir, download, image_size)


def _digest(*arrays):
  found = hashlib.blake2b(digest_size=8)
  for array in arrays:
    found.update(np.ascontiguousarray(array).data)
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


def _digits(seed):
  x, labels = images.digits(seed)
  parts = [_slices(x[b], labels[b]) for b in _bounds(len(x), 'the data set')]
  return Data(
    *parts,
    event_shape=x.shape[1:],
    num_bins=17,
    num_classes=10,
    digest=_digest(x, labels),
  )


def _from_files(path, image_size, standardize, seed, scale):
  if not os.path.exists(path):
    raise ValueError(
      f'Expected a CSV or NPY file, or images in an NPZ file or a folder; there is '
      f'none at {path}.'
    )
  if path.endswith('.npz'):
    return _images(image_files.from_archive(path), path, image_size, seed)
  if path.endswith('.npy'):
    values = tabular.read_npy(path)
    if values.dtype == np.uint8 and values.ndim in (3, 4):
      return _images(image_files.from_array(values, path), path, image_size, seed)
    if image_size is None or values.ndim == 2:
      return _table(tabular.from_array(values, path), path, standardize, seed, scale)
    image_files.from_array(values, path)  # Raises an error that says why it is none.
  if path.endswith(FILES):
    return _table(tabular.read_table(path), path, standardize, seed, scale)
  return _images(image_files.from_folder(path, image_size), path, image_size, seed)


def _table(table, path, standardize, seed, scale):
  values = table.values
  if scale is not None and np.size(scale[0]) not in (1, values.shape[1]):
    raise ValueError(
      f'Expected the {np.size(scale[0])} columns of the run in {path}; received '
      f'{values.shape[1]}.'
    )
  order = np.random.default_rng(seed).permutation(len(values))
  rows = [order[b] for b in _bounds(len(values), path)]
  parts = [values[r] for r in rows]
  if scale is None:
    scale = tabular.scale(parts[0], table.names, standardize)
  mean, deviation = (np.broadcast_to(s, values.shape[1:]) for s in scale)
  is_scaled = bool(mean.any() or (deviation != 1.0).any())
  if is_scaled:
    # In float64, which has the digits of large offsets.
    parts = [(part - mean) / deviation for part in parts]
  train, validation, test = map(_slices, parts)
  return Data(
    train,
    validation,
    test,
    event_shape=values.shape[1:],
    mean=mean if is_scaled else None,
    deviation=deviation if is_scaled else None,
    columns=table.names,
    repeating=tuple(tabular.repeating(parts[0])),
    rows=dict(zip(('train', 'validation', 'test'), rows)),
    digest=_digest(values),
  )


def _images(found, path, image_size, seed):
  """The three parts of images in files, by their names or else by `seed`."""
  splits = {name: np.arange(len(x)) for name, (x, _) in found.splits.items()}
  order = np.random.default_rng(seed).permutation(len(splits['train']))
  named = [(name, splits[name]) for name in ('validation', 'test') if name in splits]
  if not named:
    bounds = _bounds(len(order), path)
    parts = [('train', order[b]) for b in bounds]
  elif len(named) == 2:
    parts = [('train', order), *named]
  else:
    # As of TensorFlow Datasets.
    count = max(1, len(order) // 10)
    if count == len(order):
      raise ValueError(
        f'Expected at least 2 images to train and validate with in {path}; received '
        f'{len(order)}.'
      )
    parts = [('train', order[:-count]), ('train', order[-count:]), named[0]]

  def opened(name, rows):
    x, labels = found.splits[name]
    part = _slices(x[rows]) if labels is None else _slices(x[rows], labels[rows])
    if found.decode is not None or image_size is not None:
      part = part.map(example, num_parallel_calls=tf.data.AUTOTUNE)
    return part

  def example(x, *label):
    if found.decode is not None:
      x = found.decode(x)
    return (x if image_size is None else images.centre(x, image_size), *label)

  arrays = [a for split in found.splits.values() for a in split if a is not None]
  shape = found.shape
  if image_size is not None:
    shape = (image_size, image_size, shape[-1])
  return Data(
    *(opened(*part) for part in parts),
    event_shape=shape,
    num_bins=256,
    num_classes=found.num_classes,
    classes=found.classes,
    digest=found.digest or _digest(*arrays),
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
  return Data(
    *parts, event_shape=shape, num_bins=256, num_classes=num_classes, digest=digest
  )
