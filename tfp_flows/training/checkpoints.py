"""The whole state of a training run, on disk."""

import json
import os
import re
import warnings
from typing import Any

import keras
import numpy as np

from tfp_flows.training import files

__all__ = ['CheckpointError', 'Checkpoints', 'DamagedCheckpoint']

_NAME = re.compile(r'step-(\d{10})\.npz')


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
    folder: str | os.PathLike,
    model: keras.Model,
    run: str = '',
    keep: int = 3,
    is_reader: bool = False,
  ):
    """Creates the object; the folder is made when the first checkpoint is saved.

    Args:
      folder: of the checkpoints alone.
      model: compiled.
      run: what tells this run from others, as its options.
      keep: how many checkpoints are kept, the last ones.
      is_reader: whether nothing is written, as by all workers but one.
    """
    if keep < 1:
      raise ValueError(f'Expected keep >= 1; received {keep}.')
    self._folder, self._model = os.fspath(folder), model
    self._run, self._keep, self._is_reader = run, keep, is_reader
    with model.distribute_strategy.scope():
      model.optimizer.build(model.trainable_variables)

  @property
  def steps(self) -> list[int]:
    """The steps of the checkpoints that are there, the last one first."""
    if not os.path.isdir(self._folder):
      return []
    found = map(_NAME.fullmatch, os.listdir(self._folder))
    return sorted((int(match[1]) for match in found if match), reverse=True)

  def path(self, step: int) -> str:
    """Of the checkpoint of a step."""
    return os.path.join(self._folder, f'step-{step:010}.npz')

  def save(self, step: int, state: dict[str, Any]) -> None:
    """Saves a checkpoint and removes the oldest ones.

    Args:
      step: number of steps made, at least 0.
      state: what else `restore` returns; as JSON has it.

    Raises:
      TypeError: if JSON does not have it.
      OSError: if it cannot be written; the earlier checkpoints are untouched.
    """
    if self._is_reader:
      return
    os.makedirs(self._folder, exist_ok=True)
    arrays = {f'{i:05}': np.asarray(v) for i, v in enumerate(self.variables)}
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

  def restore(self) -> dict[str, Any] | None:
    """Restores the last checkpoint that can be read.

    Warns, with `DamagedCheckpoint`, of each later one that cannot, and renames it.

    Returns:
      The state that was saved with it, or None if there is no checkpoint.

    Raises:
      CheckpointError: if there are checkpoints, and none can be read.
    """
    problems = {}
    for step in self.steps:
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
    model = self._model
    found = [*model.variables, *model.optimizer.variables]
    if model.distribute_strategy.num_replicas_in_sync > 1:
      # Each replica has metrics of its own, which only all of them together can read.
      return found
    return [*found, *model.metrics_variables]

  def _header(self, step):
    shapes = [[v.dtype, list(v.shape)] for v in self.variables]
    return dict(run=self._run, step=step, variables=shapes)

  def _read(self, step):
    """The arrays and the state of a checkpoint, all of it checked."""
    path = self.path(step)
    try:
      with open(path, 'rb') as raw, np.load(raw, allow_pickle=False) as file:
        found = json.loads(str(file['header']))
        state = found.pop('state')
        arrays = [file[f'{i:05}'] for i in range(len(found['variables']))]
        shapes = [[str(array.dtype), list(array.shape)] for array in arrays]
        if shapes != found['variables']:
          raise ValueError('its arrays are not those of its header')
    except Exception as error:
      # What zip, NumPy and JSON make of damaged bytes can be of any kind.
      raise CheckpointError(
        f'Expected a whole checkpoint at {path}; it is damaged '
        f'({files.first_line(error)}).'
      ) from error
    expected = self._header(step)
    for key in ('run', 'variables', 'step'):
      if found.get(key) != expected[key]:
        raise CheckpointError(
          f'Expected a checkpoint of this run at {path}; it is of another: its {key} '
          f'differ.'
        )
    return arrays, state
