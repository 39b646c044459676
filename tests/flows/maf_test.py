import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tfp_flows import Autoregressive
from tfp_flows import maf

tfd = tfp.distributions


def small(event_shape=(2,), **options):
  options = (
    dict(num_layers=3, hidden=[8], activation='tanh', seed=0, dtype='float64') | options
  )
  flow = maf(event_shape, **options)
  test_util.perturb(flow, 0.2)
  return flow


OPTIONS = {
  'default': {},
  'spline': dict(transformer='spline'),
  'sigmoid': dict(scale='sigmoid'),
  'random': dict(order='random', act_norm=False, base='logistic'),
}


@pytest.mark.parametrize('name', OPTIONS)
def test_density_integrates_to_one(name):
  flow = small(num_layers=2, **OPTIONS[name])
  axis = np.linspace(-15, 15, 801)
  grid = np.stack(np.meshgrid(axis, axis), axis=-1)
  total = np.sum(tf.function(flow.prob)(grid)) * (axis[1] - axis[0]) ** 2
  np.testing.assert_allclose(total, 1, atol=2e-3)


@pytest.mark.parametrize('name', OPTIONS)
def test_samples_and_their_densities(name):
  flow = small([5], condition_size=2, **OPTIONS[name])
  condition = test_util.normal([3, 2])
  x, log_prob = flow.experimental_sample_and_log_prob(seed=0, condition=condition)
  assert x.shape == (3, 5)
  found = flow.log_prob(tf.identity(x), condition=condition)
  np.testing.assert_allclose(found, log_prob, atol=1e-8)
  other = flow.log_prob(tf.identity(x), condition=condition + 1.0)
  assert np.abs(other - log_prob).min() > 1e-3


def test_samples_follow_the_density():
  flow = small()
  samples = flow.sample(20_000, seed=1).numpy()
  axis = np.linspace(-20, 20, 801)
  grid = np.stack(np.meshgrid(axis, axis), axis=-1)
  f = lambda x: np.exp(-0.5 * ((x - [0.5, -0.5]) ** 2).sum(-1))  # noqa: E731
  expected = np.sum(f(grid) * flow.prob(grid)) * (axis[1] - axis[0]) ** 2
  values = f(samples)
  assert abs(values.mean() - expected) < 5 * values.std() / np.sqrt(len(values))


def test_layers():
  flow = small([4], num_layers=5)
  kinds = (tff.ActNorm, Autoregressive)
  layers = [m for m in test_util.layers(flow) if isinstance(m, kinds)]
  assert [type(layer) for layer in layers] == [tff.ActNorm, Autoregressive] * 5
  orders = [layer._conditioner.order for layer in layers[1::2]]
  assert orders == [[0, 1, 2, 3], [3, 2, 1, 0]] * 2 + [[0, 1, 2, 3]]
  flow = small([9], order='random', act_norm=False)
  layers = [m for m in test_util.layers(flow) if isinstance(m, kinds)]
  assert [type(layer) for layer in layers] == [Autoregressive] * 3
  orders = [tuple(layer._conditioner.order) for layer in layers]
  assert len(set(orders)) == 3


@pytest.mark.parametrize('transformer', ['affine', 'spline'])
def test_starts_as_its_base(transformer):
  flow = maf([3], 2, [8], transformer=transformer)
  x = test_util.normal([4, 3], 'float32')
  np.testing.assert_allclose(
    flow.log_prob(x), flow.distribution.log_prob(x), rtol=1e-5, atol=1e-5
  )


def test_flattened_pixels():
  flow = small([4], num_bins=16)
  x = 16 * tf.sigmoid(test_util.normal([3, 4]))
  bijector = flow.bijector.bijector
  assert isinstance(bijector.bijectors[0], tff.Preprocess)
  expected = test_util.autodiff_log_det(bijector.forward, x)
  found = bijector.forward_log_det_jacobian(tf.identity(x), 1)
  np.testing.assert_allclose(found, expected, atol=1e-9)


def test_seed_fixes_all_weights():
  def weights(seed):
    flow = maf([6], 2, [8], order='random', seed=seed)
    return np.concatenate([np.ravel(v) for v in flow.variables])

  np.testing.assert_array_equal(weights(1), weights(1))
  assert np.abs(weights(1) - weights(2)).max() > 0.01


def test_networks_follow_the_global_policy():
  keras.config.set_dtype_policy('mixed_bfloat16')
  try:
    flow = maf([6], 1, [8], seed=0)
  finally:
    keras.config.set_dtype_policy('float32')
  x = test_util.normal([3, 6], 'float32')
  made = flow.bijector.bijector.bijectors[1]._conditioner
  assert made(x).dtype == 'bfloat16'
  assert flow.log_prob(x).dtype == 'float32'


def correlated(count, seed):
  rng = np.random.default_rng(seed)
  return (rng.standard_normal((count, 3)) @ np.tril(np.ones([3, 3]))).astype('float32')


def test_fits_a_correlated_gaussian():
  flow = maf([3], 2, [16], seed=0)
  model = tff.FlowModel(flow)
  model.compile(keras.optimizers.Adam(1e-2))
  history = model.fit(correlated(2000, 0), batch_size=100, epochs=6, verbose=0)
  losses = history.history['loss']
  x = correlated(2000, 1)
  # The entropy: the covariance has the determinant 1.
  entropy = 1.5 * np.log(2 * np.pi * np.e)
  nll = -np.mean(flow.log_prob(x))
  assert losses[-1] < losses[0] - 0.2
  assert abs(nll - entropy) < 0.1


@pytest.mark.parametrize(
  ('build', 'message'),
  [
    (lambda: maf([4, 4, 1]), r'\[D\]; received \[4, 4, 1\]. Use `glow` or `real_nvp`'),
    (lambda: maf([None]), 'static event shape'),
    (lambda: maf([4], transformer='cubic'), "received 'cubic'"),
    (lambda: maf([4], scale='exp'), "received 'exp'"),
    (lambda: maf([4], order='reversed'), "'alternating' or 'random'; .* 'reversed'"),
    (lambda: maf([4], base='cauchy'), "received 'cauchy'"),
    (lambda: maf([4], num_layers=0), 'num_layers >= 1; received 0'),
  ],
)
def test_bad_options(build, message):
  with pytest.raises(ValueError, match=message):
    build()
