"""Batch shapes of any rank; event shapes as announced."""

import numpy as np
import pytest
import tensorflow as tf

from tests import test_util
from tests.conformance.specs import SPECS


@pytest.mark.parametrize('spec', SPECS, ids=lambda s: s.name)
def test_batch_shapes_of_any_rank(spec):
  bijector = spec.shared()
  ndims = len(spec.event_shape)
  x, kwargs = spec.data((2, 3)), spec.condition((2, 3))
  y = bijector.forward(x, **kwargs)
  log_det = bijector.forward_log_det_jacobian(x, ndims, **kwargs)
  event = bijector.forward_event_shape(spec.event_shape)
  assert y.shape == (2, 3, *event)
  assert bijector.inverse_event_shape(event) == spec.event_shape
  assert tuple(bijector.forward_event_shape_tensor(spec.event_shape)) == tuple(event)
  assert tuple(bijector.inverse_event_shape_tensor(event)) == spec.event_shape
  assert log_det.shape == (2, 3)

  one = {k: v[1, 2] for k, v in kwargs.items()}
  np.testing.assert_allclose(bijector.forward(x[1, 2], **one), y[1, 2], atol=1e-12)
  np.testing.assert_allclose(
    bijector.forward_log_det_jacobian(x[1, 2], ndims, **one), log_det[1, 2], atol=1e-11
  )
  back = bijector.inverse(tf.identity(y), **kwargs)
  assert back.shape == x.shape


@pytest.mark.parametrize(
  'spec', [s for s in SPECS if s.conditional], ids=lambda s: s.name
)
def test_condition_broadcasts(spec):
  bijector = spec.shared()
  x, condition = spec.data((2, 3)), spec.condition((3,))['condition']
  y = bijector.forward(x, condition=condition)
  full = tf.broadcast_to(condition, [2, *condition.shape])
  np.testing.assert_allclose(
    y, bijector.forward(tf.identity(x), condition=full), atol=1e-12
  )
  # More conditions than examples, and one example under many.
  many = spec.condition((2, 3))['condition']
  for few in (x[0], x[0, 0]):
    y, log_det = bijector.forward_and_log_det(few, condition=many)
    given = tf.broadcast_to(few, x.shape)
    expected = bijector.forward_and_log_det(given, condition=many)
    np.testing.assert_allclose(y, expected[0], atol=1e-12)
    np.testing.assert_allclose(log_det, expected[1], atol=1e-11)


@pytest.mark.parametrize(
  'spec', [s for s in SPECS if s.has_weights], ids=lambda s: s.name
)
def test_another_event_shape_is_refused(spec):
  bijector = spec.shared()
  wrong = (*(2 * n for n in spec.event_shape[:-1]), spec.event_shape[-1])
  if len(wrong) == 1:
    wrong = (spec.event_shape[0] + 1,)
  x = test_util.normal((3, *wrong))
  with pytest.raises(ValueError, match='expects|multiples|does not match'):
    bijector.forward(x, **spec.condition())
