"""A run as a SavedModel and as StableHLO."""

import os

from absl import flags

from tfp_flows.bin import optimizers
from tfp_flows.bin import runs
from tfp_flows.bin import training_data
from tfp_flows.training import checkpoints
from tfp_flows.training import saved_model
from tfp_flows.training import stablehlo
from tfp_flows.training import units

__all__ = ['export']

FLAGS = flags.FLAGS


def export(formats: set[str], folder: str | None, overwrite: bool = False) -> None:
  """Writes the best weights of the run of the flags.

  Args:
    formats: of `'saved_model'` and `'stablehlo'`.
    folder: gets a folder of each name; None is `export/` in the workdir.
    overwrite: whether an earlier export is replaced.
  """
  workdir = runs.Workdir(FLAGS.workdir)
  workdir.check_same_model()
  data = runs.describe_data(workdir)
  model = runs.make_model(data)
  # With `--batch_size` of the export an epoch would have other steps.
  progress = checkpoints.last_state(workdir.file('checkpoints')) or {}
  steps = progress.get('steps_per_epoch')
  if not steps:
    data_of_run = runs.load_trained_data(workdir)
    steps = training_data.TrainingData(data_of_run).steps_per_epoch
  rate = optimizers.compile_model(model, steps)
  rate.factor.assign(optimizers.rate_factor(progress.get('rollbacks', 0)))
  model.optimizer.build(model.trainable_variables)
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
    print(f'{path}: StableHLO for batches of {FLAGS.batch_size}, see manifest.json')
