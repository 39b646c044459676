"""Data sets, whole and damaged."""

import glob
import os
import pathlib
from collections.abc import Callable
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

FEATURES = {
  'image': tfds.features.Image(shape=(8, 8, 1)),
  'label': tfds.features.ClassLabel(num_classes=3),
}


def table(rows: int = 40, columns: int = 3, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).normal(3, 2, [rows, columns])


def csv(path: pathlib.Path, values: np.ndarray, header: str = 'a,b,c') -> str:
  np.savetxt(path, values, delimiter=',', header=header, comments='')
  return str(path)


def image_set(
  folder: pathlib.Path,
  name: str,
  splits: Mapping[str, int],
  features: Mapping[str, tfds.features.FeatureConnector] | None = None,
  image: Callable[[int], np.ndarray] | None = None,
) -> pathlib.Path:
  """Writes an image set as TFDS does; returns the folder of its version."""
  features = dict(features or FEATURES)
  rng = np.random.default_rng(0)

  key = next(iter(features))

  def default(_):
    return rng.integers(0, 256, features[key].shape).astype(np.uint8)

  def example(i):
    found = {key: (image or default)(i)}
    return found | ({'label': i % 3} if 'label' in features else {})

  tfds.dataset_builders.store_as_tfds_dataset(
    name,
    config=None,
    version='1.0.0',
    features=tfds.features.FeaturesDict(features),
    split_datasets={k: [(i, example(i)) for i in range(n)] for k, n in splits.items()},
    data_dir=str(folder),
    disable_shuffling=True,
  )
  return folder / name / '1.0.0'


def shard(version: pathlib.Path, split: str = 'train') -> pathlib.Path:
  (path,) = glob.glob(os.path.join(version, f'*-{split}.tfrecord*'))
  return pathlib.Path(path)


def rewrite(path: pathlib.Path, change: Callable[[tf.train.Example], None]) -> None:
  """Changes every example of a shard, which stays a valid TFRecord."""
  records = [r.numpy() for r in tf.data.TFRecordDataset(str(path))]
  with tf.io.TFRecordWriter(str(path)) as writer:
    for record in records:
      example = tf.train.Example.FromString(record)
      change(example)
      writer.write(example.SerializeToString())


def set_image(value: bytes) -> Callable[[tf.train.Example], None]:
  """A change that gives every example these bytes for its image."""

  def change(example):
    example.features.feature['image'].bytes_list.value[:] = [value]

  return change


def png(shape: tuple[int, int, int]) -> bytes:
  return tf.io.encode_png(np.full(shape, 7, np.uint8)).numpy()


def flip_bit(path: pathlib.Path, position: int) -> None:
  """Inverts the lowest bit of a byte."""
  content = bytearray(path.read_bytes())
  content[position] ^= 1
  path.write_bytes(bytes(content))
