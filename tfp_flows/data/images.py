"""Images: scikit-learn's digits, and any image set of TensorFlow Datasets."""

import functools
import os
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn import datasets

__all__ = ['centre', 'digits', 'tfds_images']


def digits(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """The 1797 handwritten digits that scikit-learn ships, shuffled.

  Args:
    seed: int, of the order.

  Returns:
    uint8 images `[1797, 8, 8, 1]` with values 0 to 16, and labels.
  """
  bunch = datasets.load_digits()
  order = np.random.default_rng(seed).permutation(len(bunch.target))
  images = bunch.images.astype(np.uint8)[order, ..., np.newaxis]
  return images, bunch.target[order]


def tfds_images(
  name: str,
  data_dir: str | None = None,
  download: bool | None = None,
  image_size: int | None = None,
) -> tuple[dict[str, Any], tuple[int, ...], int | None, str]:
  """Opens an image set of TensorFlow Datasets.

  Args:
    name: as TFDS has it, `'mnist'` or `'cifar10:3.0.2'`.
    data_dir: where TFDS keeps its data sets; None for its own default.
    download: whether to download what is not there; None does so only if
      `data_dir` is None.
    image_size: None, or the side of a square to which the centre of each image
      is scaled: for sets whose images differ in size.

  Returns:
    splits: by name, a function `slice -> tf.data.Dataset` of `(image, label)`,
      or of `(image,)` if there are no labels; `slice` as in `'[:90%]'`.
    event_shape: `(H, W, C)`.
    num_classes: or None.
    contents: name, version and sizes of the splits, as a text.

  Raises:
    ValueError: if the set is unknown, not there or damaged, has no images of uint8,
      or images of no fixed size; of a split, if it is empty.
  """
  import tensorflow_datasets as tfds  # Slow, and needed here only.

  try:
    builder = tfds.builder(name, data_dir=data_dir)
  except Exception as error:  # TFDS lets any error of names and files through.
    raise ValueError(
      f"Expected 'digits', a 2-D toy as 'moons', a path ending in .csv, .npy or .npz, "
      f'a folder of images as ./photos, or the name of a TensorFlow data set; received '
      f'{name!r} '
      f'({type(error).__name__}: {_first_line(error)}).'
    ) from error
  _prepare(builder, data_dir, download)
  features = builder.info.features
  shape = _image_shape(name, features)
  if image_size is not None:
    shape = (image_size, image_size, shape[-1])
  if None in shape:
    raise ValueError(
      f'Expected images of one size; those of {name!r} are {list(shape)}. Pass '
      f'image_size=N.'
    )
  label = features['label'] if 'label' in features else None
  num_classes = getattr(label, 'num_classes', None)

  def example(features):
    image = features['image']
    if image_size is not None:
      image = centre(image, image_size)
    return (image, features['label']) if num_classes else (image,)

  def open_split(key, part=''):
    if not builder.info.splits[f'{key}{part}'].num_examples:
      raise ValueError(
        f"Expected at least one example in '{key}{part}' of {name!r}; received none."
      )
    dataset = builder.as_dataset(split=f'{key}{part}', shuffle_files=False)
    return dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)

  splits = {key: functools.partial(open_split, key) for key in builder.info.splits}
  sizes = [(k, v.num_examples, v.num_bytes) for k, v in builder.info.splits.items()]
  return splits, tuple(shape), num_classes, f'{builder.info.full_name} {sorted(sizes)}'


def _prepare(builder, data_dir, download):
  if builder.is_prepared():
    return
  where = os.fspath(builder.data_path)
  if download is None:
    download = data_dir is None
  if not download:
    raise ValueError(
      f'Expected the data set {builder.name!r} at {where}; it is not there. Pass '
      f'the data_dir=DIR that has it, or download=True.'
    )
  try:
    builder.download_and_prepare()
  except Exception as error:  # TFDS lets any error of any downloader through.
    raise ValueError(
      f'Expected to download {builder.name!r} to {where}; this failed: '
      f'{type(error).__name__}: {_first_line(error)}. Check the network, '
      f'or pass the data_dir=DIR that has it.'
    ) from error


def _first_line(error):
  return next(iter(str(error).strip().splitlines()), '')


def _image_shape(name, features):
  """`(H, W, C)` of the feature 'image'; the first two may be None."""
  names = sorted(features) if hasattr(features, 'keys') else []
  if 'image' not in names:
    raise ValueError(f'Expected a data set with an image; {name!r} has {names}.')
  shape, dtype = features['image'].shape, features['image'].np_dtype
  if dtype != np.uint8 or len(shape) != 3 or shape[-1] not in (1, 3, 4):
    raise ValueError(
      f'Expected images of uint8 and of 1, 3 or 4 channels; those of {name!r} are '
      f'{getattr(dtype, "__name__", dtype)} of shape {shape}.'
    )
  return shape


def centre(image: tf.Tensor, size: int) -> tf.Tensor:
  """The square in the middle of an image, scaled to a side of `size`."""
  shape = tf.shape(image)
  side = tf.minimum(shape[0], shape[1])
  image = tf.image.resize_with_crop_or_pad(image, side, side)
  image = tf.image.resize(image, [size, size], antialias=True)
  return tf.cast(tf.round(tf.clip_by_value(image, 0, 255)), tf.uint8)
