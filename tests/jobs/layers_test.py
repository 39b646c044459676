"""Flows inside of what others have written: TFP, Keras, Python."""

import copy
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff

tfd, tfb = tfp.distributions, tfp.bijectors


def spline_flow(trained=True):
  flow = tff.real_nvp([2], num_steps=2, width=4, transformer='spline', seed=0)
  rng = np.random.default_rng(0)
  for v in flow.trainable_variables:
    v.assign_add(trained * 0.5 * rng.standard_normal(v.shape))
  return flow


def points(shape, seed=1):
  return tf.constant(np.random.default_rng(seed).standard_normal(shape), tf.float32)


def test_a_spline_flow_in_a_joint_distribution_and_a_vectorized_map():
  flow, x = spline_flow(), points([5, 2])
  expected = flow.log_prob(x)
  mapped = tf.vectorized_map(flow.log_prob, tf.identity(x))
  np.testing.assert_allclose(mapped, expected, atol=1e-5)

  @tfd.JointDistributionCoroutineAutoBatched
  def joint():
    yield tfd.Normal(0.0, 1.0, name='a')
    yield flow

  a = points([5])
  found = joint.log_prob(a, tf.identity(x))
  np.testing.assert_allclose(
    found - tfd.Normal(0.0, 1.0).log_prob(a), expected, atol=1e-5
  )


def test_copies_of_a_flow_for_an_average_of_its_weights():
  flow, x = spline_flow(), points([5, 2])
  expected = flow.log_prob(x).numpy()
  for other in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(other.log_prob(tf.identity(x)))
    found = tape.gradient(loss, other.trainable_variables)
    assert all(g is not None for g in found)
    for v in other.trainable_variables:
      v.assign(tf.zeros_like(v))
    assert np.abs(other.log_prob(tf.identity(x)) - expected).max() > 1e-2
    np.testing.assert_array_equal(flow.log_prob(tf.identity(x)), expected)


def test_pickle_a_continuous_flow():
  layer = tff.FFJORD(tff.FieldMLP(2, [3], seed=0), [2], solver=tff.RungeKutta4(2))
  other, x = pickle.loads(pickle.dumps(layer)), points([3, 2])
  np.testing.assert_array_equal(other.forward(tf.identity(x)), layer.forward(x))


def test_a_continuous_flow_of_data_of_unknown_size():
  layer = tff.FFJORD(tff.FieldMLP(2, [3], seed=0), [2], solver=tff.RungeKutta4(2))
  unknown = tf.TensorSpec([None, None])
  forward = tf.function(layer.forward, input_signature=[unknown])
  x = points([3, 2])
  np.testing.assert_allclose(forward(x), layer.forward(x), atol=1e-6)


def test_fine_tune_with_a_frozen_network():
  network = tff.MLP(1, 2, hidden=[3], seed=0)
  norm = tff.ActNorm([2])
  layers = [norm, tff.AffineCoupling(tff.ChannelMask([2]), network)]
  flow = tfd.TransformedDistribution(
    tfd.Sample(tfd.Normal(0.0, 1.0), 2), tfb.Invert(tff.Sequential(layers))
  )
  network.trainable = False
  x, before = points([8, 2]) + 1.0, [np.array(v) for v in network.variables]
  tfp.math.minimize(
    lambda: -tf.reduce_mean(flow.log_prob(x)),
    num_steps=2,
    optimizer=keras.optimizers.SGD(0.1),
    trainable_variables=flow.trainable_variables,
  )
  assert np.abs(norm.shift).max() > 1e-3
  for v, start in zip(network.variables, before, strict=True):
    np.testing.assert_array_equal(v, start)


@pytest.mark.parametrize('builder', [tff.glow, tff.real_nvp, tff.nice])
def test_a_coupling_flow_of_one_dimension_says_what_to_use(builder):
  with pytest.raises(ValueError, match=r'received the event shape \[1\].*tff.maf'):
    builder([1])


def test_a_flow_inside_of_a_keras_model(tmp_path):
  class Density(keras.Model):
    def __init__(self):
      super().__init__()
      self.flow = tff.FlowModel(spline_flow())

    def call(self, x):
      return self.flow(x)

  model, x = Density(), points([8, 2]).numpy()
  model.compile('sgd', loss=lambda _, log_prob: -log_prob, jit_compile=False)
  start = [np.array(w) for w in model.get_weights()]
  model.fit(x, np.zeros(8), batch_size=8, verbose=0)
  assert len(model.trainable_variables) == len(
    model.flow.distribution.trainable_variables
  )
  assert any(np.abs(a - b).max() > 0 for a, b in zip(model.get_weights(), start))
  model.save_weights(tmp_path / 'w.weights.h5')
  other = Density()
  other(x)
  other.load_weights(tmp_path / 'w.weights.h5')
  np.testing.assert_allclose(
    other.flow.log_prob(x), model.flow.log_prob(x), rtol=1e-6, atol=1e-6
  )


def test_a_distribution_inside_of_a_keras_model_says_that_it_is_not_trained():
  class Density(keras.Model):
    def __init__(self):
      super().__init__()
      self.flow = tff.real_nvp([2], num_steps=1, width=4)
      self.offset = self.add_weight(shape=[2])

    def call(self, x):
      return self.flow.log_prob(x + self.offset)

  model, x = Density(), points([8, 2]).numpy()
  model.compile('sgd', loss=lambda _, log_prob: -log_prob, jit_compile=False)
  with pytest.warns(UserWarning, match='Keras does not see 9 of them.*tff.FlowModel'):
    model.fit(x, np.zeros(8), batch_size=8, verbose=0)
