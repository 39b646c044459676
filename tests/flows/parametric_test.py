"""Builders of planar, radial and Sylvester flows."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util

tfd = tfp.distributions
BUILDERS = dict(planar=tff.planar, radial=tff.radial, sylvester=tff.sylvester)


def small(name, **options):
  flow = BUILDERS[name]([3], num_layers=2, seed=0, dtype='float64', **options)
  test_util.perturb(flow, 0.3)
  return flow


@pytest.mark.parametrize('name', BUILDERS)
def test_directions_are_inverses(name):
  """The same layers, whose formula is that of densities, or that of samples."""
  one, other = (
    small(name, direction=d, act_norm=False, loop=False)
    for d in ('density', 'sampling')
  )
  layers = [tuple(f.bijector.bijector.bijectors[0].separate()) for f in (one, other)]
  kinds = [{type(layer).__name__.strip('_') for layer in part} for part in layers]
  assert kinds == [{name.capitalize()}, {'Invert'}]
  x = test_util.normal([4, 3])
  y = x
  for layer in layers[0]:
    y = layer.forward(y)
  np.testing.assert_allclose(one.bijector.inverse(tf.identity(x)), y, atol=1e-14)
  y = x
  for layer in layers[0]:
    y = layer.inverse(y)
  np.testing.assert_allclose(other.bijector.inverse(tf.identity(x)), y, atol=1e-12)


@pytest.mark.parametrize('name', BUILDERS)
def test_an_amortized_posterior(name):
  flow = small(name, direction='sampling', condition_size=2, hidden=[4])
  condition = test_util.normal([5, 2])
  given = tff.given(flow, condition)
  z, log_q = given.experimental_sample_and_log_prob(7, seed=1)
  assert z.shape == (7, 5, 3)
  found = flow.log_prob(tf.identity(z), condition=condition)
  np.testing.assert_allclose(found, log_q, atol=1e-9)
  other = flow.log_prob(tf.identity(z), condition=condition + 1.0)
  assert np.abs(other - log_q).min() > 1e-6
  # The base, too, has scale and shift from the condition.
  last = flow.bijector.bijector.bijectors[-1]
  assert isinstance(last, tff.ActNorm) and last.takes_condition
  flow.bijector.bijector.adapt(test_util.normal([50, 3]), 3 + test_util.normal([50, 2]))
  (_, scale) = flow.bijector.bijector.condition_variables
  assert np.abs(scale - 1).max() > 1e-3


def test_layers():
  flow = tff.sylvester([4], num_layers=5, basis='triangular')
  layers = test_util.layers(flow)
  found = [p.parameters['flip'] for p in layers if isinstance(p, tff.Sylvester)]
  assert found == [False, True, False, True, False]
  assert sum(isinstance(p, tff.ActNorm) for p in layers) == 5
  flow = tff.sylvester([40], num_layers=1)
  (layer,) = [p for p in test_util.layers(flow) if isinstance(p, tff.Sylvester)]
  assert layer.b.shape == (32,)
  flow = tff.planar([4], num_layers=3, act_norm=False, activation='leaky_relu')
  kinds = {type(p) for p in test_util.layers(flow)}
  assert tff.Planar in kinds and tff.ActNorm not in kinds


def test_pixels_and_a_logistic_base():
  flow = small('planar', num_bins=16, base='logistic')
  x = 16 * tf.sigmoid(test_util.normal([4, 3]))
  bijector = flow.bijector.bijector
  assert isinstance(bijector.bijectors[0], tff.Preprocess)
  y, log_det = bijector.forward_and_log_det(x)
  expected = tf.reduce_sum(tfd.Logistic(np.float64(0), 1.0).log_prob(y), -1) + log_det
  np.testing.assert_allclose(flow.log_prob(tf.identity(x)), expected)


@pytest.mark.parametrize(
  ('build', 'message'),
  [
    (lambda: tff.planar([4, 4, 1]), r'planar expects .*\[D\]; received \[4, 4, 1\]'),
    (lambda: tff.radial([3], direction='both'), "'sampling'; received 'both'"),
    (lambda: tff.sylvester([3], rank=4), 'rank >= 1 and <= 3; received 4'),
    (lambda: tff.sylvester([3], basis='qr'), "received 'qr'"),
    (lambda: tff.planar([3], num_layers=0), 'num_layers >= 1; received 0'),
    (lambda: tff.planar([3], base='cauchy'), "received 'cauchy'"),
    (lambda: tff.radial([3], dtype='float16'), 'float32 or float64'),
  ],
)
def test_bad_options(build, message):
  with pytest.raises(ValueError, match=message):
    build()
