"""Damaged and unfit data: each ends `tfp-flows-train` in one line that names it."""

import gzip
import json
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.fuzz import files
from tests.fuzz import running

TINY = ('--nojit', '--epochs=1', '--batch_size=8', '--arg=num_steps=1', '--arg=width=4')


def train(dataset, folder, *words):
  model = ('--model=nice', '--arg=num_hidden=1', '--picture_every=0')
  places = (f'--data_dir={folder}', f'--workdir={folder}/run')
  return running.run('train', [f'--dataset={dataset}', *places, *TINY, *model, *words])


def text_of(values):
  return '\n'.join(','.join(map(repr, row)) for row in values.tolist()) + '\n'


def rows(values=None, **replaced):
  """A whole table as text, with some of its lines replaced."""
  lines = text_of(files.table() if values is None else values).splitlines()
  for key, line in replaced.items():
    lines[int(key.removeprefix('line_'))] = line
  return '\n'.join(lines) + '\n'


HUGE = files.table().copy()
HUGE[3, 1] = 1e300

TABLES = {
  'empty': ('t.csv', '', 'it is empty'),
  'blank_lines': ('t.csv', '\n\n\n', 'it is empty'),
  'header_only': ('t.csv', 'a,b,c\n', 'it is empty'),
  'binary': ('t.csv', bytes(range(256)) * 9, 'numbers separated by commas'),
  'zeros': ('t.csv', b'\0' * 999, 'it is empty'),
  'utf16': ('t.csv', rows().encode('utf-16'), 'numbers separated by commas'),
  'ragged': ('t.csv', rows(line_7='1.0,2.0'), 'numbers separated by commas'),
  'words': ('t.csv', rows(line_7='1.0,two,3.0'), 'numbers separated by commas'),
  'missing': ('t.csv', rows(line_7='1.0,,3.0'), 'numbers separated by commas'),
  'semicolons': ('t.csv', rows().replace(',', ';'), 'numbers separated by commas'),
  'decimal_commas': (
    't.csv',
    rows().replace(',', ';').replace('.', ','),
    'numbers separated by commas',
  ),
  'tabs': ('t.csv', rows().replace(',', '\t'), 'numbers separated by commas'),
  'nan': ('t.csv', rows(line_7='1.0,NaN,3.0'), 'received nan in row 8, column 2'),
  'infinite': ('t.csv', rows(line_7='1.0,-inf,3.0'), 'received -inf in row 8'),
  'overflow': ('t.csv', rows(line_7='1.0,1e999,3.0'), 'received inf in row 8'),
  'huge': ('t.csv', rows(HUGE), 'columns of finite variance'),
  'one_row': ('t.csv', '1.0,2.0,3.0\n', 'at least 10 examples'),
  'nine_rows': ('t.csv', rows(files.table(9)), 'at least 10 examples'),
  'one_column': ('t.csv', rows(files.table(columns=1)), 'Expected --model=maf'),
  'constant': ('t.csv', rows(files.table() * [1, 0, 1]), 'is column 2. Drop'),
  'long_line': ('t.csv', 'a' * 9999 + '\n' + 'b' * 9999, 'numbers separated by commas'),
  'no_gzip': ('t.csv.gz', rows(), 'cannot be read'),
  'gzip_truncated': (
    't.csv.gz',
    gzip.compress(rows().encode())[:-20],
    'cannot be read',
  ),
  'gzip_damaged': (
    't.csv.gz',
    b''.join(
      bytes([b ^ (40 < i < 60)]) for i, b in enumerate(gzip.compress(rows().encode()))
    ),
    'cannot be read',
  ),
  'npy_empty': ('t.npy', b'', 'cannot be read'),
  'npy_garbage': ('t.npy', b'\x93NUMPY\1\0\xff\0' + bytes(255), 'cannot be read'),
}


@pytest.mark.parametrize('name', TABLES)
def test_tables_that_cannot_be_used(name, tmp_path):
  file, content, message = TABLES[name]
  path = tmp_path / file
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  kind, text = train(path, tmp_path)
  assert kind == running.ERROR, text
  assert message in text
  assert len(text) < 600
  in_another = message in ('columns of finite variance', 'Expected --model=maf')
  assert in_another or 'is column' in message or str(path) in text
  assert not (tmp_path / 'run').exists()


ARRAYS = {
  'objects': (np.array([[1, 'a']] * 20, object), 'cannot be read'),
  'strings': (np.full([20, 2], 'a'), 'Expected real numbers'),
  'complex': (files.table() * 1j, 'received complex128'),
  'booleans': (files.table() > 0, 'received bool'),
  'records': (np.zeros([20], [('a', 'f4'), ('b', 'f4')]), 'Expected real numbers'),
  'dates': (np.zeros([20, 2], 'datetime64[s]'), 'Expected real numbers'),
  'vector': (np.zeros([20]), 'rows and columns'),
  'cube': (np.zeros([20, 2, 2]), 'rows and columns'),
  'scalar': (np.array(3.0), 'rows and columns'),
  'no_rows': (np.zeros([0, 3]), 'rows and columns'),
  'no_columns': (np.zeros([20, 0]), 'rows and columns'),
  'nan': (np.where(files.table() > 5, np.nan, files.table()), 'finite numbers'),
}


