"""Keras callbacks that Keras does not have."""

import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

__all__ = ['JsonLines', 'Pictures', 'StopOnDivergence', 'with_norm_updates']


class JsonLines(keras.callbacks.Callback):
  """Appends the metrics of each epoch to a file, one JSON object per line."""

  def __init__(self, path: str):
    """Creates the callback; `path` is begun anew when training begins."""
    super().__init__()
    self._path = path

  def on_train_begin(self, logs=None):
    with open(self._path, 'w'):
      pass

  def on_epoch_end(self, epoch, logs=None):
    values = {k: float(v) for k, v in (logs or {}).items()}
    # JSON has no NaN.
    values = {k: v if np.isfinite(v) else None for k, v in values.items()}
    row = {'epoch': epoch + 1} | values
    with open(self._path, 'a') as file:
      file.write(json.dumps(row) + '\n')


class Pictures(keras.callbacks.Callback):
  """Calls `draw()` after every `every` epochs and at the end of training."""

  def __init__(self, draw: Callable[[], None], every: int):
    super().__init__()
    self._draw, self._every = draw, every

  def on_epoch_end(self, epoch, logs=None):
    if self._every and (epoch + 1) % self._every == 0:
      self._draw()

  def on_train_end(self, logs=None):
    self._draw()


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
