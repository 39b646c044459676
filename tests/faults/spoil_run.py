"""Puts a NaN into a batch or a weight of a training run, once.

  PYTHONPATH=. python tests/faults/spoil_run.py --spoil=batch --step=100 -- \
      --config=real_nvp_moons --epochs=10

What follows `--` are flags of tfp-flows-train. One run is left alone. One stops at the
NaN and is started again, one has `--on_nan=rollback`. Prints what the commands print,
and the results of all three; exits with 1 unless the first two end with the same
weights, bit for bit.
"""

import argparse
import contextlib
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from absl.testing import flagsaver

from tests.faults import kill_and_resume
from tfp_flows.bin import cli
from tfp_flows.bin import train
from tfp_flows.runs import resuming
from tfp_flows.runs import training_data


class _Once:
  """True at the first step of that number, counted from 1, and never again."""

  def __init__(self, step: int):
    self._step, self._is_done = step, False

  def __call__(self, step: int) -> bool:
    if step != self._step or self._is_done:
      return False
    self._is_done = True
    return True


@contextlib.contextmanager
def _replaced(owner, name: str, value: Callable) -> Iterator[None]:
  original = getattr(owner, name)
  setattr(owner, name, value)
  try:
    yield
  finally:
    setattr(owner, name, original)


def spoiled_model(step: int, spoil: Callable[[keras.Model], None]):
  """A context in which `spoil(model)` is called once, before the step."""
  is_now = _Once(step)
  original = resuming.SaveProgress.on_train_batch_begin

  def on_train_batch_begin(self, batch, logs=None):
    if is_now(int(self.model.optimizer.iterations) + 1):
      spoil(self.model)
    original(self, batch, logs)

  return _replaced(resuming.SaveProgress, 'on_train_batch_begin', on_train_batch_begin)


def spoil_a_weight(model: keras.Model) -> None:
  """Sets the first kernel to NaN."""
  kernel = next(w for w in model.trainable_variables if len(w.shape) == 2)
  kernel.assign(kernel * np.nan)


def spoiled_batch(step: int):
  """A context in which the batch of the step has a NaN, the first time."""
  is_now = _Once(step)
  original = training_data.TrainingData.epochs

  def with_nan(index, x):
    x = np.array(x)
    if is_now(int(index) + 1):
      x[-1] = np.nan
    return x

  def epochs(self, first, last):
    def spoil(index, batch):
      x, *others = batch
      found = tf.numpy_function(with_nan, [index, x], x.dtype)
      return (tf.ensure_shape(found, x.shape), *others)

    batches = original(self, first, last)
    return batches.enumerate(first * self.steps_per_epoch).map(spoil)

  return _replaced(training_data.TrainingData, 'epochs', epochs)


def run(workdir: pathlib.Path, flags: list[str]) -> int:
  """The exit code of a run in this process."""
  with flagsaver.flagsaver():
    cli._parse(['train', *flags, f'--workdir={workdir}'])
    try:
      cli._guarded(train.main)
    except SystemExit as stop:
      return stop.code
  return 0


def main() -> int:
  """Returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--spoil', choices=('batch', 'weight'), default='weight')
  parser.add_argument('--step', type=int, default=100)
  parser.add_argument('flags', nargs='*', help='Of tfp-flows-train.')
  args = parser.parse_args()

  def spoiled():
    if args.spoil == 'batch':
      return spoiled_batch(args.step)
    return spoiled_model(args.step, spoil_a_weight)

  with tempfile.TemporaryDirectory() as folder:
    alone, stopped, back = (pathlib.Path(folder, n) for n in ('alone', 'stop', 'back'))
    with open(os.devnull, 'w') as silent, contextlib.redirect_stdout(silent):
      codes = [run(alone, args.flags)]
      with spoiled():
        codes.append(run(stopped, args.flags))
      codes.append(run(stopped, args.flags))
      with spoiled():
        codes.append(run(back, [*args.flags, '--on_nan=rollback']))
    print(f'exit codes: alone, spoiled, again, with --on_nan=rollback: {codes}')
    for workdir in (alone, stopped, back):
      result = json.loads((workdir / 'result.json').read_text())
      nats, error = result['nats'], result['nats_standard_error']
      print(f'{workdir.name:5} {nats:.4f} +- {error:.4f} nats')
    ends = [kill_and_resume.hash_of_checkpoint(p) for p in (alone, stopped)]
    print(f'last checkpoints: {ends[0]} alone, {ends[1]} stopped and started again')
    return int(codes != [0, 2, 0, 0] or ends[0] != ends[1])


if __name__ == '__main__':
  sys.exit(main())
