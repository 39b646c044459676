import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff


@pytest.mark.parametrize('alpha', [1e-6, 0.05])
def test_logit_and_its_log_det(alpha):
  layer = tff.Preprocess(256, alpha, dtype='float64')
  x = tf.constant([[0.25, 100.5, 255.75]], tf.float64)
  s = alpha + (1 - 2 * alpha) * x / 256
  np.testing.assert_allclose(layer.forward(x), np.log(s / (1 - s)))
  expected = np.log(1 - 2 * alpha) - np.log(256) - np.log(s * (1 - s))
  np.testing.assert_allclose(layer.forward_log_det_jacobian(x, 1), expected.sum(1))


def test_centre():
  layer = tff.Preprocess(32)
  np.testing.assert_array_equal(layer.forward([0.0, 16.0, 32.0]), [-0.5, 0.0, 0.5])
  np.testing.assert_allclose(
    layer.forward_log_det_jacobian([1.0, 2.0], 1), -2 * np.log(32), rtol=1e-6
  )


def test_float32_is_exact_at_the_white_end():
  # Where 1 - s is taken from s, the float32 error here is several per cent.
  x = np.float32(255.9)
  exact = tff.Preprocess(256, 1e-6, dtype='float64').forward(np.float64(x))
  np.testing.assert_allclose(tff.Preprocess(256, 1e-6).forward(x), exact, rtol=1e-5)


def test_bad_options():
  with pytest.raises(ValueError, match='num_bins >= 2; received 1'):
    tff.Preprocess(1)
  with pytest.raises(ValueError, match='0 < alpha < 0.5; received 0.5'):
    tff.Preprocess(256, 0.5)


def test_saturated_samples_have_a_density():
  layer = tff.Preprocess(256, 1e-6)
  for y in (-200.0, -20.0, 20.0, 200.0):
    x = layer.inverse(tf.constant([y]))
    assert np.isfinite(layer.forward(tf.identity(x))).all()
    assert np.isfinite(layer.forward_log_det_jacobian(tf.identity(x), 1)).all()
