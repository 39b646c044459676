import numpy as np
import pytest
import tensorflow as tf

from tfp_flows import data


def arrays(part):
  return [np.stack(values) for values in zip(*part.as_numpy_iterator())]


def sizes(loaded):
  parts = loaded.train, loaded.validation, loaded.test
  return [int(part.cardinality()) for part in parts]


def images(count=20, shape=(6, 5, 3), seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, [count, *shape]).astype(np.uint8)


def write(folder, values, encode=tf.io.encode_png, ending='png'):
  folder.mkdir(parents=True, exist_ok=True)
  for i, image in enumerate(values):
    (folder / f'{i:03}.{ending}').write_bytes(encode(image).numpy())
  return str(folder)


@pytest.mark.parametrize('shape', [(6, 5), (6, 5, 1), (6, 5, 3)])
def test_one_array(shape, tmp_path):
  path, x = str(tmp_path / 'x.npy'), images(shape=shape)
  np.save(path, x)
  loaded = data.load(path)
  assert loaded.event_shape == (*shape, 1)[:3]
  assert (loaded.num_bins, loaded.num_classes) == (256, None)
  assert sizes(loaded) == [15, 1, 4]
  parts = [arrays(p)[0] for p in (loaded.train, loaded.validation, loaded.test)]
  found = np.concatenate(parts)
  assert found.dtype == np.uint8
  order = [np.flatnonzero((x.reshape(20, -1) == f.ravel()).all(1))[0] for f in found]
  assert sorted(order) == list(range(20)) != order
  np.testing.assert_array_equal(arrays(data.load(path).test)[0], parts[2])
  assert data.load(path, image_size=4).event_shape[:2] == (4, 4)


NAMES = [
  ('x_train', 'y_train', 'x_test', 'y_test'),
  ('train_images', 'train_labels', 'test_images', 'test_labels'),
]


@pytest.mark.parametrize('names', NAMES)
def test_archive_of_parts(names, tmp_path):
  path, x, test = str(tmp_path / 'x.npz'), images(), images(8, seed=1)
  values = x, np.arange(20)[:, np.newaxis] % 3, test, np.arange(8) % 3
  np.savez(path, **dict(zip(names, values)))
  loaded = data.load(path)
  assert sizes(loaded) == [18, 2, 8]
  assert loaded.num_classes == 3
  np.testing.assert_array_equal(arrays(loaded.test)[0], test)
  # Labels stay with their images.
  for image, label in zip(*arrays(loaded.train)):
    (i,) = np.flatnonzero((x == image).all((1, 2, 3)))
    assert label == i % 3


def test_archive_without_parts_or_labels(tmp_path):
  path = str(tmp_path / 'x.npz')
  np.savez(path, images=images(), labels=np.arange(20) % 2)
  assert (sizes(data.load(path)), data.load(path).num_classes) == ([15, 1, 4], 2)
  first = data.load(path).digest
  np.savez(path, x=images())
  assert data.load(path).num_classes is None
  assert data.load(path).digest != first


def test_folder_with_parts_and_classes(tmp_path):
  for split, count in (('train', 10), ('val', 2), ('test', 3)):
    for i, name in enumerate(['b', 'a']):
      write(tmp_path / split / name, images(count, seed=i))
  (tmp_path / 'train' / '.hidden.png').write_bytes(b'')
  (tmp_path / 'train' / 'a' / 'notes.txt').write_bytes(b'')
  loaded = data.load(str(tmp_path))
  assert sizes(loaded) == [20, 4, 6]
  assert (loaded.num_classes, loaded.classes) == (2, ('a', 'b'))
  x, labels = arrays(loaded.test)
  np.testing.assert_array_equal(labels, [0, 0, 0, 1, 1, 1])
  np.testing.assert_array_equal(x[3:], images(3))


def test_flat_folder_of_grey_jpegs_of_many_sizes(tmp_path):
  encode = tf.io.encode_jpeg
  write(tmp_path, images(8, (9, 8, 1)), encode, 'jpg')
  write(tmp_path / 'more', images(8, (7, 12, 1)), encode, 'JPEG')
  with pytest.raises(ValueError, match='images of one size; .*000.jpg has 9 rows of 8'):
    data.load(str(tmp_path))
  loaded = data.load(str(tmp_path), image_size=4)
  assert sizes(loaded) == [12, 1, 3]
  assert loaded.num_classes is None
  assert arrays(loaded.train)[0].shape == (12, 4, 4, 1)
  # Of the contents.
  (tmp_path / '000.jpg').write_bytes((tmp_path / '001.jpg').read_bytes())
  assert data.load(str(tmp_path), image_size=4).digest != loaded.digest


BAD_ARRAYS = [
  (
    images().astype(np.float32),
    'uint8 .*received float32 of shape .*Save them as uint8',
  ),
  (np.moveaxis(images(), -1, 1), 'Move the channels to the end'),
  (images(shape=(6, 5, 2)), '1, 3 or 4 channels'),
  (images(0), '1, 3 or 4 channels'),
  (images(9), 'at least 10 examples'),
]


@pytest.mark.parametrize(('values', 'message'), BAD_ARRAYS)
def test_bad_arrays(values, message, tmp_path):
  np.savez(tmp_path / 'x.npz', x=values)
  with pytest.raises(ValueError, match=message):
    data.load(str(tmp_path / 'x.npz'))
  if values.dtype == np.uint8:
    np.save(tmp_path / 'x.npy', values)
    with pytest.raises(ValueError, match=message):
      data.load(str(tmp_path / 'x.npy'))


BAD_ARCHIVES = [
  (dict(pictures=images()), r"Expected arrays 'images'.*received \['pictures'\]"),
  (dict(x=images(), y=np.arange(19)), 'one for each of 20 images'),
  (dict(x=images(), y=np.arange(20) - 1), 'from 0 on.* with -1'),
  (dict(x=images(), y=np.full(20, 0.5)), 'received float64'),
  (dict(x_train=images(), x_test=images(shape=(5, 5, 3))), 'of one shape in all parts'),
  (dict(x_test=images()), "Expected arrays 'images'"),
]


@pytest.mark.parametrize(('values', 'message'), BAD_ARCHIVES)
def test_bad_archives(values, message, tmp_path):
  np.savez(tmp_path / 'x.npz', **values)
  with pytest.raises(ValueError, match=message):
    data.load(str(tmp_path / 'x.npz'))


def test_bad_folders(tmp_path):
  def message(name):
    with pytest.raises(ValueError) as error:
      data.load(str(tmp_path / name))
    assert str(error.value).startswith('Expected')
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)

  assert 'there is none at' in message('nowhere')
  (tmp_path / 'empty' / 'a').mkdir(parents=True)
  assert 'PNG, JPEG or BMP files in the folder' in message('empty')
  write(tmp_path / 'half' / 'train', images())
  (tmp_path / 'half' / 'test').mkdir()
  assert f'{tmp_path}/half/test; it has none' in message('half')
  write(tmp_path / 'mixed', images(10))
  write(tmp_path / 'mixed' / 'more', images(1, (6, 5, 1)))
  assert 'all grey or all coloured' in message('mixed')
  write(tmp_path / 'damaged', images(10))
  file = tmp_path / 'damaged' / '007.png'
  file.write_bytes(file.read_bytes()[:-20])
  assert f'Expected an image in {file}; it cannot be read' in message('damaged')
  file.write_bytes(b'no image')
  assert f'Expected an image in {file}; it cannot be read' in message('damaged')
  (tmp_path / 'file').write_bytes(b'')
  assert 'received the file' in message('file')
