"""Reversible residual networks."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows import bijectors
from tfp_flows.bijectors import reversible
from tfp_flows.internal import keras_parameters
from tfp_flows.bijectors import rev_net_block


@keras.saving.register_keras_serializable('tfp_flows')
class RevNet(keras.layers.Layer):
  def __init__(self, networks, memory='reversible', name=None, dtype=None):
    super().__init__(name=name, dtype=dtype)
    self.memory = memory
    self._networks = [n for pair in networks for n in pair]

  def build(self, input_shape):
    self._channels = int(input_shape[-1])
    self._state_dtype = keras.backend.result_type(self.variable_dtype, 'float32')

  def call(self, x, training=None):
    y, _ = self._flow(training).forward_and_log_det(tf.cast(x, self._state_dtype))
    return tf.cast(y, self.compute_dtype)

  def _flow(self, training):
    networks = [functools.partial(n, training=bool(training)) for n in self._networks]
    blocks = [
      rev_net_block.RevNetBlock(f, g, [self._channels], 'stored', self._state_dtype)
      for f, g in zip(networks[::2], networks[1::2])
    ]
    return bijectors.Sequential(blocks, self.memory)
