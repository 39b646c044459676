"""Flows given a condition, nested flows, and bijectors of TFP around layers."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util

tfb, tfd = tfp.bijectors, tfp.distributions
F64 = 'float64'


def real_nvp(size=2, **options):
  options = dict(num_steps=1, width=4, condition_size=3, seed=0, dtype=F64) | options
  flow = tff.real_nvp([size], **options)
  test_util.perturb(flow, 0.2)
  return flow


@pytest.fixture(scope='module')
def flow():
  return real_nvp()


@pytest.fixture(scope='module')
def condition():
  return test_util.normal([4, 3])


def test_latents_of_the_rows_of_a_condition_are_independent(flow, condition):
  x = flow.sample(4000, condition=condition, seed=[0, 1])
  assert x.shape == (4000, 4, 2)
  z = flow.bijector.inverse(x, condition=condition)
  correlation = np.corrcoef(tf.reshape(z, [4000, 8]), rowvar=False)
  np.testing.assert_allclose(correlation, np.eye(8), atol=5 / np.sqrt(4000))
  x, log_prob = flow.experimental_sample_and_log_prob(condition=condition, seed=[0, 1])
  assert len(np.unique(x, axis=0)) == 4
  found = flow.log_prob(tf.identity(x), condition=condition)
  np.testing.assert_allclose(found, log_prob)
  assert flow.sample(5, condition=condition[0], seed=[0, 1]).shape == (5, 2)


def sigmoid_log_det(x):
  return -tf.reduce_sum(tf.math.log(x) + tf.math.log1p(-x), axis=-1)


def nested(flow):
  inner = tfd.TransformedDistribution(flow, tfb.Sigmoid())
  return tfd.TransformedDistribution(inner, tfb.Reshape([1, 2]))


COMPOSITIONS = {
  'nested': nested,
  'chain': lambda flow: tff.Flow(
    flow.distribution, tfb.Chain([tfb.Reshape([1, 2]), tfb.Sigmoid(), flow.bijector])
  ),
  'invert': lambda flow: tff.Flow(
    flow.distribution,
    tfb.Invert(
      tfb.Chain(
        [flow.bijector.bijector, tfb.Invert(tfb.Sigmoid()), tfb.Reshape([2], [1, 2])]
      )
    ),
  ),
  'sequential': lambda flow: tff.Flow(
    flow.distribution,
    tfb.Chain(
      [
        tfb.Reshape([1, 2]),
        tfb.Invert(
          tff.Sequential(
            [tfb.Chain([flow.bijector.bijector, tfb.Invert(tfb.Sigmoid())])]
          )
        ),
      ]
    ),
  ),
}


@pytest.mark.parametrize('name', COMPOSITIONS)
def test_conditions_and_latents_go_through_compositions(name, flow, condition):
  outer = COMPOSITIONS[name](flow)
  model = tff.FlowModel(outer, seed=0)
  model.compile(jit_compile=False)
  y = test_util.normal([4, 2])
  x = tf.reshape(tf.sigmoid(y), [4, 1, 2])
  z = flow.bijector.inverse(y, condition=condition)
  expected = flow.log_prob(y, condition=condition) + sigmoid_log_det(x[:, 0])
  np.testing.assert_allclose(model.log_prob(x, condition), expected)
  np.testing.assert_allclose(model.encode(x, condition), z)
  np.testing.assert_allclose(model.decode(z, condition), x)
  given = tff.given(outer, condition)
  np.testing.assert_allclose(given.log_prob(x), expected)
  cold = model.sample(condition=condition, temperature=0.5, seed=[0, 1])
  latents = flow.distribution.sample(4, seed=[0, 1])
  np.testing.assert_allclose(model.encode(cold, condition), 0.5 * latents)


def test_blockwise_and_joint_map_pass_the_condition(condition):
  parts = [real_nvp(seed=seed) for seed in range(2)]
  base = tfd.Sample(tfd.Normal(np.float64(0), 1.0), [4])
  split = tfb.Blockwise([p.bijector for p in parts], [2, 2])
  joint = tfb.Chain(
    [
      tfb.Invert(tfb.Split(2)),
      tfb.JointMap([p.bijector for p in parts]),
      tfb.Split(2),
    ]
  )
  x = test_util.normal([4, 4])
  expected = sum(
    p.log_prob(x, condition=condition)
    for p, x in zip(parts, tf.split(x, 2, axis=-1), strict=True)
  )
  for bijector in (split, joint):
    found = tff.Flow(base, bijector).log_prob(x, condition=condition)
    np.testing.assert_allclose(found, expected)


def test_functions_of_tfp_take_the_condition(flow, condition):
  shifted = tfb.Inline(
    forward_fn=lambda x, condition: x + condition[..., :2],
    inverse_fn=lambda y, condition: y - condition[..., :2],
    forward_log_det_jacobian_fn=lambda x, condition: tf.zeros([], x.dtype),
    inverse_log_det_jacobian_fn=lambda y, condition: tf.zeros([], y.dtype),
    forward_min_event_ndims=1,
  )
  outer = tfd.TransformedDistribution(flow, shifted)
  x = test_util.normal([4, 2])
  expected = flow.log_prob(x - condition[:, :2], condition=condition)
  np.testing.assert_allclose(tff.given(outer, condition).log_prob(x), expected)


def test_bases_of_nested_flows():
  mixture = tfd.MixtureSameFamily(
    tfd.Categorical(logits=[0.0, 1.0]),
    tfd.MultivariateNormalDiag([[-2.0, 0.0], [2.0, 0.0]], [[1.0, 1.0], [1.0, 2.0]]),
  )
  bases = [
    mixture,
    tfd.Independent(tfd.Normal([1.0, 2.0], 3.0), 1),
    tfd.MultivariateNormalTriL([1.0, 2.0], [[1.0, 0.0], [0.5, 2.0]]),
  ]
  for base in bases:
    inner = tff.Flow(base, tfb.Invert(tff.ActNorm([2])))
    model = tff.FlowModel(tfd.TransformedDistribution(inner, tfb.Exp()), seed=0)
    model.compile(jit_compile=False)
    x = model.sample(5, temperature=0.5, seed=[0, 1])
    mean = base.mean()
    expected = tf.exp(mean + 0.5 * (base.sample(5, seed=[0, 1]) - mean))
    np.testing.assert_allclose(x, expected, rtol=1e-5)
    expected = base.log_prob(tf.math.log(x)) - tf.reduce_sum(tf.math.log(x), -1)
    np.testing.assert_allclose(model.log_prob(x), expected, rtol=1e-5)


def test_a_flow_given_a_condition_is_a_distribution(flow, condition):
  given = tff.given(flow, condition)
  assert given.batch_shape == [4]
  assert given.event_shape == [2]
  x, log_prob = given.experimental_sample_and_log_prob(3, seed=[0, 1])
  assert len(np.unique(tf.reshape(x, [12, 2]), axis=0)) == 12
  expected = flow.log_prob(tf.identity(x), condition=condition)
  np.testing.assert_allclose(log_prob, expected)
  np.testing.assert_allclose(given[1:3].log_prob(x[:, 1:3]), expected[:, 1:3])
  assert given.log_prob(x[0, 0]).shape == [4]
  same = given.copy(condition=condition[:1])
  np.testing.assert_allclose(same.log_prob(x[:, :1]), expected[:, :1])
  assert (tfd.kl_divergence(given, given).numpy() == 0).all()
  assert tfd.kl_divergence(given, tff.given(flow, condition + 1)).shape == [4]

  @tf.function(
    input_signature=[tf.TensorSpec([None, n], F64) for n in (3, 2)], autograph=False
  )
  def gradient(c, x):
    with tf.GradientTape() as tape:
      tape.watch(c)
      log_prob = tff.given(flow, c).log_prob(x)
    return tff.given(flow, c).sample(2, seed=[0, 1]), tape.gradient(log_prob, c)

  with tf.GradientTape() as tape:
    tape.watch(condition)
    log_prob = flow.log_prob(x[0], condition=condition)
  found = gradient(condition, x[0])
  np.testing.assert_allclose(found[1], tape.gradient(log_prob, condition))
  np.testing.assert_allclose(found[0], given.sample(2, seed=[0, 1]))


def test_levels_given_a_condition(condition):
  options = dict(num_levels=2, num_steps=1, width=4, num_bins=4, alpha=0.05)
  flow = tff.glow(
    [4, 4, 1], condition_size=3, flat_latents=False, seed=0, dtype=F64, **options
  )
  test_util.perturb(flow, 0.1)
  given = tff.given(flow, condition)
  x, log_prob = given.experimental_sample_and_log_prob(2, seed=[0, 1])
  assert len(np.unique(tf.reshape(x, [8, 16]), axis=0)) == 8
  expected = flow.log_prob(tf.identity(x), condition=condition)
  np.testing.assert_allclose(log_prob, expected, atol=1e-6)


def test_what_is_given_no_condition():
  with pytest.raises(ValueError, match='Build it with `condition_size`'):
    tff.given(real_nvp(condition_size=None), np.zeros([1, 3]))
  with pytest.raises(ValueError, match='which has latents; received'):
    tff.given(tfd.Normal(0.0, 1.0), np.zeros([1, 3]))


BUILDERS = {
  'glow': lambda **o: tff.glow([2], num_steps=2, width=4, **o),
  'maf': lambda **o: tff.maf([2], num_layers=1, hidden=[4], **o),
  'residual_flow': lambda **o: tff.residual_flow(
    [2], num_blocks=1, width=4, num_hidden=1, **o
  ),
  'ffjord': lambda **o: tff.ffjord([2], hidden=[4], solver='rk4', solver_steps=2, **o),
}


@pytest.mark.parametrize('name', BUILDERS)
def test_one_example_of_many_conditions_in_batches_of_unknown_size(name, condition):
  flow = BUILDERS[name](condition_size=3, seed=0)
  test_util.perturb(flow, 0.05)
  tff.update_norms(flow)
  condition = tf.cast(condition, tf.float32)

  @tf.function(
    input_signature=[tf.TensorSpec([None, n], tf.float32) for n in (2, 3)],
    autograph=False,
  )
  def log_prob(x, c):
    return flow.log_prob(x, condition=c)

  x = test_util.normal([4, 2], 'float32')
  for one, c in ((x[:1], condition), (x, condition[:1])):
    expected = log_prob(tf.repeat(one, 4 // len(one), 0), tf.repeat(c, 4 // len(c), 0))
    np.testing.assert_allclose(log_prob(one, c), expected, atol=1e-5)


def test_a_condition_of_rows_of_matrices():
  """Layers of vectors in events of several rows: the condition is of the event."""
  inner = tff.real_nvp([2], num_steps=2, width=4, condition_size=1, seed=0)
  test_util.perturb(inner, 0.3)
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [3, 2])
  x = test_util.normal([3, 3, 2], 'float32', 1)
  condition = test_util.normal([3, 1], 'float32', 2)
  rows = inner.log_prob(x, condition=condition[:, tf.newaxis])
  expected = tf.reduce_sum(rows, axis=-1)
  flow = tff.Flow(base, tfb.Blockwise([inner.bijector], [2]))
  found = flow.log_prob(x, condition=condition)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  found = tff.given(flow, condition).log_prob(tf.identity(x))
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_is_not_one_to_one_has_the_rest_as_its_base():
  inner = tff.real_nvp([2], num_steps=1, width=4, seed=0)
  shifted = tfd.TransformedDistribution(inner, tfb.Shift(100.0))
  flow = tfd.TransformedDistribution(shifted, tfb.AbsoluteValue())
  model = tff.FlowModel(flow)
  assert 99 < np.mean(model.sample(50, seed=0)) < 101


def test_digits_of_a_condition_in_given():
  flow = tff.real_nvp([2], num_steps=2, width=4, condition_size=1, seed=0)
  test_util.perturb(flow, 0.3)
  x = test_util.normal([40, 2], 'float32', 1)
  condition = 1.7e9 + 10 * test_util.normal([40, 1], 'float64', 2)
  flow.bijector.bijector.adapt(x, condition)
  expected = flow.log_prob(tf.identity(x), condition=condition)
  assert np.std(expected) > 0.1
  found = tff.given(flow, condition).log_prob(tf.identity(x))
  np.testing.assert_allclose(found, expected, rtol=1e-5)
