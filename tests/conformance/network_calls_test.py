"""A network runs once per `log_prob` and once per `sample`."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util

tfb, tfd = tfp.bijectors, tfp.distributions


class Counting:
  """A conditioner that counts its calls."""

  def __init__(self, network):
    self.network, self.calls = network, 0

  def __call__(self, *args):
    self.calls += 1
    return self.network(*args)


def coupling(counts, invert):
  mask = tff.ChannelMask([4], invert)
  network = Counting(tff.MLP(mask.kept_shape, 4, hidden=(4,), seed=0, dtype='float64'))
  counts.append(network)
  return tff.AffineCoupling(mask, network, dtype='float64')


def distribution(compose, counts):
  flow = compose([coupling(counts, False), coupling(counts, True)])
  base = tfd.Sample(tfd.Normal(np.float64(0), np.float64(1)), [4])
  return tfd.TransformedDistribution(base, tfb.Invert(flow))


COMPOSITIONS = {
  'sequential': tff.Sequential,
  'chain': lambda parts: tfb.Chain(parts[::-1]),
  'chain_of_invert': lambda parts: tfb.Chain(
    [tfb.Invert(tfb.Invert(p)) for p in parts[::-1]]
  ),
}
CALLS = {
  'log_prob': lambda d: d.log_prob(test_util.normal([3, 4])),
  'sample': lambda d: d.sample(3, seed=1),
  'sample_and_log_prob': lambda d: d.experimental_sample_and_log_prob(3, seed=1),
}


@pytest.mark.parametrize('traced', [False, True])
@pytest.mark.parametrize('call', CALLS)
@pytest.mark.parametrize('compose', COMPOSITIONS)
def test_each_conditioner_runs_once(compose, call, traced):
  counts = []
  d = distribution(COMPOSITIONS[compose], counts)
  run = lambda: CALLS[call](d)  # noqa: E731
  (tf.function(run) if traced else run)()
  assert [c.calls for c in counts] == [1, 1]


def test_a_fresh_tensor_sees_new_weights():
  counts = []
  d = distribution(tff.Sequential, counts)
  x = test_util.normal([3, 4])
  before = d.log_prob(x)
  for network in counts:
    for v in network.network.trainable_variables:
      v.assign_add(0.1 * tf.ones_like(v))
  assert np.abs(d.log_prob(tf.identity(x)) - before).max() > 1e-3
