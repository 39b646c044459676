"""StableHLO has the numbers of the model, in the runtime of JAX."""

import json
import pathlib
import runpy
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tfp_flows.internal import assignments

jax = pytest.importorskip('jax')  # Its last versions need Python 3.11.
tfd = tfp.distributions
EXAMPLE = pathlib.Path(__file__).parents[2] / 'examples' / 'stablehlo_in_jax.py'
BATCH, CONDITION = 4, 3


def affine():
  layers = [tff.ActNorm([3]), tff.Invertible1x1ConvLU([3], seed=0)]
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [3])
  flow = tfp.bijectors.Invert(tff.Sequential(layers))
  return tfd.TransformedDistribution(base, flow)


def glow():
  options = dict(num_levels=1, num_steps=2, num_bins=16, condition_size=CONDITION)
  return tff.glow([4, 4, 1], width=4, seed=0, **options)


def residual_flow():
  options = dict(num_blocks=1, width=4, num_hidden=1, lipschitz=0.6)
  return tff.residual_flow([3], seed=0, **options)


def ffjord():
  # Statistics move in training, too.
  options = dict(normalization='moving_batch_norm', solver='rk4', solver_steps=4)
  return tff.ffjord([3], hidden=[4], kinetic=0.1, seed=0, **options)


BUILDERS = dict(affine=affine, glow=glow, residual_flow=residual_flow, ffjord=ffjord)
FUNCTIONS = dict(
  affine=None,
  glow=['log_prob', 'training_step'],
  residual_flow=['decode', 'training_step'],
  ffjord=['log_prob', 'training_step'],
)


def make(name):
  distribution = BUILDERS[name]()
  test_util.perturb(distribution, 0.2)
  tff.update_norms(distribution)
  model = tff.FlowModel(distribution, seed=0)
  rate = keras.optimizers.schedules.CosineDecay(1e-2, 100)
  # With a large epsilon the update is no sign of a gradient that may be rounding.
  optimizer = keras.optimizers.Adam(rate, epsilon=0.1, global_clipnorm=10.0)
  model.compile(optimizer, jit_compile=False)
  return model


def arguments(model):
  shape = (BATCH, *model.distribution.event_shape)
  x = test_util.normal(shape, 'float32', seed=1)
  if model.num_bins is not None:
    x = tf.constant(np.random.default_rng(1).integers(0, 16, shape), tf.uint8)
  given = {}
  if model.likelihood.takes_condition:
    given['condition'] = test_util.normal((BATCH, CONDITION), 'float32', seed=2)
  return dict(x=x, **given)


@pytest.fixture(scope='module')
def load():
  """The `Function` of the example, in double precision as its `main` sets it."""
  before = jax.config.jax_enable_x64
  jax.config.update('jax_enable_x64', True)
  yield runpy.run_path(str(EXAMPLE))['Function']
  jax.config.update('jax_enable_x64', before)


@pytest.fixture(scope='module', params=BUILDERS)
def exported(request, tmp_path_factory):
  model = make(request.param)
  path = tmp_path_factory.mktemp('stablehlo') / request.param
  tff.export_stablehlo(model, path, BATCH, FUNCTIONS[request.param])
  return model, path, FUNCTIONS[request.param]


def plain(arguments):
  return {k: np.asarray(v) for k, v in arguments.items()}


def test_numbers_are_those_of_the_model(exported, load):
  model, path, names = exported
  given, seed = arguments(model), tf.constant([3, -7])
  expected, latents = {}, test_util.normal((BATCH, 3), 'float32', seed=3)
  if names is None or 'log_prob' in names:
    expected['log_prob'] = dict(log_prob=model.log_prob(seed=seed, **given))
  if names is None or 'decode' in names:
    expected['decode'] = dict(x=model.decode(latents))
  if names is None:
    expected['encode'] = dict(latents=model.encode(seed=seed, **given))
    # The noise of XLA is other noise.
    draw = tf.function(model.likelihood.sample, jit_compile=True, autograph=False)
    drawn = draw(None, seed, [BATCH], tf.constant(0.7))
    expected['sample'] = dict(samples=drawn)
  inputs = dict(given, seed=seed, temperature=0.7, latents=latents)
  for name, outputs in expected.items():
    found = load(path, name)(**plain(inputs))
    for key, value in outputs.items():
      assert found[key].dtype == value.numpy().dtype
      np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5)


