"""What a command says before TensorFlow is loaded: its help, and errors."""

import os
import re
import subprocess
import sys

import pytest

from tests.bin.commands import call
from tfp_flows import runs
from tfp_flows.bin import cli  # noqa: F401  Defines flags.
from tfp_flows.bin import evaluate
from tfp_flows.bin import export
from tfp_flows.bin import flags as flags_lib
from tfp_flows.bin import import_arrays
from tfp_flows.bin import interpolate
from tfp_flows.bin import naming
from tfp_flows.bin import sample
from tfp_flows.bin import train
from tfp_flows.runs import options as options_lib

COMMANDS = dict(
  evaluate=evaluate,
  export=export,
  import_arrays=import_arrays,
  interpolate=interpolate,
  sample=sample,
  train=train,
)


@pytest.fixture(scope='module')
def start(tmp_path_factory):
  """Runs a command where TensorFlow cannot be imported."""
  folder = tmp_path_factory.mktemp('without')
  for name in ('tensorflow', 'keras', 'tensorflow_probability'):
    (folder / f'{name}.py').write_text('raise SystemExit("slow")\n')
  paths = [str(folder), os.getcwd(), os.environ.get('PYTHONPATH', '')]

  def run(command, *words):
    return subprocess.run(
      [sys.executable, '-m', f'tfp_flows.bin.{command}', *words],
      capture_output=True,
      text=True,
      check=False,
      env=os.environ | dict(PYTHONPATH=os.pathsep.join(paths)),
    )

  return run


@pytest.mark.parametrize(
  ('command', 'words', 'message'),
  [
    ('train', ['--nope=3'], "Unknown command line flag 'nope'"),
    ('train', ['--dataset=moons'], 'Expected --workdir=DIR, the folder of the run'),
    (
      'train',
      ['--workdir=x', '--config=nope'],
      'Expected --config=NAME, one of ffjord_',
    ),
    ('train', ['--workdir=x', '--model=nope'], 'should be one of <ffjord|glow|iaf|'),
    ('train', ['--workdir=x', '--seed=-1'], 'flag --seed=-1'),
    ('sample', [], 'Expected --workdir=DIR, the folder of the run; received none.'),
    ('evaluate', ['--workdir=/none'], 'a run of tfp-flows-train in /none; there is no'),
  ],
)
def test_errors_come_at_once(command, words, message, start):
  done = start(command, *words)
  assert (done.returncode, done.stdout) == (1, '')
  assert message in done.stderr
  assert len(done.stderr.splitlines()) == 1


def test_other_errors_wait_for_tensorflow(start):
  """Or the fixture would prove nothing."""
  assert 'slow' in start('train', '--workdir=x', '--arg=nope=3').stderr


def shown(text):
  """The names of the flags in a help."""
  return set(re.findall(r'^ *(?:-\w,)?--(?:\[no\])?(\w+):\s', text, re.M))


OWN = dict(
  evaluate={'part', 'noise_samples', 'estimates', 'batch_size', 'log_det'},
  export={'format', 'output', 'overwrite', 'batch_size', 'epochs'},
  import_arrays={'arrays', 'export', 'overwrite', 'batch_size'},
  interpolate={'first', 'second', 'frames', 'output'},
  sample={'num_samples', 'temperature', 'output'},
  train={*flags_lib.SHARED, 'overwrite', 'list_configs'},
)
ABSL = {'flagfile', 'undefok', 'verbosity'}


@pytest.mark.parametrize('command', COMMANDS)
def test_help_shows_what_the_command_reads(command, start):
  done = start(command, '--help')
  assert done.returncode == 0
  assert done.stdout.startswith(COMMANDS[command].__doc__.splitlines()[0])
  expected = OWN[command] | {*flags_lib.OF_RUNS} | ABSL
  if command == 'evaluate':
    expected |= {'log_det_terms'}
  assert shown(done.stdout) == expected
  assert start(command, '--helpshort').stdout == done.stdout
  assert shown(start(command, '--helpfull').stdout) > {*flags_lib.SHARED, 'overwrite'}


# What says which run it is, and has to be that of the run.
IDENTITY = {'num_points', 'data_seed', 'image_size', 'standardize', 'conditional'}
IDENTITY |= {'model', 'arg', 'dtype'}


@pytest.fixture
def reads(monkeypatch):
  """The options that are read, but for where all are written down and compared."""
  found = set()
  get = object.__getattribute__

  def noted(self, name):
    file = sys._getframe(1).f_code.co_filename
    if not file.endswith(('runs/options.py', 'runs/workdir.py', 'dataclasses.py')):
      found.add(name)
    return get(self, name)

  monkeypatch.setattr(options_lib.Options, '__getattribute__', noted)
  return found


def test_commands_read_what_they_show(reads, tmp_path):
  words = ('--dataset=moons', '--model=nice', '--num_points=100', '--nojit')
  words += ('--arg=num_steps=1', '--arg=width=2', '--epochs=1')
  call(train, f'--workdir={tmp_path}/run', *words)
  for name in ('evaluate', 'sample', 'interpolate'):
    reads.clear()
    call(COMMANDS[name], f'--flagfile={tmp_path}/run/flags.txt')
    options = (reads & set(flags_lib.SHARED)) - IDENTITY
    told = set(COMMANDS[name].SHOWN) & set(flags_lib.SHARED)
    # `workdir` is read by its `Workdir`, the other if `log_det` is set.
    assert options | {'workdir'} == told - {'log_det_terms'}, name


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('Expected epochs=N; received 0.', 'Expected --epochs=N; received 0.'),
    ('Pass overwrite=True.', 'Pass --overwrite.'),
    ('Pass jit=False, or so.', 'Pass --nojit, or so.'),
    ('has arg=seed=3 model=glow; no', 'has --arg=seed=3 --model=glow; no'),
    ('with dtype=tf.float64.', 'with --dtype=float64.'),
    ('(of part=test)', '(of --part=test)'),
    ("received 'seed=3'", "received 'seed=3'"),
    ('at /a/seed=3 of Adam(seed=1)', 'at /a/seed=3 of Adam(seed=1)'),
    ('temperature=1', '--temperature=1'),
    ('the model=', 'the --model='),
    ('submodel=3 is ours', 'submodel=3 is ours'),
  ],
)
def test_options_are_shown_as_flags(text, expected):
  assert naming.as_flags(text) == expected


def test_messages_of_runs_become_those_of_commands(tmp_path, capsys):
  with pytest.raises(runs.UsageError, match='^Expected workdir=DIR'):
    runs.train(runs.Options())
  with pytest.raises(SystemExit):
    call(train)
  assert capsys.readouterr().err.startswith('error: Expected --workdir=DIR')
