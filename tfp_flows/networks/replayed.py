"""Keras layers that can be computed again."""

from typing import Any

import keras
import tensorflow as tf

__all__ = ['Replayed']


class Replayed:
  """A Keras layer as a function of its input alone, for one call and its gradient.

  The layer has the state that it had when this was made, such as the seeds of dropout:
  it returns the same however often it is called. What the first call would have
  changed, such as moving statistics, `commit` changes.
  """

  def __init__(self, layer: keras.layers.Layer, training: bool):
    """Notes the state.

    Args:
      layer: a built layer.
      training: the mode in which it is called. Gradients are computed after the call
        of an outer layer, when Keras no longer knows that.
    """
    self._layer, self._training = layer, training
    state = [v for v in layer.variables if not v.trainable]
    self._state = [(v, tf.identity(v.value)) for v in state]
    self._changes: list[tuple[keras.Variable, Any]] | None = None

  def __call__(self, x: tf.Tensor) -> tf.Tensor:
    with keras.StatelessScope(self._state) as scope:
      y = self._layer(x, training=self._training)
    if self._changes is None:
      values = [(v, old, scope.get_current_value(v)) for v, old in self._state]
      self._changes = [(v, new) for v, old, new in values if new is not old]
    return y

  def commit(self) -> None:
    """Stores what the first call would have stored, once."""
    for variable, value in self._changes or []:
      variable.assign(value)
    self._changes = []
