"""Runs that are stopped, killed or damaged, and go on."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import types

import keras
import numpy as np
import pytest
from absl.testing import flagsaver

from tests.bin import commands
from tests.faults import damage_workdir
from tests.faults import kill_and_resume
from tests.faults import spoil_run
from tfp_flows import runs
from tfp_flows.bin import train
from tfp_flows.data import tabular
from tfp_flows.model import checkpoints
from tfp_flows.model import diagnosis
from tfp_flows.runs import optimizers
from tfp_flows.runs import resuming
from tfp_flows.runs import training

DIGITS = (
  *('--config=glow_digits', '--nojit', '--epochs=3', '--batch_size=300'),
  *('--arg=num_levels=1', '--arg=num_steps=1', '--arg=width=4', '--warmup_steps=0'),
  # All that has a state: averages, augmentation, dropout, early stopping.
  *('--ema=0.9', '--augment_shift=1', '--patience=2', '--num_samples=4'),
)
TABLE = (
  *('--dataset=points.npy', '--batch_size=100', '--epochs=3'),
  *('--model=real_nvp', '--nojit', '--arg=num_steps=1', '--arg=width=4'),
  *('--num_samples=4', '--schedule=constant', '--checkpoint_minutes=0'),
)
STEPS = 4


@pytest.fixture(scope='module', autouse=True)
def _folder(tmp_path_factory):
  """Where the table is, 400 of 555 rows for training; pictures take long."""
  folder = tmp_path_factory.mktemp('data')
  np.save(folder / 'points.npy', np.random.default_rng(0).normal(size=[555, 2]))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(training, '_draw', lambda *_: None)
    patch.chdir(folder)
    yield


class Killed(BaseException):
  """Stands for SIGKILL: nothing catches it."""


@contextlib.contextmanager
def killed_at(step, monkeypatch, kill=None, saved=False):
  """`fit` ends, without any handling, before the checkpoint of a step or after it.

  Or `kill(model)` is called there.
  """
  made, original = [0], resuming.SaveProgress.on_train_batch_end

  def end(model):
    if kill is None:
      raise Killed
    kill(model)

  def on_train_batch_end(self, batch, logs=None):
    made[0] += 1
    if made[0] == step and not saved:
      end(self.model)
    original(self, batch, logs)
    if made[0] == step and saved:
      end(self.model)

  with monkeypatch.context() as patch:
    patch.setattr(resuming.SaveProgress, 'on_train_batch_end', on_train_batch_end)
    yield


def run(folder, *words):
  commands.call(train, *words, f'--workdir={folder}')


def state(folder):
  """Everything that a run ends with, times aside."""
  folder = pathlib.Path(folder)
  return dict(
    checkpoint=kill_and_resume.hash_of_checkpoint(folder),
    weights=kill_and_resume.hash_of_weights(folder),
    metrics=(folder / 'metrics.jsonl').read_text(),
    result=json.loads((folder / 'result.json').read_text()),
  )


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
  folder = tmp_path_factory.mktemp('digits') / 'run'
  run(folder, *DIGITS)
  return state(folder)


@pytest.fixture(scope='module')
def table(tmp_path_factory):
  """A finished run with checkpoints of its last steps."""
  folder = tmp_path_factory.mktemp('table') / 'run'
  run(folder, *TABLE)
  return folder


@pytest.mark.parametrize(
  ('steps', 'minutes', 'places'),
  [
    # Twice in one epoch, at the last step of it, and in the last epoch, each before
    # the checkpoint of the step.
    ((2, 1, 4, 9), 0, ['0 epochs and 1', '0 epochs and 1', '0 epochs and 4', '2 ep']),
    # From the start.
    ((3,), 60, []),
  ],
  ids=['often', 'from_the_start'],
)
def test_a_killed_run_ends_like_an_undisturbed_one(
  steps, minutes, places, digits, tmp_path, monkeypatch, capsys
):
  words = (*DIGITS, f'--checkpoint_minutes={minutes}')
  capsys.readouterr()
  for step in steps:
    with killed_at(step, monkeypatch), pytest.raises(Killed):
      run(tmp_path / 'run', *words)
  run(tmp_path / 'run', *words)
  begins = re.findall('Going on after (.*)', capsys.readouterr().out)
  assert len(begins) == len(places)
  assert all(b.startswith(place) for b, place in zip(begins, places)), begins
  assert state(tmp_path / 'run') == digits


def test_killed_between_the_last_step_and_the_end_of_its_epoch(
  table, tmp_path, monkeypatch, capsys
):
  with killed_at(4, monkeypatch, saved=True), pytest.raises(Killed):
    run(tmp_path / 'run', *TABLE)
  run(tmp_path / 'run', *TABLE)
  assert 'Going on after 0 epochs and 3 steps' in capsys.readouterr().out
  assert state(tmp_path / 'run') == state(table)


RESIDUAL = (
  *('--dataset=points.npy', '--model=residual_flow', '--nojit', '--epochs=2'),
  *('--arg=num_blocks=1', '--arg=num_hidden=1', '--arg=width=4', '--ema=0.9'),
  *('--batch_size=134', '--num_samples=4', '--checkpoint_minutes=0'),
)


def test_norms_go_on_as_they_were(tmp_path, monkeypatch):
  """From step 0, and from the end of the first epoch."""
  alone, killed = tmp_path / 'alone', tmp_path / 'killed'
  run(alone, *RESIDUAL)
  for step in (1, 4):
    with killed_at(step, monkeypatch), pytest.raises(Killed):
      run(killed, *RESIDUAL)
  run(killed, *RESIDUAL)
  assert state(killed) == state(alone)


@pytest.mark.parametrize(('number', 'step'), [(signal.SIGINT, 7), (signal.SIGTERM, 4)])
def test_a_signal_saves_first(number, step, table, tmp_path, monkeypatch, capsys):
  words = (*TABLE, '--checkpoint_minutes=60')
  handler = signal.getsignal(number)
  with killed_at(step, monkeypatch, lambda _: os.kill(os.getpid(), number)):
    with pytest.raises(SystemExit) as stop:
      run(tmp_path / 'run', *words)
  assert stop.value.code == 128 + number
  assert f'Saved at step {step}; the same command goes on' in capsys.readouterr().out
  assert signal.getsignal(number) is handler
  run(tmp_path / 'run', *words)
  epochs, steps = divmod(step, STEPS)
  assert f'Going on after {epochs} epochs and {steps} ' in capsys.readouterr().out
  assert state(tmp_path / 'run') == state(table)


def test_sigkill_of_a_process(tmp_path):
  """Once for real; `tests/faults/kill_and_resume.py` does so many times."""
  alone, killed = tmp_path / 'alone', tmp_path / 'killed'
  run(alone, *TABLE)
  process = subprocess.Popen(
    [*kill_and_resume.command(killed, [*TABLE, '--epochs=100000'])],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  try:
    deadline = time.time() + 600
    while not (killed / 'checkpoints' / 'step-0000000005.npz').exists():
      assert process.poll() is None and time.time() < deadline
      time.sleep(0.01)
  finally:
    process.kill()
    process.wait()
  done = pathlib.Path(killed, 'checkpoints')
  last = max(int(p.stem.removeprefix('step-')) for p in done.glob('step-*.npz'))
  epochs = last // STEPS + 2
  for folder in (alone, killed):
    run(folder, *TABLE, f'--epochs={epochs}')
  assert state(killed) == state(alone)


@pytest.mark.parametrize('more', [[], ['--on_nan=rollback']])
@pytest.mark.parametrize('words', ['--workdir={}', '--workdir {}'])
def test_workdir_alone_goes_on(words, more, table, capsys):
  before = state(table)
  words = words.format(table).split(' ')
  with pytest.MonkeyPatch.context() as patch, flagsaver.flagsaver():
    patch.setattr(sys, 'argv', ['tfp-flows-train', *words, *more])
    with pytest.raises(SystemExit) as stop:
      train.run()
  assert not stop.value.code
  assert 'This run is finished, after 3 epochs. It goes on' in capsys.readouterr().out
  assert state(table) == before


def test_workdir_alone_without_a_run(tmp_path, capsys):
  words = ['tfp-flows-train', f'--workdir={tmp_path}/run', '--on_nan=rollback']
  with pytest.MonkeyPatch.context() as patch, flagsaver.flagsaver():
    patch.setattr(sys, 'argv', words)
    with pytest.raises(SystemExit) as stop:
      train.run()
  assert stop.value.code == 1
  assert 'Expected a run to go on with' in capsys.readouterr().err
  assert not (tmp_path / 'run').exists()


def test_workdir_and_overwrite_begin_the_same_run_anew(table, tmp_path):
  folder = shutil.copytree(table, tmp_path / 'run')
  with pytest.MonkeyPatch.context() as patch, flagsaver.flagsaver():
    words = ['tfp-flows-train', f'--workdir={folder}', '--overwrite']
    patch.setattr(sys, 'argv', words)
    with pytest.raises(SystemExit) as stop:
      train.run()
  assert not stop.value.code
  assert state(folder) == state(table)


def test_more_epochs_go_on(table, tmp_path, monkeypatch, capsys):
  words = (*TABLE, '--ema=0.9')
  alone, folder = tmp_path / 'alone', tmp_path / 'run'
  run(alone, *words, '--epochs=2')
  run(folder, *words, '--epochs=1')
  with killed_at(4, monkeypatch, saved=True), pytest.raises(Killed):
    run(folder, *words, '--epochs=2')
  # The result of the shorter run is none of the longer one.
  assert not (folder / 'result.json').exists()
  capsys.readouterr()
  run(folder, *words, '--epochs=2')
  assert 'Going on after 1 epochs and 3 steps' in capsys.readouterr().out
  assert state(folder) == state(alone)


def test_a_run_that_lost_patience_goes_on_with_more(tmp_path, capsys):
  words = (*TABLE, '--patience=1', '--learning_rate=0.5', '--epochs=5')
  for more, said in (
    ([], 'standard error'),
    ([], 'epochs, by a patience of 1. It goes on'),
    (['--patience=0'], 'Going on after'),
  ):
    run(tmp_path / 'run', *words, *more)
    assert said in capsys.readouterr().out
  rows = (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()
  assert len(rows) == 5


@pytest.mark.parametrize('rows', [555, 655])
def test_other_data_do_not_go_on(rows, table, capsys, monkeypatch, tmp_path):
  points = np.resize(np.load('points.npy'), [rows, 2])
  points[3, 1] += 1e-6
  np.save(tmp_path / 'points.npy', points)
  before = state(table)
  # The path in the flags stays the same.
  monkeypatch.setattr(tabular, 'read_npy', lambda _: np.load(tmp_path / 'points.npy'))
  message = commands.fails(capsys, train, *TABLE, f'--workdir={table}')
  assert 'Expected the data of the run' in message
  assert '4 batches, digest' in message
  assert f'received {4 if rows == 555 else 5} batches, digest' in message
  assert state(table) == before


def test_overwrite_that_was_killed_goes_on(table, tmp_path, monkeypatch, capsys):
  folder = shutil.copytree(table, tmp_path / 'run')
  (folder / '.123.best.weights.h5').write_text('half')
  remove, removed = os.remove, []

  def remove_one(path):
    if removed:
      raise Killed
    removed.append(remove(path))

  with monkeypatch.context() as patch, pytest.raises(Killed):
    patch.setattr(os, 'remove', remove_one)
    commands.call(train, *TABLE, '--overwrite', f'--workdir={folder}')
  commands.call(train, *TABLE, '--overwrite', f'--workdir={folder}')
  assert not (folder / '.123.best.weights.h5').exists()
  assert state(folder) == state(table)


def test_the_flag_at_fault_is_named(table, capsys):
  message = commands.fails(capsys, train, f'--workdir={table}', '--learning_rate=1')
  assert 'received --learning_rate=1.0' in message


def test_other_flags_do_not_go_on(table, capsys):
  before = state(table)
  message = commands.fails(
    capsys, train, *TABLE, '--learning_rate=1', f'--workdir={table}'
  )
  assert 'which has --learning_rate=0.001; received --learning_rate=1.0' in message
  assert '--overwrite' in message
  assert state(table) == before


@pytest.fixture(scope='module')
def begun(tmp_path_factory):
  """A run killed in its last epoch, `run`, and the same of another seed, `other`."""
  folder = tmp_path_factory.mktemp('begun')
  with pytest.MonkeyPatch.context() as patch:
    for name, seed in (('run', 0), ('other', 1)):
      with killed_at(10, patch), pytest.raises(Killed):
        run(folder / name, *TABLE, f'--seed={seed}')
  return folder


LAST = 'checkpoints/step-0000000009.npz'


def damaged(name, kind, begun, folder):
  """A copy of the run with a file damaged, or all files of a folder."""
  shutil.copytree(begun / 'run', folder)
  paths = [folder / name]
  if paths[0].is_dir():
    paths = sorted(paths[0].iterdir())
  for path in paths:
    getattr(damage_workdir, kind)(path, begun / 'other' / path.relative_to(folder))
  return folder


def contents(folder):
  files = (p for p in folder.rglob('*') if p.is_file() and p.name != 'flags.txt')
  return {path: path.read_bytes() for path in files}


# `tests/faults/damage_workdir.py` does so for every file and damage.
@pytest.mark.parametrize(
  ('name', 'kind', 'warnings'),
  [
    (LAST, 'truncate', 1),
    (LAST, 'swap', 1),
    ('metrics.jsonl', 'flip', 0),
    ('best.weights.h5', 'truncate', 1),
    ('best.weights.h5', 'swap', 1),
  ],
)
def test_damaged_files_that_are_not_needed(
  name, kind, warnings, begun, table, tmp_path, capsys
):
  folder = damaged(name, kind, begun, tmp_path / 'run')
  run(folder, *TABLE)
  captured = capsys.readouterr()
  assert 'Going on after 2 epochs' in captured.out
  lines = captured.err.splitlines()
  assert len([line for line in lines if line.startswith('warning: ')]) == warnings
  assert state(folder)['checkpoint'] == state(table)['checkpoint']
  assert state(folder)['metrics'] == state(table)['metrics']


@pytest.mark.parametrize(
  ('name', 'kind', 'message'),
  [
    ('flags.txt', 'truncate', 'options of the run'),
    ('flags.txt', 'remove', 'no flags.txt'),
    ('flags.txt', 'swap', 'has --seed=1; received --seed=0'),
    ('checkpoints', 'truncate', 'a checkpoint that can be read .* none of 3 can'),
    ('checkpoints', 'swap', 'is of another'),
    ('checkpoints', 'remove', 'Expected the checkpoints of the run'),
  ],
)
def test_damages_that_are_errors(name, kind, message, begun, tmp_path, capsys):
  folder = damaged(name, kind, begun, tmp_path / 'run')
  before = contents(folder)
  found = commands.fails(capsys, train, *TABLE, f'--workdir={folder}')
  assert re.search(message, found)
  assert contents(folder) == before


@pytest.mark.parametrize('error', [OSError('unable to write'), RuntimeError('flush')])
def test_a_full_disk_keeps_the_best_weights(
  error, begun, tmp_path, monkeypatch, capsys
):
  """HDF5 says little of it, one way or the other."""
  folder = shutil.copytree(begun / 'run', tmp_path / 'run')
  before = (folder / 'best.weights.h5').read_bytes()

  def full(model, path):
    pathlib.Path(path).write_bytes(b'half')
    raise error

  with monkeypatch.context() as patch:
    patch.setattr(keras.Model, 'save_weights', full)
    message = commands.fails(capsys, train, *TABLE, f'--workdir={folder}')
  assert 'Expected a folder that can be written' in message
  assert (folder / 'best.weights.h5').read_bytes() == before
  assert not list(folder.glob('.*.h5'))


def test_a_full_disk_keeps_the_last_checkpoint(begun, tmp_path, monkeypatch, capsys):
  folder = shutil.copytree(begun / 'run', tmp_path / 'run')
  before = (folder / LAST).read_bytes()

  def full(file, *args, **kwargs):
    with open(file, 'wb') as f:
      f.write(b'half')
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  with monkeypatch.context() as patch:
    patch.setattr(np, 'savez', full)
    message = commands.fails(capsys, train, *TABLE, f'--workdir={folder}')
  assert 'No space left on device' in message
  assert (folder / LAST).read_bytes() == before
  assert not list(folder.rglob('.*.npz'))
  run(folder, *TABLE)


@pytest.mark.parametrize(
  ('spoiled', 'place'),
  [
    (lambda: spoil_run.spoiled_model(7, spoil_run.spoil_a_weight), 'step 7 .*coupling'),
    (lambda: spoil_run.spoiled_batch(7), 'the batch of training step 7'),
  ],
  ids=['weight', 'batch'],
)
def test_nan_stops_and_names_the_place(spoiled, place, table, tmp_path, capsys):
  words = (*TABLE, f'--workdir={tmp_path}/run')
  with spoiled():
    message = commands.fails(capsys, train, *words, code=train.NON_FINITE)
  assert re.search(place, message)
  assert 'The checkpoint of step 6 is kept; the same run with' in message
  run(tmp_path / 'run', *TABLE)
  assert state(tmp_path / 'run') == state(table)


def test_weights_that_overflow_in_a_step_are_not_saved(
  table, tmp_path, monkeypatch, capsys
):
  words = (*TABLE, f'--workdir={tmp_path}/run')
  with killed_at(6, monkeypatch, spoil_run.spoil_a_weight):
    message = commands.fails(capsys, train, *words, code=train.NON_FINITE)
  assert re.search(r'after training step 6 the weight .*\[0, 0\]', message)
  assert 'The checkpoint of step 5 is kept' in message
  run(tmp_path / 'run', *TABLE)
  assert state(tmp_path / 'run') == state(table)


def test_a_signal_does_not_hide_a_nan(table, tmp_path, monkeypatch, capsys):
  words = (*TABLE, f'--workdir={tmp_path}/run', '--checkpoint_minutes=60')
  with spoil_run.spoiled_model(6, spoil_run.spoil_a_weight):
    with killed_at(6, monkeypatch, lambda _: os.kill(os.getpid(), signal.SIGTERM)):
      message = commands.fails(capsys, train, *words, code=train.NON_FINITE)
  assert re.search('in training step 6 .*coupling', message)
  run(tmp_path / 'run', *TABLE)
  assert state(tmp_path / 'run') == state(table)


def test_rollback_recovers(tmp_path, capsys):
  with spoil_run.spoiled_model(7, spoil_run.spoil_a_weight):
    run(tmp_path / 'run', *TABLE, '--on_nan=rollback')
  captured = capsys.readouterr()
  assert re.search(
    'warning: .*step 7 .* Going back to the checkpoint of step 5', captured.err
  )
  assert 'The learning rate is 0.5 times' in captured.out
  rows = (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(row)['epoch'] for row in rows] == [1, 2, 3]
  assert checkpoints.last_state(tmp_path / 'run' / 'checkpoints')['rollbacks'] == 1


@pytest.mark.parametrize('minutes', [0, 60])
def test_a_rollback_at_the_same_rate_changes_nothing(minutes, tmp_path, monkeypatch):
  """Within an epoch, and to the end of one, where averages are in the model."""
  words = (*TABLE, '--ema=0.9', f'--checkpoint_minutes={minutes}')
  run(tmp_path / 'alone', *words)
  monkeypatch.setattr(optimizers, 'rate_factor', lambda rollbacks: 1.0)
  with spoil_run.spoiled_model(7, spoil_run.spoil_a_weight):
    run(tmp_path / 'back', *words, '--on_nan=rollback')
  found, expected = state(tmp_path / 'back'), state(tmp_path / 'alone')
  assert checkpoints.last_state(tmp_path / 'back' / 'checkpoints')['rollbacks'] == 1
  for key in ('weights', 'metrics', 'result'):
    assert found[key] == expected[key]


def test_rollback_to_damaged_checkpoints_loses_none(tmp_path, capsys):
  def spoil(model):
    spoil_run.spoil_a_weight(model)
    for path in sorted((tmp_path / 'run' / 'checkpoints').glob('*'))[:-1]:
      path.write_bytes(b'')

  words = (*TABLE, f'--workdir={tmp_path}/run', '--on_nan=rollback')
  capsys.readouterr()
  with spoil_run.spoiled_model(7, spoil), pytest.raises(SystemExit) as stop:
    commands.call(train, *words)
  assert stop.value.code == 1
  message = capsys.readouterr().err.splitlines()[-1]
  assert 'Expected a checkpoint that can be read' in message
  assert checkpoints.last_state(tmp_path / 'run' / 'checkpoints')['step'] == 2


def test_rollbacks_go_back_further_and_are_counted(tmp_path, monkeypatch, capsys):
  """A step that fails until the rate is an eighth, of a run that is killed there."""
  original, kills = resuming.SaveProgress.on_train_batch_begin, [4]

  def spoiled(self, batch, logs=None):
    rate = float(self.model.optimizer._learning_rate.factor)
    if int(self.model.optimizer.iterations) == 6 and rate > 1 / 8:
      spoil_run.spoil_a_weight(self.model)
    kills.append(rate)
    if rate == 1 / 4 and kills[0] == 4:
      kills[0] = 0
      raise Killed
    original(self, batch, logs)

  words = (*TABLE, f'--workdir={tmp_path}/run', '--on_nan=rollback')
  monkeypatch.setattr(resuming.SaveProgress, 'on_train_batch_begin', spoiled)
  with pytest.raises(Killed):
    commands.call(train, *words)
  commands.call(train, *words)
  captured = capsys.readouterr()
  steps = [int(s) for s in re.findall(r'to the checkpoint of step (\d+)', captured.err)]
  # Not to the step before, then before where it had gone in vain; a new process does
  # not know that.
  assert steps == [5, 4, 5], captured.err
  assert 'The learning rate is 0.25 times' in captured.out
  assert checkpoints.last_state(tmp_path / 'run' / 'checkpoints')['rollbacks'] == 3


def test_a_worker_that_does_not_share_the_workdir_stops_like_the_chief():
  apart = types.SimpleNamespace(
    _checkpoints=types.SimpleNamespace(steps=[]),
    _progress=resuming.Progress(STEPS),
    _options=runs.Options(dataset='moons'),
  )
  error = diagnosis.NonFiniteError('Expected 1; received NaN.', 2, '', 'loss')
  with pytest.raises(runs.Diverged, match='The last checkpoint of the chief is kept'):
    training._Run._go_back(apart, error)


def test_rollbacks_end(tmp_path, monkeypatch, capsys):
  words = (*TABLE, '--on_nan=rollback', '--learning_rate=2e9', '--clip_norm=0')
  monkeypatch.setattr(training, '_MOST_ROLLBACKS', 1)
  words += (f'--workdir={tmp_path}/run',)
  capsys.readouterr()
  with pytest.raises(SystemExit) as stop:
    commands.call(train, *words)
  assert stop.value.code == train.NON_FINITE
  message = capsys.readouterr().err.splitlines()[-1]
  assert 'after 1 rollbacks. Begin a run with a lower --learning_rate' in message


@pytest.mark.parametrize('damage', [None, b'', b'{"epoch": 1,'])
def test_a_trained_run_that_was_killed_before_its_result(damage, table, tmp_path):
  folder = shutil.copytree(table, tmp_path / 'run')
  (folder / 'result.json').unlink()
  if damage is None:
    (folder / 'metrics.jsonl').unlink()
  else:
    (folder / 'metrics.jsonl').write_bytes(damage)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(training, '_draw', lambda workdir, *_: training._draw_curves(workdir))
    run(folder, *TABLE)
  assert state(folder) == state(table)


def test_new_best_weights_are_in_a_checkpoint(tmp_path, monkeypatch):
  words = (*TABLE, '--checkpoint_minutes=60')
  with killed_at(6, monkeypatch), pytest.raises(Killed):
    run(tmp_path / 'run', *words)
  found = checkpoints.last_state(tmp_path / 'run' / 'checkpoints')
  assert found['epoch'] == 1 and found['step'] == 0
  assert found['callbacks']['BestWeights']['best'] == found['history'][0]['val_loss']


def test_two_processes_in_one_workdir(begun, tmp_path, capsys):
  folder = shutil.copytree(begun / 'run', tmp_path / 'run')
  with open(folder / '.lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    message = commands.fails(capsys, train, *TABLE, f'--workdir={folder}')
  assert 'one trains in' in message


def test_progress_counts_steps():
  assert resuming.Progress(5, epoch=2, step=3).total_steps == 13
