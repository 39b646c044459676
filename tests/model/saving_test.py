"""Whole models as `.keras` files, and what cannot be in them."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tfp_flows.internal import serialization

tfb, tfd = tfp.bijectors, tfp.distributions
CONDITION = 3


def custom_to_bijector(kwargs):
  return {}, kwargs


def composed():
  """Of our layers and TFP's, with variables, structures and one network twice."""
  mask = tff.IndexMask([True, False, True, False])
  network = tff.MLP(mask.kept_shape, 4, hidden=[4], seed=0)
  scale = tfp.util.TransformedVariable([1.0, 2.0, 3.0, 4.0], tfb.Softplus())
  coupling = tff.AffineCoupling(mask, network, 'tanh')
  layers = tfb.Chain(
    [
      coupling,
      tfb.Permute([1, 0, 3, 2]),
      tff.AffineCoupling(mask, network),
      tff.ActNorm([4]),
      tfb.Scale(scale),
      tfb.Shift(tf.Variable(tf.ones([4]), trainable=False)),
      coupling,
    ],
    name='flow',
  )
  base = tfd.MultivariateNormalDiag(tf.Variable(tf.zeros([4])), tf.ones([4]))
  return tfd.TransformedDistribution(base, tfb.Invert(layers))


MODELS = dict(
  composed=composed,
  glow=lambda: tff.glow(
    [4, 4, 1], num_steps=2, width=4, flat_latents=False, condition_size=CONDITION
  ),
  real_nvp=lambda: tff.real_nvp([3], num_steps=2, width=4, base='logistic'),
  residual=lambda: tff.residual_flow(
    [3],
    num_blocks=1,
    width=4,
    num_hidden=1,
    lipschitz=0.6,
    evaluation_log_det='roulette',
  ),
  ffjord=lambda: tff.ffjord(
    [3], hidden=[4], trainable_time=True, trace='normal', solver='rk4', solver_steps=3
  ),
  maf=lambda: tff.maf([3], num_layers=1, hidden=[4], order='random', num_bins=300),
)


def batch(model):
  shape = (4, *model.distribution.event_shape)
  given = {}
  if model.likelihood.takes_condition:
    given['condition'] = test_util.normal((4, CONDITION), 'float32', seed=2)
  if model.num_bins is None:
    return dict(x=test_util.normal(shape, 'float32'), **given)
  values = np.random.default_rng(0).integers(0, model.num_bins, shape)
  return dict(x=values.astype(model.dequantization.dtype.as_numpy_dtype), **given)


def step(model, seed):
  x = {k: tf.convert_to_tensor(v) for k, v in batch(model).items()}
  return model.gradient_step(seed=tf.constant([0, seed]), **x).numpy()


@pytest.mark.parametrize('name', MODELS)
def test_a_model_is_loaded_as_it_was(name, tmp_path):
  distribution = MODELS[name]()
  test_util.perturb(distribution, 0.2)
  model = tff.FlowModel(distribution, seed=7, name='my_flow')
  model.compile(keras.optimizers.Adam(1e-2, epsilon=0.1), jit_compile=False)
  model.update_norms()
  step(model, 0)
  model.save(tmp_path / 'm.keras')
  loaded = keras.saving.load_model(tmp_path / 'm.keras')
  assert type(loaded) is tff.FlowModel
  assert loaded.name == 'my_flow'
  assert not loaded.jit_compile
  assert len(loaded.variables) == len(model.variables)
  expected = model.log_prob(seed=3, **batch(model))
  np.testing.assert_array_equal(loaded.log_prob(seed=3, **batch(model)), expected)
  # The optimizer goes on, too.
  assert [step(loaded, i) for i in (1, 2)] == [step(model, i) for i in (1, 2)]


def test_a_model_saved_before_it_is_trained(tmp_path):
  x = test_util.normal([4, 2], 'float32').numpy()
  model = tff.FlowModel(tff.real_nvp([2], num_steps=1, width=2, seed=0), seed=0)
  model.compile(keras.optimizers.Adam(0.1), jit_compile=False)
  model.save(tmp_path / 'm.keras')
  loaded = keras.saving.load_model(tmp_path / 'm.keras')
  assert not loaded.optimizer.built
  found, expected = (m.fit(x, verbose=0, epochs=2).history for m in (loaded, model))
  assert found == expected


@pytest.mark.parametrize('solver', ['bdf', 'dormand_prince'])
def test_solvers_are_kept(solver):
  flow = tff.ffjord([2], hidden=[2], solver=solver, tolerance=1e-2)
  config = json.loads(json.dumps(serialization.serialize(flow)))
  assert '0.01' in str(config)
  copy = serialization.deserialize(config)
  assert json.loads(json.dumps(serialization.serialize(copy))) == config


def test_a_network_in_two_places_stays_one():
  model = tff.FlowModel(composed(), seed=0)
  config = json.loads(json.dumps(model.get_config()))
  copy = tff.FlowModel.from_config(config)
  first, _, second, *_, last = copy.distribution.bijector.bijector.bijectors
  assert first is last
  assert first is not second
  assert first._conditioner is second._conditioner
  assert len(copy.trainable_variables) == len(model.trainable_variables)


