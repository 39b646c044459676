"""Mixed precision: networks in bfloat16, the arithmetic of the flow in float32."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tests import test_util
from tfp_flows.data import load_digits
from tfp_flows.flows import MODELS

BUILDERS = {
  'glow': lambda **o: tff.glow([8, 8, 2], num_steps=3, width=16, num_bins=0, **o),
  'glow_reversible': lambda **o: tff.glow(
    [8, 8, 2], num_steps=3, width=16, num_bins=0, memory='reversible', **o
  ),
  'glow_vector': lambda **o: tff.glow([6], num_steps=3, width=16, **o),
  'real_nvp': lambda **o: tff.real_nvp([8, 8, 1], width=8, num_bins=0, **o),
  'real_nvp_vector': lambda **o: tff.real_nvp([6], num_steps=4, width=16, **o),
  'nice': lambda **o: tff.nice([6], width=16, **o),
  'maf': lambda **o: tff.maf([6], num_layers=3, hidden=[16], **o),
  'conditional': lambda **o: tff.glow(
    [6], num_steps=2, width=16, condition_size=3, **o
  ),
}
# Compiled, too; to compile residual networks takes long.
COMPILED = ('glow', 'glow_reversible', 'maf')


def build(name, precision):
  flow = BUILDERS[name](seed=0, precision=precision)
  test_util.perturb(flow, 0.1)
  return flow


def data(flow, name, count=16):
  x = tf.random.stateless_normal([count, *flow.event_shape], seed=[1, 2])
  size = {'conditional': 3}.get(name)
  kwargs = {}
  if size:
    kwargs['condition'] = tf.random.stateless_normal([count, size], seed=[3, 4])
  return x, kwargs


@pytest.fixture(scope='module')
def flows():
  return {name: build(name, 'mixed_bfloat16') for name in BUILDERS}


@pytest.mark.parametrize('name', BUILDERS)
def test_log_det_is_near_that_of_float32(name, flows):
  mixed, full = flows[name], build(name, 'float32')
  assert {v.dtype for v in mixed.trainable_variables} == {tf.float32}
  x, kwargs = data(full, name, count=64)
  values = []
  for flow in (mixed, full):
    z, log_det = flow.bijector.bijector.forward_and_log_det(tf.identity(x), **kwargs)
    assert z.dtype == log_det.dtype == tf.float32
    values.append((z, log_det))
  (z, log_det), (exact_z, exact) = values
  dims = full.event_shape.num_elements()
  # Not by accident the same network.
  assert np.abs(z - exact_z).max() > 1e-4
  # Nats per dimension, in the mean over examples.
  assert np.abs(log_det - exact).mean() / dims < 1e-3
  if name != 'nice':
    assert np.abs(exact).max() / dims > 0.02
    assert np.abs(log_det - exact).max() > 1e-5


def modes(name):
  yield 'eager'
  yield 'graph'
  if name in COMPILED:
    yield 'xla'


@pytest.mark.parametrize(
  ('name', 'mode'), [(name, mode) for name in BUILDERS for mode in modes(name)]
)
def test_inverse_undoes_forward(name, mode, flows):
  bijector = flows[name].bijector.bijector
  x, kwargs = data(flows[name], name, count=64)
  there, back = bijector.forward_and_log_det, bijector.inverse_and_log_det
  if mode != 'eager':
    there, back = (
      tf.function(f, autograph=False, jit_compile=mode == 'xla') for f in (there, back)
    )
  z, log_det = there(x, **kwargs)
  again, inverse = back(tf.identity(z), **kwargs)
  error = np.abs(again - x)
  dims = flows[name].event_shape.num_elements()
  # What a network sees again differs in the last digit of float32 at most; where
  # that crosses a rounding of bfloat16, an output moves by a digit of that.
  assert np.quantile(error, 0.9) < 1e-4
  assert error.max() < 0.1
  assert np.quantile(np.abs(inverse + log_det) / dims, 0.9) < 1e-3


def test_training_lowers_the_loss():
  images = load_digits()[0][:256]
  losses = {}
  for precision in ('float32', 'mixed_bfloat16'):
    flow = tff.glow(
      [8, 8, 1], 1, num_steps=2, width=16, num_bins=17, seed=0, precision=precision
    )
    model = tff.FlowModel(flow, seed=0)
    model.compile(keras.optimizers.Adam(2e-3))
    model.adapt(images)
    history = model.fit(images, epochs=6, batch_size=64, verbose=0).history
    losses[precision] = history['bits_per_dim']
    assert losses[precision][-1] < losses[precision][0] - 0.2
  np.testing.assert_allclose(
    losses['mixed_bfloat16'][-1], losses['float32'][-1], atol=0.05
  )
  samples = model.sample(4, seed=1)
  assert samples.dtype == tf.uint8
  # Of these weights, at every image.
  x = tf.cast(images, 'float32') + 0.5
  exact = tff.glow([8, 8, 1], 1, num_steps=2, width=16, num_bins=17, seed=0)
  for v, trained in zip(exact.variables, flow.variables, strict=True):
    v.assign(trained)
  mixed, exact = (
    f.bijector.inverse_log_det_jacobian(tf.identity(x), 3) for f in (flow, exact)
  )
  assert 1e-6 < np.abs(mixed - exact).max() / 64 < 1e-3


def test_nothing_follows_the_global_policy_but_none():
  keras.config.set_dtype_policy('mixed_bfloat16')
  try:
    followed, own = build('glow_vector', None), build('glow_vector', 'float32')
  finally:
    keras.config.set_dtype_policy('float32')
  x, _ = data(own, 'glow_vector')
  full = build('glow_vector', None)
  np.testing.assert_array_equal(own.log_prob(x), full.log_prob(tf.identity(x)))
  assert np.abs(followed.log_prob(x) - full.log_prob(tf.identity(x))).max() > 1e-4


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(precision='mixed_bfloat16', dtype='float64'), 'received.*float64'),
    (dict(precision='mixed_float16'), "received 'mixed_float16'"),
    (dict(precision='float64'), "received 'float64'"),
    (dict(precision='nope'), "received 'nope'"),
    (dict(precision=16), 'received 16'),
  ],
)
@pytest.mark.parametrize('name', ['glow', 'maf'])
def test_other_precisions_are_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    MODELS[name]([4], **options)
