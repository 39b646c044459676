"""A run that is prepared here, trained by another runtime, and evaluated here."""

import json
import pathlib
import re
import runpy
import sys

import numpy as np
import pytest

from tests.bin.commands import call
from tests.bin.commands import fails
from tfp_flows.bin import evaluate
from tfp_flows.bin import export
from tfp_flows.bin import import_arrays
from tfp_flows.bin import train
from tfp_flows.model import checkpoints

jax = pytest.importorskip('jax')  # Its last versions need Python 3.11.
EXAMPLE = pathlib.Path(__file__).parents[2] / 'examples' / 'stablehlo_in_jax.py'


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """A run whose columns have an offset, with its export."""
  folder = tmp_path_factory.mktemp('elsewhere')
  rng = np.random.default_rng(0)
  x = rng.normal(size=[700, 2])
  x[:, 1] += 3.0 * x[:, 0] ** 2
  np.save(folder / 'table.npy', 1e6 + 10.0 * x)
  words = (f'--dataset={folder}/table.npy', '--model=real_nvp', '--batch_size=100')
  flow = ('--arg=num_steps=1', '--arg=width=8', '--learning_rate=1e-2', '--ema=0.9')
  workdir = f'--workdir={folder}/run'
  call(train, workdir, *words, *flow, '--epochs=0', '--clip_norm=10')
  flags = f'--flagfile={folder}/run/flags.txt'
  formats = ('--format=stablehlo', '--format=data')
  call(export, flags, *formats, '--epochs=3')
  return folder, flags


def test_a_run_that_is_prepared(prepared, capsys):
  folder, flags = prepared
  assert (folder / 'run' / 'best.weights.h5').exists()
  assert not (folder / 'run' / 'result.json').exists()
  assert checkpoints.last_state(folder / 'run' / 'checkpoints')['epoch'] == 0
  assert '--epochs=N' in fails(capsys, export, flags, '--overwrite')
  data = folder / 'run' / 'export' / 'data'
  parts = ('train', 'validation', 'test')
  rows = np.concatenate([np.load(data / f'{part}.npz')['x'] for part in parts])
  table = np.load(folder / 'table.npy')
  assert rows.dtype == np.float64
  np.testing.assert_allclose(np.sort(rows, axis=0), np.sort(table, axis=0), rtol=1e-9)


def test_training_comes_back(prepared, monkeypatch, capsys):
  folder, flags = prepared
  call(evaluate, flags)
  result = folder / 'run' / 'evaluation_test.json'
  before = json.loads(result.read_text())['nats']
  monkeypatch.setattr(
    sys,
    'argv',
    [
      'example',
      f'{folder}/run/export/stablehlo',
      'training_step',
      f'{folder}/trained.npz',
      f'--arguments={folder}/run/export/data/train.npz',
      '--epochs=3',
    ],
  )
  double = jax.config.jax_enable_x64
  runpy.run_path(str(EXAMPLE), run_name='__main__')
  jax.config.update('jax_enable_x64', double)
  out = capsys.readouterr().out
  losses = [float(loss) for loss in re.findall(r'epoch \d: loss (\S+),', out)]
  assert len(losses) == 3
  assert losses[-1] < losses[0]
  call(import_arrays, flags, f'--arrays={folder}/trained.npz')
  after = json.loads((folder / 'run' / 'result.json').read_text())
  assert after['nats'] < before - 0.05
  # In the units of the file, as the losses of the exported steps.
  assert after['nats_in_units_of_the_data'] == pytest.approx(losses[-1], abs=0.5)
  state = checkpoints.last_state(folder / 'run' / 'checkpoints')
  assert (state['epoch'], state['step']) == divmod(15, state['steps_per_epoch'])
  call(evaluate, flags)
  assert json.loads(result.read_text())['nats'] == pytest.approx(after['nats'])
  with np.load(folder / 'trained.npz') as file:
    arrays = dict(file)
  np.savez(folder / 'other.npz', **(arrays | dict(identity=np.asarray('0'))))
  other = fails(capsys, import_arrays, flags, f'--arrays={folder}/other.npz')
  assert 'came of another' in other
  call(train, flags, '--epochs=4')
  assert f'Going on after {state["epoch"]} epochs' in capsys.readouterr().out
  rows = (folder / 'run' / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(row)['epoch'] for row in rows] == [1, 2, 3, 4]
  assert json.loads(rows[0])['loss'] > json.loads(rows[1])['loss'] > after['nats'] - 0.5
  assert 'val_loss' in json.loads(rows[3])
  older = fails(capsys, import_arrays, flags, f'--arrays={folder}/trained.npz')
  assert 'Pass --overwrite' in older
  assert 'no step since it was exported' in older
  call(import_arrays, flags, f'--arrays={folder}/trained.npz', '--overwrite')
  again = json.loads((folder / 'run' / 'result.json').read_text())
  assert again['nats'] == pytest.approx(after['nats'])
  rows = (folder / 'run' / 'metrics.jsonl').read_text().splitlines()
  assert not any('val_loss' in row for row in rows)
  # What came back stays the best where going on is worse.
  state = checkpoints.last_state(folder / 'run' / 'checkpoints')
  assert state['callbacks']['BestWeights']['best'] == pytest.approx(
    after['nats'], abs=0.3
  )


def test_other_runs_are_refused(prepared, capsys):
  folder, _ = prepared
  words = [f'--dataset={folder}/table.npy', '--model=real_nvp', '--batch_size=100']
  words += ['--arg=num_steps=1', '--arg=width=8', '--learning_rate=1e-2', '--ema=0.9']
  words += ['--epochs=0', '--clip_norm=10', '--seed=1']
  call(train, f'--workdir={folder}/other', *words)
  found = fails(
    capsys,
    import_arrays,
    f'--flagfile={folder}/other/flags.txt',
    f'--arrays={folder}/run/export/stablehlo/arrays.npz',
    f'--export={folder}/run/export/stablehlo',
  )
  assert 'that of another' in found


def test_arrays_that_cannot_be_read(prepared, tmp_path, capsys):
  folder, flags = prepared
  before = (folder / 'run' / 'best.weights.h5').read_bytes()
  assert '--arrays=PATH' in fails(capsys, import_arrays, flags)
  missing = fails(capsys, import_arrays, flags, f'--arrays={tmp_path}/none.npz')
  assert 'cannot be read' in missing
  (tmp_path / 'damaged.npz').write_bytes(b'PK damaged')
  damaged = fails(capsys, import_arrays, flags, f'--arrays={tmp_path}/damaged.npz')
  assert 'cannot be read' in damaged
  np.savez(tmp_path / 'empty.npz')
  empty = fails(capsys, import_arrays, flags, f'--arrays={tmp_path}/empty.npz')
  assert 'received arrays without' in empty
  assert (folder / 'run' / 'best.weights.h5').read_bytes() == before
