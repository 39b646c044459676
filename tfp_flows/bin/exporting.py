"""A run as a SavedModel and as StableHLO, and one that was trained elsewhere."""

import dataclasses
import hashlib
import json
import os

import numpy as np
from absl import flags

from tfp_flows.bin import cli
from tfp_flows.bin import evaluation
from tfp_flows.bin import flags as flags_lib
from tfp_flows.bin import optimizers
from tfp_flows.bin import runs
from tfp_flows.bin import training_data
from tfp_flows.training import callbacks
from tfp_flows.training import checkpoints
from tfp_flows.training import exports
from tfp_flows.training import files
from tfp_flows.training import resuming
from tfp_flows.training import saved_model
from tfp_flows.training import stablehlo
from tfp_flows.training import units
from tfp_flows.training import weights

__all__ = ['export', 'import_arrays']

FLAGS = flags.FLAGS


def export(formats: set[str], folder: str | None, overwrite: bool = False) -> None:
  """Writes the best weights of the run of the flags.

  Args:
    formats: of `'saved_model'`, `'stablehlo'` and `'data'`.
    folder: gets a folder of each name; None is `export/` in the workdir.
    overwrite: whether an earlier export is replaced.
  """
  if 'stablehlo' in formats and not FLAGS.epochs:
    raise cli.UsageError(
      'Expected --epochs=N, over which the learning rate of the exported training step '
      'falls; received 0.'
    )
  workdir = runs.Workdir(FLAGS.workdir)
  workdir.check_same_model()
  data = runs.describe_data(workdir)
  model, _ = _compiled_model(workdir, data)
  workdir.load_weights(model)
  optimizers.restart_averages(model)
  folder = os.path.expanduser(folder or workdir.file('export'))
  condition_size = data.num_classes if FLAGS.conditional else None
  options = dict(overwrite=overwrite, condition_size=condition_size)
  if data.mean is not None:
    options['units'] = units.Units(data.mean, data.deviation)
  if 'saved_model' in formats:
    path = os.path.join(folder, 'saved_model')
    saved_model.export_saved_model(model, path, **options)
    print(f'{path}: a SavedModel, see `saved_model_cli show --all --dir {path}`')
  if 'stablehlo' in formats:
    path = os.path.join(folder, 'stablehlo')
    stablehlo.export_stablehlo(model, path, FLAGS.batch_size, **options)
    _sign(os.path.join(path, 'manifest.json'), workdir)
    print(f'{path}: StableHLO for batches of {FLAGS.batch_size}, see manifest.json')
  if 'data' in formats:
    path = os.path.join(folder, 'data')
    exports.check_folder(path, overwrite, _DATA_FILES)
    loaded = runs.load_trained_data(workdir)
    with exports.replacing(path, _DATA_FILES) as temporary:
      for name in _DATA_FILES:
        part = _examples(model, loaded, name.removesuffix('.npz'))
        np.savez_compressed(os.path.join(temporary, name), **part)
    print(f'{path}: the examples as arguments, {", ".join(_DATA_FILES)}')


def _sign(path, workdir):
  """Notes in a manifest which run it is of."""
  with open(path) as file:
    manifest = json.load(file)
  with files.replacing(path) as temporary, open(temporary, 'w') as file:
    json.dump(manifest | dict(run=_name_of(workdir)), file, indent=1)


_DATA_FILES = ('train.npz', 'validation.npz', 'test.npz')


def _compiled_model(workdir, data):
  """The untrained model with its optimizer, and the progress of the run."""
  model = runs.make_model(data)
  # With `--batch_size` of the export an epoch would have other steps.
  state = checkpoints.last_state(workdir.file('checkpoints'))
  if state is None:
    data_of_run = runs.load_trained_data(workdir)
    steps = training_data.TrainingData(data_of_run).steps_per_epoch
    progress = resuming.Progress(steps, data=data_of_run.digest)
  else:
    progress = resuming.Progress(**state)
  rate = optimizers.compile_model(model, progress.steps_per_epoch)
  rate.factor.assign(optimizers.rate_factor(progress.rollbacks))
  model.optimizer.build(model.trainable_variables)
  return model, progress


def _examples(model, data, part):
  """All examples of a part, and their conditions if the model takes one."""
  batches = list(runs.examples(getattr(data, part), data).batch(1024))
  if not batches:
    return dict(x=np.zeros([0, *data.event_shape]))
  x = np.concatenate([np.asarray(x) for x, _, _ in batches])
  if model.dequantization is not None:
    x = x.astype(model.dequantization.dtype.as_numpy_dtype)
  elif data.mean is not None:
    x = x.astype(np.float64) * data.deviation + data.mean
  if batches[0][1] is None:
    return dict(x=x)
  return dict(x=x, condition=np.concatenate([np.asarray(c) for _, c, _ in batches]))


def import_arrays(path: str, folder: str | None, overwrite: bool = False) -> None:
  """Takes weights and optimizer of the run of the flags from training elsewhere.

  They become its best weights, or with `--ema` the averages of them do, and its last
  checkpoint, from which training goes on. Prints their likelihood of the test set.

  Args:
    path: of a `.npz` with what the last training step has returned.
    folder: of the export; None is `export/stablehlo` in the workdir.
    overwrite: whether it may replace steps that the run has made since its export.

  Raises:
    ValueError: if the file or the export cannot be read, or is of another model or
      run, or the run has made steps since.
  """
  workdir = runs.Workdir(FLAGS.workdir)
  workdir.check_same_model()
  data = runs.load_trained_data(workdir)
  model, progress = _compiled_model(workdir, data)
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
    evaluation.report(model, data, 'test', workdir.file('result.json'))


def _check_branch(workdir, progress, folder, overwrite):
  """The step of an export of this run, behind which the run has made none."""
  with open(os.path.join(folder, 'manifest.json')) as file:
    run = json.load(file).get('run')
  if run not in (None, _name_of(workdir)):
    raise cli.UsageError(
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
    raise cli.UsageError(
      f'Expected a run that has made no step since it was exported, at step {start}; '
      f'that in {workdir.path} has made {made}. Pass --overwrite to replace these.'
    )
  return start


def _name_of(workdir):
  text = f'{workdir.identity()} {workdir.digest()}'
  return hashlib.sha256(text.encode()).hexdigest()


def _arrays(path):
  try:
    with np.load(path, allow_pickle=False) as file:
      return {name: file[name] for name in file}
  except Exception as error:  # zip and NumPy have many for damaged bytes.
    raise cli.UsageError(
      f'Expected a .npz of arrays at {path}; it cannot be read '
      f'({files.first_line(error)}). Pass --arrays=PATH of what the training returned.'
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
  identity, optimizer = flags_lib.identity(), model.optimizer
  trained = [v.numpy() for v in model.trainable_variables]
  if optimizer.use_ema:
    optimizer.finalize_variable_values(model.trainable_variables)
  best = [v.numpy() for v in model.trainable_variables]
  weights.save_weights(model, workdir.weights, identity)
  batches = runs.eval_batches(data.validation, data)
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
