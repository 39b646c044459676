import gzip
import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tfp_flows import data
from tfp_flows.data import images


def arrays(part):
  return [np.stack(values) for values in zip(*part.as_numpy_iterator())]


def table(rows=50, columns=3):
  return np.random.default_rng(0).normal(3, 2, [rows, columns])


def test_digits_are_split_in_a_fixed_order():
  digits = data.load('digits')
  assert (digits.event_shape, digits.num_bins, digits.num_classes) == (
    (8, 8, 1),
    17,
    10,
  )
  parts = [arrays(p) for p in (digits.train, digits.validation, digits.test)]
  assert [len(x) for x, _ in parts] == [1295, 143, 359]
  x, labels = (np.concatenate(v) for v in zip(*parts))
  expected, targets = images.digits(0)
  np.testing.assert_array_equal(x, expected)
  np.testing.assert_array_equal(labels, targets)
  assert x.dtype == np.uint8
  assert x.max() == 16
  assert (images.digits(1)[1] != targets).any()


def test_toys_have_three_different_parts():
  moons = data.load('moons', num_points=100)
  parts = [arrays(p)[0] for p in (moons.train, moons.validation, moons.test)]
  assert [p.shape for p in parts] == [(100, 2), (20_000, 2), (20_000, 2)]
  assert np.abs(parts[0] - parts[1][:100]).max() > 0.1
  assert np.abs(parts[1] - parts[2]).max() > 0.1
  assert moons.num_bins is None


def test_digests_tell_data_apart(data_dir):
  sets = [
    *(data.load('moons', num_points=9, seed=seed) for seed in (0, 1)),
    data.load('moons', num_points=10),
    *(data.load('digits', seed=seed) for seed in (0, 1)),
    data.load('small_images', data_dir),
    data.load('ragged_images', data_dir, image_size=16),
  ]
  digests = [d.digest for d in sets]
  assert all(digests) and len(set(digests)) == len(digests)
  assert data.load('moons', num_points=9).digest == digests[0]
  assert data.load('small_images', data_dir).digest == digests[5]


@pytest.mark.parametrize('name', ['t.csv', 't.csv.gz', 'header.csv', 't.npy'])
def test_tables(name, tmp_path):
  values, path = table(), str(tmp_path / name)
  if name.endswith('.npy'):
    np.save(path, values)
  else:
    header = 'a,b,c' if name == 'header.csv' else ''
    with (gzip.open if name.endswith('.gz') else open)(path, 'wt') as file:
      np.savetxt(file, values, delimiter=',', header=header, comments='')
  loaded = data.load(path, standardize=False)
  parts = [arrays(p)[0] for p in (loaded.train, loaded.validation, loaded.test)]
  assert [len(p) for p in parts] == [36, 4, 10]
  rows = np.concatenate(parts)
  np.testing.assert_allclose(np.sort(rows, 0), np.sort(values, 0), rtol=1e-5)
  assert np.abs(rows - values).max() > 0.1
  assert rows.dtype == np.float64

  standard = arrays(data.load(path).train)[0]
  np.testing.assert_allclose(standard.mean(0), 0, atol=1e-5)
  np.testing.assert_allclose(standard.std(0), 1, atol=1e-5)
  back = data.load(path).in_units(standard)
  np.testing.assert_allclose(back, parts[0], rtol=1e-6)


def write(path, text):
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return str(path)


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('t.csv', '', 'it is empty'),
    ('t.csv', 'a,b\n', 'it is empty'),
    ('t.csv', '1,2\n3,x\n', 'numbers separated by commas'),
    ('t.csv', '1,2\n3\n', 'numbers separated by commas'),
    ('t.csv', '1,2\n3,nan\n', 'finite numbers .*received nan in row 2, column 2'),
    ('t.csv', ',2,3\n' + '1,2,3\n' * 12, 'numbers separated by commas'),
    ('t.csv', '1,2\n3,4\n', 'at least 10 examples.*has 2'),
    ('t.csv', '1,2\n' * 5 + '1,3\n' * 6, r'constant .*column 1\. Drop'),
    ('t.csv.gz', 'no gzip', 'cannot be read'),
    ('t.npy', 'no array', 'cannot be read'),
    ('t.npy', b'', 'cannot be read'),
  ],
)
def test_bad_tables(name, text, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    data.load(write(tmp_path / name, text))


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('1,NA', r"received 'NA' in row 12, column 2 \(speed\)"),
    ('1,nan', r'received nan in row 12, column 2 \(speed\)'),
    ('1,', r"received '' in row 12, column 2 \(speed\)"),
    ('1', 'received 1 in row 12 and 2 in the rows before'),
    ('1,2,3', 'received 3 in row 12 and 2 in the rows before'),
  ],
)
def test_faults_of_tables_are_found_by_row_and_name(line, message, tmp_path):
  text = 'size, speed\n' + '1,2\n' * 11 + f'{line}\n' + '2,3\n' * 9
  with pytest.raises(ValueError, match=message) as error:
    data.load(write(tmp_path / 't.csv', text))
  assert 'usecols' not in str(error.value)


def test_columns_that_are_no_density(tmp_path):
  rng = np.random.default_rng(0)
  columns = [
    rng.normal(size=200),
    rng.integers(0, 40, 200),
    rng.normal(size=200).round(1),
    np.where(rng.uniform(size=200) < 0.3, 0.0, rng.normal(size=200)),
    rng.normal(size=200).round(6),
  ]
  np.save(tmp_path / 't.npy', np.stack(columns, axis=1))
  assert data.load(str(tmp_path / 't.npy')).repeating == (1, 2, 3)


