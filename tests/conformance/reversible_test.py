"""Gradients from outputs alone are those of backpropagation."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tests.conformance.specs import SPECS
from tfp_flows.bijectors import reversible

RTOL = {'float64': 1e-9, 'float32': 1e-4}


def is_recomputable(spec):
  bijector = spec.build('float32')
  parts = (bijector, *bijector.submodules)
  return all(getattr(p, 'is_recomputable', True) for p in parts)


RECOMPUTABLE = [spec for spec in SPECS if is_recomputable(spec)]


def gradients(bijector, x, kwargs, direction, ndims):
  """Of a loss with a part of the value and one of each log-det."""
  sources = [x, *kwargs.values(), *bijector.trainable_variables]
  with tf.GradientTape() as tape:
    tape.watch([x, *kwargs.values()])
    y = getattr(bijector, direction)(x, **kwargs)
    log_det = getattr(bijector, f'{direction}_log_det_jacobian')(x, ndims, **kwargs)
    weights = tf.range(1.0, 1.0 + len(log_det))
    loss = tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(tf.cast(weights, x.dtype) * log_det)
  found = tape.gradient(loss, sources, unconnected_gradients='zero')
  return [tf.convert_to_tensor(g) for g in found]


def assert_close(found, expected, rtol):
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(1.0, np.abs(b).max()))


@pytest.mark.parametrize(
  ('direction', 'dtype'),
  [('forward', 'float64'), ('inverse', 'float64'), ('forward', 'float32')],
)
@pytest.mark.parametrize('spec', RECOMPUTABLE, ids=lambda s: s.name)
def test_gradients_are_those_of_backpropagation(spec, direction, dtype):
  bijector = spec.shared(dtype)
  x, kwargs = spec.data(dtype=dtype), spec.condition(dtype=dtype)
  ndims = len(spec.event_shape)
  if direction == 'inverse':
    x = tf.identity(bijector.forward(x, **kwargs))
    ndims = bijector.forward_event_ndims(ndims)
  expected = gradients(bijector, tf.identity(x), kwargs, direction, ndims)
  wrapped = tff.Sequential([bijector], memory='reversible')
  found = gradients(wrapped, tf.identity(x), kwargs, direction, ndims)
  assert_close(found, expected, RTOL[dtype])


def test_most_layers_are_recomputable():
  recomputable = {spec.name for spec in RECOMPUTABLE}
  others = [spec for spec in SPECS if spec.name not in recomputable]
  kinds = ('residual', 'ffjord', 'moving', 'autoregressive', 'maf', 'iaf')
  # A flow of its own that scales its condition stands in no other.
  scaled = ('sequential_standardized', 'glow', 'real_nvp', 'nice', 'planar')
  for spec in others:
    assert spec.name.startswith(kinds + scaled * spec.conditional), spec.name


def test_nothing_of_the_input_is_used():
  """The pull-back finds the input itself, also where TFP's cache would know it."""
  layer = tfp.bijectors.Scale(tf.constant([2.0, 3.0]))
  x = test_util.normal([3, 2], 'float32')
  y = layer.forward(x)
  assert layer.inverse(y) is x
  upstream = reversible.Upstream(tf.ones_like(y), tf.ones([3]))
  found = reversible.pull_back(layer, y, upstream, 1, None, [])
  assert found.x is not x
  np.testing.assert_allclose(found.x, x, rtol=1e-6)
  np.testing.assert_allclose(found.gradient, [[2.0, 3.0]] * 3)
