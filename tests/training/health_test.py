import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tfp_flows.training import callbacks

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


def test_residual_flow_with_averaged_weights_in_all_logs(tmp_path):
  flow = tff.residual_flow([2], num_blocks=2, width=4, zero_last=False, seed=0)
  test_util.perturb(flow, 0.3)
  model = tff.FlowModel(flow, seed=0)
  optimizer = keras.optimizers.SGD(1e-2, use_ema=True, ema_momentum=0.5)
  model.compile(optimizer, jit_compile=False)
  x = normal(12, 2)
  bounds = []

  def bound(*_):
    networks = [m.branch for m in flow.submodules if isinstance(m, tff.ResidualFlow)]
    bounds.append(max(float(n.lipschitz_bound()) for n in networks))

  found = [
    keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
    tff.Health(x),
    keras.callbacks.LambdaCallback(on_epoch_end=bound),
    callbacks.JsonLines(str(tmp_path / 'metrics.jsonl')),
    keras.callbacks.TensorBoard(tmp_path / 'logs', write_graph=False),
  ]
  model.fit(x, epochs=2, verbose=0, callbacks=found)
  rows = [json.loads(r) for r in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  for row, expected in zip(rows, bounds, strict=True):
    np.testing.assert_allclose(row['lipschitz_bound'], expected, rtol=1e-5)
    assert 0 < expected < 1
    assert 0 <= row['inversion_error'] < 1e-5
  (events,) = (tmp_path / 'logs' / 'train').iterdir()
  assert b'epoch_inversion_error' in events.read_bytes()


def test_an_inverse_that_fails_is_null(tmp_path):
  flow = tff.residual_flow([2], num_blocks=1, width=4, zero_last=False, seed=0)
  model = compiled(flow)
  x = normal(8, 2)

  def spoil(*_):
    for v in model.trainable_variables:
      v.assign(v.value * 30.0)

  path = str(tmp_path / 'metrics.jsonl')
  found = [
    keras.callbacks.LambdaCallback(on_epoch_end=spoil),
    tff.Health(x),
    tff.LipschitzReport(x, path=str(tmp_path / 'lipschitz.jsonl')),
    callbacks.JsonLines(path),
  ]
  model.fit(x, verbose=0, callbacks=found)
  with open(path) as file:
    assert json.loads(file.read())['inversion_error'] is None
  # What cannot be written is null there, too.
  callbacks.append_json(path, dict(blocks=[dict(bounds=[1.0, np.nan], product=np.inf)]))
  with open(path) as file:
    last = file.read().splitlines()[-1]
  assert json.loads(last) == dict(blocks=[dict(bounds=[1.0, None], product=None)])


def test_continuous_and_stock_distributions():
  flow = tff.ffjord([2], hidden=[4], training='exact', seed=0)
  x = normal(8, 2)
  logs = logs_of(compiled(flow), x, tff.Health(x))
  assert 0 < logs['inversion_error'] < 1e-3
  assert logs['nfe'] > 0
  stock = tff.FlowModel(tfd.MultivariateNormalDiag(tf.Variable([0.0, 0.0])))
  stock.compile(keras.optimizers.SGD(0.1), jit_compile=False)
  assert set(logs_of(stock, x, tff.Health(x))) == {'loss'}
