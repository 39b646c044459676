import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tfp_flows.bijectors import calls


@pytest.mark.parametrize('event_shape', [(5,), (4, 3, 2)])
def test_adapt_makes_mean_0_and_variance_1(event_shape):
  layer = tff.ActNorm(event_shape, dtype='float64')
  x = 3 * test_util.normal((64, *event_shape)) + 7
  y = layer.adapt(x)
  axes = tuple(range(len(event_shape)))
  np.testing.assert_allclose(np.mean(y, axes), 0, atol=1e-12)
  np.testing.assert_allclose(np.var(y, axes), 1, atol=1e-12)
  np.testing.assert_array_equal(layer.forward(tf.identity(x)), y)


def test_adapt_is_recorded_and_starts_over():
  layer = tff.ActNorm([2], dtype='float64')
  assert not layer.adapted
  layer.adapt(test_util.normal([50, 2]))
  assert layer.adapted
  y = layer.adapt(100 * test_util.normal([50, 2], seed=1) - 40)
  np.testing.assert_allclose(np.var(y, 0), 1, atol=1e-12)


@pytest.mark.parametrize('value', [0.0, 1e4, -3.0])
def test_constant_channel_keeps_its_scale(value):
  layer = tff.ActNorm([2])
  x = np.stack([np.full(30, value), np.random.default_rng(0).normal(size=30)], 1)
  y = layer.adapt(x.astype('float32'))
  assert np.isfinite(y).all()
  np.testing.assert_allclose(y[:, 0], 0, atol=1e-3)
  assert layer.log_scale[0] == 0


def test_nothing_is_initialised_by_calls():
  layer = tff.ActNorm([3])
  x = test_util.normal([8, 3], 'float32')
  np.testing.assert_array_equal(layer.forward(x), x)
  layer.inverse(x)
  assert not layer.adapted


def test_adapt_goes_layer_after_layer_through_chain_and_invert():
  first, second = (tff.ActNorm([3], dtype='float64') for _ in range(2))
  cube = tff.Sequential([tfp.bijectors.Softplus(), second])
  # In the direction data -> latent: first, then softplus, then second.
  bijector = tfp.bijectors.Invert(tfp.bijectors.Chain([cube, first]))
  x = 5 * test_util.normal([100, 3]) + 2
  y = calls.adapt(bijector, x, inverted=True)
  np.testing.assert_allclose(np.mean(y, 0), 0, atol=1e-12)
  np.testing.assert_allclose(np.var(y, 0), 1, atol=1e-12)
  np.testing.assert_allclose(np.mean(first.forward(tf.identity(x)), 0), 0, atol=1e-12)


def test_conditional_adapt_is_exact():
  network = tff.MLP(3, 4, hidden=(), seed=0, dtype='float64')
  layer = tff.ActNorm([4, 4, 2], network, dtype='float64')
  test_util.perturb(layer, 0.5)
  x = 9 * test_util.normal([50, 4, 4, 2]) + 5
  y = layer.adapt(x, test_util.normal([50, 3]))
  np.testing.assert_allclose(np.mean(y, (0, 1, 2)), 0, atol=1e-12)
  np.testing.assert_allclose(np.var(y, (0, 1, 2)), 1, atol=1e-12)


def test_conditional_layers_need_the_condition():
  mask = tff.ChannelMask([2])
  layers = [
    tff.ActNorm([2], tff.MLP(3, 4)),
    tff.Invertible1x1ConvLU([2], tff.MLP(3, 4)),
    tff.AffineCoupling(mask, tff.MLP([1], 2, condition_size=3)),
  ]
  for layer in layers:
    with pytest.raises(ValueError, match='expects `condition`.*received none'):
      layer.forward(tf.zeros([1, 2]))
  with pytest.raises(ValueError, match=r'\[..., 3\]; received \[1, 4\]'):
    layers[-1].forward(tf.zeros([1, 2]), condition=tf.zeros([1, 4]))


def test_unbuilt_layer_is_refused():
  import keras

  with pytest.raises(ValueError, match='built Keras layer.*Call `layer.build'):
    tff.ActNorm([2], keras.layers.Dense(4))