@pytest.mark.parametrize('name', ARRAYS)
def test_arrays_that_cannot_be_used(name, tmp_path):
  values, message = ARRAYS[name]
  np.save(tmp_path / 't.npy', values, allow_pickle=True)
  kind, text = train(tmp_path / 't.npy', tmp_path)
  assert kind == running.ERROR, text
  assert message in text
  assert str(tmp_path / 't.npy') in text


def test_other_files_and_folders(tmp_path):
  np.savez(tmp_path / 't.npz', a=files.table())
  (tmp_path / 't.npz').rename(tmp_path / 't.npy')
  assert 'an archive of several' in train(tmp_path / 't.npy', tmp_path).text
  np.save(tmp_path / 'u.npy', files.table())
  content = (tmp_path / 'u.npy').read_bytes()
  for count in (3, 8, 60, 100, len(content) - 1):
    (tmp_path / 'u.npy').write_bytes(content[:count])
    kind, text = train(tmp_path / 'u.npy', tmp_path)
    assert kind == running.ERROR, text
    assert 'cannot be read' in text
  for name in ('folder.csv', 'folder.npy', 'folder.csv.gz'):
    (tmp_path / name).mkdir()
    kind, text = train(tmp_path / name, tmp_path)
    assert kind == running.ERROR, text
    assert f'{name}; it cannot be read' in text


def test_flipped_bits_of_an_array_file(tmp_path):
  """Of the header: those of numbers are other numbers."""
  from tfp_flows.data import tabular

  path = tmp_path / 't.npy'
  np.save(path, files.table())
  content = path.read_bytes()
  rng = np.random.default_rng(0)
  for _ in range(400):
    damaged = bytearray(content)
    for position in rng.integers(0, 128, size=rng.integers(1, 4)):
      damaged[position] ^= 1 << int(rng.integers(8))
    path.write_bytes(bytes(damaged))
    try:
      found = tabular.read_table(str(path)).values
    except ValueError as error:
      assert str(error).startswith('Expected')
      assert len(str(error).splitlines()) == 1
    else:
      assert found.dtype == np.float64
      assert found.ndim == 2


GOOD = {
  'bom': ('t.csv', '\ufeff' + rows()),
  'bom_and_header': ('t.csv', '\ufeffa,b,c\n' + rows()),
  'dos': ('t.csv', rows().replace('\n', '\r\n')),
  'no_last_line_break': ('t.csv', rows().rstrip()),
  'blank_lines': ('t.csv', '\n' + rows().replace('\n', '\n\n')),
  'latin1_header': (
    't.csv',
    'Gr\u00f6\u00dfe,b,c\n'.encode('latin1') + rows().encode(),
  ),
  'spaces': ('t.csv', rows().replace(',', ' , ')),
  'gzip_with_bom': ('t.csv.gz', gzip.compress(('\ufeff' + rows()).encode())),
}


@pytest.mark.parametrize('name', GOOD)
def test_tables_that_are_odd_but_whole(name, tmp_path):
  from tfp_flows.data import tabular

  file, content = GOOD[name]
  path = tmp_path / file
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  np.testing.assert_array_equal(tabular.read_table(str(path)).values, files.table())


def test_a_whole_table_runs(tmp_path):
  kind, text = train(files.csv(tmp_path / 't.csv', files.table()), tmp_path)
  assert kind == running.OK, text


# Image sets.


def tensor(shape, dtype):
  return {'image': tfds.features.Tensor(shape=shape, dtype=dtype)}


UNFIT = {
  'floats': tensor((8, 8, 1), np.float32),
  'integers': tensor((8, 8, 1), np.int32),
  'two_channels': tensor((8, 8, 2), np.uint8),
  'any_channels': {'image': tfds.features.Image(shape=(8, 8, None))},
  'no_channels': tensor((8, 8), np.uint8),
  'bits16': {'image': tfds.features.Image(shape=(8, 8, 1), dtype=np.uint16)},
  'nested': {'image': tfds.features.FeaturesDict({'x': np.int64})},
  'no_image': {'picture': tfds.features.Image(shape=(8, 8, 1))},
}


@pytest.mark.parametrize('name', UNFIT)
def test_images_of_another_kind(name, tmp_path):
  (feature,) = UNFIT[name].values()

  def image(i):
    if name == 'nested':
      return {'x': i}
    return np.zeros([n or 1 for n in feature.shape], feature.np_dtype)

  files.image_set(tmp_path, name, {'train': 9, 'test': 3}, UNFIT[name], image)
  kind, text = train(name, tmp_path)
  assert kind == running.ERROR, text
  expected = 'with an image' if name == 'no_image' else 'images of uint8'
  assert expected in text
  assert repr(name) in text


