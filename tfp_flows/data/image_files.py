"""Images in files: NumPy's, and folders of PNG, JPEG and BMP."""

import concurrent.futures
import hashlib
import os
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfp_flows.data import tabular

__all__ = ['Images', 'from_archive', 'from_array', 'from_folder']

_ENDINGS = ('.png', '.jpg', '.jpeg', '.bmp')
# What people call the parts, in files and folders.
_SPLITS = {
  'train': ('train', 'training'),
  'validation': ('validation', 'val', 'valid'),
  'test': ('test', 'testing'),
}
_IMAGES, _LABELS = ('x', 'images', 'image'), ('y', 'labels', 'label')


class Images(NamedTuple):
  """Images that are to be split or are split already.

  Attributes:
    splits: `'train'` and maybe `'validation'` and `'test'` -> images and labels, arrays
      `[N, ...]`; without labels None.
    shape: `(H, W, C)` of all images; `H` and `W` are of the first if they are scaled.
    num_classes: or None without labels.
    classes: the names of the labels, or None.
    decode: from what the arrays hold to an image; None if that is one.
    digest: of the contents; empty if the arrays say it.
  """

  splits: dict[str, tuple[np.ndarray, np.ndarray | None]]
  shape: tuple[int, ...]
  num_classes: int | None = None
  classes: tuple[str, ...] | None = None
  decode: Callable[[tf.Tensor], tf.Tensor] | None = None
  digest: str = ''


def from_array(values: np.ndarray, path: str) -> Images:
  """Images of one array, uint8 `[N, H, W]` or `[N, H, W, C]`.

  Raises:
    ValueError: if it has another dtype or shape, or is empty.
  """
  images = _as_images(values, path)
  return Images(dict(train=(images, None)), images.shape[1:])


def from_archive(path: str) -> Images:
  """Images and labels of a `.npz` file.

  Its arrays are `images` or `x`, and maybe `labels` or `y`; or these with the name of a
  part before or behind, as `x_train`, `y_train`, `x_test`, `y_test` or `train_images`.

  Raises:
    ValueError: if it cannot be read, or has other arrays.
  """
  try:
    with np.load(path, allow_pickle=False) as archive:
      arrays = {name: archive[name] for name in archive.files}
  except Exception as error:  # A damaged archive may raise anything.
    raise ValueError(
      f'Expected an archive of NumPy arrays at {path}; it cannot be read: '
      f'{tabular.reason(error)}'
    ) from error
  splits = {}
  for split in _SPLITS:
    images, labels = (_member(arrays, split, kinds) for kinds in (_IMAGES, _LABELS))
    if images is not None:
      where = f'{images!r} of {path}'
      x = _as_images(arrays[images], where)
      splits[split] = x, labels and _as_labels(arrays[labels], x, path, labels)
  if 'train' not in splits:
    raise ValueError(
      f"Expected arrays 'images' or 'x', and maybe 'labels' or 'y', or 'x_train', "
      f"'y_train', 'x_test', 'y_test' in {path}; received {sorted(arrays)}."
    )
  shapes = {x.shape[1:] for x, _ in splits.values()}
  if len(shapes) > 1:
    raise ValueError(
      f'Expected images of one shape in all parts of {path}; received '
      f'{sorted(map(list, shapes))}.'
    )
  labels = [y for _, y in splits.values()]
  if any(y is None for y in labels):
    splits, num_classes = {k: (x, None) for k, (x, _) in splits.items()}, None
  else:
    num_classes = max(2, 1 + max(int(y.max()) for y in labels))
  return Images(splits, shapes.pop(), num_classes)


def _member(arrays, split, kinds):
  """The name of the array of a kind and of a part, or None."""
  names = [f for k in kinds for s in _SPLITS[split] for f in (f'{k}_{s}', f'{s}_{k}')]
  if split == 'train':
    names += kinds
  return next((name for name in names if name in arrays), None)


def _as_images(values, where):
  if values.dtype != np.uint8 or values.ndim not in (3, 4):
    hint = ''
    if values.ndim in (3, 4):
      hint = ' Save them as uint8, with values from 0 to 255.'
    raise ValueError(
      f'Expected images of uint8 [N, H, W] or [N, H, W, C] in {where}; received '
      f'{values.dtype} of shape {list(values.shape)}.{hint}'
    )
  values = values if values.ndim == 4 else values[..., np.newaxis]
  if not values.size or values.shape[-1] not in (1, 3, 4):
    hint = ''
    if values.shape[1] in (1, 3, 4):
      hint = ' Move the channels to the end: `np.moveaxis(images, 1, -1)`.'
    raise ValueError(
      f'Expected images [N, H, W, C] of 1, 3 or 4 channels in {where}; received shape '
      f'{list(values.shape)}.{hint}'
    )
  return values