def test_training_goes_as_in_tensorflow(exported, load):
  model, path, _ = exported
  given, step = arguments(model), load(path, 'training_step')

  @tf.function(autograph=False)
  def run(seed):
    return model.gradient_step(seed=seed, **given)

  seeds = [np.array([5, i], np.int32) for i in range(3)]
  expected = [run(tf.constant(seed)) for seed in seeds]
  found = [step(seed=seed, **plain(given))['loss'] for seed in seeds]
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
  assert np.ptp(found) > 1e-3
  variables = {f'weight_{i}': v for i, v in enumerate(model.distribution.variables)}
  optimizer = model.optimizer.variables
  variables |= {f'optimizer_{i}': v.value for i, v in enumerate(optimizer)}
  new = {o['name'] for o in step.outputs if o['kind'] != 'result'}
  for name, v in variables.items():
    assert name in new or not v.trainable
    if name in new:
      np.testing.assert_allclose(
        step.state[name], v.numpy(), rtol=1e-5, atol=1e-5, err_msg=v.name
      )
  assert int(step.state['optimizer_0']) == 3


def test_a_training_elsewhere_comes_back(exported, load):
  model, path, _ = exported
  step = load(path, 'training_step')
  given = plain(arguments(model))
  for i in range(2):
    step(seed=np.array([5, i], np.int32), **given)
  other = make(path.name)
  before = other.log_prob(seed=1, **arguments(model))
  tff.import_stablehlo(other, path, step.state)
  found = other.log_prob(seed=1, **arguments(model))
  assert int(other.optimizer.iterations) == int(step.state['optimizer_0'])
  for i, v in enumerate(other.distribution.variables):
    if f'weight_{i}' in step.state:
      np.testing.assert_array_equal(v.numpy(), step.state[f'weight_{i}'])
  for i, v in enumerate(other.optimizer.variables):
    np.testing.assert_array_equal(v.numpy(), step.state[f'optimizer_{i}'])
  assert np.abs(found - before).max() > 1e-4


def test_only_the_model_that_was_exported_takes_it_back(tmp_path):
  def model(seed):
    found = tff.FlowModel(tff.glow([4], num_steps=1, width=4, seed=seed))
    found.compile(keras.optimizers.Adam(1e-3), jit_compile=False)
    return found

  tff.export_stablehlo(model(0), tmp_path / 'e', BATCH, ['training_step'])
  with np.load(tmp_path / 'e' / 'arrays.npz') as arrays:
    tff.import_stablehlo(model(0), tmp_path / 'e', arrays)
    with pytest.raises(ValueError, match='no training step changes'):
      tff.import_stablehlo(model(1), tmp_path / 'e', arrays)


def test_what_comes_back_is_checked(tmp_path, exported):
  model, path, _ = exported
  arrays = dict(np.load(path / 'arrays.npz'))
  manifest = json.loads((path / 'manifest.json').read_text())
  outputs = manifest['functions']['training_step']['outputs']
  name = next(o['name'] for o in outputs if o['kind'] == 'weight' and o['shape'])
  before = [v.numpy() for v in model.distribution.variables]
  lacking = {k: v for k, v in arrays.items() if k != name}
  cases = [
    (lacking, 'received arrays without'),
    (arrays | {name: arrays[name][..., :0]}, 'of shape'),
    (arrays | {name: arrays[name] * np.float32(np.nan)}, 'finite'),
  ]
  for given, message in cases:
    with pytest.raises(ValueError, match=message):
      tff.import_stablehlo(model, path, given)
  with pytest.raises(ValueError, match='with a training_step'):
    tff.import_stablehlo(model, tmp_path, arrays)
  other = tff.FlowModel(tff.real_nvp([5], num_steps=1, width=4, seed=0))
  with pytest.raises(ValueError, match='Expected the model that was exported'):
    tff.import_stablehlo(other, path, arrays)
  for v, value in zip(model.distribution.variables, before, strict=True):
    np.testing.assert_array_equal(v.numpy(), value)


