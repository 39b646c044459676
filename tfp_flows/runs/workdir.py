"""The files of a run."""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from tfp_flows import data as data_lib
from tfp_flows import flows
from tfp_flows.internal import files
from tfp_flows.model import checkpoints
from tfp_flows.model import flow_model
from tfp_flows.model import weights
from tfp_flows.runs import arguments
from tfp_flows.runs.options import FIXED
from tfp_flows.runs.options import Options
from tfp_flows.runs.options import UsageError
from tfp_flows.runs.options import folder_of
from tfp_flows.runs.options import recorded_lines

__all__ = ['Workdir', 'recorded_arguments']

# What the weights and the test set depend on.
_IDENTITY = (
  'dataset',
  'data_seed',
  'image_size',
  'standardize',
  'conditional',
  'model',
  'arg',
  'dtype',
)


# What an earlier run may have left, and a new one must not be taken for.
_FILES = (
  'best.weights.h5',
  'curves.png',
  'data.json',
  'evaluation_test.json',
  'evaluation_train.json',
  'evaluation_validation.json',
  'interpolation.npy',
  'interpolation.png',
  'lipschitz.jsonl',
  'metrics.jsonl',
  'result.json',
  'sample.npy',
  'sample.png',
  'sample_path.png',
  'samples.png',
  'samples_path.png',
)
_CANNOT_WRITE = (
  errno.EACCES,
  errno.EDQUOT,
  errno.EEXIST,
  errno.EFBIG,
  errno.EISDIR,
  errno.ENOSPC,
  errno.ENOTDIR,
  errno.EPERM,
  errno.EROFS,
)
_FOLDERS = ('export', 'tensorboard', 'checkpoints')
_MOST_SHOWN = 3  # Options of an error.


class Workdir:
  """The files of one run."""

  def __init__(self, options: Options):
    self.path = folder_of(options)
    self.options = _with_names_of_run(_with_absolute_paths(options))

  def file(self, name: str) -> str:
    return os.path.join(self.path, name)

  @property
  def weights(self) -> str:
    return self.file('best.weights.h5')

  @contextlib.contextmanager
  def begin(self, overwrite: bool) -> Iterator[None]:
    """Makes the folder and writes `flags.txt`, or finds the run of the flags there.

    Inside of the block no other process can begin.

    Raises:
      UsageError: if the folder holds a run of other flags, or files that are of no
        run, cannot be written, or another process trains there.
    """
    if os.path.exists(self.file('flags.txt')):
      if not overwrite:
        self._check_same(FIXED, 'overwrite=True to replace it, ')
    elif os.path.isdir(self.path) and self._has_strangers():
      raise UsageError(
        f'Expected a new or empty workdir=DIR, or one with a run; {self.path} holds '
        f'files and no flags.txt. Pass another folder.'
      )
    try:
      os.makedirs(self.path, exist_ok=True)
      with self._locked():
        if overwrite:
          self._remove_run()
        for folder in (self.path, self.file('checkpoints')):
          files.remove_unfinished(folder)
        self._record_flags()
        yield
    except OSError as error:
      if error.errno not in _CANNOT_WRITE:
        raise
      raise UsageError(
        f'Expected a folder that can be written; {self.path}: '
        f'{error.strerror or error}. What was saved before is as it was.'
      ) from error

  def _record_flags(self):
    text = self.options.as_flagfile()
    if os.path.exists(self.file('flags.txt')) and self.options.config is None:
      # The name of the configuration is that of the beginning.
      notes = [line for line in self._recorded() if line.startswith('#')]
      text = '\n'.join([*notes, text])
    with files.replacing(self.file('flags.txt')) as path, open(path, 'w') as file:
      file.write(text)

  @contextlib.contextmanager
  def _locked(self):
    with open(self.file('.lock'), 'w') as file:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError as error:
        raise UsageError(
          f'Expected a workdir=DIR where no other process writes; one trains in '
          f'{self.path}. Stop it, or pass another folder.'
        ) from error
      yield

  def _has_strangers(self):
    # A process that was killed may leave hidden files.
    return any(not name.startswith('.') for name in os.listdir(self.path))

  def _remove_run(self):
    for name in _FOLDERS:
      if os.path.islink(self.file(name)):
        os.remove(self.file(name))
      elif os.path.isdir(self.file(name)):
        shutil.rmtree(self.file(name))
    # Last the one by which the others are known to be of a run.
    for name in (*_FILES, 'flags.txt'):
      if os.path.exists(self.file(name)):
        os.remove(self.file(name))

  def record_data(self, data: data_lib.Description) -> None:
    """Writes `data.json`, what the model needs of its data, unless it is there."""
    if not os.path.exists(self.file('data.json')):
      values = dict(dataset=self.options.dataset, **data.as_json())
      with files.replacing(self.file('data.json')) as path, open(path, 'w') as file:
        json.dump(values, file, indent=1)

  def description(self) -> data_lib.Description | None:
    """What `data.json` says; None if the run has none.

    Raises:
      UsageError: if the file is damaged.
    """
    path = self.file('data.json')
    if not os.path.exists(path):
      return None
    try:
      with open(path) as file:
        return data_lib.Description.from_json(json.load(file))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
      raise UsageError(
        f'Expected what a run needs of its data in {path}; the file is damaged '
        f'({files.first_line(error)}). Restore it, or remove it if the data are there.'
      ) from error

  def scale(self) -> tuple[Any, Any] | None:
    """By what the table of the run there is scaled; None leaves it to the data."""
    found = self.description()
    if found is not None:
      return (0.0, 1.0) if found.mean is None else (found.mean, found.deviation)
    # Older versions did not centre without `standardize`.
    is_older = os.path.exists(self.weights) or (
      os.path.isdir(self.file('checkpoints')) and os.listdir(self.file('checkpoints'))
    )
    return (0.0, 1.0) if is_older and not self.options.standardize else None

  def digest(self) -> str:
    """That of the data of the run; empty if nothing has kept it."""
    found = self.description()
    if found is not None:
      return found.digest
    state = checkpoints.last_state(self.file('checkpoints')) or {}
    return state.get('data') or ''

  def forget_result(self) -> None:
    """Removes the result of a training that goes on, if there is one."""
    with contextlib.suppress(FileNotFoundError):
      os.remove(self.file('result.json'))

  def check_nothing_trained(self) -> None:
    """Raises `UsageError` if there are results of a training without checkpoints."""
    for name in ('metrics.jsonl', 'best.weights.h5', 'result.json'):
      if os.path.exists(self.file(name)):
        raise UsageError(
          f'Expected the checkpoints of the run in {self.path}, which has a {name}; '
          f'there are none. Restore them, or pass overwrite=True to begin anew.'
        )

  def identity(self) -> str:
    """`Options.identity` of the run that is there."""
    recorded = self._recorded()
    lines = (line for name in FIXED for line in _lines(name, recorded))
    return '\n'.join(lines)

  def _recorded(self):
    return recorded_lines(self.path)

  def check_same_model(self) -> None:
    """Raises `UsageError` unless `flags.txt` describes the model of the flags."""
    names: Sequence[str] = _IDENTITY
    recorded = _lines('dataset', self._recorded())
    paths = [self.options.dataset, *(line.partition('=')[2] for line in recorded)]
    if self.description() is not None and all(map(data_lib.is_path, paths)):
      # Files may be elsewhere, and then their digest tells whether they are others.
      names = [name for name in names if name != 'dataset']
    self._check_same(names)

  def _check_same(self, names, remedy=''):
    recorded = self._recorded()
    others = [n for n in names if self.options.lines(n) != _lines(n, recorded)]
    if not others:
      return
    others.sort(key=self.options.is_default)  # First what somebody has set.
    there = [_assigned(n, _lines(n, recorded)) for n in others]
    here = [
      f'{_assigned(n, self.options.lines(n))}'
      f'{" (the default)" if self.options.is_default(n) else ""}'
      for n in others
    ]
    raise UsageError(
      f'Expected the options of the run in {self.path}, which has {_some(there)}; '
      f'received {_some(here)}. Pass workdir=DIR alone (in Python '
      f'Options.of_run(DIR)) for those of the run, {remedy}or another workdir=DIR.'
    )

  def load_weights(self, model: flow_model.FlowModel) -> None:
    """Loads the best weights.

    Raises:
      UsageError: if there are none, or the file is damaged, or of another model.
    """
    if not os.path.exists(self.weights):
      raise UsageError(
        f'Expected trained weights at {self.weights}; there are none. Run '
        f'tfp-flows-train first.'
      )
    try:
      weights.load_weights(model, self.weights, self.identity())
    except (OSError, KeyError, weights.DamagedWeights) as error:
      raise UsageError(
        f'Expected the weights of a run at {self.weights}; the file is damaged '
        f'({str(error).splitlines()[0]}). Train again, or restore it.'
      ) from error
    except ValueError as error:
      raise UsageError(
        f'Expected weights of this model at {self.weights}; they are of another '
        f'({str(error).splitlines()[0]}). Restore it, or train again.'
      ) from error


