"""Keras callbacks that Keras does not have."""

import json
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.internal import files
from tfp_flows.model import diagnosis
from tfp_flows.model import weights

__all__ = [
  'BestWeights',
  'JsonLines',
  'Pictures',
  'StopOnNonFinite',
  'SwapAverages',
  'append_json',
  'finite_or_none',
  'with_guard',
  'with_norm_updates',
]


class JsonLines(keras.callbacks.Callback):
  """Appends the metrics of each epoch to a file, one JSON object per line."""

  def __init__(self, path: str, history: Sequence[dict[str, Any]] = ()):
    """Creates the callback.

    Args:
      path: of the file, which is written anew when training begins.
      history: the metrics of the epochs before, one dictionary for each.
    """
    super().__init__()
    self._path, self._history = path, history

  def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
    write_history(self._path, self._history)

  def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
    append_json(self._path, {'epoch': epoch + 1} | (logs or {}))


def write_history(path: str, history: Sequence[dict[str, Any]]) -> None:
  """Writes what `JsonLines` does for these epochs, from the first."""
  with files.replacing(path) as temporary, open(temporary, 'w') as file:
    for epoch, row in enumerate(history):
      file.write(_line({'epoch': epoch + 1} | row))


def append_json(path: str, row: dict[str, Any]) -> None:
  """Appends an object of numbers and lists to a file; what is not finite is null."""
  with open(path, 'a') as file:
    file.write(_line(row))


def _line(row):
  return json.dumps(finite_or_none(row)) + '\n'


def finite_or_none(row: Any) -> Any:
  """A structure of numbers as JSON has it, which knows no NaN."""

  def as_json(value):
    if value is None or not np.isfinite(value):
      return None
    return value if isinstance(value, int) else float(value)

  return tf.nest.map_structure(as_json, row)


class Pictures(keras.callbacks.Callback):
  """Calls `draw()` after every `every` epochs; 0 for never."""

  def __init__(self, draw: Callable[[], None], every: int):
    super().__init__()
    self._draw, self._every = draw, every

  def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
    if self._every and (epoch + 1) % self._every == 0:
      self._draw()


class SwapAverages(keras.callbacks.SwapEMAWeights):
  """Keeps the weights beside their averages after the last epoch, too.

  So that more epochs go on from them. After `fit` the model has the weights, unless
  something loads the best averages, as it should.
  """

  def _finalize_ema_values(self):
    pass


class BestWeights(keras.callbacks.Callback):
  """Keeps the weights of the epoch with the lowest `monitor`, whole at any time.

  Attributes:
    best: that value; infinite before the first epoch.
  """

  def __init__(self, path: str, monitor: str = 'val_loss', run: str = ''):
    """Creates the callback; `path` and `run` as for `save_weights`."""
    super().__init__()
    self._path, self._monitor, self._run = path, monitor, run
    self.best = float('inf')

  def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
    value = float((logs or {})[self._monitor])
    if value < self.best:
      weights.save_weights(self.model, self._path, self._run)
      self.best = value


class StopOnNonFinite(keras.callbacks.Callback):
  """Ends `FlowModel.fit` by a `NonFiniteError` if a number becomes NaN or infinite.

  At the first step whose loss or gradient is not finite the model freezes by itself:
  weights, optimizer, averages and statistics stay as they were before that step. This
  callback looks whether it has, and then repeats the step to name the layer in the
  error. After each epoch it looks at the weights, too.

  `FlowModel.fit` has one if none is passed, and lets it stand before all other
  callbacks: what these save is finite. Training can go on from the model as it is, or
  from an older checkpoint, by another `fit`; a loop of your own calls
  `model.check_finite()`, and `model.thaw()` to go on.
  """

  def __init__(self, every: int | None = None, validation: bool = True):
    """Creates the callback.

    Args:
      every: steps between two looks, each of which waits for the device; None looks
        about once in a second. After each epoch it looks anyway.
      validation: whether an epoch whose logs are not finite is an error, too, as by
        the loss of the validation data.

    Raises:
      ValueError: if `every` is below 1.
    """
    super().__init__()
    if every is not None and every < 1:
      raise ValueError(f'Expected every >= 1, a number of steps; received {every}.')
    self._every, self._validation = every, validation

  def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
    self.model.thaw()
    self._steps, self._time = 0, time.monotonic()

  # At the beginning: a callback at the end of steps makes Keras wait for each of them.
  def on_train_batch_begin(
    self, batch: int, logs: dict[str, Any] | None = None
  ) -> None:
    self._steps += 1
    if self._every is not None:
      is_due = self._steps > self._every
    else:
      is_due = time.monotonic() > self._time + 1.0
    if is_due:
      self._steps, self._time = 1, time.monotonic()
      self.model.check_finite()

  def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
    self.model.check_finite()

  def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
    self.model.check_finite()
    step = int(self.model.optimizer.iterations.numpy())
    error = diagnosis.weight_error(self.model, step)
    bad = [k for k, v in (logs or {}).items() if not np.isfinite(float(v))]
    if error is None and self._validation and bad:
      error = diagnosis.log_error(step, bad)
    if error is not None:
      raise error


def with_guard(callbacks: Any) -> Any:
  """`callbacks`, first of them a `StopOnNonFinite`."""
  if isinstance(callbacks, keras.callbacks.CallbackList):
    return callbacks
  callbacks = list(tf.nest.flatten(callbacks)) if callbacks else []
  guards = [c for c in callbacks if isinstance(c, StopOnNonFinite)]
  others = [c for c in callbacks if c not in guards]
  return [*(guards or [StopOnNonFinite(validation=False)]), *others]


class _NormUpdates(keras.callbacks.Callback):
  """Calls `update()` wherever weights may have been replaced."""

  def __init__(self, update: Callable[[], None]):
    super().__init__()
    self._update = update

  def on_train_begin(self, logs=None):
    self._update()

  def on_train_end(self, logs=None):
    self._update()

  def on_epoch_begin(self, epoch, logs=None):
    self._update()

  def on_epoch_end(self, epoch, logs=None):
    self._update()

  def on_test_begin(self, logs=None):
    self._update()

  def on_test_end(self, logs=None):
    self._update()

  def on_predict_begin(self, logs=None):
    self._update()

  def on_predict_end(self, logs=None):
    self._update()


def with_norm_updates(callbacks: Any, update: Callable[[], None]) -> Any:
  """`callbacks` and one that updates the norms of Lipschitz networks.

  It stands right after a `SwapEMAWeights`, so that it sees the averaged weights, and
  before all that evaluates or saves them.
  """
  if isinstance(callbacks, keras.callbacks.CallbackList):
    return callbacks  # From `fit`, which has added it.
  callbacks = list(tf.nest.flatten(callbacks)) if callbacks else []
  swaps = [
    i
    for i, callback in enumerate(callbacks)
    if isinstance(callback, keras.callbacks.SwapEMAWeights)
  ]
  callbacks.insert(swaps[-1] + 1 if swaps else 0, _NormUpdates(update))
  return callbacks