def _as_labels(values, images, path, name):
  is_integer = np.issubdtype(values.dtype, np.integer)
  if not is_integer or values.size != len(images) or values.min() < 0:
    raise ValueError(
      f'Expected integers from 0 on, one for each of {len(images)} images, as {name!r} '
      f'of {path}; received {values.dtype} of shape {list(values.shape)}'
      + (f' with {values.min()}.' if is_integer and values.size else '.')
    )
  return values.reshape(-1).astype(np.int64)


def from_folder(path: str, image_size: int | None = None) -> Images:
  """Images of a folder, which are decoded when they are read.

  Its PNG, JPEG and BMP files, or those of its folders `train`, `test` and maybe
  `validation`. If all of them lie in folders, these are the classes, in the order of
  their names. Hidden files and others are passed over.

  Every file is decoded once here, so that no training ends at one that is damaged.

  Args:
    path: of the folder.
    image_size: given if images may differ in size, as they are scaled afterwards.

  Raises:
    ValueError: if there are no images, or some that cannot be read or do not match.
  """
  if not os.path.isdir(path):
    raise ValueError(
      f'Expected a folder of images, or a file ending in .csv, .csv.gz, .npy or .npz; '
      f'received the file {path}.'
    )
  roots = {
    split: os.path.join(path, name)
    for split, names in _SPLITS.items()
    for name in names
    if os.path.isdir(os.path.join(path, name))
  }
  if 'train' not in roots or _files(path, depth=1):
    roots = dict(train=path)
  files = {split: _files(root) for split, root in roots.items()}
  for split, found in files.items():
    if not found:
      raise ValueError(
        f'Expected PNG, JPEG or BMP files in the folder {roots[split]}; it has none.'
      )
  every = [os.path.join(roots[k], f) for k, found in files.items() for f in found]
  shape, digest = _checked(path, every, image_size)
  classes: list[str] | None = sorted(
    {f.split(os.sep)[0] for found in files.values() for f in found}
  )
  if not all(os.sep in f for found in files.values() for f in found):
    classes = None
  splits: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
  for split, found in files.items():
    labels = None
    if classes is not None:
      indices = [classes.index(f.split(os.sep)[0]) for f in found]
      labels = np.array(indices, np.int64)
    splits[split] = np.array([os.path.join(roots[split], f) for f in found]), labels

  def decode(name):
    image = _decoded(tf.io.read_file(name), shape[-1])
    return tf.ensure_shape(image, [None, None, shape[-1]] if image_size else shape)

  names = None if classes is None else tuple(classes)
  count = None if names is None else max(2, len(names))
  return Images(splits, shape, count, names, decode, digest)


def _files(root, depth=None):
  """The image files below a folder, relative to it, in order."""
  found = []
  for folder, folders, names in os.walk(root):
    folders[:] = [] if depth else sorted(f for f in folders if not f.startswith('.'))
    for name in names:
      if name.lower().endswith(_ENDINGS) and not name.startswith('.'):
        found.append(os.path.relpath(os.path.join(folder, name), root))
  return sorted(found)


def _decoded(contents, channels=0):
  return tf.io.decode_image(contents, channels, expand_animations=False)


def _checked(path, files, image_size):
  """The shape of all images, and a digest of names and contents."""
  digest = hashlib.blake2b(digest_size=8)
  with concurrent.futures.ThreadPoolExecutor() as pool:
    first: Any = None
    for file, (shape, contents) in zip(files, pool.map(_read, files), strict=True):
      digest.update(os.path.relpath(file, path).encode())
      digest.update(contents)
      first = first or (file, shape)
      _check_same(first, (file, shape), image_size)
  return first[1], digest.hexdigest()


def _read(file):
  try:
    with open(file, 'rb') as opened:
      contents = opened.read()
    shape = tuple(_decoded(contents).shape)
  except (OSError, tf.errors.OpError) as error:
    raise ValueError(
      f'Expected an image in {file}; it cannot be read: {_first_line(error)} Remove or '
      f'restore it.'
    ) from error
  if len(shape) != 3 or shape[-1] not in (1, 3, 4):
    raise ValueError(
      f'Expected an image of 1, 3 or 4 channels in {file}; received shape '
      f'{list(shape)}.'
    )
  return shape, hashlib.blake2b(contents, digest_size=8).digest()


def _first_line(error):
  text = getattr(error, 'message', None) or str(error)
  line = text.partition('{{')[2].partition('}} ')[2] or text
  return line.partition(' [Op:')[0].strip().rstrip('.') + '.'


def _check_same(first, other, image_size):
  (a, a_shape), (b, b_shape) = first, other
  if a_shape[-1] != b_shape[-1]:
    raise ValueError(
      f'Expected images that are all grey or all coloured; {a} has {a_shape[-1]} '
      f'channels and {b} has {b_shape[-1]}. Convert them to one kind.'
    )
  if image_size is None and a_shape != b_shape:
    raise ValueError(
      f'Expected images of one size; {a} has {a_shape[0]} rows of {a_shape[1]} pixels '
      f'and {b} has {b_shape[0]} of {b_shape[1]}. Pass image_size=N.'
    )
