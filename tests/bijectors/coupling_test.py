import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util

tfb = tfp.bijectors


@pytest.mark.parametrize('invert', [False, True])
def test_keeps_what_the_mask_keeps(invert):
  mask = tff.ChannelMask([4], invert)
  layer = tff.AffineCoupling(
    mask, tff.MLP([2], 4, seed=0, dtype='float64'), dtype='float64'
  )
  test_util.perturb(layer)
  x = test_util.normal([3, 4])
  y = layer.forward(x)
  (kept, changed), (x_kept, x_changed) = mask.split(y), mask.split(x)
  np.testing.assert_array_equal(kept, x_kept)
  assert np.abs(changed - x_changed).min() > 1e-4


@pytest.mark.parametrize('scale', ['tanh', 'clamp'])
def test_starts_as_the_identity(scale):
  mask = tff.CheckerboardMask([4, 4, 1])
  network = tff.ConvNet(mask.kept_shape, 2 * mask.changed_shape[-1], seed=0)
  layer = tff.AffineCoupling(mask, network, scale=scale)
  x = test_util.normal([2, 4, 4, 1], 'float32')
  np.testing.assert_array_equal(layer.forward(x), x)


@pytest.mark.parametrize(
  ('scale', 'low', 'high'),
  [
    ('sigmoid', 0.0, 1.0),
    ('tanh', np.exp(-1), np.exp(1)),
    ('clamp', np.exp(-2), np.exp(2)),
  ],
)
def test_scales_are_bounded(scale, low, high):
  affine = tff.Affine(1, scale, 'float64')
  raw = np.linspace(-50.0, 50.0, 101)[:, np.newaxis]
  params = tf.concat([tf.zeros_like(raw), raw], axis=-1)
  values = np.exp(affine(params).forward_log_det_jacobian(tf.ones_like(raw), 1))
  assert low - 1e-12 <= values.min() < values.max() <= high + 1e-12
  assert (np.diff(values) >= 0).all()


def test_spline_starts_as_the_identity_and_has_tails():
  spline = tff.RationalQuadratic(num_bins=5, bound=2.0)
  x = tf.constant([[-7.0, -1.9, 0.3, 1.2, 9.0]], tf.float64)
  zeros = tf.zeros([1, 5 * spline.params_per_dim], tf.float64)
  np.testing.assert_allclose(spline(zeros).forward(x), x, atol=1e-7)
  params = test_util.normal([1, 5 * spline.params_per_dim])
  y = spline(params).forward(x).numpy()
  np.testing.assert_array_equal(y[0, [0, -1]], [-7.0, 9.0])
  assert np.abs(y - x).max() > 0.1


@pytest.mark.parametrize('jit_compile', [False, True])
def test_spline_gradients_are_finite_far_out(jit_compile):
  spline = tff.RationalQuadratic(num_bins=4)

  @tf.function(jit_compile=jit_compile)
  def gradients(x, params):
    with tf.GradientTape() as tape:
      tape.watch([x, params])
      bijector = spline(params)
      loss = bijector.forward(x) + bijector.forward_log_det_jacobian(x, 0)
    return tape.gradient(loss, [x, params])

  x = tf.constant([[-1e4], [-5.0], [5.0], [1e4]])
  for gradient in gradients(x, 20 * test_util.normal([4, 11], 'float32')):
    assert np.isfinite(gradient).all()


def test_any_tfb_bijector_is_a_transformer():
  mask = tff.ChannelMask([4])
  network = tff.MLP([2], 4, hidden=(4,), seed=0, dtype='float64')

  def sinh_arcsinh(params):
    skewness, tailweight = tf.split(params, 2, axis=-1)
    return tfb.SinhArcsinh(skewness, tf.exp(tailweight))

  layer = tff.Coupling(mask, network, sinh_arcsinh, dtype='float64')
  test_util.perturb(layer)
  x = test_util.normal([3, 4])
  expected = test_util.autodiff_log_det(layer.forward, x)
  found = layer.forward_log_det_jacobian(tf.identity(x), 1)
  np.testing.assert_allclose(found, expected, atol=1e-10)
  back = layer.inverse(tf.identity(layer.forward(x)))
  np.testing.assert_allclose(back, x, atol=1e-10)


def test_conditioner_of_another_size():
  layer = tff.AffineCoupling(tff.ChannelMask([6]), tff.MLP([3], 5))
  with pytest.raises(ValueError, match=r'\[..., 6\]: 2 numbers.*received \(1, 5\)'):
    layer.forward(tf.zeros([1, 6]))


def test_event_of_another_shape():
  layer = tff.AffineCoupling(tff.ChannelMask([6]), tff.MLP([3], 6))
  with pytest.raises(ValueError, match=r'events of shape \[6\]; received \(5,\)'):
    layer.forward(tf.zeros([1, 5]))


def test_bad_options():
  with pytest.raises(ValueError, match="one of .*received 'exp'"):
    tff.AffineCoupling(tff.ChannelMask([6]), tff.MLP([3], 6), scale='exp')
  with pytest.raises(ValueError, match='num_bins >= 2'):
    tff.RationalQuadratic(num_bins=1)
