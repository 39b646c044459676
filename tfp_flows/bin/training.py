"""The training run of the flags."""

import dataclasses
import os
import sys
import time
import warnings

import keras
import tensorflow as tf
from absl import flags

from tfp_flows import bijectors
from tfp_flows import data as data_lib
from tfp_flows.bin import cli
from tfp_flows.bin import drawing
from tfp_flows.bin import evaluation
from tfp_flows.bin import optimizers
from tfp_flows.bin import runs
from tfp_flows.bin import training_data
from tfp_flows.training import callbacks
from tfp_flows.training import checkpoints
from tfp_flows.training import flow_model
from tfp_flows.training import lipschitz
from tfp_flows.training import pictures
from tfp_flows.training import resuming

__all__ = ['train']

FLAGS = flags.FLAGS


def train(overwrite: bool = False) -> None:
  """Trains, keeps the best weights, and prints the likelihood of the test set.

  A run that was begun in the workdir goes on.
  """
  start = time.time()
  workdir = runs.Workdir(FLAGS.workdir)
  data = runs.load_data()
  model = runs.make_model(data)
  batches = training_data.TrainingData(data)
  steps = batches.steps_per_epoch
  optimizers.compile_model(model, steps)
  with workdir.begin(overwrite):
    print(
      f'{FLAGS.model} on {FLAGS.dataset}: {model.count_params():,} parameters, '
      f'{steps} steps per epoch, into {workdir.path}',
      flush=True,
    )
    run = _Run(workdir, data, model, batches)
    if run.is_finished:
      print(
        'This run is finished. Pass more --epochs to go on, or --overwrite to begin '
        'anew.'
      )
      return
    run.fit()
    workdir.load_weights(model)
    _draw(workdir, model, data)
    evaluation.report(model, data, 'test', workdir.file('result.json'))
  print(f'{(time.time() - start) / 60:.1f} minutes; see {workdir.path}')


class _Run:
  """A training from where its workdir stands."""

  def __init__(
    self,
    workdir: runs.Workdir,
    data: data_lib.Data,
    model: flow_model.FlowModel,
    batches: training_data.TrainingData,
  ):
    self._workdir, self._data = workdir, data
    self._model, self._batches = model, batches
    self._guard = callbacks.StopOnDivergence()
    self._checkpoints = checkpoints.Checkpoints(
      workdir.file('checkpoints'), model, workdir.identity()
    )
    self._progress = self._restored() or self._begun()

  @property
  def is_finished(self) -> bool:
    """Whether there is nothing left to train nor to evaluate."""
    return self._is_trained and os.path.exists(self._workdir.file('result.json'))

  @property
  def _is_trained(self):
    return self._progress.stopped or self._progress.epoch >= FLAGS.epochs

  def fit(self) -> None:
    """Trains to the end, or exits where a signal asks for it."""
    try:
      if self._progress.step:
        # Keras counts the steps of all epochs alike: one that was begun goes alone.
        self._fit_part(one_epoch=True)
        self._progress = self._restored()
      if not self._is_trained:
        self._fit_part()
    except resuming.Terminated as stop:
      print(f'\nSaved at step {stop.step}; the same command goes on from there.')
      sys.exit(128 + stop.signal)
    except flow_model.SolverError as error:
      self._guard.diverged = True
      print(f'\n{error}')
    if self._guard.diverged:
      if not os.path.exists(self._workdir.weights):
        raise cli.UsageError(
          'Expected a finite loss; it became NaN or infinite in the first epoch. '
          'Lower --learning_rate or --clip_norm.'
        )
      print('The loss became NaN or infinite; the best weights so far are kept.')

  def _begun(self):
    """The progress of a new run, after its first checkpoint."""
    self._workdir.check_nothing_trained()
    progress = resuming.Progress(self._batches.steps_per_epoch)
    self._model.adapt(self._batches.epochs(0, 1), num_examples=FLAGS.adapt_examples)
    self._checkpoints.save(0, dataclasses.asdict(progress))
    return progress

  def _restored(self):
    """The progress at the last checkpoint, or None if there is none."""
    with warnings.catch_warnings(record=True) as found:
      warnings.simplefilter('always', checkpoints.DamagedCheckpoint)
      state = self._checkpoints.restore()
    for warning in found:
      print(f'warning: {warning.message}', file=sys.stderr)
    if state is None:
      return None
    progress = resuming.Progress(**state)
    if progress.total_steps:
      print(
        f'Going on after {progress.epoch} epochs and {progress.step} steps.', flush=True
      )
    return progress

  def _fit_part(self, one_epoch=False):
    """Calls `fit` for the epoch that was begun, or for all that are left."""
    progress, steps = self._progress, self._batches.steps_per_epoch
    batches = self._batches.epochs(progress.epoch, FLAGS.epochs)
    if one_epoch:
      steps -= progress.step
      batches = batches.skip(progress.step)
    others = self._callbacks()
    save = resuming.SaveProgress(
      self._checkpoints, progress, others, FLAGS.checkpoint_minutes, one_epoch
    )
    try:
      self._model.fit(
        batches,
        validation_data=runs.eval_batches(self._data.validation, self._data),
        initial_epoch=progress.epoch,
        epochs=FLAGS.epochs,
        steps_per_epoch=steps,
        callbacks=[*others, save],
      )
    finally:
      save.release_signals()

  def _callbacks(self):
    # The order matters: the average is in the model when it is saved or drawn.
    workdir, guard = self._workdir, self._guard

    def draw():
      if not guard.diverged:
        _draw(workdir, self._model, self._data)

    found = [
      callbacks.BestWeights(workdir.weights, run=workdir.identity()),
      callbacks.JsonLines(workdir.file('metrics.jsonl'), self._progress.history),
      keras.callbacks.TensorBoard(workdir.file('tensorboard'), write_graph=False),
      guard,
      callbacks.Pictures(draw, FLAGS.picture_every),
    ]
    if bijectors.networks_with_norms(self._model.distribution):
      # Before what writes the logs: it adds to them.
      found.insert(0, self._lipschitz_report())
    if FLAGS.ema:
      found.insert(0, keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    if FLAGS.patience:
      found.append(
        keras.callbacks.EarlyStopping('val_loss', patience=FLAGS.patience, mode='min')
      )
    return found

  def _lipschitz_report(self):
    (batch,) = runs.eval_batches(self._data.validation, self._data).take(1)
    x, condition, _ = batch
    return lipschitz.LipschitzReport(
      x,
      condition,
      self._workdir.file('lipschitz.jsonl'),
      first_epoch=self._progress.epoch,
    )


def _draw(workdir, model, data):
  """Pictures; an inverse that does not converge is no reason to end a run."""
  _draw_curves(workdir)
  try:
    drawing.draw_samples(model, data, workdir.file('samples.png'))
  except (flow_model.SamplingError, MemoryError, tf.errors.OpError) as error:
    print(f'\nNo samples drawn: {error}', flush=True)


def _draw_curves(workdir):
  pictures.save_curves(
    workdir.file('curves.png'),
    workdir.file('metrics.jsonl'),
    ['bits_per_dim', 'loss'],
  )
