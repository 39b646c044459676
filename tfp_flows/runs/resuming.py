"""Training that goes on where it was stopped."""

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfp_flows.internal import keras_private
from tfp_flows.model import callbacks as callbacks_lib
from tfp_flows.model import checkpoints as checkpoints_lib
from tfp_flows.model import diagnosis

__all__ = ['Progress', 'SaveProgress', 'Terminated', 'kept', 'remedy']


class Terminated(Exception):
  """The process was asked to stop, and has saved its work.

  Attributes:
    signal: number of the signal.
    step: number of steps made.
  """

  def __init__(self, number: int, step: int):
    super().__init__(f'{signal.Signals(number).name}: saved at step {step}')
    self.signal, self.step = number, step


@dataclasses.dataclass
class Progress:
  """How far a run has come, beside what is in variables.

  Attributes:
    steps_per_epoch: number of steps of each epoch.
    epoch: number of finished epochs.
    step: number of steps made in the epoch after them.
    history: the metrics of the finished epochs, one dictionary for each.
    callbacks: state of Keras callbacks, by name of the class and of the attribute.
    stopped: whether a callback ended the training.
    rollbacks: how often the run went back after a number that was not finite.
    data: what tells the data from others.
  """

  steps_per_epoch: int
  epoch: int = 0
  step: int = 0
  history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  callbacks: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
  stopped: bool = False
  rollbacks: int = 0
  data: str = ''

  @property
  def total_steps(self) -> int:
    """Number of steps made."""
    return self.epoch * self.steps_per_epoch + self.step


# What callbacks have to remember, and do not keep in variables.
_STATE = {
  'BestWeights': ('best',),
  'EarlyStopping': ('wait', 'best', 'best_epoch', 'stopped_epoch'),
  'ModelCheckpoint': ('best',),
  'ReduceLROnPlateau': ('wait', 'best', 'cooldown_counter'),
  'SwapEMAWeights': (keras_private.ARE_SWAPPED,),
}


