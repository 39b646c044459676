"""Reads files of earlier versions with the code of now.

    python -m tests.compatibility.reading --exact

Prints for every file of `write_fixtures.py` how far its numbers are from those of then;
with `--exact` it exits with 1 unless those of the last version are the same bits. They
are where they were written, and need not be on another processor.
"""

import argparse
import contextlib
import importlib
import json
import pathlib
import re
import shutil
import sys
import tempfile
import unittest.mock
import zipfile

import keras
import numpy as np
import tensorflow as tf
from absl.testing import flagsaver

import tfp_flows as tff
from tests.compatibility import comparing
from tests.compatibility import own_layers  # noqa: F401  Registers its classes.
from tfp_flows.runs import training

FOLDER = pathlib.Path(__file__).parent
VERSIONS = ('v0_1_0', 'v0_2_dev')
# Behind the weights of a run stand digests; one of them is of the flags.
_MARK = b'tfp_flows sha256 '


def names(kind: str, ending: str) -> list[str]:
  """The files of all versions without their ending, as `v0_1_0/models/maf_affine`."""
  found = [p for v in VERSIONS for p in sorted((FOLDER / v / kind).glob(f'*{ending}'))]
  return [str(p.relative_to(FOLDER)).removesuffix(ending) for p in found]


def arrays(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Inputs and expected outputs."""
  with np.load(FOLDER / f'{name}.npz') as file:
    found = dict(file)
  return tuple(
    {k.removeprefix(part): v for k, v in found.items() if k.startswith(part)}
    for part in ('input.', 'expected.')
  )


def model(name: str) -> dict[str, float]:
  """How far the numbers of a `.keras` file are from those of then."""
  inputs, expected = arrays(name)
  loaded = keras.saving.load_model(FOLDER / f'{name}.keras')
  if 'predictions' in expected:
    found = dict(predictions=np.asarray(loaded(inputs['x'])))
  elif 'loss' in expected:
    found = comparing.numbers_of_training(loaded, inputs)
  else:
    found = comparing.numbers(loaded, inputs, 'samples' in expected)
  return comparing.differences(found, expected)


def _built(name):
  """The model of the builder that the weights are of, with others."""
  found = json.loads((FOLDER / f'{name}.json').read_text())
  distribution = getattr(tff, found['builder'])(seed=9, **found['options'])
  built = tff.FlowModel(distribution, seed=0)
  built.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
  built.optimizer.build(built.trainable_variables)
  return built


def weights(name: str) -> dict[str, float]:
  """The same for a `.weights.h5` file."""
  return _of_weights(name, lambda m: m.load_weights(FOLDER / f'{name}.weights.h5'))


def checkpoints(name: str) -> dict[str, float]:
  """The same for a checkpoint of `tff.Checkpoints`."""

  def restore(built):
    with tempfile.TemporaryDirectory() as scratch:
      folder = shutil.copytree(FOLDER / f'{name}_checkpoints', f'{scratch}/copy')
      state = tff.Checkpoints(folder, built).restore()
    assert state == dict(epoch=1, note='of the user'), state

  return _of_weights(name, restore)


def tensorflow_checkpoint(name: str) -> dict[str, float]:
  """The same for a checkpoint of TensorFlow."""

  def restore(built):
    path = FOLDER / f'{name}_tf' / 'ckpt'
    status = tf.train.Checkpoint(model=built).read(str(path))
    status.assert_existing_objects_matched()

  return _of_weights(name, restore)


def _of_weights(name, restore):
  inputs, expected = arrays(name)
  built = _built(name)
  restore(built)
  found = comparing.numbers_of_weights(built, inputs)
  return comparing.differences(found, expected)


def exports(name: str) -> dict[str, float]:
  """The same for a SavedModel and for StableHLO, and for a step of training there."""
  inputs, expected = arrays(name)
  if not comparing.has_jax():
    expected = {k: v for k, v in expected.items() if k.startswith('saved_model.')}
  with tempfile.TemporaryDirectory() as scratch:
    folder = _unpacked(name, scratch)
    found = comparing.numbers_of_exports(folder, inputs)
    if any(key.startswith('trained.') for key in expected):
      loaded = keras.saving.load_model(FOLDER / f'{name}.keras')
      comparing.train_exported(folder, inputs, loaded)
      trained = comparing.numbers(loaded, inputs, has_noise=False)
      found |= {f'trained.{key}': value for key, value in trained.items()}
  return comparing.differences(found, expected)


def _unpacked(name, folder):
  with zipfile.ZipFile(FOLDER / f'{name}.zip') as archive:
    archive.extractall(folder)
  return pathlib.Path(folder)


def run(name: str) -> dict[str, float]:
  """How far the end of a run is from that of then, if it goes on from its middle."""
  expected = json.loads((FOLDER / f'{name}.json').read_text())
  with tempfile.TemporaryDirectory() as scratch:
    folder = _unpacked(name, scratch)
    _command('train', f'--workdir={folder}', '--epochs=4')
    rows = (folder / 'metrics.jsonl').read_text().splitlines()
    found = dict(
      result=json.loads((folder / 'result.json').read_text()),
      metrics=[json.loads(row) for row in rows],
    )
  return comparing.differences(_flat(found), _flat(expected))


def _flat(found):
  """The numbers of a run by name, without those of its time."""
  values = {f'result.{k}': v for k, v in found['result'].items()}
  for i, row in enumerate(found['metrics']):
    values |= {f'epoch_{i}.{k}': v for k, v in row.items()}
  return {
    k: np.asarray(v, np.float64)
    for k, v in values.items()
    if isinstance(v, (int, float)) and 'seconds' not in k
  }


def table(name: str) -> dict[str, float]:
  """How far the likelihood of a table is from that of then, from another folder."""
  expected = json.loads((FOLDER / f'{name}.json').read_text())
  data = FOLDER / f'{name}.csv'
  with tempfile.TemporaryDirectory() as scratch:
    folder = _unpacked(name, scratch)
    if not (folder / 'data.json').exists():
      _move_data(folder, data)
    _command('evaluate', f'--workdir={folder}', f'--dataset={data}')
    result = json.loads((folder / 'evaluation_test.json').read_text())
  found = dict(result=result, metrics=[])
  return comparing.differences(_flat(found), _flat(dict(expected, metrics=[])))


def _move_data(folder, data):
  """Tells a run of 0.1.0 where its data are; a digest is of where they were."""
  flags, saved = folder / 'flags.txt', folder / 'best.weights.h5'
  flags.write_text(re.sub('--dataset=.*', f'--dataset={data}', flags.read_text()))
  saved.write_bytes(saved.read_bytes().rpartition(_MARK)[0])


def _command(name, *words):
  """Runs a command in this process, and without its pictures."""
  module = importlib.import_module(f'tfp_flows.bin.{name}')
  argv = [f'tfp-flows-{name}', *words]
  with contextlib.ExitStack() as stack:
    stack.enter_context(flagsaver.flagsaver())
    stack.enter_context(unittest.mock.patch.object(sys, 'argv', argv))
    stack.enter_context(unittest.mock.patch.object(training, '_draw'))
    try:
      module.run()
    except SystemExit as stop:
      if stop.code:
        raise RuntimeError(f'{argv} ended with {stop.code}') from stop


KINDS = [
  (model, 'models', '.keras'),
  (weights, 'weights', '.weights.h5'),
  (checkpoints, 'weights', '.weights.h5'),
  (tensorflow_checkpoint, 'weights', '.weights.h5'),
  (exports, 'exports', '.zip'),
  (run, 'workdirs', '.zip'),
]


# TensorFlow finds variables by their places among objects, which have changed since.
REFUSED = [f'v0_1_0/weights/{name}' for name in ('glow', 'maf', 'residual_flow')]


def cases() -> list:
  """Each function above with the name of a file."""
  found = [(read, name) for read, *where in KINDS for name in names(*where)]
  return [
    (table if name.endswith('workdirs/table') else read, name)
    for read, name in found
    if read is not tensorflow_checkpoint or name not in REFUSED
  ]


def main() -> int:
  """Returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--exact', action='store_true')
  parser.add_argument('--only', default='', help='part of the name of a file')
  options, code = parser.parse_args(), 0
  for read, name in cases():
    if options.only not in f'{read.__name__} {name}':
      continue
    found = read(name)
    worst = max(found, key=found.get)
    changed = {k: f'{v:.1e}' for k, v in found.items() if v}
    print(f'{read.__name__} {name}: {found[worst]:.1e} {changed or ""}', flush=True)
    code |= bool(changed) and name.startswith(VERSIONS[-1])
  return code if options.exact else 0


if __name__ == '__main__':
  sys.exit(main())
