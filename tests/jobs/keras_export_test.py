"""What `keras.Model.export` makes of flows."""

import keras
import numpy as np
import tensorflow as tf

import tfp_flows as tff


class Encoded(keras.Model):
  """The likelihood of features."""

  def __init__(self):
    super().__init__()
    self.features = keras.layers.Dense(2)
    self.flow = tff.FlowModel(tff.real_nvp([2], num_steps=1, width=4, seed=0), seed=0)

  def call(self, x):
    return self.flow(self.features(x))


def test_export_a_flow_and_a_model_with_one_inside(tmp_path):
  model, x = Encoded(), np.ones([3, 4], 'f4')
  expected = model(x)
  model.flow.sample(2)
  model.export(tmp_path / 'all', verbose=False)
  loaded = tf.saved_model.load(tmp_path / 'all')
  np.testing.assert_allclose(loaded.serve(x), expected, rtol=1e-5)
  model.flow.export(tmp_path / 'flow', verbose=False)
  loaded = tf.saved_model.load(tmp_path / 'flow')
  np.testing.assert_allclose(loaded.serve(x[:, :2]), model.flow(x[:, :2]), rtol=1e-5)
