import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tfp_flows.flows import MODELS

tfd = tfp.distributions

SMALL = {
  'ffjord': dict(hidden=[8], tolerance=1e-6),
  'glow': dict(num_steps=2, width=8),
  'iaf': dict(num_layers=2, hidden=[8]),
  'maf': dict(num_layers=2, hidden=[8]),
  'nice': dict(num_steps=3, width=8, num_hidden=1),
  'planar': dict(num_layers=6),
  'radial': dict(num_layers=6),
  'real_nvp': dict(num_steps=4, width=8),
  'residual_flow': dict(num_blocks=2, width=8, num_hidden=1),
  'sylvester': dict(num_layers=3),
}


@pytest.mark.parametrize('name', MODELS)
def test_density_integrates_to_one(name):
  flow = MODELS[name]([2], seed=0, dtype='float64', **SMALL[name])
  test_util.perturb(flow, 0.2)
  tff.update_norms(flow)
  # Solving an equation takes longer, and its density is as narrow as its base.
  axis = np.linspace(-9, 9, 181) if name == 'ffjord' else np.linspace(-60, 60, 1501)
  grid = np.stack(np.meshgrid(axis, axis), axis=-1)
  total = np.sum(flow.prob(grid)) * (axis[1] - axis[0]) ** 2
  np.testing.assert_allclose(total, 1, atol=2e-3)


@pytest.mark.parametrize('name', MODELS)
def test_samples_follow_the_density(name):
  # E[f] under the samples equals the integral of f * density on a grid.
  flow = MODELS[name]([2], seed=0, dtype='float64', **SMALL[name])
  test_util.perturb(flow, 0.2)
  tff.update_norms(flow)
  samples = flow.sample(20_000, seed=1).numpy()
  center, width = np.median(samples, 0), samples.std(0)
  f = lambda x: np.exp(-0.5 * (((x - center) / width) ** 2).sum(-1))  # noqa: E731
  size = 201 if name == 'ffjord' else 801
  axes = [np.linspace(c - 8 * w, c + 8 * w, size) for c, w in zip(center, width)]
  grid = np.stack(np.meshgrid(*axes), axis=-1)
  cell = np.prod([a[1] - a[0] for a in axes])
  expected = np.sum(f(grid) * flow.prob(grid)) * cell
  values = f(samples)
  assert abs(values.mean() - expected) < 5 * values.std() / np.sqrt(len(values))


def test_a_glow_of_24_steps_in_float32():
  flow = tff.glow([16, 16, 1], num_levels=3, num_steps=8, width=16, seed=0)
  test_util.perturb(flow, 0.02)
  bijector = flow.bijector.bijector
  x = 255 * tf.sigmoid(test_util.normal([4, 16, 16, 1], 'float32'))
  y, log_det = bijector.forward_and_log_det(x)
  back, inverse_log_det = bijector.inverse_and_log_det(y)
  # On the scale of the images, whose 256 values the flow sees in [-0.5, 0.5].
  np.testing.assert_allclose(back / 256, x / 256, atol=1e-4)
  # Per dimension, as the log-det is a sum over 256.
  np.testing.assert_allclose(inverse_log_det / 256, -log_det / 256, atol=1e-4)
  assert np.abs(y).max() > 0.1
  double = tff.glow(
    [16, 16, 1], num_levels=3, num_steps=8, width=16, seed=0, dtype='float64'
  )
  for v, w in zip(double.variables, flow.variables):
    v.assign(tf.cast(w, v.dtype))
  z, exact = double.bijector.bijector.forward_and_log_det(tf.cast(x, 'float64'))
  np.testing.assert_allclose(y, z, atol=1e-4)
  np.testing.assert_allclose(log_det / 256, exact / 256, atol=1e-4)


