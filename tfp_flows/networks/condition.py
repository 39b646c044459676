"""How a condition enters a network."""

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal import checks
from tfp_flows.internal import shapes

__all__ = ['AddCondition']


class AddCondition(keras.layers.Layer):
  """Adds a linear map of `condition` to the channels of a hidden layer.

  The batch shapes of both broadcast; at every pixel the same is added.
  """

  def __init__(
    self,
    condition_size: int,
    channels: int,
    event_ndims: int,
    initializer: Any,
    dtype: Any = None,
  ):
    super().__init__(dtype=dtype)
    checks.as_count(condition_size, 'condition_size')
    self._event_ndims = event_ndims
    self._dense = keras.layers.Dense(
      channels, use_bias=False, kernel_initializer=initializer, dtype=dtype
    )
    self._dense.build((None, condition_size))
    self.built = True

  def call(self, x: tf.Tensor, condition: tf.Tensor) -> tf.Tensor:
    added = shapes.with_flat_batch(self._dense, condition, 1)
    for _ in range(self._event_ndims - 1):
      added = added[..., tf.newaxis, :]
    return x + added
