"""A run that was trained elsewhere."""

import dataclasses
import json
import os

import numpy as np

from tfp_flows.export import stablehlo
from tfp_flows.internal import files
from tfp_flows.model import callbacks
from tfp_flows.model import checkpoints
from tfp_flows.model import weights
from tfp_flows.runs import evaluation
from tfp_flows.runs import exporting
from tfp_flows.runs import loading
from tfp_flows.runs import workdir as workdir_lib
from tfp_flows.runs.options import Options
from tfp_flows.runs.options import UsageError

__all__ = ['import_arrays']


def import_arrays(
  options: Options, path: str, folder: str | None = None, overwrite: bool = False
) -> None:
  """Takes weights and optimizer of a run from training elsewhere.

  They become its best weights, or with `ema` the averages of them do, and its last
  checkpoint, from which training goes on. Prints their likelihood of the test set.

  Args:
    options: of the run.
    path: of a `.npz` with what the last training step has returned.
    folder: of the export; None is `export/stablehlo` in the workdir.
    overwrite: whether it may replace steps that the run has made since its export.

  Raises:
    ValueError: if the file or the export cannot be read, or is of another model or
      run, or the run has made steps since.
  """
  workdir = workdir_lib.Workdir(options)
  options = workdir.options
  workdir.check_same_model()
  data = loading.load_trained_data(options, workdir)
  model, progress = exporting.compiled_model(workdir, data)
  workdir.load_weights(model)  # Those that no step changes.
  folder = folder or workdir.file('export/stablehlo')
  with workdir.begin(False):
    arrays = _arrays(path)
    stablehlo.import_stablehlo(model, folder, arrays)
    start = _check_branch(workdir, progress, folder, overwrite)
    steps = int(np.asarray(model.optimizer.iterations))
    progress = dataclasses.replace(
      progress,
      epoch=steps // progress.steps_per_epoch,
      step=steps % progress.steps_per_epoch,
      history=_history(arrays, progress, start, steps, data),
    )
    _keep(workdir, model, progress, data)
    workdir.forget_result()
    evaluation.report(model, data, 'test', workdir.file('result.json'), options)


def _check_branch(workdir, progress, folder, overwrite):
  """The step of an export of this run, behind which the run has made none."""
  with open(os.path.join(folder, 'manifest.json')) as file:
    run = json.load(file).get('run')
  if run not in (None, exporting.name_of(workdir)):
    raise UsageError(
      f'Expected an export of the run in {workdir.path}; received that of another in '
      f'{folder}.'
    )
  with np.load(os.path.join(folder, 'arrays.npz')) as file:
    start = int(file['optimizer_0'])
  made = progress.total_steps
  is_trained = made > start or (
    not made and os.path.exists(workdir.file('result.json'))
  )
  if is_trained and not overwrite:
    raise UsageError(
      f'Expected a run that has made no step since it was exported, at step {start}; '
      f'that in {workdir.path} has made {made}. Pass overwrite=True to replace these.'
    )
  return start


def _arrays(path):
  try:
    with np.load(path, allow_pickle=False) as file:
      return {name: file[name] for name in file}
  except Exception as error:  # zip and NumPy have many for damaged bytes.
    raise UsageError(
      f'Expected a .npz of arrays at {path}; it cannot be read '
      f'({files.first_line(error)}). Pass what the training returned.'
    ) from error


def _history(arrays, progress, start, steps, data):
  """That of the run until the export, then the losses that came back, if they did."""
  count = progress.steps_per_epoch
  history = progress.history[: min(start, steps) // count]
  losses = np.asarray(arrays.get('loss', []), np.float64).reshape(-1)
  if data.deviation is not None:
    losses = losses - np.log(data.deviation).sum()
  first = steps - len(losses)
  for epoch in range(len(history), steps // count):
    begin = epoch * count - first
    part = losses[max(begin, 0) : max(begin + count, 0)]
    history.append(dict(loss=float(part.mean())) if len(part) else {})
  return history


def _keep(workdir, model, progress, data):
  """Saves the best weights, which stay in the model, and the checkpoint."""
  identity, optimizer = workdir.options.identity(), model.optimizer
  trained = [v.numpy() for v in model.trainable_variables]
  if optimizer.use_ema:
    optimizer.finalize_variable_values(model.trainable_variables)
  best = [v.numpy() for v in model.trainable_variables]
  weights.save_weights(model, workdir.weights, identity)
  batches = loading.eval_batches(data.validation, data, workdir.options)
  loss = model.evaluate(batches, return_dict=True, verbose=0)['loss']
  progress.callbacks = dict(BestWeights=dict(best=float(loss)))
  saved = checkpoints.Checkpoints(workdir.file('checkpoints'), model, identity)
  for step in saved.steps:
    if step > progress.total_steps:
      saved.remove(step)
  for variable, value in zip(model.trainable_variables, trained):
    variable.assign(value)
  saved.save(progress.total_steps, dataclasses.asdict(progress))
  for variable, value in zip(model.trainable_variables, best):
    variable.assign(value)
  callbacks.write_history(workdir.file('metrics.jsonl'), progress.history)
