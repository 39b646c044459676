import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tfp_flows.math import logistic_mixtures

tfd = tfp.distributions


def params(fn, count=7, scale=1.0, dtype='float64', seed=0):
  """Parameters of `count` numbers, for a batch of 3."""
  return scale * test_util.normal([3, count * fn.params_per_dim], dtype, seed)


def mixture(count=6, num_components=3, dtype='float64', spread=3.0):
  raw = [test_util.normal([count, num_components], dtype, seed=s) for s in range(3)]
  return logistic_mixtures.Mixture(
    tf.nn.log_softmax(raw[0]), spread * raw[1], tf.tanh(raw[2])
  )


@pytest.mark.parametrize('outer_affine', [True, False])
@pytest.mark.parametrize('num_components', [1, 2, 8])
def test_zeros_are_the_identity(num_components, outer_affine):
  fn = tff.MixtureCDF(num_components, outer_affine)
  x = tf.constant([[-60.0, -1.0, -1e-3, 0.0, 1e-3, 3.0, 60.0]], tf.float64)
  inner = fn(tf.zeros([1, 7 * fn.params_per_dim], tf.float64))
  np.testing.assert_allclose(inner.forward(x), x, rtol=0, atol=1e-12)
  np.testing.assert_allclose(inner.inverse(tf.identity(x)), x, rtol=0, atol=1e-12)
  log_det = inner.forward_log_det_jacobian(x, 0)
  np.testing.assert_allclose(log_det, np.zeros([1, 7]), rtol=0, atol=1e-12)


@pytest.mark.parametrize('scale', [0.3, 1.0, 50.0])
@pytest.mark.parametrize('outer_affine', [True, False])
def test_log_det_is_that_of_autodiff_far_out(outer_affine, scale):
  fn = tff.MixtureCDF(5, outer_affine, log_scale_bound=1.0)
  inner = fn(params(fn, scale=scale))
  row = [-1e5, -60.0, -1.0, 0.0, 2.0, 60.0, 1e5]
  x = tf.constant([row] * 3, tf.float64)
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = inner.forward(x)
  slope = tape.gradient(y, x).numpy()
  log_det = inner.forward_log_det_jacobian(x, 0).numpy()
  # The derivative of a difference of logarithms has no digits where it is that small.
  is_known = slope > 1e-5
  assert is_known.mean() > (0.5 if scale == 50.0 else 0.99)
  np.testing.assert_allclose(
    log_det[is_known], np.log(slope[is_known]), rtol=0, atol=1e-10
  )
  assert np.isfinite(log_det).all()


@pytest.mark.parametrize('seed', range(3))
def test_round_trip_and_log_dets_agree(seed):
  fn = tff.MixtureCDF(4, log_scale_bound=1.0)
  inner = fn(params(fn, seed=seed))
  x = 8.0 * test_util.normal([3, 7], seed=seed + 10)
  y = tf.identity(inner.forward(x))
  np.testing.assert_allclose(inner.inverse(y), x, rtol=1e-8, atol=1e-8)
  np.testing.assert_allclose(
    inner.inverse_log_det_jacobian(y, 0),
    -inner.forward_log_det_jacobian(x, 0).numpy(),
    atol=1e-7,
  )


def test_values_are_those_of_a_mixture_of_tfp():
  log_weights, means, log_scales = parts = mixture()
  reference = tfd.MixtureSameFamily(
    tfd.Categorical(logits=log_weights), tfd.Logistic(means, tf.exp(log_scales))
  )
  x = 4.0 * test_util.normal([5, 6], seed=4)
  y, log_slope = logistic_mixtures.logit_cdf(x, parts)
  # There are digits in 1 - F here.
  assert np.abs(y).max() < 30
  log_cdf, log_survival = reference.log_cdf(x), reference.log_survival_function(x)
  np.testing.assert_allclose(y, log_cdf - log_survival, rtol=1e-6, atol=1e-9)
  # The density of F is that of a logistic variable that y is mapped to.
  log_prob = tfd.Logistic(tf.zeros([], y.dtype), 1.0).log_prob(y) + log_slope
  np.testing.assert_allclose(log_prob, reference.log_prob(x), rtol=1e-10)


