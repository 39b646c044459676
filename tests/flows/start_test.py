"""From the start that builders give, the first steps of training lower the loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tests import test_util
from tfp_flows.math import first_steps
from tfp_flows.networks import network


def moons():
  angle = np.random.default_rng(0).uniform(0, np.pi, [256, 1])
  arc = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
  noise = np.random.default_rng(1).normal(0, 0.05, arc.shape)
  return (np.concatenate([arc[:128], 0.5 - arc[128:]]) + noise).astype('float32')


def table():
  z = np.random.default_rng(0).standard_normal([128, 20])
  x = z + 0.5 * np.roll(z, 1, axis=1) ** 2
  return ((x - x.mean(axis=0)) / x.std(axis=0)).astype('float32')


def unequal_scales():
  return table() * np.logspace(-2, 1, 20, dtype='float32')


def many_columns():
  rng = np.random.default_rng(0)
  return (rng.normal(size=[64, 400]) @ rng.normal(size=[400, 400]) / 20).astype('f4')


def images():
  """Smooth ones, and noise."""
  rng = np.random.default_rng(0)
  coarse = np.kron(rng.standard_normal([32, 2, 2, 1]), np.ones([1, 4, 4, 1]))
  return (0.5 * coarse + 0.5 * rng.standard_normal(coarse.shape)).astype('float32')


FLOWS = {
  # Without the layer that standardizes its input, and the others without
  # `output_scale`, a step raises the loss by up to thousands of percent.
  'nice': (unequal_scales, lambda: tff.nice([20], seed=0)),
  'wide_maf': (moons, lambda: tff.maf([2], num_layers=16, hidden=(512, 512), seed=0)),
  'deep_glow': (moons, lambda: tff.glow([2], num_steps=32, width=256, seed=0)),
  'deep_glow_of_images': (
    images,
    lambda: tff.glow(
      [8, 8, 1], num_levels=1, num_steps=32, width=64, num_bins=0, seed=0
    ),
  ),
  'glow_of_many_columns': (many_columns, lambda: tff.glow([400], num_steps=16, seed=0)),
  'ffjord_of_images': (
    images,
    lambda: tff.ffjord(
      [8, 8, 1],
      num_levels=1,
      num_blocks=4,
      hidden=(64, 64),
      solver='rk4',
      solver_steps=2,
      evaluation_trace='hutchinson',
      num_bins=0,
      seed=0,
    ),
  ),
  'mixture_maf': (table, lambda: tff.maf([20], transformer='mixture', seed=0)),
  'planar': (moons, lambda: tff.planar([2], seed=0)),
  'spline_maf': (table, lambda: tff.maf([20], transformer='spline', seed=0)),
  'spline_real_nvp': (moons, lambda: tff.real_nvp([2], transformer='spline', seed=0)),
}


def losses(flow, x, steps):
  """The loss before each of so many steps of Adam on one batch, and after the last."""
  flow.bijector.bijector.adapt(tf.constant(x))
  weights = list(flow.trainable_variables)
  shared = [keras.Variable(w) for w in weights]
  optimizer = keras.optimizers.Adam(1e-3)
  optimizer.build(shared)

  @tf.function
  def step(x):
    with tf.GradientTape() as tape:
      loss = -tf.reduce_mean(flow.log_prob(tf.identity(x)))
    optimizer.apply(tape.gradient(loss, weights), shared)
    return loss

  return np.array([step(tf.constant(x)) for _ in range(steps + 1)])


@pytest.mark.parametrize('name', FLOWS)
def test_no_step_raises_the_loss(name):
  data, build = FLOWS[name]
  found = losses(build(), data(), 20)
  assert max(found[1:]) < found[0] + 0.02 * abs(found[0])
  assert found[-1] < found[0] - 0.05 * abs(found[0])


def test_without_the_scale_a_step_does(monkeypatch):
  monkeypatch.setattr(first_steps, 'output_scale', lambda *_, **__: 1.0)
  data, build = FLOWS['wide_maf']
  found = losses(build(), data(), 2)
  assert max(found[1:]) > 2 * found[0]


def test_the_scale_is_a_power_of_two_of_fan_in_and_depth():
  assert first_steps.output_scale(1000, 1) == 1.0
  assert first_steps.output_scale(64, 4) == 1.0
  assert first_steps.output_scale(1152, 24) == 2.0**-5
  assert first_steps.output_scale(1152, 24 * 4) == 2.0**-7
  assert first_steps.output_scale(1152, 24, of_images=True) == 2.0**-3
  assert first_steps.output_scale(1152, None) == 1.0
  with pytest.raises(ValueError, match='depth'):
    first_steps.output_scale(8, 0)


@pytest.mark.parametrize('shape', [[6, 6, 3], [7]])
def test_a_linear_layer_starts_as_without_the_scale(shape):
  x = test_util.normal((2, *shape), 'float32')
  layers = [tff.Invertible1x1ConvLU(shape, seed=0, depth=d) for d in (None, 1, 2000)]
  assert [v.name for v in layers[1].variables] == [v.name for v in layers[0].variables]
  assert float(layers[2]._lu_scale) < 0.1
  outputs = [layer(x).numpy() for layer in layers]
  np.testing.assert_array_equal(outputs[0], outputs[2])
  for layer in layers:
    layer.lu.assign_add(1e-2 * tf.ones_like(layer.lu))
  moved = [np.abs(layer(tf.identity(x)) - y).max() for layer, y in zip(layers, outputs)]
  assert moved[2] < 0.1 * moved[0]


def test_a_field_starts_as_without_the_scale():
  x = test_util.normal((2, 6), 'float32')
  fields = [tff.FieldMLP(6, (64, 64), seed=0, depth=d) for d in (None, 64)]
  assert float(fields[1].output_scale) < 0.1
  outputs = [field(tf.constant(0.5), x).numpy() for field in fields]
  np.testing.assert_array_equal(*outputs)
  for field in fields:
    kernel = field.trainable_variables[-5]
    assert kernel.shape == (64, 6)
    kernel.assign_add(1e-2 * tf.ones_like(kernel))
  moved = [
    np.abs(f(tf.constant(0.5), tf.identity(x)) - y).max()
    for f, y in zip(fields, outputs)
  ]
  assert 0 < moved[1] < 0.1 * moved[0]


class AtTime(keras.Model):
  """A field at one time."""

  def __init__(self, field):
    super().__init__()
    self.field = field

  def call(self, x):
    return self.field(tf.constant(0.5), x)


def test_files_of_fields_without_the_scale_have_none(tmp_path, monkeypatch):
  old, new = (tff.FieldMLP(6, (64,), seed=s, depth=d) for s, d in ((0, None), (1, 64)))
  x = test_util.normal((2, 6), 'float32')
  models = [AtTime(old), AtTime(new)]
  expected, _ = (model(x) for model in models)
  with monkeypatch.context() as patch:
    patch.setattr(network.Network, 'save_own_variables', save_as_earlier)
    models[0].save_weights(tmp_path / 'm.weights.h5')
  models[1].load_weights(tmp_path / 'm.weights.h5')
  np.testing.assert_array_equal(models[1](x), expected)


@pytest.mark.parametrize('whole', [False, True])
def test_files_without_the_scale_of_linear_layers_have_none(
  whole, tmp_path, monkeypatch
):
  def make(seed):
    return tff.FlowModel(tff.glow([64], num_steps=2, width=8, seed=seed))

  path = tmp_path / ('m.keras' if whole else 'm.weights.h5')
  with monkeypatch.context() as patch:
    patch.setattr(first_steps, 'output_scale', lambda *_, **__: 1.0)
    old = make(0)
    (old.save if whole else old.save_weights)(path)
  new = make(1)
  scales = [v for v in new.variables if 'lu_scale' in v.name]
  assert scales
  assert not any('lu_scale' in v.name for v in old.variables)
  if whole:
    new = keras.saving.load_model(path)
  else:
    new.load_weights(path)
    np.testing.assert_array_equal(scales[0], np.ones(2))
  x = test_util.normal((3, 64), 'float32')
  np.testing.assert_allclose(new.log_prob(x), old.log_prob(x), rtol=1e-6)


def save_as_earlier(self, store):
  own = [*self._trainable_variables, *self._non_trainable_variables]
  for i, v in enumerate(v for v in own if v is not self.output_scale):
    store[f'{i}'] = v.numpy()


@pytest.mark.parametrize('name', ['ConvNet', 'MADE', 'MLP', 'ResNet'])
def test_files_without_the_scale_have_none(name, tmp_path, monkeypatch):
  def make(depth, seed):
    net = {
      'ConvNet': lambda **k: tff.ConvNet([2, 2, 1], 2, width=512, **k),
      'MADE': lambda **k: tff.MADE(2, 2, hidden=(512,), **k),
      'MLP': lambda **k: tff.MLP(2, 2, hidden=(512,), **k),
      'ResNet': lambda **k: tff.ResNet([2, 2, 1], 2, width=512, **k),
    }[name](depth=depth, seed=seed)
    test_util.perturb(net, 0.1)
    return net

  shape = [2, 2, 1] if name in ('ConvNet', 'ResNet') else [2]

  def model(net):
    x = keras.Input(shape)
    return keras.Model(x, net(x))

  old, new = make(None, 0), make(64, 1)
  assert float(new.output_scale) < 0.2
  with monkeypatch.context() as patch:
    patch.setattr(network.Network, 'save_own_variables', save_as_earlier)
    model(old).save_weights(tmp_path / 'm.weights.h5')
  model(new).load_weights(tmp_path / 'm.weights.h5')
  assert float(new.output_scale) == 1.0
  x = np.random.default_rng(0).normal(size=[3, *shape]).astype('float32')
  np.testing.assert_array_equal(new(x), old(x))
