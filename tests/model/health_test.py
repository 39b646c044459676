import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tfp_flows.model import callbacks

tfb, tfd = tfp.bijectors, tfp.distributions


def normal(*shape):
  return test_util.normal(shape, 'float32').numpy()


def compiled(flow):
  test_util.perturb(flow, 0.05)
  model = tff.FlowModel(flow, seed=0)
  model.compile(keras.optimizers.SGD(1e-4), jit_compile=False)
  return model


def logs_of(model, x, health, condition=None, **options):
  found = {}
  log = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: found.update(logs))
  options = dict(verbose=0, callbacks=[health, log]) | options
  model.fit(x, condition, **options)
  return found


@pytest.fixture(scope='module')
def glow():
  """A small Glow of pixels, conditional, after an epoch."""
  flow = tff.glow(
    [4, 4, 1],
    num_levels=1,
    num_steps=2,
    width=4,
    num_bins=9,
    alpha=0.05,
    condition_size=2,
    seed=0,
  )
  x = np.random.default_rng(0).integers(0, 9, [16, 4, 4, 1]).astype('uint8')
  condition = np.eye(2, dtype='f4')[np.arange(16) % 2]
  model = compiled(flow)
  health = tff.Health(x[:6], condition[:6])
  return model, health, logs_of(model, x, health, condition)


def stacked(model, name):
  (repeated,) = [
    m for m in model.distribution.submodules if isinstance(m, tff.Repeated)
  ]
  return [w for w, _ in repeated.stacked if w.name.endswith(f'{name}:0')]


def test_numbers_of_a_glow(glow):
  model, health, logs = glow
  assert 0 < logs['inversion_error'] < 1e-5
  assert 'lipschitz_bound' not in logs
  assert 0 <= logs['dequantized_min'] < 1 and 8 <= logs['dequantized_max'] < 9
  for side in ('min', 'max'):
    s = 0.05 + 0.9 * logs[f'dequantized_{side}'] / 9
    np.testing.assert_allclose(
      logs[f'preprocessed_{side}'], np.log(s) - np.log1p(-s), rtol=1e-5
    )
  (lu,) = stacked(model, 'lu')
  diagonals = np.exp(np.diagonal(lu.numpy(), axis1=1, axis2=2))
  np.testing.assert_allclose(logs['min_lu_diagonal'], diagonals.min(), rtol=1e-5)
  assert health.measure() == {k: logs[k] for k in health.measure()}


def test_scales_and_diagonals_of_all_steps(glow):
  model, health, logs = glow
  # Sigmoid scales of the couplings are below 1.
  (scale,) = (
    stacked(model, 'step/act_norm/log_scale') or stacked(model, 'log_scale')[:1]
  )
  (lu,) = stacked(model, 'lu')
  before = scale.numpy(), lu.numpy()
  for step in range(2):
    scale.assign(tf.tensor_scatter_nd_update(before[0], [[step, 1]], [3.0]))
    lu.assign(tf.tensor_scatter_nd_update(before[1], [[step, 2, 2]], [-9.0]))
    found = health.measure()
    np.testing.assert_allclose(found['max_scale'], np.exp(3.0), rtol=1e-5)
    np.testing.assert_allclose(found['min_lu_diagonal'], np.exp(-9.0), rtol=1e-5)
    assert found['inversion_error'] > logs['inversion_error']
  scale.assign(tf.tensor_scatter_nd_update(before[0], [[0, 1]], [-5.0]))
  lu.assign(before[1])
  np.testing.assert_allclose(health.measure()['min_scale'], np.exp(-5.0), rtol=1e-5)
  scale.assign(before[0])


def test_scale_of_couplings_depends_on_the_data():
  mask = tff.ChannelMask([2])
  layer = tff.AffineCoupling(mask, lambda x: tf.concat([x, x], -1), scale='clamp')
  norm = tff.ActNorm([2])
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [2])
  flow = tfd.TransformedDistribution(base, tfb.Invert(tff.Sequential([norm, layer])))
  model = tff.FlowModel(flow)
  model.compile(keras.optimizers.SGD(0.0), jit_compile=False)
  x = normal(20, 2)
  kept = mask.split(tf.constant(x[:9]))[0].numpy()
  logs = logs_of(model, x, tff.Health(x[:9]))
  raw = 2 * np.tanh(kept / 2)
  np.testing.assert_allclose(logs['max_scale'], np.exp(max(raw.max(), 0)), rtol=1e-5)
  np.testing.assert_allclose(logs['min_scale'], np.exp(min(raw.min(), 0)), rtol=1e-5)
  assert set(logs) == {'loss', 'max_scale', 'min_scale', 'inversion_error'}


def residual_flow():
  branch = tff.LipschitzMLP([2], hidden=(4,), lipschitz=0.8**2, zero_last=False, seed=0)
  exact = tff.LogDet(tff.ExactLogDet(), tff.ExactLogDet())
  flow = tff.Sequential([tff.ResidualFlow(branch, [2], exact)])
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [2])
  return branch, tfd.TransformedDistribution(base, tfb.Invert(flow))


def test_a_residual_flow_with_averaged_weights_in_all_logs(tmp_path):
  branch, flow = residual_flow()
  test_util.perturb(flow, 0.3)
  model = tff.FlowModel(flow, seed=0)
  optimizer = keras.optimizers.SGD(1e-1, use_ema=True, ema_momentum=0.5)
  model.compile(optimizer, jit_compile=False)
  x, bounds = normal(12, 2), []

  def bound(*_):
    bounds.append(float(branch.lipschitz_bound()))

  def spoil(epoch, _):
    if epoch == 1:
      for v in model.trainable_variables:
        v.assign(v.value * np.nan)

  def lines(name):
    rows = (tmp_path / name).read_text().splitlines()
    return [json.loads(row) for row in rows]

  found = [
    keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
    keras.callbacks.LambdaCallback(on_epoch_end=spoil),
    tff.Health(x),
    keras.callbacks.LambdaCallback(on_epoch_end=bound),
    tff.LipschitzReport(x, path=str(tmp_path / 'lipschitz.jsonl')),
    callbacks.JsonLines(str(tmp_path / 'metrics.jsonl')),
    keras.callbacks.TensorBoard(tmp_path / 'logs', write_graph=False),
  ]
  model.fit(x, epochs=2, verbose=0, callbacks=found)
  first, second = lines('metrics.jsonl')
  np.testing.assert_allclose(first['lipschitz_bound'], bounds[0], rtol=1e-4)
  assert 0 < bounds[0] < 1
  assert 0 <= first['inversion_error'] < 1e-5
  (events,) = (tmp_path / 'logs' / 'train').iterdir()
  assert b'epoch_inversion_error' in events.read_bytes()
  # JSON has no NaN.
  assert np.isfinite(second['loss'])
  assert second['inversion_error'] is None
  first, second = lines('lipschitz.jsonl')
  assert first['blocks'][0]['measured'] > 0
  assert second['blocks'][0]['measured'] is None


def test_a_continuous_flow():
  flow = tff.ffjord([2], hidden=[4], trace='exact', seed=0)
  health = tff.Health(normal(8, 2))
  health.set_model(compiled(flow))
  found = health.measure()
  assert 0 < found['inversion_error'] < 1e-3


def test_a_distribution_without_layers():
  location = tf.Variable([0.0, 0.0])
  stock = tfd.Independent(tfd.Normal(location, 1.0), 1)
  health = tff.Health(normal(8, 2))
  health.set_model(compiled(stock))
  assert health.measure() == {}