def test_it_is_the_deep_sigmoidal_flow():
  """`y = logit(sum w sigmoid(a x + b))` with `a = 1 / s` and `b = -m / s`."""
  log_weights, means, log_scales = parts = mixture(spread=1.0)
  a = np.exp(-log_scales.numpy())
  x = test_util.normal([5, 6], seed=4)
  u = a * x.numpy()[..., np.newaxis] - means.numpy() * a
  cdf = np.sum(np.exp(log_weights) / (1.0 + np.exp(-u)), axis=-1)
  y = logistic_mixtures.logit_cdf(x, parts)[0]
  np.testing.assert_allclose(y, np.log(cdf / (1.0 - cdf)), rtol=1e-10)


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_extremes_are_finite_in_both_directions(dtype):
  fn = tff.MixtureCDF()
  inner = fn(params(fn, scale=50.0, dtype=dtype))
  row = [-1e30, -1e4, -60.0, 0.0, 60.0, 1e4, 1e30]
  x = tf.constant([row] * 3, dtype)
  with tf.GradientTape(persistent=True) as tape:
    tape.watch(x)
    y, back = inner.forward(x), inner.inverse(tf.identity(x))
    log_dets = [
      inner.forward_log_det_jacobian(x, 0),
      inner.inverse_log_det_jacobian(tf.identity(x), 0),
    ]
  for value in (y, back, *log_dets, *(tape.gradient(v, x) for v in (y, back))):
    assert np.isfinite(value).all()
  assert (np.sign(y[:, ::6]) == [-1, 1]).all()


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_roots_beside_gaps(dtype):
  """Of two narrow components, each number by itself: none waits for the others."""
  means = tf.constant([0.0, 10.0], dtype)
  parts = logistic_mixtures.Mixture(
    tf.math.log(tf.constant([0.5, 0.5], dtype)), means, tf.fill([2], means[0] - 4.0)
  )
  for target in (-6.0, -0.5, 0.0, 0.5, 4.0, 6.0, 1e4):
    y = tf.constant([target], dtype)
    x = logistic_mixtures.quantile(y, parts)
    found = logistic_mixtures.logit_cdf(x, parts)[0]
    np.testing.assert_allclose(found, y, rtol=1e-5, atol=5e-5)


def test_derivatives_of_the_inverse():
  """They are those of numbers nearby, also for parameters."""
  fn = tff.MixtureCDF(3, log_scale_bound=1.0)
  p = params(fn, 2)
  y = test_util.normal([3, 2], seed=3)

  def found(p):
    inner = fn(p)
    x = inner.inverse(tf.identity(y))
    return tf.reduce_sum(x**2) + tf.reduce_sum(inner.inverse_log_det_jacobian(y, 0))

  with tf.GradientTape() as tape:
    tape.watch(p)
    value = found(p)
  gradient = tape.gradient(value, p)
  direction = test_util.normal(p.shape, seed=5)
  h = 1e-5
  numeric = (found(p + h * direction) - found(p - h * direction)) / (2 * h)
  np.testing.assert_allclose(
    tf.reduce_sum(gradient * direction), numeric, rtol=1e-6, atol=1e-8
  )


def test_components_of_the_start_are_told_apart():
  """Where all are the same, their gradients are in proportion, and not equal."""
  fn = tff.MixtureCDF(4, outer_affine=False)
  p = tf.zeros([1, fn.params_per_dim], tf.float64)
  x = tf.constant([[1.5]], tf.float64)
  with tf.GradientTape() as tape:
    tape.watch(p)
    y = fn(p).forward(x)
  gradient = tape.gradient(y, p).numpy().reshape(3, 4)
  assert len(np.unique(gradient[1].round(6))) == 4
  moved = fn(p + 0.1 * np.sign(gradient).reshape(1, -1))
  assert len(np.unique(moved._mixture.means.numpy().round(6))) == 4
  assert len(np.unique(moved._mixture.log_scales.numpy().round(6))) == 4


@pytest.mark.parametrize('options', [dict(), dict(outer_affine=False)])
def test_the_density_has_all_of_its_mass(options):
  fn = tff.MixtureCDF(6, **options)
  # Scales are within 0.05 and 20 here, and the outer slope at least 0.135.
  x = tf.constant(np.linspace(-2e3, 2e3, 80_001))
  x = tf.broadcast_to(x[:, tf.newaxis, tf.newaxis], [80_001, 10, 1])
  inner = fn(test_util.normal([10, fn.params_per_dim], seed=7))
  y, log_det = inner.forward(x), inner.forward_log_det_jacobian(x, 0)
  density = tf.exp(tfd.Normal(tf.zeros([], y.dtype), 1.0).log_prob(y) + log_det)
  total = np.sum(density, axis=0) * 0.05
  np.testing.assert_allclose(total, 1.0, atol=1e-4)


def test_scales_are_bounded_as_documented():
  fn = tff.MixtureCDF(2, outer_affine=False, log_scale_bound=3.0)
  p = tf.constant([[0.0, 0.0, 0.0, 0.0, 1e3, -1e3]], tf.float64)
  np.testing.assert_allclose(fn(p)._mixture.log_scales, [[[3.0, -3.0]]], rtol=1e-12)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(num_components=0), 'num_components'),
    (dict(log_scale_bound=0.0), 'log_scale_bound'),
    (dict(log_scale_bound=np.inf), 'log_scale_bound'),
  ],
)
def test_arguments_that_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    tff.MixtureCDF(**options)


def test_the_configuration_makes_the_same():
  fn = tff.MixtureCDF(3, outer_affine=False, log_scale_bound=2.0)
  copy = tff.MixtureCDF.from_config(fn.get_config())
  assert copy.get_config() == fn.get_config()
  p, x = params(fn), test_util.normal([3, 7])
  np.testing.assert_array_equal(fn(p).forward(x), copy(p).forward(x))
