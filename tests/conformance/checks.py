"""The properties that every bijector must have, as functions that raise."""

import numpy as np
import tensorflow as tf

from tests import test_util


def check_log_det(spec, bijector):
  """Both log-dets equal those of the autodiff Jacobian, in float64."""
  x, kwargs = spec.data(), spec.condition()
  ndims = len(spec.event_shape)
  expected = test_util.autodiff_log_det(lambda x: bijector.forward(x, **kwargs), x)
  found = bijector.forward_log_det_jacobian(tf.identity(x), ndims, **kwargs)
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)

  y = tf.identity(bijector.forward(tf.identity(x), **kwargs))
  expected = test_util.autodiff_log_det(lambda y: bijector.inverse(y, **kwargs), y)
  inverse_ndims = bijector.forward_event_ndims(ndims)
  found = bijector.inverse_log_det_jacobian(tf.identity(y), inverse_ndims, **kwargs)
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def check_round_trip(spec, bijector, dtype='float64', atol=1e-9):
  """`inverse(forward(x)) = x`, `forward(inverse(y)) = y`, opposite log-dets; dtypes."""
  x, kwargs = spec.data(dtype=dtype), spec.condition(dtype=dtype)
  ndims = len(spec.event_shape)
  y = bijector.forward(x, **kwargs)
  fldj = bijector.forward_log_det_jacobian(x, ndims, **kwargs)
  # The identity is a fresh tensor: the cache would return `x` itself.
  y = tf.identity(y)
  back = bijector.inverse(y, **kwargs)
  ildj = bijector.inverse_log_det_jacobian(
    y, bijector.forward_event_ndims(ndims), **kwargs
  )
  assert y.dtype == back.dtype == fldj.dtype == ildj.dtype == dtype
  scale = 1.0 if spec.pixels is None else spec.pixels
  np.testing.assert_allclose(back, x, rtol=0, atol=atol * scale)
  np.testing.assert_allclose(ildj, -fldj, rtol=0, atol=10 * atol)
  forth = bijector.forward(tf.identity(back), **kwargs)
  np.testing.assert_allclose(forth, y, rtol=0, atol=10 * atol)
  if spec.has_weights:
    assert np.abs(tf.reshape(y, [-1]) - tf.reshape(x, [-1])).max() > 1e-3
