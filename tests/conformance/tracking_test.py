"""TensorFlow, Keras and checkpoints see the same variables."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests.conformance.specs import SPECS

tfd = tfp.distributions
TRAINED = [s for s in SPECS if s.has_weights]


def distribution_of(bijector, spec):
  event = bijector.forward_event_shape(spec.event_shape)
  zero, one = np.array([0, 1], bijector.dtype.as_numpy_dtype)
  return tfd.TransformedDistribution(
    tfd.Sample(tfd.Normal(zero, one), event), tfp.bijectors.Invert(bijector)
  )


@pytest.mark.parametrize('spec', TRAINED, ids=lambda s: s.name)
def test_keras_sees_what_tensorflow_sees(spec):
  distribution = distribution_of(spec.shared(), spec)
  model = tff.FlowModel(distribution)
  seen = {id(v) for v in distribution.trainable_variables}
  assert seen
  assert {id(v.value) for v in model.trainable_variables} == seen
  assert len(model.trainable_variables) == len(seen)
  assert {id(v) for v in distribution.variables} <= {
    id(v.value) for v in model.variables
  }


@pytest.mark.parametrize('spec', TRAINED, ids=lambda s: s.name)
@pytest.mark.parametrize('owner', ['distribution', 'model'])
def test_checkpoint_restores_every_variable(spec, owner, tmp_path):
  bijectors = spec.shared(), spec.build('float64')
  distributions = [distribution_of(b, spec) for b in bijectors]
  owners = distributions
  if owner == 'model':
    owners = [tff.FlowModel(d) for d in distributions]
  path = tf.train.Checkpoint(owner=owners[0]).save(str(tmp_path / 'checkpoint'))
  tf.train.Checkpoint(owner=owners[1]).restore(path).assert_existing_objects_matched()
  x, kwargs = spec.data(), spec.condition()
  np.testing.assert_array_equal(
    *(b.forward(tf.identity(x), **kwargs) for b in bijectors)
  )
