"""Activations by their Keras names, checked for what networks ask of them."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.internal import missing

__all__ = ['activation']


def activation(name: Any, elementwise: bool = False) -> Callable[..., Any]:
  """The activation of a Keras name, or the given callable.

  Args:
    name: as `keras.activations.get` takes it.
    elementwise: whether each unit must depend on itself alone.

  Raises:
    ValueError: if there is none of that name, if it changes the shape, as 'glu'
      does, or, with `elementwise`, mixes units, as 'softmax' does.
  """
  try:
    fn = keras.activations.get(name)
  except (TypeError, ValueError) as error:
    if isinstance(name, dict):  # Of a file.
      kind, of = 'activation', str(name.get('config'))
      raise missing.not_registered(kind, of, name.get('module')) from error
    raise ValueError(
      f"Expected an activation by its Keras name, as 'relu'; received {name!r}."
    ) from error
  x = np.array([[0.3, -0.7, 1.1, -0.2], [0.3, 0.8, -1.5, 2.0]], np.float32)
  with tf.init_scope():  # Networks may be built inside of a graph.
    y = np.asarray(fn(x))
  if y.shape != x.shape:
    raise ValueError(
      f'Expected an activation that keeps the number of units; received {name!r}, '
      f'which does not.'
    )
  if elementwise and abs(y[0, 0] - y[1, 0]) > 1e-3:
    raise ValueError(
      f'Expected an activation of each unit by itself, or the order of the inputs '
      f'would be lost; received {name!r}, which mixes them.'
    )
  return fn
