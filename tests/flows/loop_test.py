"""Builders with their equal steps in one loop, and without."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tests import test_util

COUPLINGS = dict(num_steps=5, width=8)
CASES = {
  'residual': (
    tff.residual_flow,
    [2],
    dict(num_blocks=3, width=8, num_hidden=1, norms='learned', condition_size=2),
  ),
  'residual_images': (
    tff.residual_flow,
    [4, 4, 1],
    dict(num_levels=1, num_blocks=3, width=4, num_dense_blocks=0),
  ),
  'residual_poisson': (
    tff.residual_flow,
    [3],
    dict(num_blocks=2, width=8, log_det='poisson', activation='clip_swish'),
  ),
  'real_nvp': (tff.real_nvp, [3], dict(**COUPLINGS, condition_size=2)),
  'real_nvp_dropout': (tff.real_nvp, [3], dict(**COUPLINGS, dropout=0.3)),
  'real_nvp_images': (tff.real_nvp, [4, 4, 2], dict(num_levels=1, width=4)),
  'glow_images': (tff.glow, [8, 8, 1], dict(num_levels=2, num_steps=3, width=4)),
  'nice': (tff.nice, [4], dict(**COUPLINGS, num_hidden=1, memory='reversible')),
  'maf': (tff.maf, [3], dict(num_layers=3, hidden=[8], condition_size=2)),
  'maf_spline': (
    tff.maf,
    [3],
    dict(num_layers=3, hidden=[8], transformer='spline', order='random'),
  ),
  'maf_mixture': (
    tff.maf,
    [3],
    dict(num_layers=2, hidden=[8], transformer='mixture', linear='lu'),
  ),
  # Gradients of roots inside of the loop.
  'planar': (
    tff.planar,
    [3],
    dict(num_layers=3, direction='sampling', condition_size=2),
  ),
  'radial': (tff.radial, [3], dict(num_layers=3)),
  'sylvester': (tff.sylvester, [3], dict(num_layers=2, direction='sampling')),
  'glow_dropout': (tff.glow, [4], dict(num_steps=3, width=4, dropout=0.3)),
  'ffjord': (
    tff.ffjord,
    [2],
    dict(
      num_blocks=3,
      hidden=[8],
      solver='rk4',
      solver_steps=4,
      trainable_time=True,
      kinetic=0.1,
      jacobian=0.2,
      condition_size=2,
      normalization='moving_batch_norm',
    ),
  ),
}


def built(case, loop):
  build, shape, options = CASES[case]
  if len(shape) == 3:
    options = dict(options, num_bins=0)
  flow = build(shape, seed=0, dtype='float64', loop=loop, **options)
  test_util.perturb(flow, 0.1, seed=1)
  tff.update_norms(flow)
  x = 0.5 * test_util.normal([5, *shape])
  condition = test_util.normal([5, 2]) if 'condition_size' in options else None
  return flow, x, condition


def training_step(flow, x, condition):
  """Log-likelihoods, gradients and reports of a step, that moves statistics."""
  given = {} if condition is None else dict(condition=condition)

  @tf.function(autograph=False)
  def run(x):
    with tff.flow_report() as report, tf.GradientTape() as tape:
      tape.watch([x, report.probe])
      with tff.estimation(seed=3, training=True):
        log_prob = flow.log_prob(x, **given)
      parts = [sum(parts) for _, parts in sorted(report.penalties.items())]
      loss = tf.reduce_sum(tf.math.softplus(log_prob)) + sum(map(tf.reduce_sum, parts))
    gradients = tape.gradient(loss, [x, report.probe, *flow.trainable_variables])
    evaluations = [tf.add_n(report.evaluations)] if report.evaluations else []
    return log_prob, parts, evaluations, [g for g in gradients if g is not None]

  return tf.nest.flatten(run(x)), [v.numpy() for v in flow.variables]


@pytest.mark.parametrize('case', CASES)
def test_a_loop_changes_nothing(case):
  found, expected = (training_step(*built(case, loop)) for loop in (True, False))
  tf.nest.assert_same_structure(found, expected)
  for a, b in zip(tf.nest.flatten(found), tf.nest.flatten(expected)):
    np.testing.assert_allclose(np.asarray(a, 'f8'), np.asarray(b, 'f8'), atol=1e-9)


def test_loops_carry_what_a_call_may_change_and_no_constants():
  def names(name):
    parts = built(name, True)[0].submodules
    (loop,) = [part for part in parts if isinstance(part, tff.Repeated)]
    return {v.name.split('/')[-1] for v in loop.moving_variables}

  assert names('maf') == set()
  assert names('residual') == {'v:0'}