@pytest.mark.parametrize('name', MODELS)
def test_the_global_seed_fixes_all_weights(name):
  def weights(seed):
    keras.utils.set_random_seed(seed)
    flow = MODELS[name]([4], **SMALL[name])
    return np.concatenate([np.ravel(v) for v in flow.trainable_variables])

  np.testing.assert_array_equal(weights(1), weights(1))
  assert np.any(weights(1) != weights(2))


@pytest.mark.parametrize('name', MODELS)
def test_seed_fixes_all_weights(name):
  def weights(seed):
    flow = MODELS[name]([4], seed=seed, **SMALL[name])
    return np.concatenate([np.ravel(v) for v in flow.variables])

  np.testing.assert_array_equal(weights(1), weights(1))
  assert np.abs(weights(1) - weights(2)).max() > 0.01


@pytest.mark.parametrize('transformer', ['affine', 'additive', 'spline'])
@pytest.mark.parametrize('name', ['glow', 'real_nvp'])
def test_kinds_of_coupling(name, transformer):
  flow = MODELS[name](
    [6], transformer=transformer, seed=0, dtype='float64', **SMALL[name]
  )
  test_util.perturb(flow)
  x, log_prob = flow.experimental_sample_and_log_prob(3, seed=0)
  np.testing.assert_allclose(flow.log_prob(tf.identity(x)), log_prob, atol=1e-6)


def test_levels_and_steps_are_counted():
  flow = tff.glow([16, 8, 1], num_levels=3, num_steps=4, width=4, seed=0)
  parts = flow.submodules
  assert [len(m) for m in parts if isinstance(m, tff.Repeated)] == [4, 4, 4]
  # The priors of two levels, and the last one.
  assert sum(isinstance(m, tff.Coupling) for m in parts) == 2
  assert sum(isinstance(m, tff.ActNorm) for m in parts) == 1
  fixed = tff.glow([16, 8, 1], num_levels=3, num_steps=4, width=4, learn_prior=False)
  assert not any(isinstance(m, tff.Coupling) for m in fixed.submodules)
  dropped = tff.glow([8, 8, 1], num_levels=2, num_steps=4, width=4, dropout=0.1)
  parts = test_util.layers(dropped)
  assert sum(isinstance(m, tff.Invertible1x1ConvLU) for m in parts) == 8
  assert sum(isinstance(m, tff.Coupling) for m in parts) == 9


def test_masks_alternate_in_pairs_and_an_odd_last_coupling_stands_behind():
  flow = tff.real_nvp([4], num_steps=5, width=4)
  (pairs,) = [m for m in flow.submodules if isinstance(m, tff.Repeated)]
  assert len(pairs) == 2
  couplings = [m for m in test_util.layers(flow) if isinstance(m, tff.Coupling)]
  kept = [c.mask.split(tf.range(4.0))[0].numpy().tolist() for c in couplings]
  assert kept == [[0.0, 2.0], [1.0, 3.0]] * 2 + [[0.0, 2.0]]


@pytest.mark.parametrize(
  'build',
  [
    lambda **o: tff.ffjord([4, 4, 1], hidden=[4], num_blocks=1, **o),
    lambda **o: tff.residual_flow(
      [4, 4, 1], num_blocks=1, width=4, factor_out=True, num_dense_blocks=0, **o
    ),
  ],
  ids=['ffjord', 'residual_flow'],
)
def test_latents_of_levels_are_parts_of_the_flat_ones(build):
  flat, parts = (build(seed=0, num_bins=0, flat_latents=f) for f in (True, False))
  x = 0.5 + 0.1 * test_util.normal([2, 4, 4, 1], 'float32')
  z, levels = (flow.bijector.inverse(tf.identity(x)) for flow in (flat, parts))
  assert [len(level.shape) for level in levels] == [4, 4]
  both = tf.concat([tf.reshape(level, [2, -1]) for level in levels], axis=1)
  np.testing.assert_allclose(np.sort(both), np.sort(z), atol=1e-5)
  np.testing.assert_allclose(parts.log_prob(x), flat.log_prob(x), rtol=1e-5)


