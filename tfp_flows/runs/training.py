"""The training of a run."""

import contextlib
import dataclasses
import os
import sys
import time
import warnings

import keras
import tensorflow as tf

from tfp_flows import bijectors
from tfp_flows import data as data_lib
from tfp_flows.model import callbacks
from tfp_flows.model import checkpoints
from tfp_flows.model import diagnosis
from tfp_flows.model import flow_model
from tfp_flows.model import health
from tfp_flows.model import lipschitz_reports
from tfp_flows.model import replicas
from tfp_flows.model import schedules
from tfp_flows.model import weights
from tfp_flows.runs import evaluation
from tfp_flows.runs import loading
from tfp_flows.runs import models
from tfp_flows.runs import optimizers
from tfp_flows.runs import plots
from tfp_flows.runs import resuming
from tfp_flows.runs import sampling
from tfp_flows.runs import training_data
from tfp_flows.runs import workdir as workdir_lib
from tfp_flows.runs.options import Options
from tfp_flows.runs.options import UsageError

__all__ = ['Diverged', 'train']

_MOST_ROLLBACKS = 8


class Diverged(ValueError):
  """A loss or a gradient that was NaN or infinite, and what is left of the run."""


def train(options: Options, overwrite: bool = False) -> None:
  """Trains, keeps the best weights, and prints the likelihood of the test set.

  A run that was begun in the workdir goes on. Sets the seeds of Python, NumPy and
  TensorFlow.

  Args:
    options: of the run.
    overwrite: whether a run in the workdir is replaced.

  Raises:
    UsageError: if the options, the data or the workdir are not what a run needs.
    Diverged: if a number became NaN or infinite, and no way back is left.
    SystemExit: if SIGTERM or SIGINT asks for it, once a checkpoint is saved.
  """
  start = time.time()
  workdir = workdir_lib.Workdir(options)
  options = workdir.options
  # Before all else of TensorFlow, which it configures.
  strategy = replicas.make_strategy(options.strategy)
  is_chief = replicas.is_chief(strategy)
  data = loading.load_data(options, None if overwrite else workdir)
  batches = training_data.TrainingData(data, options)
  steps = batches.steps_per_epoch
  with strategy.scope():
    model = models.make_model(data, options)
    rate = optimizers.compile_model(model, options, steps)
  with workdir.begin(overwrite) if is_chief else contextlib.nullcontext():
    print(
      f'{options.model} on {options.dataset}: {model.count_params():,} parameters, '
      f'{steps} steps per epoch, {replicas.describe(strategy)}into {workdir.path}',
      flush=True,
    )
    if is_chief:
      evaluation.warn_of_repeating(data)
    run = _Run(workdir, data, model, rate, batches)
    if is_chief:
      workdir.record_data(data)
    if run.is_finished:
      print(run.why_finished)
      return
    if not options.epochs and not run.is_begun:
      run.keep_start()
      print(f'Prepared {workdir.path}, for training of more epochs.')
      return
    run.fit()
    if not is_chief:
      return
    workdir.load_weights(model)
    _draw(workdir, model, data)
    evaluation.report(model, data, 'test', workdir.file('result.json'), options)
  print(f'{(time.time() - start) / 60:.1f} minutes; see {workdir.path}')


