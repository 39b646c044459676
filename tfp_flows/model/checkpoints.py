"""The whole state of a training run, on disk."""

import json
import operator
import os
import re
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.internal import files
from tfp_flows.model import older

__all__ = ['CheckpointError', 'Checkpoints', 'DamagedCheckpoint', 'last_state']

_NAME = re.compile(r'step-(\d{10})\.npz')
_MOST_STEPS = 10**10


class CheckpointError(ValueError):
  """No checkpoint that can be read."""


class DamagedCheckpoint(UserWarning):
  """The last checkpoint cannot be read, but an earlier one."""


class Checkpoints:
  """Checkpoints of a model and its optimizer in a folder, each one file.

  A checkpoint has all variables of the model, with those of seed generators, of its
  optimizer, with averages and iterations, and of its metrics if there is one replica,
  as arrays of a `.npz`
  file, beside a JSON object of the caller. It appears whole or not at all, has a
  checksum of each array, and is read only if it is of the same run.

  ```python
  checkpoints = tff.Checkpoints('run/checkpoints', model)
  state = checkpoints.restore()     # None in a new folder
  ...
  checkpoints.save(step, {'epoch': 3})
  ```
  """

  def __init__(
    self,
    folder: str | os.PathLike[str],
    model: keras.Model,
    run: str = '',
    keep: int = 3,
    is_reader: bool = False,
  ):
    """Creates the object; the folder is made when the first checkpoint is saved.

    Args:
      folder: of the checkpoints alone.
      model: built and compiled.
      run: what tells this run from others, as its options.
      keep: how many checkpoints are kept, the last ones.
      is_reader: whether nothing is written, as by all workers but one.

    Raises:
      ValueError: if `keep` is below 1, or the model has no weights yet.
    """
    if keep < 1:
      raise ValueError(f'Expected keep >= 1; received {keep}.')
    if not model.built:
      raise ValueError(
        f'Expected a model that is built; {model.name} is not. Call `model.build`, or '
        f'give it a `keras.Input`.'
      )
    self._folder, self._model = os.fspath(folder), model
    self._run, self._keep, self._is_reader = run, keep, is_reader
    with model.distribute_strategy.scope():
      model.optimizer.build(model.trainable_variables)

  @property
  def steps(self) -> list[int]:
    """The steps of the checkpoints that are there, the last one first."""
    return _steps(self._folder)

  def path(self, step: int) -> str:
    """Of the checkpoint of a step."""
    return _path(self._folder, step)

  def save(self, step: int, state: dict[str, Any]) -> None:
    """Saves a checkpoint and removes the oldest ones.

    Args:
      step: number of steps made, in [0, 10^10).
      state: what else `restore` returns; as JSON has it.

    Raises:
      TypeError: if JSON does not have it.
      ValueError: for another step.
      OSError: if it cannot be written; the earlier checkpoints are untouched.
    """
    step = operator.index(step)
    if not 0 <= step < _MOST_STEPS:
      raise ValueError(f'Expected a step in [0, {_MOST_STEPS}); received {step}.')
    if self._is_reader:
      return
    os.makedirs(self._folder, exist_ok=True)
    arrays: dict[str, Any] = {
      f'{i:05}': np.asarray(v) for i, v in enumerate(self.variables)
    }
    try:
      header = json.dumps(self._header(step) | {'state': state})
    except TypeError as error:
      raise TypeError(
        f'Expected a state of numbers, strings, lists and dictionaries, as JSON has '
        f'them; {error}.'
      ) from error
    with files.replacing(self.path(step)) as path:
      np.savez(path, header=np.asarray(header), **arrays)
    for old in self.steps[self._keep :]:
      os.remove(self.path(old))

  def remove(self, step: int) -> None:
    """Removes the checkpoint of a step."""
    if not self._is_reader:
      os.remove(self.path(step))

  def restore(self, last: int | None = None) -> dict[str, Any] | None:
    """Restores the last checkpoint that can be read.

    Warns, with `DamagedCheckpoint`, of each later one that cannot, and renames it.

    Args:
      last: of no later step than this; None of any.

    Returns:
      The state that was saved with it, or None if there is no checkpoint.

    Raises:
      CheckpointError: if there are checkpoints, and none can be read.
    """
    problems = {}
    for step in (s for s in self.steps if last is None or s <= last):
      try:
        arrays, state = self._read(step)
      except CheckpointError as error:
        problems[step] = str(error)
        continue
      for later, problem in problems.items():
        if not self._is_reader:
          os.replace(self.path(later), f'{self.path(later)}.damaged')
        warnings.warn(
          f'{problem} Going back to step {step}.', DamagedCheckpoint, stacklevel=2
        )
      for variable, array in zip(self.variables, arrays):
        variable.assign(array)
      return state
    if problems:
      first = next(iter(problems.values()))
      raise CheckpointError(
        f'Expected a checkpoint that can be read in {self._folder}; none of '
        f'{len(problems)} can. {first} Restore one, or begin anew.'
      )
    return None

  @property
  def variables(self) -> list[keras.Variable]:
    """What checkpoints have."""
    return _variables(self._model)

  def _header(self, step):
    shapes = _shapes(self.variables)
    return dict(run=self._run, step=step, variables=shapes)

  def _read(self, step):
    """The arrays and the state of a checkpoint, all of it checked."""
    path = self.path(step)
    found, arrays, state = _load(path)
    expected = self._header(step)
    arrays = self._completed(found, arrays, self._model)
    if found.get('variables') != expected['variables']:
      arrays = self._of_separate_steps(found, arrays)
    for key in ('run', 'variables', 'step'):
      if found.get(key) != expected[key]:
        raise CheckpointError(
          f'Expected a checkpoint of this run at {path}; it is of another: its {key} '
          f'differ.'
        )
    return arrays, state

  def _completed(self, found, arrays, model):
    """`arrays` with what checkpoints of earlier versions lack."""
    variables = _variables(model)
    for lacking in older.lacking(model):
      there = [v for v in variables if id(v) not in lacking]
      if lacking and found.get('variables') == _shapes(there):
        found['variables'], given = _shapes(variables), iter(arrays)
        return [lacking[id(v)] if id(v) in lacking else next(given) for v in variables]
    return arrays

  def _of_separate_steps(self, found, arrays):
    """`arrays` of a version whose equal steps were separate, as they are now."""
    if not older.has_older(self._model):
      return arrays
    before = older.Older(self._model)
    arrays = self._completed(found, arrays, before.model)
    variables = _variables(before.model)
    if found.get('variables') != _shapes(variables):
      return arrays
    found['variables'] = _shapes(self.variables)
    return before.arrays(self.variables, variables, arrays)


