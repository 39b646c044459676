"""Keras callbacks that Keras does not have."""

import json
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.training import files
from tfp_flows.training import weights

__all__ = [
  'BestWeights',
  'JsonLines',
  'Pictures',
  'StopOnDivergence',
  'json_numbers',
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

  def on_train_begin(self, logs=None):
    with files.replacing(self._path) as path, open(path, 'w') as file:
      for epoch, row in enumerate(self._history):
        file.write(_line(epoch, row))

  def on_epoch_end(self, epoch, logs=None):
    with open(self._path, 'a') as file:
      file.write(_line(epoch, logs or {}))


def _line(epoch, logs):
  return json.dumps({'epoch': epoch + 1} | json_numbers(logs)) + '\n'


def json_numbers(logs: dict[str, Any]) -> dict[str, float | None]:
  """The metrics as JSON has them: None for what is not finite."""
  values = {k: None if v is None else float(v) for k, v in logs.items()}
  return {k: None if v is None or not np.isfinite(v) else v for k, v in values.items()}


class Pictures(keras.callbacks.Callback):
  """Calls `draw()` after every `every` epochs; 0 for never."""

  def __init__(self, draw: Callable[[], None], every: int):
    super().__init__()
    self._draw, self._every = draw, every

  def on_epoch_end(self, epoch, logs=None):
    if self._every and (epoch + 1) % self._every == 0:
      self._draw()


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

  def on_epoch_end(self, epoch, logs=None):
    value = float(logs[self._monitor])
    if value < self.best:
      weights.save_weights(self.model, self._path, self._run)
      self.best = value


class StopOnDivergence(keras.callbacks.Callback):
  """Stops training at the first epoch whose loss is NaN or infinite.

  `diverged` tells whether that happened. The best weights so far are untouched,
  if a `ModelCheckpoint` keeps them.
  """

  def __init__(self):
    super().__init__()
    self.diverged = False

  def on_epoch_end(self, epoch, logs=None):
    if not all(np.isfinite(float(v)) for v in (logs or {}).values()):
      self.diverged = True
      self.model.stop_training = True


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
