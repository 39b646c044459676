"""Tables and images of one's own, by the commands and from exports."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf

from tests.bin.commands import call
from tests.bin.commands import fails
from tfp_flows.bin import evaluate
from tfp_flows.bin import export
from tfp_flows.bin import interpolate
from tfp_flows.bin import sample
from tfp_flows.bin import train

TINY = ('--arg=num_steps=1', '--arg=width=4', '--epochs=1', '--nojit')


def read(*path):
  with open(os.path.join(*path)) as file:
    return json.load(file)


@pytest.fixture(scope='module')
def table():
  rng = np.random.default_rng(0)
  return rng.normal(size=[100, 2]) * [3, 100] + [1e5, 1e9]


@pytest.fixture(scope='module')
def run_dir(tmp_path_factory, table):
  """A run on a table that has moved since."""
  folder = tmp_path_factory.mktemp('table')
  np.save(folder / 't.npy', table)
  words = (f'--dataset={folder}/t.npy', '--model=real_nvp', *TINY)
  call(train, f'--workdir={folder}/run', *words)
  (folder / 't.npy').rename(folder / 'moved.npy')
  return f'{folder}/run'


def test_export_a_table_run_and_ask_for_densities_of_its_own_rows(run_dir, table):
  call(export, f'--flagfile={run_dir}/flags.txt', '--format=saved_model')
  run = tf.saved_model.load(f'{run_dir}/export/saved_model').signatures
  seed = tf.constant([0, 0])
  nats = -run['log_prob'](x=tf.constant(table), seed=seed)['log_prob'].numpy()
  expected = read(run_dir, 'result.json')['nats_in_units_of_the_data']
  assert abs(nats.mean() - expected) < 1
  options = dict(n=tf.constant(100), temperature=tf.constant(1.0))
  samples = run['sample'](seed=seed, **options)['samples'].numpy()
  assert samples.dtype == np.float64
  np.testing.assert_allclose(samples.mean(0), [1e5, 1e9], rtol=1e-4)
  latents = run['encode'](x=tf.constant(table), seed=seed)['latents']
  back = run['decode'](latents=latents)['x'].numpy()
  np.testing.assert_allclose(
    back - [1e5, 1e9], table - [1e5, 1e9], rtol=1e-3, atol=1e-3
  )


def test_sample_where_the_table_is_not(run_dir, capsys):
  call(sample, f'--flagfile={run_dir}/flags.txt', '--num_samples=50')
  assert 'The picture shows samples alone' in capsys.readouterr().err
  samples = np.load(f'{run_dir}/sample.npy')
  np.testing.assert_allclose(samples.mean(0), [1e5, 1e9], rtol=1e-4)


def test_evaluate_and_interpolate_where_the_table_has_moved(run_dir, capsys):
  words = (f'--flagfile={run_dir}/flags.txt',)
  for command in (evaluate, interpolate):
    assert 'pass --dataset=PATH' in fails(capsys, command, *words)
    call(command, *words, f'--dataset={os.path.dirname(run_dir)}/moved.npy')
  found = read(run_dir, 'evaluation_test.json')
  np.testing.assert_allclose(found['nats'], read(run_dir, 'result.json')['nats'])
  assert 'warning' not in capsys.readouterr().err


def test_evaluate_a_table_that_has_changed(run_dir, table, tmp_path, capsys):
  np.save(tmp_path / 'changed.npy', table[:80] + [15, 500])
  changed = f'--dataset={tmp_path}/changed.npy'
  call(evaluate, f'--flagfile={run_dir}/flags.txt', changed)
  assert 'examples were changed, added or removed' in capsys.readouterr().err
  found = read(run_dir, 'evaluation_test.json')
  assert found['data_digest_of_training'] != found['data_digest']
  # Scaled as in training: the model sees that the mean has moved.
  assert found['nats'] > read(run_dir, 'result.json')['nats'] + 10


def test_a_column_of_times_since_1970(tmp_path):
  """Float32 has steps of 128 there, and a density on those can be of any height."""
  rng = np.random.default_rng(0)
  rows = np.stack([1.6e9 + rng.uniform(0, 60, 300), rng.normal(size=300)], axis=1)
  np.save(tmp_path / 't.npy', rows)
  words = (f'--dataset={tmp_path}/t.npy', '--model=real_nvp', '--nostandardize')
  call(train, f'--workdir={tmp_path}/run', *words, *TINY)
  call(sample, f'--flagfile={tmp_path}/run/flags.txt', '--num_samples=64')
  times = np.load(tmp_path / 'run' / 'sample.npy')[:, 0]
  assert len(np.unique(times)) == 64
  assert 1.59e9 < times.mean() < 1.61e9
  # The entropy of the rows, which no model beats by more than chance.
  assert read(tmp_path, 'run', 'result.json')['nats'] > 5.51 - 0.1


def test_a_coin_and_a_row_far_away_are_named(tmp_path, capsys):
  """The coin has no density, and the row rules the mean of all others."""
  rng = np.random.default_rng(0)
  rows = np.stack([rng.integers(0, 2, 100), rng.normal(size=100)], axis=1)
  far = np.random.default_rng(0).permutation(100)[-7]  # The test set is the last 20.
  rows[far, 1] = 1e6
  header = 'coin,height'
  np.savetxt(tmp_path / 't.csv', rows, delimiter=',', header=header, comments='')
  words = (f'--dataset={tmp_path}/t.csv', '--model=real_nvp', *TINY)
  call(train, f'--workdir={tmp_path}/run', *words)
  said = capsys.readouterr().err
  assert 'those of column 1 (coin) do' in said
  assert f'13 (row {far + 1} of the file)' in said
  found = read(tmp_path, 'run', 'result.json')
  assert found['columns_without_density'] == ['coin']
  (worst,) = found['unlikely_examples']
  assert (worst['index'], worst['row_of_the_file']) == (13, far + 1)
  assert found['nats'] > 1e6
  assert found['nats_median'] < 5 and found['nats_trimmed_mean'] < 5


def test_train_on_a_folder_of_pictures_by_class(tmp_path):
  rng = np.random.default_rng(0)
  for name in ('cats', 'dogs'):
    (tmp_path / 'photos' / name).mkdir(parents=True)
    for i in range(10):
      png = tf.io.encode_png(rng.integers(0, 256, [9 + i % 2, 8, 3]).astype(np.uint8))
      (tmp_path / 'photos' / name / f'{i}.png').write_bytes(png.numpy())
  words = ('--arg=num_levels=1', *TINY, '--conditional', '--image_size=4')
  call(train, f'--dataset={tmp_path}/photos', f'--workdir={tmp_path}/run', *words)
  data = read(tmp_path, 'run', 'data.json')
  assert data['classes'] == ['cats', 'dogs']
  assert data['event_shape'] == [4, 4, 3]
  assert read(tmp_path, 'run', 'result.json')['bits_per_dim'] < 9
