import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tests import test_util

NETWORKS = {
  'mlp': (lambda **o: tff.MLP([5], 4, hidden=(6, 6), **o), (5,), (4,)),
  'linear': (lambda **o: tff.MLP([5], 4, hidden=(), **o), (5,), (4,)),
  'conv': (lambda **o: tff.ConvNet([4, 6, 2], 4, width=5, **o), (4, 6, 2), (4, 6, 4)),
  'conv_norm': (
    lambda **o: tff.ConvNet([4, 6, 2], 4, width=5, act_norm=True, **o),
    (4, 6, 2),
    (4, 6, 4),
  ),
  'res': (lambda **o: tff.ResNet([4, 6, 2], 4, width=5, **o), (4, 6, 2), (4, 6, 4)),
}


def perturb(network):
  rng = np.random.default_rng(0)
  for v in network.trainable_variables:
    v.assign_add(0.1 * rng.standard_normal(v.shape))


@pytest.mark.parametrize('name', NETWORKS)
def test_starts_at_zero_and_takes_any_batch_shape(name):
  build, inputs, outputs = NETWORKS[name]
  network = build(seed=0, condition_size=3)
  x = test_util.normal((2, 3, *inputs), 'float32')
  condition = test_util.normal((3, 3), 'float32')
  y = network(x, condition)
  assert y.shape == (2, 3, *outputs)
  np.testing.assert_array_equal(y, np.zeros_like(y))
  perturb(network)
  y = network(x, condition)
  assert np.abs(y).max() > 1e-3
  np.testing.assert_allclose(network(x[1, 2], condition[2]), y[1, 2], atol=1e-5)
  assert np.abs(network(x, condition + 1) - y).max() > 1e-3


@pytest.mark.parametrize('name', NETWORKS)
def test_seed_and_dtype(name):
  build = NETWORKS[name][0]

  def weights(**options):
    return np.concatenate([np.ravel(v.numpy()) for v in build(**options).variables])

  np.testing.assert_array_equal(weights(seed=1), weights(seed=1))
  if name != 'linear':
    assert np.abs(weights(seed=1) - weights(seed=2)).max() > 0.01
  assert weights(seed=1, dtype='float64').dtype == np.float64


@pytest.mark.parametrize('name', ['mlp', 'conv', 'res'])
def test_dropout_only_in_training(name):
  build, inputs, _ = NETWORKS[name]
  network = build(seed=0, dropout=0.5)
  perturb(network)
  x = test_util.normal((3, *inputs), 'float32')
  np.testing.assert_array_equal(network(x), network(x))
  first, second = network(x, training=True), network(x, training=True)
  assert np.abs(first - second).max() > 1e-4


def test_act_norm_in_a_network_is_adapted():
  network = tff.ConvNet(
    [4, 4, 2], 4, width=5, kernel_sizes=(3, 1, 1), act_norm=True, seed=0
  )
  x = 7 * test_util.normal((50, 4, 4, 2), 'float32') + 3
  network.adapt(x)
  hidden = network._norms[0](network._hidden[0](x))
  np.testing.assert_allclose(np.mean(hidden, (0, 1, 2)), 0, atol=1e-4)
  np.testing.assert_allclose(np.std(hidden, (0, 1, 2)), 1, atol=1e-4)


def test_res_net_kernels_have_the_norm_of_their_gain():
  network = tff.ResNet([4, 4, 2], 4, width=5, seed=0)
  layer = network._input
  x = test_util.normal((2, 4, 4, 4), 'float32')
  before = layer(x)
  layer.v.assign(3 * layer.v)
  np.testing.assert_allclose(layer(x), before, atol=1e-5)
  layer.gain.assign(2 * layer.gain)
  np.testing.assert_allclose(layer(x), 2 * before, atol=1e-4)


def test_mixed_precision_computes_in_bfloat16():
  network = tff.ConvNet([4, 4, 2], 4, width=5, seed=0, dtype='mixed_bfloat16')
  assert network(tf.zeros([1, 4, 4, 2])).dtype == 'bfloat16'
  assert {v.dtype for v in network.variables if v.trainable} == {'float32'}


def test_networks_are_keras_layers():
  model = keras.Sequential([tff.MLP([5], 4, seed=0)])
  assert model(tf.zeros([2, 5])).shape == (2, 4)
