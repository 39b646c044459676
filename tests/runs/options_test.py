"""Options of a run, beside the flags that set them."""

import dataclasses

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from tests.bin import commands  # noqa: F401  Defines the flags.
from tfp_flows import flows
from tfp_flows import runs
from tfp_flows.bin import cli
from tfp_flows.bin import flags as flags_lib
from tfp_flows.runs import options as options_lib

CHANGED = dict(
  workdir='a b',
  dataset='moons',
  download=False,
  image_size=16,
  standardize=False,
  conditional=True,
  arg=['num_steps=3', "transformer='spline'"],
  learning_rate=3e-5,
  clip_norm=0.0,
  jit=False,
  log_det='exact',
)


def test_every_shared_flag_is_an_option():
  names = [field.name for field in dataclasses.fields(runs.Options)]
  assert list(flags_lib.SHARED) == names
  assert set(options_lib.FIXED) | set(options_lib.FREE) == set(names)


@pytest.mark.parametrize('changed', [{}, CHANGED])
def test_lines_are_those_that_absl_writes(changed):
  with flagsaver.flagsaver(**changed):
    options = flags_lib.options()
    for name in flags_lib.SHARED:
      expected = [x for x in flags.FLAGS[name].serialize().splitlines() if x]
      assert options.lines(name) == expected, name


def test_a_flagfile_is_read_as_it_was_written(tmp_path):
  options = runs.Options(**CHANGED)
  (tmp_path / 'flags.txt').write_text(options.as_flagfile())
  with flagsaver.flagsaver():
    cli._parse(['command', f'--flagfile={tmp_path}/flags.txt'])
    assert flags_lib.options() == options


@pytest.mark.parametrize('config', sorted(options_lib.configs()))
def test_configurations_are_what_the_command_line_makes_of_them(config):
  with flagsaver.flagsaver():
    cli._parse(['command', f'--config={config}', '--seed=3'])
    expected = flags_lib.options()
  assert runs.Options.of_config(config, seed=3) == expected
  assert runs.Options.of_config(config) != expected


def test_identity_is_of_what_numbers_depend_on():
  options = runs.Options(dataset='moons')
  same = dataclasses.replace(options, epochs=3, workdir='elsewhere', num_samples=7)
  assert same.identity() == options.identity()
  assert runs.Options(dataset='moons', seed=1).identity() != options.identity()


@pytest.mark.parametrize(
  ('wrong', 'message'),
  [
    (dict(epochs=1.5), 'epochs of type int; received 1.5'),
    (dict(epochs=True), 'epochs of type int; received True'),
    (dict(epochs=-1), r'epochs in \[0, 2147483647\]; received -1'),
    (dict(seed=2**31), 'seed in'),
    (dict(learning_rate=float('nan')), 'learning_rate in'),
    (dict(dtype='float16'), "dtype to be one of float32, float64; received 'float16'"),
    (dict(model=None), 'model of type str; received None'),
    (dict(arg='num_steps=3'), "arg of type list of str; received 'num_steps=3'"),
    (dict(arg=[1]), 'arg as text on one line.*received 1'),
    (dict(arg=['a=1\n']), 'arg as text on one line'),
    (dict(dataset='a\n--epochs=3'), 'dataset as text on one line'),
    (dict(learning_rate=10**400), 'learning_rate in'),
    (dict(jit=1), 'jit of type bool; received 1'),
  ],
)
def test_values_that_no_run_can_have(wrong, message):
  with pytest.raises(runs.UsageError, match=f'Expected {message}'):
    runs.Options(**wrong)


def test_unknown_configurations():
  with pytest.raises(runs.UsageError, match="one of ffjord_.*; received 'nope'"):
    runs.Options.of_config('nope')


def test_options_stay_as_they_are():
  with pytest.raises(dataclasses.FrozenInstanceError):
    runs.Options().epochs = 3


def test_numbers_and_paths_of_others_are_taken(tmp_path):
  options = runs.Options(
    workdir=tmp_path, epochs=np.int64(3), learning_rate=np.float32(0.5), ema=0
  )
  assert options == runs.Options(
    workdir=str(tmp_path), epochs=3, learning_rate=0.5, ema=0.0
  )
  assert [type(v) for v in (options.epochs, options.ema)] == [int, float]


def test_parts_and_formats_that_there_are_not(tmp_path):
  options = runs.Options(workdir=str(tmp_path))
  with pytest.raises(runs.UsageError, match="part to be one of .*; received 'tset'"):
    runs.evaluate(options, 'tset')
  for formats in ('nope', [], ['data', 'nope']):
    with pytest.raises(runs.UsageError, match='Expected formats of'):
      runs.export(options, formats)


def test_the_models_are_those_of_the_builders():
  """The names are there before TensorFlow is."""
  (field,) = (f for f in dataclasses.fields(runs.Options) if f.name == 'model')
  assert list(field.metadata['choices']) == sorted(flows.MODELS)
