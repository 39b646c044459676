"""What all networks share: Keras can save them."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal import configurable
from tfp_flows.internal import keras_private
from tfp_flows.math import first_steps

__all__ = ['Network']


class Network(configurable.ConfigurableLayer, keras.layers.Layer):
  """A layer whose configuration is what its constructor was called with.

  The constructors of subclasses take numbers, strings, sequences of them, an
  activation and `dtype`.
  """

  output_scale: keras.Variable | None = None

  def __init__(self, **kwargs: Any):
    super().__init__(**kwargs)
    if self.compute_dtype == 'float16':
      raise ValueError(
        f'{type(self).__name__} expects a dtype policy of float32, float64 or '
        f'mixed_bfloat16; received {self.dtype_policy.name}, whose gradients vanish '
        f'without loss scaling. Pass mixed_bfloat16, or set it by '
        f'`keras.config.set_dtype_policy`.'
      )

  @property
  def constant_weights(self) -> list[keras.Variable]:
    """Those that no call, no update of norms and no training step changes."""
    return [] if self.output_scale is None else [self.output_scale]

  def _scale_output(self, fan_in, depth, of_images=False, from_zero=True):
    scale = first_steps.output_scale(fan_in, depth, of_images, from_zero)
    # A weight, so that files that were written before it was there have another.
    self.output_scale = self.add_weight(
      initializer=keras.initializers.Constant(scale),
      trainable=False,
      autocast=False,
      name='output_scale',
    )

  def _scaled(self, layer):
    """Keyword arguments of a call of the last layer: its weights, scaled.

    Not its output, as XLA rounds that in bfloat16 here and not there, and the inverse
    must see what the forward direction does.
    """
    kernel, bias = map(tf.convert_to_tensor, (layer.kernel, layer.bias))
    scale = tf.cast(self.output_scale, kernel.dtype)
    return dict(kernel=scale * kernel, bias=scale * bias)

  def load_own_variables(self, store: Mapping[str, Any]) -> None:
    scale = self.output_scale
    own = keras_private.own_variables(self)
    there = [v for v in own if v is not scale]
    if scale is None or len(store.keys()) != len(there):
      super().load_own_variables(store)
      return
    for i, variable in enumerate(there):  # The file is of a version without it.
      variable.assign(store[f'{i}'])
    scale.assign(1.0)
