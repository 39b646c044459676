"""`maf` and `iaf`, and the options that they share."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util

tfd = tfp.distributions


def built(builder, size=4, **options):
  options = dict(num_layers=2, hidden=[8], activation='tanh') | options
  flow = builder([size], seed=0, dtype='float64', **options)
  test_util.perturb(flow, 0.2)
  return flow


@pytest.mark.parametrize('transformer', ['affine', 'spline', 'mixture'])
def test_an_iaf_is_a_maf_the_other_way_round(transformer):
  options = dict(num_layers=1, act_norm=False, transformer=transformer)
  forward, backward = (built(b, **options).bijector for b in (tff.iaf, tff.maf))
  z = test_util.normal([5, 4], seed=1)
  np.testing.assert_allclose(forward.forward(z), backward.inverse(tf.identity(z)))
  np.testing.assert_allclose(
    forward.forward_log_det_jacobian(tf.identity(z), 1),
    backward.inverse_log_det_jacobian(tf.identity(z), 1),
  )


@pytest.mark.parametrize('transformer', ['affine', 'mixture'])
def test_samples_of_an_iaf_come_with_their_densities(transformer):
  flow = built(tff.iaf, transformer=transformer, linear='lu', condition_size=2)
  given = tff.given(flow, test_util.normal([3, 2], seed=2))
  x, log_prob = given.experimental_sample_and_log_prob(10, seed=1)
  assert x.shape == [10, 3, 4]
  # A tensor that no cache knows is inverted number by number.
  np.testing.assert_allclose(log_prob, given.log_prob(x.numpy()), rtol=1e-9)


def test_a_sample_of_an_iaf_takes_no_loop_and_its_density_does():
  flow = built(tff.iaf, loop=False)

  def operations(fn, *args):
    graph = tf.function(fn, autograph=False).get_concrete_function(*args).graph
    return {op.type for op in graph.get_operations()}

  loops = {'While', 'StatelessWhile'}
  draw = operations(lambda: flow.experimental_sample_and_log_prob(5, seed=(0, 1)))
  assert not draw & loops
  assert operations(flow.log_prob, test_util.normal([5, 4])) & loops


@pytest.mark.parametrize('builder', [tff.maf, tff.iaf])
def test_orders_of_layers_alternate(builder):
  flow = built(builder)
  layers = [p for p in test_util.layers(flow) if isinstance(p, tff.Autoregressive)]
  found = [layer._conditioner.order for layer in layers]
  assert sorted(found) == [[0, 1, 2, 3], [3, 2, 1, 0]]


def test_linear_layers_stand_before_the_autoregressive_ones():
  flow = built(tff.maf, num_layers=3, linear='lu')
  plain = built(tff.maf, num_layers=3)

  def kinds(flow):
    parts = test_util.layers(flow)
    return [sum(isinstance(p, k) for p in parts) for k in LAYERS]

  assert kinds(flow) == [3, 3, 3]
  assert kinds(plain) == [3, 0, 3]
  x = test_util.normal([2, 4], seed=3)
  np.testing.assert_allclose(
    flow.bijector.inverse_log_det_jacobian(x, 1),
    test_util.autodiff_log_det(flow.bijector.inverse, x),
    atol=1e-10,
  )


LAYERS = (tff.ActNorm, tff.Invertible1x1ConvLU, tff.Autoregressive)


@pytest.mark.parametrize('builder', [tff.maf, tff.iaf])
@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(transformer='cubic'), "'affine', 'spline' or 'mixture'; received 'cubic'"),
    (dict(linear='qr'), "linear to be None or 'lu'; received 'qr'"),
    (dict(order='none'), "'alternating' or 'random'"),
    (dict(event_shape=[4, 4, 1]), r'expects an event shape \[D\]'),
  ],
)
def test_options_that_are_refused(builder, options, message):
  with pytest.raises(ValueError, match=message):
    builder(**(dict(event_shape=[2]) | options))


def test_a_linear_iaf_fits_any_normal_distribution():
  """By reverse KL to precision `P`, where independent normals leave a known gap."""
  root = np.random.default_rng(0).normal(size=[4, 4])
  precision = root @ root.T + 0.5 * np.eye(4)
  log_det = np.linalg.slogdet(precision)[1]
  gap = 0.5 * (np.sum(np.log(np.diag(precision))) - log_det)
  target = tfd.MultivariateNormalTriL(
    scale_tril=np.linalg.cholesky(np.linalg.inv(precision)).astype('f4')
  )
  flow = tff.iaf([4], num_layers=1, hidden=[], seed=0)
  optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.03, 1500))
  optimizer.build(flow.trainable_variables)
  losses = tfp.vi.fit_surrogate_posterior(
    target.log_prob,
    flow,
    optimizer,
    1500,
    sample_size=64,
    jit_compile=True,
    seed=(0, 0),
  )
  assert gap > 0.3
  np.testing.assert_allclose(np.mean(losses[-50:]), 0.0, atol=0.01)