class _Run:
  """A training from where its workdir stands."""

  def __init__(
    self,
    workdir: workdir_lib.Workdir,
    data: data_lib.Data,
    model: flow_model.FlowModel,
    rate: schedules.ScaledSchedule,
    batches: training_data.TrainingData,
  ):
    self._workdir, self._data, self._batches = workdir, data, batches
    self._model, self._rate = model, rate
    self._strategy = model.distribute_strategy
    self._is_chief = replicas.is_chief(self._strategy)
    self._options = workdir.options
    self._identity = self._options.identity()
    self._checkpoints = checkpoints.Checkpoints(
      workdir.file('checkpoints'), model, self._identity, is_reader=not self._is_chief
    )
    # The step that was not finite the last time, and where the run went back to.
    self._failed: tuple[int, int] | None = None
    self._progress = self._restored() or self._begun()
    progress = self._progress
    if progress.total_steps:
      print(
        f'Going on after {progress.epoch} epochs and {progress.step} steps.', flush=True
      )
    if self._is_chief and progress.epoch and not self._is_trained:
      self._check_best()
    self._set_rate_factor()

  def _check_best(self):
    """Begins a new search for the best weights if those so far cannot be read."""
    path = self._workdir.weights
    try:
      weights.check_weights(path, self._identity)
    except (OSError, weights.DamagedWeights) as reason:
      print(
        f'warning: Expected the best weights so far at {path}; they cannot be read '
        f'({reason}). From here on the best are kept.',
        file=sys.stderr,
      )
      self._progress.callbacks['BestWeights'] = dict(best=float('inf'))

  @property
  def is_finished(self) -> bool:
    """Whether there is nothing left to train nor to evaluate."""
    return self._is_trained and os.path.exists(self._workdir.file('result.json'))

  @property
  def is_begun(self) -> bool:
    """Whether steps were made."""
    return self._progress.total_steps > 0

  @property
  def why_finished(self) -> str:
    """What could be done about it, too."""
    if self._is_stopped:
      return (
        f'This run was stopped after {self._progress.epoch} epochs, by a patience of '
        f'{self._options.patience}. It goes on with more of it, or with 0, and is '
        f'replaced if overwrite is asked for.'
      )
    return (
      f'This run is finished, after {self._progress.epoch} epochs. It goes on with '
      f'more epochs, and is replaced if overwrite is asked for.'
    )

  @property
  def _is_trained(self):
    return self._is_stopped or self._progress.epoch >= self._options.epochs

  @property
  def _is_stopped(self):
    """By a patience that has not been raised since."""
    waited = self._progress.callbacks.get('EarlyStopping', {}).get('wait', 0)
    return self._progress.stopped and 0 < self._options.patience <= waited

  def keep_start(self) -> None:
    """Saves the weights that a run begins with."""
    if self._is_chief:
      weights.save_weights(self._model, self._workdir.weights, self._identity)

  def fit(self) -> None:
    """Trains to the end.

    Exits where a signal asks for it. Where a number is not finite goes back, and on
    with half the learning rate, if `on_nan` says so.

    Raises:
      Diverged: otherwise.
    """
    if self._is_chief and self._is_trained:
      # Curves are drawn of it, and what appended to it may have been killed.
      history = self._progress.history
      callbacks.write_history(self._workdir.file('metrics.jsonl'), history)
    elif self._is_chief:
      self._workdir.forget_result()
    while not self._is_trained:
      try:
        self._fit_part()
      except resuming.Terminated as stop:
        if self._is_chief:
          how, where = 'Saved', 'there'
        else:
          how, where = 'Stopped', 'the last checkpoint of the chief'
        print(f'\n{how} at step {stop.step}; the same command goes on from {where}.')
        sys.exit(128 + stop.signal)
      except diagnosis.NonFiniteError as error:
        self._go_back(error)

  def _go_back(self, error):
    steps, number = self._checkpoints.steps, self._progress.rollbacks + 1
    # Without a step it is of the validation data, which stay as they are.
    if self._options.on_nan == 'stop' or number > _MOST_ROLLBACKS or error.step is None:
      print()
      remedy = resuming.remedy(error, steps, self._options.on_nan, number - 1)
      raise Diverged(f'{error} {remedy}') from None
    back = self._before(error.step, steps)
    print(
      f'\nwarning: {error} Going back to the {resuming.kept(back)}.', file=sys.stderr
    )
    self._progress = self._restored(back[0] if back else None)
    for step in steps[: len(steps) - len(back)]:
      self._checkpoints.remove(step)
    self._progress.rollbacks = number
    self._failed = error.step, self._progress.total_steps
    # The count, too, outlives this process.
    self._checkpoints.save(self._failed[1], dataclasses.asdict(self._progress))
    self._set_rate_factor()

  def _before(self, step, steps):
    """The checkpoints to go back to from a step, the last one first.

    At the first step after a checkpoint nothing has been learned since, and it would
    fail again at any rate. Where going back was in vain, one goes back further.
    """
    limit = step - 1
    if self._failed is not None and step <= self._failed[0]:
      limit = min(limit, self._failed[1])
    return [s for s in steps if s < limit] or steps[-1:]

  def _set_rate_factor(self):
    factor = optimizers.rate_factor(self._progress.rollbacks)
    if factor < 1.0:
      print(f'The learning rate is {factor:g} times that of the flags.', flush=True)
    self._rate.factor.assign(factor)

  def _begun(self):
    """The progress of a new run, after its first checkpoint."""
    self._workdir.check_nothing_trained()
    if self._is_chief:
      self._workdir.record_data(self._data)
    progress = resuming.Progress(self._batches.steps_per_epoch, data=self._data.digest)
    self._model.adapt(
      self._batches.epochs(0, 1), num_examples=self._options.adapt_examples
    )
    self._checkpoints.save(0, dataclasses.asdict(progress))
    return progress

  def _restored(self, last=None):
    """The progress at the last checkpoint, up to a step; None if there is none."""
    replicas.wait_for_all(self._strategy)
    with warnings.catch_warnings(record=True) as found:
      warnings.simplefilter('always', checkpoints.DamagedCheckpoint)
      state = self._checkpoints.restore(last)
    for warning in found:
      print(f'warning: {warning.message}', file=sys.stderr)
    progress = None if state is None else resuming.Progress(**state)
    if progress:
      self._check_data(progress)
    step = -1 if progress is None else progress.total_steps
    if not replicas.all_have(step, self._strategy):
      raise UsageError(
        f'Expected one workdir=DIR that all workers read; at {self._workdir.path} this '
        f'one finds {"no checkpoint" if step < 0 else f"step {step}"}, and the chief '
        f'another. Put it on a file system that all workers share.'
      )
    return progress

  def _check_data(self, progress):
    received = self._batches.steps_per_epoch, self._data.digest
    expected = progress.steps_per_epoch, progress.data or self._data.digest
    if expected != received:
      texts = [f'{n} batches, digest {d}' for n, d in (expected, received)]
      raise UsageError(
        f'Expected the data of the run in {self._workdir.path}, {texts[0]}; received '
        f'{texts[1]}. Restore them, or pass another workdir=DIR.'
      )

  def _fit_part(self):
    """Calls `fit` for the epoch that was begun, or for all that are left."""
    progress, steps = self._progress, self._batches.steps_per_epoch
    batches = self._batches.epochs(progress.epoch, self._options.epochs)
    # Keras counts the steps of all epochs alike: one that was begun goes alone.
    one_epoch = progress.step > 0
    if one_epoch:
      steps -= progress.step
      batches = batches.skip(progress.step)
    others = self._callbacks()
    save = resuming.SaveProgress(
      self._checkpoints, progress, others, self._options.checkpoint_minutes, one_epoch
    )
    try:
      self._model.fit(
        batches,
        validation_data=loading.eval_batches(
          self._data.validation, self._data, self._options
        ),
        initial_epoch=progress.epoch,
        epochs=self._options.epochs,
        steps_per_epoch=steps,
        callbacks=[*others, save],
        verbose='auto' if self._is_chief else 0,
      )
    finally:
      save.release_signals()
    if one_epoch:
      # `fit` ended as if it were the last epoch, and has changed the averages.
      self._progress = self._restored()

  def _callbacks(self):
    # The order matters: the average is in the model when it is measured or saved, and
    # what adds to the logs comes before what writes them.
    found = [callbacks.StopOnNonFinite(replicas.check_every(self._strategy))]
    if self._options.ema:
      found.append(callbacks.SwapAverages(swap_on_epoch=True))
    if self._is_chief:
      found += [*self._measuring(), *self._writing()]
    if self._options.patience:
      found.append(
        keras.callbacks.EarlyStopping(
          'val_loss', patience=self._options.patience, mode='min'
        )
      )
    return found

  def _measuring(self):
    x, condition = self._some_examples()
    found = [health.Health(x, condition)]
    if bijectors.networks_with_norms(self._model.distribution):
      path = self._workdir.file('lipschitz.jsonl')
      found.append(
        lipschitz_reports.LipschitzReport(x, condition, path, self._progress.epoch)
      )
    return found

  def _writing(self):
    file = self._workdir.file

    def draw():
      _draw(self._workdir, self._model, self._data)

    return [
      callbacks.BestWeights(self._workdir.weights, run=self._identity),
      callbacks.JsonLines(file('metrics.jsonl'), self._progress.history),
      keras.callbacks.TensorBoard(file('tensorboard'), write_graph=False),
      callbacks.Pictures(draw, self._options.picture_every),
    ]

  def _some_examples(self):
    """Of the validation set: a batch and its condition."""
    (batch,) = loading.eval_batches(
      self._data.validation, self._data, self._options
    ).take(1)
    x, condition, _ = batch
    return x, condition


def _draw(workdir, model, data):
  """Pictures; an inverse that does not converge is no reason to end a run."""
  _draw_curves(workdir)
  try:
    sampling.draw_picture(model, data, workdir.file('samples.png'), workdir)
  except (flow_model.SamplingError, MemoryError, tf.errors.OpError) as error:
    print(f'\nNo samples drawn: {error}', flush=True)


def _draw_curves(workdir):
  plots.save_curves(
    workdir.file('curves.png'),
    workdir.file('metrics.jsonl'),
    ['bits_per_dim', 'loss'],
  )
