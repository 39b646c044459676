"""Options of the builders that change what is kept, and nothing else."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tests import test_util

BUILDERS = {
  'glow': lambda **o: tff.glow(
    [4, 4, 2], num_levels=1, num_steps=3, width=6, num_bins=0, **o
  ),
  'glow_levels': lambda **o: tff.glow(
    [4, 4, 2], num_levels=2, num_steps=2, width=4, num_bins=0, **o
  ),
  'glow_vector': lambda **o: tff.glow([6], num_steps=3, width=6, **o),
  'real_nvp': lambda **o: tff.real_nvp(
    [4, 4, 2], num_steps=1, width=4, num_blocks=1, num_bins=0, **o
  ),
  'real_nvp_vector': lambda **o: tff.real_nvp([5], num_steps=4, width=6, **o),
  'nice': lambda **o: tff.nice([4, 4, 1], width=6, num_bins=0, **o),
}


def cases():
  for mode in ('graph', 'xla'):
    yield 'glow_levels', dict(memory='reversible', loop=True), mode
  for name in [n for n in BUILDERS if n != 'glow_levels']:
    glow = 'glow' in name
    for memory in ('stored', 'reversible'):
      for loop in [dict(loop=False), dict(loop=True)] if glow else [{}]:
        # To compile residual networks takes long.
        for mode in ('eager', 'xla' if glow else 'graph'):
          yield name, dict(memory=memory, **loop), mode


def gradients(flow, mode):
  shape = flow.event_shape
  x = tf.random.stateless_normal([4, *shape], seed=[1, 2])

  def run(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      loss = -tf.reduce_mean(flow.log_prob(x))
    return loss, tape.gradient(loss, [x, *flow.trainable_variables])

  if mode != 'eager':
    run = tf.function(run, jit_compile=mode == 'xla', autograph=False)
  return run(tf.identity(x))


@pytest.fixture(scope='module')
def expected():
  flows = {name: build(seed=0) for name, build in BUILDERS.items()}
  for flow in flows.values():
    test_util.perturb(flow)
  return {name: gradients(flow, 'eager') for name, flow in flows.items()}


@pytest.mark.parametrize(('name', 'options', 'mode'), list(cases()), ids=str)
def test_options_change_no_number(expected, name, options, mode):
  flow = BUILDERS[name](seed=0, **options)
  test_util.perturb(flow)
  loss, found = gradients(flow, mode)
  expected_loss, wanted = expected[name]
  np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
  assert len(found) == len(wanted)
  for a, b in zip(found, wanted):
    assert np.linalg.norm(a - b) <= 1e-4 * max(1e-2, np.linalg.norm(b))


def test_weights_go_from_one_option_to_the_other():
  """Also into and out of a loop, which has the same variables."""
  first = BUILDERS['glow_levels'](seed=0, loop=False)
  second = BUILDERS['glow_levels'](seed=1, loop=True, memory='reversible')
  assert [v.shape for v in first.variables] == [v.shape for v in second.variables]
  for a, b in zip(first.variables, second.variables):
    b.assign(a)
  x = tf.random.stateless_normal([4, 4, 4, 2], seed=[1, 2])
  np.testing.assert_allclose(
    second.log_prob(x), first.log_prob(tf.identity(x)), rtol=1e-6
  )


def test_dropout_needs_what_it_has_dropped():
  with pytest.raises(ValueError, match="draws noise.*memory='stored'"):
    tff.real_nvp([4], dropout=0.1, memory='reversible')