def _lines(name, recorded):
  """The lines of a flagfile that set a flag."""
  return [
    line
    for line in recorded
    if line.startswith(f'--{name}=') or line in (f'--{name}', f'--no{name}')
  ]


def _assigned(name, lines):
  """The lines of a flagfile that set an option, as Python has it."""
  if lines in ([f'--{name}'], [f'--no{name}']):
    return f'{name}={lines == [f"--{name}"]}'
  return ' '.join(line.removeprefix('--') for line in lines) or f'no {name}'


def _some(texts):
  """The first of them, and how many there are beside."""
  more = f', and {len(texts) - _MOST_SHOWN} more' if len(texts) > _MOST_SHOWN else ''
  return f'{" ".join(texts[:_MOST_SHOWN])}{more}'


def recorded_arguments(path: str | None) -> tuple[str, ...]:
  """The arguments of the model of a run, as it was begun with; none without a run."""
  try:
    lines = _lines('arg', recorded_lines(path or ''))
  except (OSError, UsageError):
    return ()  # Whoever needs the file says what is wrong with it.
  return tuple(line.removeprefix('--arg=') for line in lines)


def _with_names_of_run(options):
  """With the arguments of the run, if those are the same by names of earlier versions.

  Its files are known by them.
  """
  recorded = recorded_arguments(options.workdir)
  builder = flows.MODELS.get(options.model)
  if builder is None:
    return options
  current = tuple(arguments.with_current_name(builder, text) for text in recorded)
  is_same = current == options.arg and current != recorded
  return dataclasses.replace(options, arg=recorded) if is_same else options


def _with_absolute_paths(options):
  """The same from any folder."""
  found = {}
  for name in ('workdir', 'data_dir', 'dataset'):
    value = getattr(options, name)
    if value and (name != 'dataset' or data_lib.is_path(value)):
      found[name] = os.path.abspath(os.path.expanduser(value))
  return dataclasses.replace(options, **found)