def test_grey_images_among_coloured_ones(tmp_path):
  """TFDS decodes all to the channels of the set: this runs."""
  features = {'image': tfds.features.Image(shape=(8, 8, 3))}
  version = files.image_set(tmp_path, 'mixed', {'train': 9, 'test': 3}, features)
  grey = iter([files.png((8, 8, 1)), files.png((8, 8, 4))] * 9)
  files.rewrite(
    files.shard(version), lambda example: files.set_image(next(grey))(example)
  )
  kind, text = train('mixed', tmp_path)
  assert kind == running.OK, text


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tfds')
  files.image_set(folder, 'whole', {'train': 20, 'test': 6})
  return folder


@pytest.fixture
def version(whole, tmp_path):
  """A copy of a whole set, to be damaged."""
  copy = tmp_path / 'whole' / '1.0.0'
  copy.mkdir(parents=True)
  for path in (whole / 'whole' / '1.0.0').iterdir():
    (copy / path.name).write_bytes(path.read_bytes())
  return copy


def truncated(version):
  path = files.shard(version)
  path.write_bytes(path.read_bytes()[:-7])


def emptied(version):
  files.shard(version).write_bytes(b'')


def with_png(value):
  return lambda version: files.rewrite(files.shard(version), files.set_image(value))


def label(value):
  def change(example):
    example.features.feature['label'].int64_list.value[:] = [value]

  return lambda version: files.rewrite(files.shard(version), change)


def without_images(version):
  def change(example):
    del example.features.feature['image']

  files.rewrite(files.shard(version), change)


def metadata(name, text):
  return lambda version: (version / name).write_text(text)


DAMAGES = {
  'truncated': truncated,
  'flipped_length': lambda version: files.flip_bit(files.shard(version), 0),
  'flipped_content': lambda version: files.flip_bit(files.shard(version), 100),
  'emptied': emptied,
  'missing_shard': lambda version: files.shard(version).unlink(),
  'missing_test_shard': lambda version: files.shard(version, 'test').unlink(),
  'no_png': with_png(b'no picture'),
  'empty_png': with_png(b''),
  'truncated_png': with_png(files.png((8, 8, 1))[:-20]),
  'another_size': with_png(files.png((6, 8, 1))),
  'no_feature': without_images,
  'label_too_large': label(3),
  'label_negative': label(-1),
  'info_no_json': metadata('dataset_info.json', '{'),
  'info_empty': metadata('dataset_info.json', ''),
  'info_other': metadata('dataset_info.json', '{"x": [1]}'),
  'features_no_json': metadata('features.json', '{'),
  'features_other': metadata('features.json', '{"x": [1]}'),
  'no_features': lambda version: (version / 'features.json').unlink(),
  'no_info': lambda version: (version / 'dataset_info.json').unlink(),
}


@pytest.mark.parametrize('name', DAMAGES)
def test_damaged_image_sets(name, version):
  DAMAGES[name](version)
  folder = version.parent.parent
  kind, text = train('whole', folder, '--conditional')
  assert kind == running.ERROR, text
  assert 'whole' in text
  if name.startswith('label'):
    assert 'Expected labels from 0 to 2; received' in text


def test_labels_do_not_matter_without_a_condition(version):
  label(-1)(version)
  kind, text = train('whole', version.parent.parent)
  assert kind == running.OK, text


@pytest.mark.parametrize(
  ('splits', 'message'),
  [
    ({'train': 1, 'test': 3}, "in 'train["),
    ({'train': 20, 'test': 0}, "in 'test'"),
    ({'train': 0, 'test': 3}, "in 'train["),
    ({'train': 9, 'validation': 0, 'test': 3}, "in 'validation'"),
  ],
)
def test_splits_without_examples(splits, message, tmp_path):
  wanted = {k: max(1, n) for k, n in splits.items()}
  version = files.image_set(tmp_path, 'sparse', wanted)
  info = json.loads((version / 'dataset_info.json').read_text())
  for split in info['splits']:
    if not splits[split['name']]:
      split['shardLengths'] = ['0']
      emptied_shard = files.shard(version, split['name'])
      emptied_shard.write_bytes(b'')
  (version / 'dataset_info.json').write_text(json.dumps(info))
  kind, text = train('sparse', tmp_path)
  assert kind == running.ERROR, text
  assert message in text
  assert "'sparse'" in text


def test_sets_with_few_examples(tmp_path):
  files.image_set(tmp_path, 'few', {'train': 1, 'validation': 1, 'test': 1})
  kind, text = train('few', tmp_path)
  assert kind == running.OK, text
  result = json.loads((pathlib.Path(tmp_path) / 'run' / 'result.json').read_text())
  assert result['examples'] == 1
  assert np.isfinite(result['nats'])
  assert result['nats_standard_error'] is None
