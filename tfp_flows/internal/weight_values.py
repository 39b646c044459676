"""Layers as functions of their weights.

`value` is how a layer reads a variable of its own, and inside of `substituted` gives
another tensor in its place. Keras layers have the same from `keras.StatelessScope`.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from collections.abc import Sequence

import keras
import tensorflow as tf

from tfp_flows.internal import keras_parameters
from tfp_flows.internal import tf_private

__all__ = ['source', 'substituted', 'value']

_current = contextvars.ContextVar('substituted weights', default=None)


def source(variable: tf.Variable | tf.Tensor) -> tf.Variable | tf.Tensor:
  """What stands for `variable` here: itself, or a substitute."""
  return (_current.get() or {}).get(id(variable), variable)


def value(variable: tf.Variable | tf.Tensor) -> tf.Tensor:
  """The tensor that stands for `variable` here."""
  return tf.convert_to_tensor(source(variable))


@contextlib.contextmanager
def substituted(module: tf.Module, tensors: Sequence[tf.Tensor]) -> Iterator[None]:
  """Inside of it `module` has `tensors` for its `variables`, in their order.

  Raises:
    ValueError: in the end, if a trainable variable of `module` was read itself.
  """
  by_variable = {id(v): t for v, t in zip(module.variables, tensors, strict=True)}
  pairs = [
    (v, by_variable[id(own)]) for v, own in keras_parameters.keras_variables(module)
  ]
  token = _current.set((_current.get() or {}) | by_variable)
  try:
    with keras.StatelessScope(pairs):
      with tf_private.VariableWatcher() as watcher:
        yield
  finally:
    _current.reset(token)
  for variable in watcher.watched_variables():
    if id(variable) in by_variable:
      raise ValueError(
        f'Expected the layers of {module.name} to read their variables as those of '
        f'tfp_flows or Keras do, so that others can take their place; '
        f'{variable.name} was read directly. Use Sequential, not Repeated.'
      )
