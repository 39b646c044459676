"""Values without their log-dets, where these cost something."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util

tfb, tfd = tfp.bijectors, tfp.distributions


class CountingField:
  """A field that counts its evaluations, and those that are differentiated."""

  def __init__(self, size=2, condition_size=None):
    self.network = tff.FieldMLP(
      size, [8], condition_size=condition_size, seed=0, dtype='float64'
    )
    self.condition_size = condition_size
    self.plain = tf.Variable(0, trainable=False)
    self.differentiated = tf.Variable(0, trainable=False)

  def __call__(self, t, x, *condition):
    self.plain.assign_add(1)
    counted = self.differentiated

    @tf.custom_gradient
    def identity(x):
      def gradient(upstream):
        counted.assign_add(1)
        return upstream

      return tf.identity(x), gradient

    return identity(self.network(t, x, *condition))


def continuous(field=None, **options):
  layer = tff.FFJORD(
    field or tff.FieldMLP(2, [8], seed=0, dtype='float64'),
    [2],
    solver=tff.DormandPrince(1e-6, 1e-6),
    seed=0,
    dtype='float64',
    **options,
  )
  test_util.perturb(layer if field is None else _Shown(field.network), 0.4)
  return layer


class _Shown(tf.Module):
  def __init__(self, network):
    super().__init__()
    self.values = [v.value for v in network.trainable_variables]


def residual():
  branch = tff.LipschitzMLP([2], hidden=[8], lipschitz=0.7**2, seed=0)
  layer = tff.ResidualFlow(branch, [2], seed=0)
  test_util.perturb(layer, 0.3)
  tff.update_norms(layer)
  return layer


def base(dtype='float64'):
  zero, one = np.zeros([], dtype), np.ones([], dtype)
  return tfd.Sample(tfd.Normal(zero, one), [2])


COMPOSITIONS = {
  'layer': lambda layer: layer,
  'invert': lambda layer: tfb.Invert(tfb.Invert(layer)),
  'sequential': lambda layer: tff.Sequential(
    [tff.ActNorm([2], dtype='float64'), layer, tff.Sequential([layer])]
  ),
  'chain': lambda layer: tfb.Chain([layer, tfb.Scale(np.float64(2.0)), layer]),
  'multiscale': lambda layer: tff.Multiscale([layer, tfb.Shift(np.float64(1.0))], [2]),
}


@pytest.mark.parametrize('compose', COMPOSITIONS)
def test_samples_latents_and_back_find_no_trace(compose):
  field = CountingField()
  layer = continuous(field)
  flow = tff.Flow(base(), tfb.Invert(COMPOSITIONS[compose](layer)))
  z = base().sample(3, seed=[0, 1])
  x, _ = flow.experimental_sample_and_log_prob(3, seed=[0, 1])
  assert field.differentiated > 0
  field.differentiated.assign(0)
  density = flow.density  # That of a `FlowModel`, too.
  found = flow.sample(3, seed=[0, 1])
  np.testing.assert_allclose(found, x, rtol=0, atol=1e-4)
  assert np.abs(found - z).max() > 0.05
  np.testing.assert_allclose(density.forward(z), x, rtol=0, atol=1e-4)
  np.testing.assert_allclose(density.inverse(found), z, rtol=0, atol=1e-4)
  assert field.plain > 0
  assert field.differentiated == 0
  flow.log_prob(tf.identity(x))
  assert field.differentiated > 0


@pytest.mark.parametrize('traced', [False, True])
def test_sample_and_log_prob_solve_once(traced):
  field = CountingField()
  layer = continuous(field)
  for flow in (
    tff.Flow(base(), tfb.Invert(layer)),
    tfd.TransformedDistribution(base(), tfb.Invert(layer)),
  ):
    y = base().sample(3, seed=[0, 1])
    field.plain.assign(0)
    _, expected = layer.inverse_and_log_det(y)
    one = int(field.plain)
    field.plain.assign(0)
    run = lambda: flow.experimental_sample_and_log_prob(3, seed=[0, 1])  # noqa: B023, E731
    x, log_prob = (tf.function(run, autograph=False) if traced else run)()
    assert field.plain == one
    np.testing.assert_allclose(log_prob, base().log_prob(y) - expected, atol=1e-9)
    field.plain.assign(0)
    run = lambda: flow.log_prob(tf.identity(x))  # noqa: B023, E731
    (tf.function(run, autograph=False) if traced else run)()
    assert 0 < int(field.plain) < 1.5 * one


def test_gradients_of_values():
  layer = continuous()
  y = test_util.normal([3, 2])

  def gradients(run):
    with tf.GradientTape() as tape:
      tape.watch(y)
      total = tf.reduce_sum(tf.sin(run(y)))
    return tape.gradient(total, [y, *layer.trainable_variables])

  pairs = [
    (layer.inverse_value, lambda y: layer.inverse_and_log_det(y)[0]),
    (layer.forward_value, lambda y: layer.forward_and_log_det(y)[0]),
  ]
  for alone, both in pairs:
    for found, expected in zip(gradients(alone), gradients(both), strict=True):
      assert np.abs(expected).max() > 1e-3
      np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_a_condition_reaches_values():
  field = tff.FieldMLP(2, [8], condition_size=3, seed=0, dtype='float64')
  layer = tff.FFJORD(
    field, [2], solver=tff.DormandPrince(1e-6, 1e-6), seed=0, dtype='float64'
  )
  test_util.perturb(layer, 0.4)
  flow = tff.Flow(base(), tfb.Invert(tff.Sequential([layer])))
  condition = test_util.normal([4, 3])
  x, _ = flow.experimental_sample_and_log_prob(5, seed=[0, 1], condition=condition)
  found = flow.sample(5, seed=[0, 1], condition=condition)
  np.testing.assert_allclose(found, x, rtol=0, atol=1e-4)
  given = tff.given(flow, condition)
  np.testing.assert_allclose(given.sample(5, seed=[0, 1]), x, rtol=0, atol=1e-4)
  other = flow.sample(5, seed=[0, 1], condition=condition + 1.0)
  assert np.abs(other - found).min() > 1e-5
  with pytest.raises(ValueError, match=r'`condition` of shape \[..., 3\]'):
    layer.inverse_value(x)


def test_samples_of_residual_flows_estimate_nothing(monkeypatch):
  layer = residual()
  flow = tff.Flow(base('float32'), tfb.Invert(tff.Sequential([layer])))
  calls, estimate = [], layer._estimate
  monkeypatch.setattr(
    layer, '_estimate', lambda *args: calls.append(1) or estimate(*args)
  )
  x, _ = flow.experimental_sample_and_log_prob(3, seed=[0, 1])
  assert len(calls) == 1
  np.testing.assert_allclose(flow.sample(3, seed=[0, 1]), x, atol=1e-5)
  z = layer.forward_value(x)
  assert len(calls) == 1
  np.testing.assert_allclose(z, layer.forward(x), atol=1e-5)
  assert np.abs(z - x).max() > 0.05


def test_others_keep_what_tfp_caches():
  made = tff.MADE(2, 2, hidden=(4,), seed=0, dtype='float64')
  layer = tff.Autoregressive(made, tff.Affine(2, 'clamp', 'float64'), [2], 'float64')
  assert not layer.log_det_costs
  flow = tff.Flow(base(), tfb.Invert(layer))
  x = flow.sample(3, seed=[0, 1])
  calls, call = [], made.call
  made.call = lambda *args, **kwargs: calls.append(1) or call(*args, **kwargs)
  flow.log_prob(x)
  assert not calls


@pytest.mark.parametrize('inverted', [False, True])
def test_repeated_steps_find_no_trace(inverted, monkeypatch):
  layer = tff.Repeated([continuous(), continuous()])
  x = test_util.normal([5, 2])
  both = layer.inverse_and_log_det if inverted else layer.forward_and_log_det
  value = layer.inverse_value if inverted else layer.forward_value
  expected, log_det = both(tf.identity(x))
  assert np.abs(log_det).max() > 0.01

  def refuse(*args):
    raise AssertionError('a trace was asked for')

  monkeypatch.setattr(tff.FFJORD, '_rates_with_trace', refuse)
  np.testing.assert_allclose(value(tf.identity(x)), expected, atol=1e-4)
  with pytest.raises(AssertionError, match='trace'):
    both(tf.identity(x))