def test_nothing_need_be_imported_but_the_library(tmp_path):
  model = tff.FlowModel(tff.real_nvp([2], num_steps=1, width=2, seed=0))
  model.save(tmp_path / 'm.keras')
  code = (
    'import tfp_flows as tff\n'
    f'model = tff.load_model(r"{tmp_path}/m.keras")\n'
    'print(float(model.distribution.log_prob([[1.0, 2.0]])[0]))'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr
  expected = model.distribution.log_prob([[1.0, 2.0]])[0]
  np.testing.assert_allclose(float(done.stdout), expected, rtol=1e-5)


def flow(layer, **options):
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [4])
  return tfd.TransformedDistribution(base, tfb.Invert(layer), **options)


class Unregistered(tff.FlowBijector):
  """Of a user who forgot the decorator."""

  def __init__(self):
    super().__init__(forward_min_event_ndims=1, parameters={})


@keras.saving.register_keras_serializable('tests')
def half(x):
  return 0.5 * x


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (
      lambda mask: tff.AdditiveCoupling(mask, lambda x: 2.0 * x),
      r'lambda.* at distribution.bijector.bijector.bijectors\[1\].conditioner. Give it',
    ),
    (lambda mask: Unregistered(), r'Unregistered.* at .*bijectors\[1\]. Decorate'),
    (
      lambda mask: tff.Repeated([tff.AdditiveCoupling(mask, lambda x: 2.0 * x)] * 2),
      r'lambda.* at conditioner. Give it a name',
    ),
  ],
  ids=['lambda', 'unregistered', 'repeated'],
)
def test_what_cannot_be_saved_is_named(make, message, tmp_path):
  layers = tff.Sequential([tff.ActNorm([4]), make(tff.ChannelMask([4]))])
  model = tff.FlowModel(flow(layers))
  with pytest.raises(ValueError, match=message):
    model.save(tmp_path / 'm.keras')
  model.save_weights(tmp_path / 'w.weights.h5')


def test_registered_functions_are_saved():
  layer = tff.AdditiveCoupling(tff.ChannelMask([4]), half)
  copy = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
  x = test_util.normal([2, 4], 'float32')
  np.testing.assert_array_equal(copy.forward(x), layer.forward(x))


@pytest.mark.parametrize(
  'value',
  [
    3,
    [1.5, None, 'a'],
    (1, (2.0, True)),
    {'a': [1], 'type': 'array'},
    float('inf'),
    np.float32(0.5),
    np.array([[1, 2]], np.int64),
    np.zeros([0, 2], np.float32),
    np.array([True, False]),
    tf.float64,
    tf.TensorShape([2, None]),
  ],
  ids=repr,
)
def test_values_round_trip(value):
  found = serialization.deserialize(
    json.loads(json.dumps(serialization.serialize(value)))
  )
  assert type(found) is type(value)
  np.testing.assert_equal(found, value)
  if hasattr(value, 'dtype'):
    assert found.dtype == value.dtype


@pytest.mark.parametrize(
  'node',
  [
    {'type': 'named', 'module': 'os', 'name': 'system'},
    {'type': 'named', 'module': 'tfp_flows.bijectors.act_norm', 'name': 'tf'},
    {'type': 'named', 'module': 'tfp_flows.bijectors.multiscale', 'name': 'masks'},
    {'type': 'tfp', 'name': 'math.ode.make_val_and_grad', 'arguments': {}},
    {'type': 'tfp', 'name': 'experimental.Foo', 'arguments': {}},
    {'type': 'dataclass', 'of': {'type': 'registered', 'name': 'x'}, 'arguments': {}},
    {'type': 'eval', 'code': '1'},
    {'a': 1},
  ],
  ids=lambda node: str(node.get('name', node.get('type'))),
)
def test_configurations_run_no_code(node):
  with pytest.raises(ValueError, match='Expected'):
    serialization.deserialize(node)


def test_network_configurations():
  shape = tf.TensorShape([4, 4, 2])
  network = tff.ConvNet(
    shape, np.int64(3), 4, activation=keras.activations.tanh, dtype='float64', name='n'
  )
  network.trainable = False
  config = json.loads(json.dumps(network.get_config()))
  copy = tff.ConvNet.from_config(config)
  assert json.loads(json.dumps(copy.get_config())) == config
  assert copy.dtype == 'float64'
  assert not copy.trainable_variables
  x = test_util.normal([1, 4, 4, 2])
  assert copy(x).shape == network(x).shape == (1, 4, 4, 3)


