"""Batch shapes of any rank; event shapes as announced."""

import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.specs import SPECS


@pytest.mark.parametrize('spec', SPECS, ids=lambda s: s.name)
def test_batch_shapes_of_any_rank(spec):
  bijector = spec.make()
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
  bijector = spec.make()
  x, condition = spec.data((2, 3)), spec.condition((3,))['condition']
  y = bijector.forward(x, condition=condition)
  full = tf.broadcast_to(condition, [2, *condition.shape])
  np.testing.assert_allclose(
    y, bijector.forward(tf.identity(x), condition=full), atol=1e-12
  )


@pytest.mark.parametrize('spec', SPECS, ids=lambda s: s.name)
def test_unknown_batch_size(spec):
  bijector = spec.make()
  x, kwargs = spec.data((4,)), spec.condition((4,))
  signature = [
    tf.TensorSpec([None, *v.shape[1:]], v.dtype) for v in (x, *kwargs.values())
  ]

  @tf.function(input_signature=signature)
  def forward(x, condition=None):
    given = {} if condition is None else {'condition': condition}
    return bijector.forward(x, **given)

  np.testing.assert_allclose(
    forward(x, *kwargs.values()), bijector.forward(x, **kwargs), atol=1e-12
  )
