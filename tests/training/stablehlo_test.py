"""StableHLO has the numbers of the model, in the runtime of JAX."""

import json
import pathlib
import runpy
import sys

import jax
import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tfp_flows.internal import assignments

EXAMPLE = pathlib.Path(__file__).parents[2] / 'examples' / 'stablehlo_in_jax.py'
BATCH, CONDITION = 4, 3


def glow():
  return tff.glow(
    [4, 4, 1], num_steps=2, width=4, num_bins=16, condition_size=CONDITION, seed=0
  )


def residual_flow():
  return tff.residual_flow(
    [3], num_blocks=1, width=4, num_hidden=1, lipschitz=0.8, seed=0
  )


def ffjord():
  # Statistics move in training, too.
  return tff.ffjord(
    [3], hidden=[4], normalization='moving_batch_norm', kinetic=0.1, seed=0
  )


BUILDERS = dict(glow=glow, residual_flow=residual_flow, ffjord=ffjord)


def make(name):
  distribution = BUILDERS[name]()
  test_util.perturb(distribution, 0.2)
  tff.update_norms(distribution)
  model = tff.FlowModel(distribution, seed=0)
  rate = keras.optimizers.schedules.CosineDecay(1e-2, 100)
  # With a large epsilon the update is no sign of a gradient that may be rounding.
  model.compile(keras.optimizers.Adam(rate, epsilon=0.1, global_clipnorm=10.0))
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
  tff.export_stablehlo(model, path, BATCH)
  return model, path


def plain(arguments):
  return {k: np.asarray(v) for k, v in arguments.items()}


def test_numbers_are_those_of_the_model(exported, load):
  model, path = exported
  given, seed = arguments(model), tf.constant([3, -7])
  expected = model.log_prob(seed=seed, **given)
  found = load(path, 'log_prob')(seed=seed.numpy(), **plain(given))
  np.testing.assert_allclose(found['log_prob'], expected, rtol=1e-5, atol=1e-5)

  condition = {k: v for k, v in given.items() if k == 'condition'}
  expected = model.sample(BATCH, temperature=0.7, seed=seed, **condition)
  found = load(path, 'sample')(seed=seed.numpy(), temperature=0.7, **plain(condition))
  assert found['samples'].dtype == expected.numpy().dtype
  np.testing.assert_allclose(found['samples'], expected, rtol=1e-5, atol=1e-5)

  latents = model.encode(seed=seed, **given)
  found = load(path, 'encode')(seed=seed.numpy(), **plain(given))
  np.testing.assert_allclose(found['latents'], latents, rtol=1e-5, atol=1e-5)
  found = load(path, 'decode')(latents=latents.numpy(), **plain(condition))
  expected = model.decode(latents, condition.get('condition'))
  np.testing.assert_allclose(found['x'], expected, rtol=1e-5, atol=1e-5)


def test_training_goes_as_in_tensorflow(exported, load):
  model, path = exported
  given, before = arguments(model), [v.numpy() for v in model.variables]
  step = load(path, 'training_step')
  # The export has changed nothing.
  run = tf.function(
    lambda seed: model.gradient_step(seed=seed, **given).loss,
    autograph=False,
    jit_compile=True,
  )
  expected, found = [], []
  for i in range(3):
    expected.append(run(tf.constant([5, i])))
    found.append(step(seed=np.array([5, i]), **plain(given))['loss'])
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
  assert np.ptp(found) > 1e-3
  moved = 0
  for i, v in enumerate(model.distribution.variables):
    if f'weight_{i}' in step.state:
      np.testing.assert_allclose(
        step.state[f'weight_{i}'], v.numpy(), rtol=1e-5, atol=1e-5, err_msg=v.name
      )
      moved += v.trainable
  assert moved == len(model.distribution.trainable_variables)
  for i, v in enumerate(model.optimizer.variables):
    name = f'optimizer_{i}'
    np.testing.assert_allclose(step.state[name], v.numpy(), rtol=1e-4, atol=1e-5)
  assert int(step.state['optimizer_0']) == 3
  for v, value in zip(model.variables, before):
    v.assign(value)
  model.optimizer.build(model.trainable_variables)


def test_the_manifest_describes_the_files(exported):
  model, path = exported
  manifest = json.loads((path / 'manifest.json').read_text())
  assert manifest['batch_size'] == BATCH
  assert manifest['versions']['tensorflow'] == tf.__version__
  arrays = np.load(path / 'arrays.npz')
  functions = manifest['functions']
  assert set(functions) == {'log_prob', 'sample', 'encode', 'decode', 'training_step'}
  for function in functions.values():
    assert (path / function['module']).stat().st_size > 100
    for entry in function['inputs']:
      if entry['kind'] != 'argument':
        value = arrays[entry['name']]
        assert list(value.shape) == entry['shape']
        assert value.dtype == entry['dtype']
  names = [e['name'] for e in functions['training_step']['outputs']]
  assert names[0] == 'loss'
  assert len(names) == len(set(names))
  assert not any(e['kind'] != 'result' for e in functions['log_prob']['outputs'])


def test_the_example_runs(exported, load, tmp_path, monkeypatch, capsys):
  model, path = exported
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
  normal = tfp.distributions.Independent(tfp.distributions.Normal(loc, 1.0), 1)
  model = tff.FlowModel(normal)
  with pytest.raises(ValueError, match='Expected a compiled model'):
    tff.export_stablehlo(model, tmp_path / 'm', 2)
  with pytest.raises(ValueError, match='batch_size >= 1; received 0'):
    tff.export_stablehlo(model, tmp_path / 'm', 0)
  assert not (tmp_path / 'm').exists()
  tff.export_stablehlo(model, tmp_path / 'm', 2, training_step=False)
  names = {p.name for p in (tmp_path / 'm').iterdir()}
  assert names == {'arrays.npz', 'manifest.json', 'log_prob.mlirbc', 'sample.mlirbc'}
  with pytest.raises(ValueError, match='holds an export'):
    tff.export_stablehlo(model, tmp_path / 'm', 2, training_step=False)
  (tmp_path / 'm' / 'saved_model.pb').write_text('')
  with pytest.raises(ValueError, match='other things'):
    tff.export_stablehlo(model, tmp_path / 'm', 2, overwrite=True)
