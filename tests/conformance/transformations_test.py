"""Layers under the transformations of TensorFlow: pfor, Jacobians, forward mode."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import test_util
from tests.conformance.specs import SPECS

# One of each kind: tracing takes long, and the others are made of the same parts.
VECTORIZED = (
  'act_norm_conditional',
  'moving_batch_norm_image',
  'conv_conditional',
  'affine_res_conditional',
  'spline_vector',
  'autoregressive_spline',
  'mixture_image',
  'planar',
  'squeeze_real_nvp',
  'additive_rev_net_image',
  'preprocess_logit',
)
JACOBIAN = ('affine_checkerboard', 'spline_vector', 'additive_rev_net_vector')
FORWARD = (
  'act_norm_image',
  'affine_tanh',
  'spline_vector',
  'autoregressive_affine',
  'mixture_image',
  'residual_vector',
  'ffjord_vector',
  'repeated_vector',
  'additive_rev_net_image',
  'planar',
  'sylvester_orthogonal',
)
# Solved backwards in time, or by iterations.
REFUSED = dict(forward=('ffjord',), inverse=('ffjord', 'residual'))


def named(names):
  return pytest.mark.parametrize(
    'spec', [s for s in SPECS if s.name in names], ids=lambda s: s.name
  )


def sides(spec, bijector):
  """Direction, input, its event rank and keyword arguments, for both."""
  x, kwargs, ndims = spec.data((2,)), spec.condition((2,)), len(spec.event_shape)
  y = tf.identity(bijector.forward(x, **kwargs))
  yield 'forward', tf.identity(x), ndims, kwargs
  yield 'inverse', y, bijector.forward_event_ndims(ndims), kwargs


def both(bijector, direction, ndims):
  """The function to value and log-det, with the condition as a second argument."""

  def call(x, kwargs):
    log_det = getattr(bijector, f'{direction}_log_det_jacobian')
    return getattr(bijector, direction)(x, **kwargs), log_det(x, ndims, **kwargs)

  return call


@named(VECTORIZED)
def test_vectorized_map_equals_the_batch(spec):
  bijector = spec.shared()

  def of_pair(direction, ndims, pair):
    return both(bijector, direction, ndims)(*pair)

  @tf.function
  def mapped(arguments):
    return [
      tf.vectorized_map(functools.partial(of_pair, d, n), pair)
      for (d, _, n, _), pair in zip(found, arguments)
    ]

  found = list(sides(spec, bijector))
  values = mapped([(x, kwargs) for _, x, _, kwargs in found])
  for (direction, x, ndims, kwargs), (value, log_det) in zip(found, values):
    expected, of_batch = both(bijector, direction, ndims)(x, kwargs)
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-9)
    # Of one example, a log-det that does not depend on it has no batch shape.
    np.testing.assert_allclose(log_det, of_batch, rtol=0, atol=1e-9)


@named(JACOBIAN)
def test_log_det_is_that_of_the_vectorized_jacobian(spec):
  bijector = spec.shared()
  size = int(np.prod(spec.event_shape))

  @tf.function
  def log_det(x, kwargs):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = tf.reshape(bijector.forward(x, **kwargs), [2, size])
    jacobian = tape.batch_jacobian(y, x)
    return tf.linalg.slogdet(tf.reshape(jacobian, [2, size, size]))[1]

  _, x, ndims, kwargs = next(sides(spec, bijector))
  expected = bijector.forward_log_det_jacobian(x, ndims, **kwargs)
  np.testing.assert_allclose(log_det(x, kwargs), expected, rtol=0, atol=1e-9)


@named(FORWARD)
def test_forward_mode_is_reverse_mode_or_refused(spec):
  bijector = spec.shared()
  for direction, x, ndims, kwargs in sides(spec, bijector):
    call = both(bijector, direction, ndims)
    tangent = test_util.normal(x.shape, seed=3)
    if spec.name.startswith(REFUSED[direction]):
      with pytest.raises(LookupError, match='ForwardAccumulator'):
        with tf.autodiff.ForwardAccumulator(x, tangent):
          call(x, kwargs)
      continue
    with tf.autodiff.ForwardAccumulator(x, tangent) as accumulator:
      outputs = call(x, kwargs)
    x = tf.identity(x)
    with tf.GradientTape() as tape:
      tape.watch(x)
      total = [tf.reduce_sum(tf.sin(v)) for v in call(x, kwargs)]
      total = tf.add_n(total)
    forward = 0.0
    for v in outputs:
      product = accumulator.jvp(v, unconnected_gradients='zero')
      forward += tf.reduce_sum(product * tf.cos(v))
    reverse = tf.reduce_sum(tape.gradient(total, x) * tangent)
    np.testing.assert_allclose(forward, reverse, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('name', ['autoregressive_affine'])
def test_forward_mode_inside_of_a_graph_knows_loops(name):
  (spec,) = (s for s in SPECS if s.name == name)
  bijector = spec.shared()
  for direction, x, _, kwargs in sides(spec, bijector):
    call, tangent = getattr(bijector, direction), test_util.normal(x.shape, seed=3)

    def product(x, call=call, tangent=tangent, kwargs=kwargs):
      with tf.autodiff.ForwardAccumulator(x, tangent) as accumulator:
        y = call(x, **kwargs)
      return accumulator.jvp(y)

    np.testing.assert_allclose(tf.function(product)(x), product(x), rtol=0, atol=1e-12)
