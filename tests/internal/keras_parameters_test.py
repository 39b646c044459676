import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tfp_flows.internal import keras_parameters


def test_a_plain_module_misses_keras_weights_and_the_bridge_shows_them():
  network = tff.MLP([2], 3, hidden=(4,), seed=0)

  class Holder(tf.Module):
    def __init__(self, bridge):
      super().__init__()
      self.network = network
      self.bridge = keras_parameters.expose(network) if bridge else None

  assert not Holder(bridge=False).trainable_variables
  assert len(Holder(bridge=True).trainable_variables) == 4


def test_view_shares_storage_and_counts_each_variable_once():
  shared = tff.MLP([1], 2, hidden=(4,), seed=0)
  masks = tff.ChannelMask([2]), tff.ChannelMask([2], invert=True)
  flow = tff.Sequential([tff.AffineCoupling(m, shared) for m in masks])
  chain = tfp.bijectors.Chain([tfp.bijectors.Shift(tf.Variable([1.0, 2.0])), flow])
  layers, variables = keras_parameters.keras_view(chain)
  assert layers == [shared]
  (shift,) = variables
  shift.assign([3.0, 4.0])
  np.testing.assert_array_equal(chain.bijectors[0].shift, [3.0, 4.0])
  assert len(chain.trainable_variables) == 5


def test_frozen_variables_stay_frozen():
  module = tf.Module()
  module.v = tf.Variable(1.0, trainable=False)
  _, (view,) = keras_parameters.keras_view(module)
  assert not view.trainable


def test_unbuilt_layers_are_refused():
  with pytest.raises(ValueError, match="received the unbuilt 'lazy'"):
    keras_parameters.expose(keras.layers.Dense(3, name='lazy'))
  assert keras_parameters.expose(lambda x: x) is None