class SaveProgress(keras.callbacks.Callback):
  """Saves checkpoints while `fit` runs; the last of its callbacks.

  A checkpoint is saved after the first step or epoch that ends `minutes` after the last
  one, at the end of an epoch with new best weights and of the last one, and at SIGTERM
  and SIGINT, after the step that runs then, or the epoch if it is the last step; a
  second SIGINT stops at once. Weights that are not finite are never saved: they raise a
  `NonFiniteError`.

  With `one_epoch` it ends the training after the epoch that it finds begun, and saves:
  the steps of `fit` are then what is left of that epoch.
  """

  def __init__(
    self,
    checkpoints: checkpoints_lib.Checkpoints,
    progress: Progress,
    callbacks: Sequence[keras.callbacks.Callback],
    minutes: float = 0.0,
    one_epoch: bool = False,
  ):
    """Creates the callback.

    Args:
      checkpoints: where to.
      progress: as it is when `fit` begins; kept up to date.
      callbacks: the others, whose state is saved and restored.
      minutes: between checkpoints.
      one_epoch: see above.
    """
    super().__init__()
    self._checkpoints, self._progress = checkpoints, progress
    self._callbacks, self._seconds = list(callbacks), 60.0 * minutes
    self._one_epoch = one_epoch
    self._start: list[np.ndarray] | None = [
      np.asarray(v) for v in checkpoints.variables
    ]
    self._signal: int | None = None
    self._handlers: dict[int, Any] = {}
    self._last = time.monotonic()

  def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
    # After the others: some forget what they know when training begins.
    for callback in self._callbacks:
      for name, value in self._progress.callbacks.get(_kind(callback), {}).items():
        setattr(callback, name, value)
    self._restore_start()
    self._last = time.monotonic()
    self._catch_signals()

  def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
    if self._start is not None and self._progress.step:
      # Keras has just reset the metrics of an epoch that was begun before.
      self._restore_start()
    self._start = None

  def _restore_start(self):
    """Undoes what others did at the beginning, as iterations of norms.

    They have done so when the run began: a run that goes on does nothing twice.
    """
    for variable, value in zip(self._checkpoints.variables, self._start or ()):
      variable.assign(value)

  def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
    self._progress.step += 1
    if self._progress.step == self._progress.steps_per_epoch:
      return  # The end of the epoch saves, with what follows these steps.
    if self._signal is not None:
      self.model.check_finite()
      self._save()
      self._stop_on_signal()
    if self._is_due():
      self._save()

  def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
    progress = self._progress
    progress.epoch, progress.step = epoch + 1, 0
    progress.history.append(callbacks_lib.finite_or_none(logs or {}))
    progress.stopped = self.model.stop_training
    is_last = progress.stopped or epoch + 1 == self.params['epochs']
    if self._one_epoch:
      self.model.stop_training = True
    if self._signal is not None or self._one_epoch or is_last:
      self._save()
    elif self._is_due() or self._has_new_best():
      self._save()
    self._stop_on_signal()

  def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
    self.release_signals()

  def release_signals(self) -> None:
    """Gives the signals back; also needed where `fit` raised an error."""
    for number, handler in self._handlers.items():
      signal.signal(number, handler)
    self._handlers = {}

  def _catch_signals(self):
    if threading.current_thread() is not threading.main_thread():
      return  # Python leaves signals to the main thread.
    for number in (signal.SIGTERM, signal.SIGINT):
      self._handlers[number] = signal.signal(number, self._on_signal)

  def _on_signal(self, number, frame):
    if self._signal == number == signal.SIGINT:
      raise KeyboardInterrupt
    self._signal = number

  def _stop_on_signal(self):
    if self._signal is not None:
      raise Terminated(self._signal, self._progress.total_steps)

  def _has_new_best(self):
    """Whether going back would forget what the best weights on disk are worth."""
    saved = self._progress.callbacks.get('BestWeights', {})
    best = [c.best for c in self._callbacks if _kind(c) == 'BestWeights']
    return any(value != saved.get('best', math.inf) for value in best)

  def _is_due(self):
    return time.monotonic() - self._last >= self._seconds

  def _save(self):
    if self.model.is_frozen:
      return  # It has not made the steps that were counted.
    progress = self._progress
    error = diagnosis.weight_error(self.model, progress.total_steps)
    if error is not None:
      if self.model.distribute_strategy.num_replicas_in_sync > 1:
        return  # The next step freezes all replicas, and each raises there.
      raise error
    progress.callbacks = {
      _kind(callback): {name: _plain(getattr(callback, name, None)) for name in names}
      for callback in self._callbacks
      if (names := _STATE.get(_kind(callback)))
    }
    self._checkpoints.save(progress.total_steps, dataclasses.asdict(progress))
    self._last = time.monotonic()


def _kind(callback):
  """The class of Keras that `callback` is of."""
  names = [cls.__name__ for cls in type(callback).__mro__]
  return next((name for name in names if name in _STATE), names[0])


def _plain(value):
  return value.item() if hasattr(value, 'item') else value


def remedy(
  error: diagnosis.NonFiniteError, steps: Sequence[int], on_nan: str, rollbacks: int
) -> str:
  """What is left of a run with these checkpoints, and what can be done."""
  what = f'The {kept(steps)} is kept'
  if error.step is None:
    return f'{what}.'
  if on_nan == 'stop':
    return (
      f'{what}; the same run with on_nan=rollback goes on from an earlier step '
      f'with half the learning rate.'
    )
  return (
    f'{what} after {rollbacks} rollbacks. Begin a run with a lower learning_rate=RATE '
    f'or clip_norm=NORM.'
  )


def kept(steps: Sequence[int]) -> str:
  """What the last checkpoint is called."""
  # A worker may have been given a workdir that it does not share with the chief.
  return f'checkpoint of step {steps[0]}' if steps else 'last checkpoint of the chief'
