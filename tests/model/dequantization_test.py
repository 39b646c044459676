import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff

tfd = tfp.distributions


def test_noise_fills_the_cell_uniformly():
  noise = tff.UniformDequantization(256)
  x = np.repeat(np.arange(256, dtype='uint8'), 400)
  v = noise.dequantize(x, seed=0).numpy()
  assert (np.floor(v) == x).all()
  u = v - x
  # Mean and variance within five standard errors.
  assert abs(u.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / len(u))
  assert abs(u.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / len(u))
  np.testing.assert_array_equal(noise.quantize(v), x)


def test_last_cell_is_never_left():
  # The largest uniform float added to 2^24 - 1 would round to the next integer.
  noise = tff.UniformDequantization(2**24)
  x = np.full(1000, 2**24 - 1)
  v = noise.dequantize(x, seed=0)
  np.testing.assert_array_equal(np.floor(v), x)


def test_seeds():
  noise = tff.UniformDequantization(4)
  x = tf.zeros([50], tf.uint8)
  first = noise.dequantize(x, seed=1)
  np.testing.assert_array_equal(first, noise.dequantize(x, seed=1))
  np.testing.assert_array_equal(first, noise.dequantize(x, seed=[0, 1]))
  assert (first.numpy() != noise.dequantize(x, seed=2).numpy()).all()
  with pytest.raises(ValueError, match='int or a stateless seed'):
    noise.dequantize(x, seed=[1, 2, 3])


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_noise_is_the_same_under_xla(dtype):
  noise = tff.UniformDequantization(4)
  draw = lambda: noise.dequantize(tf.zeros([99], tf.uint8), 3, dtype)  # noqa: E731
  np.testing.assert_array_equal(draw(), tf.function(draw, jit_compile=True)())


@pytest.mark.parametrize(
  ('num_bins', 'dtype'),
  [(2, 'uint8'), (256, 'uint8'), (257, 'uint16'), (2**17, 'int32')],
)
def test_dtype_of_integers(num_bins, dtype):
  noise = tff.UniformDequantization(num_bins)
  values = noise.quantize(tf.constant([-3.0, 1.5, 1e9]))
  assert values.dtype == dtype
  np.testing.assert_array_equal(values, [0, 1, num_bins - 1])


def test_bound_is_exact_for_a_histogram_and_below_for_others():
  # A density that is constant on each cell: no bound is lost.
  probs = np.array([0.1, 0.2, 0.3, 0.4], 'f4')
  cells = tfd.MixtureSameFamily(
    tfd.Categorical(probs=probs),
    tfd.Uniform(np.arange(4, dtype='f4'), np.arange(1, 5, dtype='f4')),
  )
  noise = tff.UniformDequantization(4)
  x = np.arange(4)
  np.testing.assert_allclose(noise.log_prob(cells, x, seed=0), np.log(probs), rtol=1e-5)

  normal = tfd.Normal(1.7, 0.6)
  exact = np.log(normal.cdf(x + 1.0) - normal.cdf(x * 1.0))
  many = np.broadcast_to(x[:, np.newaxis], [4, 20_000])
  one = np.mean(noise.log_prob(normal, many, seed=0), axis=1)
  ten = np.mean(noise.log_prob(normal, many, seed=0, num_samples=10), axis=1)
  assert (one < ten).all()
  assert (ten < exact + 0.01).all()
  np.testing.assert_allclose(ten, exact, atol=0.1)


def test_bits_per_dim_of_uniform_pixels_is_eight():
  # All values equally likely: log2(256) bits, whatever the preprocessing.
  uniform = tfd.Sample(tfd.Uniform(0.0, 256.0), [4, 4, 1])
  x = np.random.default_rng(0).integers(0, 256, [5, 4, 4, 1])
  log_prob = tff.UniformDequantization(256).log_prob(uniform, x, seed=0)
  np.testing.assert_allclose(tff.bits_per_dim(log_prob, 16), 8.0, rtol=1e-6)
  with pytest.raises(ValueError, match='num_dims >= 1'):
    tff.bits_per_dim(log_prob, 0)


def test_bad_options():
  with pytest.raises(ValueError, match='num_bins >= 2; received 1'):
    tff.UniformDequantization(1)
  with pytest.raises(ValueError, match='num_samples >= 1; received 0'):
    tff.UniformDequantization(4).log_prob(tfd.Normal(0.0, 1.0), [1], 0, num_samples=0)


def test_no_bound_from_estimates():
  """With noise `e` in the logarithms the mean of the exponentials has E[exp(e)] > 1."""
  network = tff.LipschitzMLP([2], hidden=[4], lipschitz=0.25)
  block = tff.ResidualFlow(
    network, [2], tff.LogDet(evaluation_estimator=tff.RouletteLogDet())
  )
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [2])
  flow = tfd.TransformedDistribution(base, tfp.bijectors.Invert(block))
  noise, x = tff.UniformDequantization(2), tf.zeros([3, 2], tf.uint8)
  with pytest.raises(ValueError, match='no lower bound; received 4. Use exact ones'):
    noise.log_prob(flow, x, 0, num_samples=4)
  model = tff.FlowModel(flow, dequantization=noise)
  with pytest.raises(ValueError, match='no lower bound'):
    model.log_prob(x, num_samples=4)
  exact = model.log_prob(x, num_samples=4, estimator=tff.ExactLogDet(), seed=0)
  assert np.isfinite(exact).all()
  assert np.isfinite(noise.log_prob(flow, x, 0)).all()
