"""The layers inside TFP's own compositions, distributions and algorithms."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util

tfb, tfd = tfp.bijectors, tfp.distributions


def layer(invert=False):
  mask = tff.ChannelMask([4], invert)
  network = tff.MLP(mask.kept_shape, 4, hidden=(4,), seed=0, dtype='float64')
  return tff.AffineCoupling(mask, network, dtype='float64')


def base(size=4):
  return tfd.Sample(tfd.Normal(np.float64(0), np.float64(1)), [size])


def check_density(distribution, x):
  """The density is that of the base times the Jacobian, by autodiff."""
  bijector = distribution.bijector
  log_det = test_util.autodiff_log_det(bijector.inverse, x)
  z = bijector.inverse(tf.identity(x))
  expected = distribution.distribution.log_prob(z) + log_det
  np.testing.assert_allclose(distribution.log_prob(tf.identity(x)), expected, atol=1e-9)


def test_chain_and_invert():
  chain = tfb.Chain([layer(), tfb.Scale(np.float64(2)), tfb.Invert(layer(True))])
  test_util.perturb(chain)
  assert len(chain.trainable_variables) == 8
  check_density(
    tfd.TransformedDistribution(base(), tfb.Invert(chain)), test_util.normal([3, 4])
  )


def test_blockwise():
  blockwise = tfb.Blockwise([layer(), tff.ActNorm([2], dtype='float64')], [4, 2])
  test_util.perturb(blockwise)
  assert len(blockwise.trainable_variables) == 6
  check_density(
    tfd.TransformedDistribution(base(6), tfb.Invert(blockwise)),
    test_util.normal([3, 6]),
  )


def test_joint_distribution_named():
  flow = tff.real_nvp([4], num_steps=2, width=4, seed=0, dtype='float64')
  test_util.perturb(flow)
  joint = tfd.JointDistributionNamed(
    dict(z=flow, x=lambda z: tfd.Independent(tfd.Normal(z, np.float64(1)), 1))
  )
  assert joint.trainable_variables == flow.trainable_variables
  draw = joint.sample(3, seed=[0, 1])
  expected = flow.log_prob(tf.identity(draw['z'])) + tf.reduce_sum(
    tfd.Normal(draw['z'], np.float64(1)).log_prob(draw['x']), axis=-1
  )
  np.testing.assert_allclose(joint.log_prob(draw), expected, atol=1e-8)


def test_conditional_distribution_takes_the_keyword():
  flow = tff.glow([4], num_steps=1, width=4, condition_size=2, seed=0, dtype='float64')
  test_util.perturb(flow, 0.3)
  x, condition = test_util.normal([3, 4]), test_util.normal([3, 2])
  first = flow.log_prob(x, condition=condition)
  assert np.abs(first - flow.log_prob(x, condition=condition + 1)).min() > 1e-6
  assert flow.sample(3, seed=[0, 1], condition=condition).shape == (3, 3, 4)
  with pytest.raises((ValueError, TypeError), match='condition'):
    flow.log_prob(tf.identity(x))


def test_validate_args_and_names_and_repr():
  flow = tff.real_nvp([4], num_steps=2, width=4, seed=0)
  assert flow.event_shape == [4]
  assert flow.batch_shape == []
  assert 'real_nvp' in repr(flow)
  assert 'ActNorm' in repr(tff.ActNorm([3])) or 'act_norm' in repr(tff.ActNorm([3]))


def test_copy_of_a_bijector_has_its_parameters():
  squeeze = tff.Squeeze(3, pixel_order='real_nvp')
  assert squeeze.parameters['block_size'] == 3
  assert squeeze.copy().forward_event_shape([3, 3, 1]) == [1, 1, 9]


def test_samples_of_a_known_shape_in_a_graph():
  flow = tff.glow([8, 8, 1], num_steps=1, width=4, num_bins=17, seed=0)

  @tf.function
  def draw(n):
    return flow.sample(n, seed=[0, 1])

  assert draw(tf.constant(3)).shape == (3, 8, 8, 1)
