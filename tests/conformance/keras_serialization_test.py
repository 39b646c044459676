"""Keras's configurations make the same layers again."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.specs import SPECS


def rebuilt(value):
  """By way of JSON, with the weights copied."""
  config = json.loads(json.dumps(keras.saving.serialize_keras_object(value)))
  copy = keras.saving.deserialize_keras_object(config)
  assert type(copy) is type(value)
  for v, own in zip(copy.variables, value.variables, strict=True):
    v.assign(tf.convert_to_tensor(own))
  return copy, config


@pytest.mark.parametrize('spec', SPECS, ids=lambda s: s.name)
def test_rebuilt_layer_is_the_same(spec):
  bijector = spec.shared()
  copy, config = rebuilt(bijector)
  x, kwargs, ndims = spec.data(), spec.condition(), len(spec.event_shape)
  expected = bijector.forward(x, **kwargs)
  np.testing.assert_array_equal(copy.forward(tf.identity(x), **kwargs), expected)
  np.testing.assert_array_equal(
    copy.forward_log_det_jacobian(tf.identity(x), ndims, **kwargs),
    bijector.forward_log_det_jacobian(x, ndims, **kwargs),
  )
  again = json.loads(json.dumps(keras.saving.serialize_keras_object(copy)))
  assert again == config
