"""Every weight is trained, and nothing else."""

import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.specs import SPECS


@pytest.mark.parametrize(
  'spec', [s for s in SPECS if s.has_weights], ids=lambda s: s.name
)
@pytest.mark.parametrize('direction', ['forward', 'inverse'])
def test_every_variable_has_a_gradient(spec, direction):
  bijector = spec.shared()
  x, kwargs = spec.data((8,)), spec.condition((8,))
  ndims = len(spec.event_shape)
  if direction == 'inverse':
    x = tf.identity(bijector.forward(x, **kwargs))
    ndims = bijector.forward_event_ndims(ndims)
  with tf.GradientTape() as tape:
    y = getattr(bijector, direction)(x, **kwargs)
    log_det = getattr(bijector, f'{direction}_log_det_jacobian')(x, ndims, **kwargs)
    loss = tf.reduce_sum(y**2) / 2 - tf.reduce_sum(log_det)
  variables = bijector.trainable_variables
  assert variables
  assert {id(v) for v in tape.watched_variables()} == {id(v) for v in variables}
  for variable, gradient in zip(variables, tape.gradient(loss, variables)):
    assert gradient is not None, variable.name
    assert np.abs(tf.convert_to_tensor(gradient)).max() > 1e-8, variable.name