def test_columns_far_from_zero_are_centred_before_they_lose_digits(tmp_path):
  values = table(50, 2) + [0, 1e8]
  np.save(tmp_path / 't.npy', values)
  loaded = data.load(str(tmp_path / 't.npy'), standardize=False)
  x = arrays(loaded.train)[0]
  np.testing.assert_array_equal(loaded.deviation, [1, 1])
  assert loaded.mean[0] == 0 and abs(loaded.mean[1] - 1e8) < 10
  back = loaded.in_units(x.astype(np.float32))
  rows = values[loaded.rows['train']]
  np.testing.assert_allclose(back - [0, 1e8], rows - [0, 1e8], atol=1e-5)
  np.save(tmp_path / 't.npy', values * 1e19)
  with pytest.raises(ValueError, match='up to 1e18 with standardize=False'):
    data.load(str(tmp_path / 't.npy'), standardize=False)


def test_a_description_survives_json(tmp_path):
  np.save(tmp_path / 't.npy', table() / 3)
  loaded = data.load(str(tmp_path / 't.npy'))
  text = json.dumps(loaded.as_json())
  found = data.Description.from_json(json.loads(text))
  np.testing.assert_array_equal(found.mean, loaded.mean)
  np.testing.assert_array_equal(found.deviation, loaded.deviation)
  assert (found.event_shape, found.digest) == ((3,), loaded.digest)


def test_tables_keep_their_precision(tmp_path):
  values = 1.6e9 + table(200, 1)
  np.save(tmp_path / 't.npy', np.concatenate([values, table(200, 1)], axis=1))
  (x,) = arrays(data.load(str(tmp_path / 't.npy')).train)
  assert len(np.unique(x[:, 0])) == len(x)
  np.testing.assert_allclose(x.std(0), 1, atol=1e-6)


def test_ten_rows_have_a_validation_set(tmp_path):
  np.save(tmp_path / 't.npy', table(10))
  loaded = data.load(str(tmp_path / 't.npy'))
  parts = loaded.train, loaded.validation, loaded.test
  assert [int(p.cardinality()) for p in parts] == [7, 1, 2]


def test_bad_arrays(tmp_path):
  path = str(tmp_path / 'x.npy')
  np.save(path, np.zeros([4]))
  with pytest.raises(ValueError, match=r'rows and columns .*shape \[4\]'):
    data.load(path)
  np.save(path, np.full([20, 2], 'a'))
  with pytest.raises(ValueError, match='Expected real numbers'):
    data.load(path)
  with pytest.raises(ValueError, match='there is none at'):
    data.load(str(tmp_path / 'y.npy'))


# TensorFlow Datasets: a small set of the same format, made by TFDS itself.


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = str(tmp_path_factory.mktemp('tfds'))
  rng = np.random.default_rng(0)

  def make(name, splits, shape=(28, 28, 1), label=True):
    features = {'image': tfds.features.Image(shape=shape)}
    if label:
      features['label'] = tfds.features.ClassLabel(num_classes=10)

    def examples(count):
      for i in range(count):
        size = [n or 20 + i % 5 for n in shape]
        image = rng.integers(0, 256, size).astype(np.uint8)
        yield {'image': image} | ({'label': i % 10} if label else {})

    tfds.dataset_builders.store_as_tfds_dataset(
      name,
      config=None,
      version='1.0.0',
      features=tfds.features.FeaturesDict(features),
      split_datasets={k: list(enumerate(examples(n))) for k, n in splits.items()},
      data_dir=folder,
      disable_shuffling=True,
    )

  make('small_images', {'train': 40, 'test': 10})
  make(
    'ragged_images', {'train': 20, 'validation': 5, 'test': 5}, (None, None, 3), False
  )
  make('only_train', {'train': 20})
  return folder


def test_image_set_by_name(data_dir):
  loaded = data.load('small_images', data_dir)
  assert (loaded.event_shape, loaded.num_bins, loaded.num_classes) == (
    (28, 28, 1),
    256,
    10,
  )
  counts = [
    int(p.cardinality()) for p in (loaded.train, loaded.validation, loaded.test)
  ]
  assert counts == [36, 4, 10]
  x, labels = arrays(loaded.train)
  assert x.shape == (36, 28, 28, 1)
  assert x.dtype == np.uint8
  np.testing.assert_array_equal(labels, np.arange(36) % 10)


def test_images_of_many_sizes_are_scaled(data_dir):
  loaded = data.load('ragged_images', data_dir, image_size=16)
  assert loaded.event_shape == (16, 16, 3)
  assert loaded.num_classes is None
  (x,) = arrays(loaded.validation)
  assert x.shape == (5, 16, 16, 3)
  assert x.dtype == np.uint8
  with pytest.raises(ValueError, match='images of one size.*Pass image_size=N'):
    data.load('ragged_images', data_dir)


def test_image_sets_that_cannot_be_used(data_dir, tmp_path):
  with pytest.raises(ValueError, match="a split 'test' or 'validation'"):
    data.load('only_train', data_dir)
  with pytest.raises(ValueError, match="TensorFlow data set; received 'nope'"):
    data.load('nope')
  with pytest.raises(ValueError, match='it is not there. Pass the data_dir=DIR'):
    data.load('mnist', data_dir=str(tmp_path))


def test_failed_download_says_so(tmp_path, monkeypatch):
  def fail(*_, **__):
    raise ConnectionError('no route to host')

  monkeypatch.setattr(tfds.core.DatasetBuilder, 'download_and_prepare', fail)
  with pytest.raises(ValueError, match='failed: ConnectionError: no route to host'):
    data.load('mnist', data_dir=str(tmp_path), download=True)


def test_centre_keeps_the_middle():
  image = np.zeros([9, 21, 3], np.uint8)
  image[:, 6:15] = 200
  scaled = images.centre(tf.constant(image), 3)
  np.testing.assert_array_equal(scaled, np.full([3, 3, 3], 200))
