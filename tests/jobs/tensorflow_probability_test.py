"""Flows among the other parts of TensorFlow Probability."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util

tfb, tfd = tfp.bijectors, tfp.distributions


def conditional():
  flow = tff.maf([2], num_layers=1, hidden=[4], condition_size=3, seed=0)
  test_util.perturb(flow)
  return flow


def test_a_prior_over_the_condition_of_a_flow():
  flow = conditional()

  @tfd.JointDistributionCoroutine
  def joint():
    c = yield tfd.JointDistributionCoroutine.Root(tfd.Sample(tfd.Normal(0.0, 0.1), 3))
    yield tff.given(flow, c)

  c, x = draw = joint.sample(50, seed=[0, 1])
  assert x.shape == (50, 2)
  # Conditions are nearly one: what the draws differ in is their latents.
  assert np.std(x, axis=0).min() > 0.5
  expected = joint.sample_distributions(value=draw)[0][0].log_prob(c)
  expected += flow.log_prob(tf.identity(x), condition=c)
  np.testing.assert_allclose(joint.log_prob(draw), expected, atol=1e-5)


def test_chains_in_the_space_of_a_flow_given_conditions():
  given = tff.given(conditional(), test_util.normal([4, 3], 'float32'))
  kernel = tfp.mcmc.HamiltonianMonteCarlo(given.log_prob, 0.1, 2)
  start = given.sample(seed=[0, 1])
  chain = tfp.mcmc.sample_chain(
    2, start, kernel=kernel, trace_fn=None, seed=tf.constant([0, 2])
  )
  assert chain.shape == (2, 4, 2)
  assert np.ptp(chain, axis=0).min() > 0


def test_fit_a_conditional_flow_of_data_in_the_unit_cube():
  flow = tff.real_nvp([2], num_steps=1, width=4, condition_size=1, seed=0)
  model = tff.FlowModel(tfd.TransformedDistribution(flow, tfb.Sigmoid()), seed=0)
  rng = np.random.default_rng(0)
  x, c = rng.beta(2, 5, [64, 2]).astype('f4'), rng.uniform(size=[64, 1]).astype('f4')
  model.compile('adam', jit_compile=False)
  model.adapt(x, c)
  model.fit(x, c, verbose=0)
  z = model.encode(x, c)
  assert np.abs(np.mean(z, axis=0)).max() < 0.3  # Of the latents, not of the logits.
  np.testing.assert_allclose(model.decode(z, c), x, atol=1e-5)
  drawn = model.sample(condition=c, temperature=0.5)
  assert ((drawn > 0) & (drawn < 1)).numpy().all()