def _variables(model):
  found = [*model.variables, *model.optimizer.variables]
  if model.distribute_strategy.num_replicas_in_sync > 1:
    # Each replica has metrics of its own, which only all of them together can read.
    return found
  return [*found, *model.metrics_variables]


def _shapes(variables):
  return [[v.dtype, list(v.shape)] for v in variables]


def last_state(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
  """The state in the last whole checkpoint of a folder, of any run; None without."""
  for step in _steps(folder):
    try:
      return _load(_path(folder, step))[2]
    except CheckpointError:
      continue
  return None


def _steps(folder):
  if not os.path.isdir(folder):
    return []
  found = map(_NAME.fullmatch, os.listdir(folder))
  return sorted((int(match[1]) for match in found if match), reverse=True)


def _path(folder, step):
  return os.path.join(folder, f'step-{step:010}.npz')


def _load(path):
  """Header, arrays and state of a whole file."""
  try:
    with open(path, 'rb') as raw, np.load(raw, allow_pickle=False) as file:
      header = json.loads(str(file['header']))
      state = header.pop('state')
      dtypes = [dtype for dtype, _ in header['variables']]
      arrays = [_typed(file[f'{i:05}'], dtype) for i, dtype in enumerate(dtypes)]
      shapes = [[str(array.dtype), list(array.shape)] for array in arrays]
      if shapes != header['variables']:
        raise ValueError('its arrays are not those of its header')
  except Exception as error:
    # What zip, NumPy and JSON make of damaged bytes can be of any kind.
    raise CheckpointError(
      f'Expected a whole checkpoint at {path}; it is damaged '
      f'({files.first_line(error)}).'
    ) from error
  return header, arrays, state


def _typed(array, dtype):
  """Files of NumPy have bfloat16 as plain bytes."""
  is_bytes = array.dtype.kind == 'V'
  return array.view(tf.as_dtype(dtype).as_numpy_dtype) if is_bytes else array