def test_the_manifest_describes_the_files(exported):
  _, path, names = exported
  manifest = json.loads((path / 'manifest.json').read_text())
  assert manifest['batch_size'] == BATCH
  assert manifest['versions']['tensorflow'] == tf.__version__
  arrays, functions = np.load(path / 'arrays.npz'), manifest['functions']
  inference = ['log_prob', 'sample', 'encode', 'decode']
  assert list(functions) == (names or [*inference, 'training_step'])
  for function in functions.values():
    assert (path / function['module']).exists()
    for entry in function['inputs']:
      if entry['kind'] != 'argument':
        value = arrays[entry['name']]
        assert list(value.shape) == entry['shape']
        assert value.dtype == entry['dtype']
  outputs = [e['name'] for e in functions['training_step']['outputs']]
  assert outputs[0] == 'loss'
  assert len(outputs) == len(set(outputs))
  (first, *_) = functions.values()
  assert {e['kind'] for e in first['outputs']} == {'result'}


def test_the_example_runs(exported, load, tmp_path, monkeypatch, capsys):
  model, path, names = exported
  if names is not None:
    return
  np.savez(tmp_path / 'in.npz', **plain(arguments(model)))
  words = ['example', str(path), 'training_step', str(tmp_path / 'out.npz')]
  words += [f'--arguments={tmp_path}/in.npz', '--steps=2']
  monkeypatch.setattr(sys, 'argv', words)
  runpy.run_path(str(EXAMPLE), run_name='__main__')
  assert capsys.readouterr().out.startswith('loss ')
  results = np.load(tmp_path / 'out.npz')
  assert results['loss'].shape == (2,)
  assert int(results['optimizer_0']) == 2


def test_assignments_are_found_in_inner_functions():
  variables = [tf.Variable(float(i)) for i in range(5)]

  @tf.function(autograph=False)
  def inner():
    variables[3].assign_add(1.0)
    return variables[0] + variables[2]

  @tf.function(autograph=False)
  def outer(x):
    def body(i):
      variables[1].assign(variables[4] + i)
      return [i + 1.0]

    tf.cond(x > 0, lambda: variables[2].assign_sub(x), lambda: variables[2] + x)
    return tf.while_loop(lambda i: i < x, body, [0.0])[0] + inner()

  function = outer.get_concrete_function(tf.TensorSpec([], tf.float32))
  handles = {id(v.handle): i for i, v in enumerate(variables)}
  captured = [handles[id(t)] for t in function.captured_inputs]
  assigned = {captured[i] for i in assignments.assigned_captures(function)}
  assert assigned == {1, 2, 3}


def test_what_cannot_be_exported(tmp_path):
  loc = tf.Variable([1.0, 2.0])
  normal = tfd.Independent(tfd.Normal(loc, 1.0), 1)
  model = tff.FlowModel(normal)
  with pytest.raises(ValueError, match=r"'sample'\]; received .*call `compile`"):
    tff.export_stablehlo(model, tmp_path / 'm', 2, ['log_prob', 'training_step'])
  with pytest.raises(ValueError, match='batch_size >= 1; received 0'):
    tff.export_stablehlo(model, tmp_path / 'm', 0)
  assert not (tmp_path / 'm').exists()
  tff.export_stablehlo(model, tmp_path / 'm', 2)
  names = {p.name for p in (tmp_path / 'm').iterdir()}
  assert names == {'arrays.npz', 'manifest.json', 'log_prob.mlirbc', 'sample.mlirbc'}
  with pytest.raises(ValueError, match='holds an export'):
    tff.export_stablehlo(model, tmp_path / 'm', 2)
  (tmp_path / 'm' / 'saved_model.pb').write_text('')
  with pytest.raises(ValueError, match='other things'):
    tff.export_stablehlo(model, tmp_path / 'm', 2, overwrite=True)