def test_builders_take_whole_estimators():
  log_det = tff.LogDet(tff.TruncatedLogDet(3), tff.ExactLogDet())
  trace = tff.Trace(tff.ExactTrace(), tff.HutchinsonTrace(num_probes=2))
  residual = tff.residual_flow([2], num_blocks=1, width=4, log_det=log_det)
  (block,) = (m for m in residual.submodules if isinstance(m, tff.ResidualFlow))
  assert block.log_det == log_det
  continuous = tff.ffjord([2], hidden=[4], trace=trace)
  (layer,) = (m for m in continuous.submodules if isinstance(m, tff.FFJORD))
  assert layer.parameters['trace'] == trace


def test_nice_preserves_volume_but_for_its_scaling():
  flow = tff.nice([4], seed=0, dtype='float64', **SMALL['nice'])
  test_util.perturb(flow)
  x = test_util.normal([5, 4])
  scalings = [m for m in flow.submodules if isinstance(m, tff.ActNorm)]
  assert len(scalings) == 2
  log_det = flow.bijector.inverse_log_det_jacobian(x, 1)
  np.testing.assert_allclose(
    log_det, sum(np.sum(s.log_scale) for s in scalings) * np.ones(5)
  )
  assert isinstance(flow.distribution.distribution, tfd.Logistic)


@pytest.mark.parametrize(
  ('build', 'message'),
  [
    (lambda: tff.glow([7, 8, 1]), r'multiples of 4.*\[7, 8, 1\]'),
    (lambda: tff.glow([8, 8, 1], num_levels=4), 'use fewer levels'),
    (lambda: tff.real_nvp([6, 6, 1]), 'multiples of 4; received'),
    (lambda: tff.real_nvp([1]), 'at least 2 dimensions'),
    (lambda: tff.glow([2, 3]), r'\[D\] or \[H, W, C\].*\[2, 3\]'),
    (lambda: tff.glow([None, 8, 1]), 'static event shape'),
    (lambda: tff.glow([4], transformer='cubic'), "received 'cubic'"),
    (lambda: tff.glow([4], scale='exp'), "received 'exp'"),
    (lambda: tff.glow([4], base='cauchy'), "received 'cauchy'"),
    (lambda: tff.glow([4], num_steps=0), 'num_steps >= 1; received 0'),
    (lambda: tff.glow([4], num_levels=0), 'num_levels >= 1; received 0'),
    (lambda: tff.nice([4], num_steps=-1), 'num_steps >= 1; received -1'),
    (lambda: tff.real_nvp([4], width=0), 'width >= 1; received 0'),
    (lambda: tff.ffjord([4], num_blocks=0), 'num_blocks >= 1; received 0'),
    (lambda: tff.ffjord([4], final_time=0.0), 'final_time > 0; received 0.0'),
    (lambda: tff.ffjord([4], solver='euler'), "received 'euler'"),
    (lambda: tff.ffjord([4], trace='truncated'), "received 'truncated'"),
    (lambda: tff.ffjord([4], normalization='batch'), "received 'batch'"),
    (lambda: tff.ffjord([4], time='fourier'), "received 'fourier'"),
    (lambda: tff.ffjord([4], tolerance=-1.0), 'rtol > 0; received -1.0'),
    (lambda: tff.ffjord([6, 5, 1]), r'\[6, 5, 1\]'),
    (
      lambda: tff.ffjord([2], trace=tff.Trace(), evaluation_trace='exact'),
      'Expected a Trace alone',
    ),
    (
      lambda: tff.residual_flow([2], log_det=tff.LogDet(), num_terms=3),
      'Expected a LogDet alone',
    ),
    (
      lambda: tff.residual_flow([4, 4, 1], factor_out=True, flat_latents=False),
      'num_dense_blocks=0',
    ),
  ],
)
def test_bad_options(build, message):
  with pytest.raises(ValueError, match=message):
    build()
