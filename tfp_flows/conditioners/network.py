"""What all networks share: Keras can save them."""

import inspect
from typing import Any

import keras
import numpy as np

__all__ = ['Network']


class Network(keras.layers.Layer):
  """A layer whose configuration is what its constructor was called with.

  The constructors of subclasses take numbers, strings, sequences of them, an
  activation and `dtype`.
  """

  def __new__(cls, *args, **kwargs):
    try:
      bound = inspect.signature(cls.__init__).bind(None, *args, **kwargs)
    except TypeError:
      return super().__new__(cls, *args, **kwargs)  # `__init__` will say so.
    # Keras keeps plain arguments only; the dtype it has from the policy of the layer.
    arguments = list(bound.arguments.items())[1:]
    return super().__new__(cls, **{k: _plain(v) for k, v in arguments if k != 'dtype'})

  def __init__(self, **kwargs):
    super().__init__(**kwargs)
    if self.compute_dtype == 'float16':
      raise ValueError(
        f'{type(self).__name__} expects a dtype policy of float32, float64 or '
        f'mixed_bfloat16; received {self.dtype_policy.name}, whose gradients vanish '
        f'without loss scaling. Pass mixed_bfloat16, or set it by '
        f'`keras.config.set_dtype_policy`.'
      )

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> 'Network':
    """The network of a `get_config`, with new weights."""
    config = dict(config)
    trainable = config.pop('trainable', True)
    network = cls(**config)
    if not trainable:
      network.trainable = False
    return network


def _plain(value):
  """As JSON has it."""
  if isinstance(value, np.generic):
    return value.item()
  if callable(value):
    return keras.activations.serialize(value)
  is_plain = value is None or isinstance(value, (bool, int, float, str, dict))
  return value if is_plain else [_plain(v) for v in value]
