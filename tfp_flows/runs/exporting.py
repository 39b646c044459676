"""A run as a SavedModel and as StableHLO."""

import hashlib
import json
import os
from collections.abc import Collection
from typing import Any

import numpy as np

from tfp_flows import data as data_lib
from tfp_flows.export import programs
from tfp_flows.export import saved_model
from tfp_flows.export import stablehlo
from tfp_flows.export import units
from tfp_flows.internal import files
from tfp_flows.model import checkpoints
from tfp_flows.model import flow_model
from tfp_flows.runs import loading
from tfp_flows.runs import models
from tfp_flows.runs import optimizers
from tfp_flows.runs import resuming
from tfp_flows.runs import training_data
from tfp_flows.runs import workdir as workdir_lib
from tfp_flows.runs.options import Options
from tfp_flows.runs.options import UsageError

__all__ = ['compiled_model', 'export', 'name_of']


_FORMATS = {'data', 'saved_model', 'stablehlo'}


def export(
  options: Options,
  formats: Collection[str] = ('saved_model', 'stablehlo'),
  folder: str | None = None,
  overwrite: bool = False,
) -> None:
  """Writes the best weights of a run for other programs.

  Args:
    options: of the run.
    formats: of `'saved_model'`, `'stablehlo'` and `'data'`.
    folder: gets a folder of each name; None is `export/` in the workdir.
    overwrite: whether an earlier export is replaced.
  """
  formats = {formats} if isinstance(formats, str) else set(formats)
  if not formats or formats - _FORMATS:
    raise UsageError(
      f'Expected formats of {sorted(_FORMATS)}; received {sorted(formats)}.'
    )
  if 'stablehlo' in formats and not options.epochs:
    raise UsageError(
      'Expected epochs=N, over which the learning rate of the exported training step '
      'falls; received 0.'
    )
  workdir = workdir_lib.Workdir(options)
  options = workdir.options
  workdir.check_same_model()
  data = loading.describe_data(options, workdir)
  model, _ = compiled_model(workdir, data)
  workdir.load_weights(model)
  optimizers.restart_averages(model)
  folder = os.path.expanduser(folder or workdir.file('export'))
  condition_size = data.num_classes if options.conditional else None
  how: dict[str, Any] = dict(overwrite=overwrite, condition_size=condition_size)
  if data.mean is not None and data.deviation is not None:
    how['units'] = units.Units(data.mean, data.deviation)
  if 'saved_model' in formats:
    path = os.path.join(folder, 'saved_model')
    saved_model.export_saved_model(model, path, **how)
    print(f'{path}: a SavedModel, see `saved_model_cli show --all --dir {path}`')
  if 'stablehlo' in formats:
    path = os.path.join(folder, 'stablehlo')
    stablehlo.export_stablehlo(model, path, options.batch_size, **how)
    _sign(os.path.join(path, 'manifest.json'), workdir)
    print(f'{path}: StableHLO for batches of {options.batch_size}, see manifest.json')
  if 'data' in formats:
    path = os.path.join(folder, 'data')
    programs.check_folder(path, overwrite, _DATA_FILES)
    loaded = loading.load_trained_data(options, workdir)
    with programs.replacing(path, _DATA_FILES) as temporary:
      for name in _DATA_FILES:
        part = _examples(model, loaded, name.removesuffix('.npz'), options)
        np.savez_compressed(os.path.join(temporary, name), **part)
    print(f'{path}: the examples as arguments, {", ".join(_DATA_FILES)}')


def _sign(path, workdir):
  """Notes in a manifest which run it is of."""
  with open(path) as file:
    manifest = json.load(file)
  with files.replacing(path) as temporary, open(temporary, 'w') as file:
    json.dump(manifest | dict(run=name_of(workdir)), file, indent=1)


_DATA_FILES = ('train.npz', 'validation.npz', 'test.npz')


def compiled_model(
  workdir: workdir_lib.Workdir, data: data_lib.Description
) -> tuple[flow_model.FlowModel, resuming.Progress]:
  """The untrained model with its optimizer, and the progress of the run."""
  options = workdir.options
  model = models.make_model(data, options)
  # With the `batch_size` of the export an epoch would have other steps.
  state = checkpoints.last_state(workdir.file('checkpoints'))
  if state is None:
    data_of_run = loading.load_trained_data(options, workdir)
    steps = training_data.TrainingData(data_of_run, options).steps_per_epoch
    progress = resuming.Progress(steps, data=data_of_run.digest)
  else:
    progress = resuming.Progress(**state)
  rate = optimizers.compile_model(model, options, progress.steps_per_epoch)
  rate.factor.assign(optimizers.rate_factor(progress.rollbacks))
  model.optimizer.build(model.trainable_variables)
  return model, progress


def _examples(model, data, part, options):
  """All examples of a part, and their conditions if the model takes one."""
  batches = list(loading.examples(getattr(data, part), data, options).batch(1024))
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


def name_of(workdir: workdir_lib.Workdir) -> str:
  """What a run is known by."""
  text = f'{workdir.identity()} {workdir.digest()}'
  return hashlib.sha256(text.encode()).hexdigest()