@pytest.mark.parametrize(
  'make',
  [
    lambda: tff.ResidualFlow(tff.LipschitzMLP([3], [4], lipschitz=0.6**2), [3]),
    lambda: tff.FFJORD(tff.FieldMLP(3, [4]), [3], solver=tff.RungeKutta4(2)),
  ],
  ids=['residual', 'ffjord'],
)
def test_noise_of_layers_without_seed_is_the_same(make):
  layer, x = make(), test_util.normal([2, 3], 'float32')
  test_util.perturb(layer)
  tff.update_norms(layer)
  copy = type(layer).from_config(layer.get_config())
  for v, own in zip(copy.variables, layer.variables):
    v.assign(own)
  with tff.estimation(seed=1, training=True):
    found, expected = (part.forward_and_log_det(x)[1] for part in (copy, layer))
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('build', [tff.nice, tff.real_nvp])
def test_a_frozen_model_is_frozen_when_it_is_loaded(build, tmp_path):
  model = tff.FlowModel(build([2], num_steps=2, width=4, seed=0))
  count = len(model.trainable_variables)
  model.trainable = False
  model.save(tmp_path / 'm.keras')
  loaded = keras.saving.load_model(tmp_path / 'm.keras', {'FlowModel': tff.FlowModel})
  assert not loaded.trainable_variables
  loaded.trainable = True
  assert len(loaded.trainable_variables) == count


@keras.saving.register_keras_serializable('tests')
class Doubling(tff.FlowBijector):
  def __init__(self):
    super().__init__(1)

  def _forward_and_log_det(self, x, condition=None):
    return 2.0 * x, 4.0 * np.log(2.0)

  def _inverse_and_log_det(self, y, condition=None):
    return 0.5 * y, -4.0 * np.log(2.0)


@keras.saving.register_keras_serializable('tests')
class Inner(keras.layers.Layer):
  def call(self, x):
    return x


@keras.saving.register_keras_serializable('tests')
class Outer(keras.layers.Layer):
  """A network with one of another class in it, both of a user."""

  def __init__(self, inner=None, **kwargs):
    super().__init__(**kwargs)
    self.inner = inner or Inner()
    self.built = True

  def call(self, x):
    return self.inner(x)

  def get_config(self):
    inner = keras.saving.serialize_keras_object(self.inner)
    return dict(super().get_config(), inner=inner)

  @classmethod
  def from_config(cls, config):
    inner = keras.saving.deserialize_keras_object(config.pop('inner'))
    return cls(inner, **config)


def of_user(network):
  layers = [tff.ActNorm([4]), tff.AdditiveCoupling(tff.ChannelMask([4]), network)]
  return tff.FlowModel(flow(tff.Sequential(layers)))


OF_USERS = {
  'Doubling': lambda: tff.FlowModel(
    flow(tff.Sequential([tff.ActNorm([4]), Doubling()]))
  ),
  'Inner': lambda: of_user(Outer()),
  'Outer': lambda: of_user(Outer()),
  'half': lambda: of_user(half),
  'half as an activation': lambda: of_user(tff.MLP([2], 2, [2], activation=half)),
}


@pytest.mark.parametrize('load', [keras.saving.load_model, tff.load_model])
@pytest.mark.parametrize('lost', OF_USERS)
def test_what_is_missing_is_named(lost, load, tmp_path, monkeypatch):
  path, name = tmp_path / 'm.keras', f'tests>{lost.split()[0]}'
  OF_USERS[lost]().save(path)
  load(path)
  mine = keras.saving.get_registered_object(name)
  monkeypatch.delitem(keras.saving.get_custom_objects(), name)
  with pytest.raises(ValueError, match='register_keras_serializable') as error:
    load(path)
  said = str(error.value)
  assert f'{name!r} of the file' in said
  if isinstance(mine, type):
    assert f'import its module {__name__!r}' in said
  assert len(said) < 300
  assert load(path, {name: mine}).count_params()


@pytest.mark.parametrize('load', [keras.saving.load_model, tff.load_model])
def test_a_class_that_has_changed_is_named(load, tmp_path, monkeypatch):
  path = tmp_path / 'm.keras'
  of_user(Outer()).save(path)

  def changed(self, depth, **kwargs):
    raise AssertionError

  monkeypatch.setattr(Outer, '__init__', changed)
  monkeypatch.setattr(Outer, 'from_config', classmethod(lambda c, config: c(**config)))
  with pytest.raises(ValueError, match=r"Outer what fails with.*'depth'") as error:
    load(path)
  assert len(str(error.value)) < 400


def test_other_models_of_keras_are_loaded(tmp_path, monkeypatch):
  """With a flow in it, and with what is of nobody."""
  model = keras.Sequential([keras.Input([2]), tff.MLP([2], 3, [4], seed=0), Inner()])
  model.save(tmp_path / 'm.keras')
  x = test_util.normal([5, 2], 'float32')
  np.testing.assert_array_equal(tff.load_model(tmp_path / 'm.keras')(x), model(x))
  monkeypatch.delitem(keras.saving.get_custom_objects(), 'tests>Inner')
  with pytest.raises(ValueError, match="class 'tests>Inner' of the file"):
    tff.load_model(tmp_path / 'm.keras')


def test_files_that_are_not_there(tmp_path):
  with pytest.raises(ValueError, match='File not found'):
    tff.load_model(tmp_path / 'm.keras')
