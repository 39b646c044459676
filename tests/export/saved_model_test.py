"""SavedModels have the numbers of the model, in a process with TensorFlow alone."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util

tfd = tfp.distributions
SCRIPT = pathlib.Path(__file__).with_name('tensorflow_alone.py')
CONDITION = 3


def glow():
  return tff.glow(
    [4, 4, 1],
    num_levels=2,
    num_steps=1,
    width=4,
    num_bins=300,
    flat_latents=False,
    condition_size=CONDITION,
    seed=0,
  )


def real_nvp():
  return tff.real_nvp([3], num_steps=1, width=4, condition_size=CONDITION, seed=0)


def residual_flow():
  # Above 64 dimensions evaluation is a roulette.
  logs = dict(evaluation_log_det=tff.RouletteLogDet(tff.geometric(0.5)))
  return tff.residual_flow(
    [3], num_blocks=1, width=4, num_hidden=1, lipschitz=0.6, seed=0, **logs
  )


def ffjord():
  options = dict(
    hidden=[4], evaluation_trace='hutchinson', solver='rk4', solver_steps=4
  )
  return tff.ffjord([3], num_blocks=1, seed=0, **options)


def maf():
  # Two layers are a loop, whose steps have other weights than its template.
  return tff.maf([3], num_layers=2, hidden=[4], condition_size=CONDITION, seed=0)


BUILDERS = dict(
  glow=glow, real_nvp=real_nvp, residual_flow=residual_flow, ffjord=ffjord, maf=maf
)


def make(name):
  distribution = BUILDERS[name]()
  test_util.perturb(distribution, 0.05)
  tff.update_norms(distribution)
  model = tff.FlowModel(distribution, seed=0)
  model.compile(jit_compile=name == 'real_nvp')
  return model


def batch(model, size):
  shape = (size, *model.distribution.event_shape)
  if model.num_bins is None:
    return test_util.normal(shape, 'float32', seed=size)
  values = np.random.default_rng(size).integers(0, model.num_bins, shape)
  return tf.constant(values, model.dequantization.dtype)


def condition(model, size):
  if not model.likelihood.takes_condition:
    return {}
  return dict(condition=test_util.normal((size, CONDITION), 'float32', seed=size))


def named(latents):
  parts = tf.nest.flatten(latents)
  if len(parts) == 1:
    return dict(latents=parts[0])
  return {f'latents_{i}': part for i, part in enumerate(parts)}


def expected_calls(model):
  """(signature, inputs, outputs) with numbers of the model."""
  seed, given, x = tf.constant([3, -7]), condition(model, 4), batch(model, 4)
  yield from log_prob_call(model, 4)
  latents = model.encode(x=x, seed=seed, **given)
  yield 'encode', dict(x=x, seed=seed, **given), named(latents)
  decoded = model.decode(latents, given.get('condition'))
  yield 'decode', named(latents) | given, dict(x=decoded)
  samples = model.sample(4, temperature=0.6, seed=seed, **given)
  arguments = dict(n=tf.constant(4), seed=seed, temperature=tf.constant(0.6))
  yield 'sample', arguments | given, dict(samples=samples)
  if model.jit_compile:
    yield from log_prob_call(model, 1)
    samples = model.sample(4, seed=seed, **given)
    arguments['temperature'] = tf.constant(1.0)
    yield 'sample', arguments | given, dict(samples=samples)


def log_prob_call(model, size):
  inputs = dict(x=batch(model, size), seed=tf.constant([3, -7]))
  inputs |= condition(model, size)
  yield 'log_prob', inputs, dict(log_prob=model.log_prob(**inputs))


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
  """name -> (model, path, [(signature, inputs, what the model says, what it says)])."""
  folder = tmp_path_factory.mktemp('saved_models')
  found, requests = {}, {}
  for name in BUILDERS:
    model, path = make(name), str(folder / name)
    tff.export_saved_model(model, path)
    calls = list(expected_calls(model))
    found[name] = model, path, calls
    for i, (signature, inputs, _) in enumerate(calls):
      keys = {f'{path}:{signature}:{i}:{k}': v for k, v in inputs.items()}
      requests |= {k: np.asarray(v) for k, v in keys.items()}
  np.savez(folder / 'requests.npz', **requests)
  files = [str(folder / name) for name in ('requests.npz', 'results.npz')]
  done = subprocess.run(
    [sys.executable, '-W', 'error', str(SCRIPT), *files],
    capture_output=True,
    text=True,
    check=False,
    cwd=folder,
  )
  assert done.returncode == 0, done.stderr
  return found, dict(np.load(files[1]))


@pytest.mark.parametrize('name', BUILDERS)
def test_numbers_are_those_of_the_model(exported, name):
  found, results = exported
  _, path, calls = found[name]
  for i, (signature, _, expected) in enumerate(calls):
    for key, value in expected.items():
      result = results[f'{path}:{signature}:{i}:{key}']
      assert result.dtype == value.numpy().dtype
      assert result.shape == value.shape
      scale = max(1.0, np.abs(value).max())
      np.testing.assert_allclose(
        result, value, rtol=0, atol=1e-5 * scale, err_msg=f'{signature} {i}'
      )
  assert len(calls) >= 4


def test_samples_stand_before_the_rows_of_the_condition(exported):
  model, path, _ = exported[0]['real_nvp']
  given = condition(model, 5)['condition']
  sample = tf.saved_model.load(path).signatures['sample']
  seed = tf.constant([1, 2])
  found = sample(
    n=tf.constant(3), seed=seed, temperature=tf.constant(1.0), condition=given
  )
  expected = model.sample(3, given, seed=seed)
  assert expected.shape == (3, 5, 3)
  np.testing.assert_allclose(found['samples'], expected, rtol=0, atol=1e-5)


def test_pixels_out_of_range_are_refused(exported):
  model, path, _ = exported[0]['glow']
  log_prob = tf.saved_model.load(path).signatures['log_prob']
  x = tf.fill([1, 4, 4, 1], tf.constant(300, tf.uint16))
  with pytest.raises(tf.errors.InvalidArgumentError, match=r'in \[0, 299\]'):
    log_prob(x=x, seed=tf.constant([0, 0]), **condition(model, 1))


def test_integers_out_of_range_are_refused(tmp_path):
  loc = tf.Variable([100.0, 200.0])
  model = tff.FlowModel(normal(loc), tff.UniformDequantization(70_000))
  tff.export_saved_model(model, tmp_path / 'm')
  log_prob = tf.saved_model.load(tmp_path / 'm').signatures['log_prob']
  seed = tf.constant([0, 0])
  found = log_prob(x=tf.constant([[101, 202]]), seed=seed)['log_prob']
  expected = model.log_prob(tf.constant([[101, 202]]), seed=seed)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  for x in ([[-1, 0]], [[0, 70_000]]):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r'in \[0, 69999\]'):
      log_prob(x=tf.constant(x), seed=seed)


def normal(loc):
  return tfd.Independent(tfd.Normal(loc, 1.0), 1)


def test_a_distribution_without_latents(tmp_path):
  loc = tf.Variable([1.0, 2.0])
  model = tff.FlowModel(normal(loc))
  tff.export_saved_model(model, tmp_path / 'm')
  loaded = tf.saved_model.load(tmp_path / 'm')
  assert set(loaded.signatures) == {'log_prob', 'sample'}
  sample = loaded.signatures['sample']
  assert set(sample.structured_input_signature[1]) == {'n', 'seed'}
  found = sample(n=tf.constant(2), seed=tf.constant([0, 5]))['samples']
  np.testing.assert_allclose(found, model.sample(2, seed=5), atol=1e-5)


def test_samples_that_are_not_finite_are_errors(tmp_path):
  model = tff.FlowModel(normal(tf.Variable([np.nan, 2.0])))
  tff.export_saved_model(model, tmp_path / 'm')
  sample = tf.saved_model.load(tmp_path / 'm').signatures['sample']
  with pytest.raises(tf.errors.InvalidArgumentError, match='Expected finite samples'):
    sample(n=tf.constant(2), seed=tf.constant([0, 5]))


def test_nothing_is_overwritten_unasked(tmp_path):
  model = tff.FlowModel(normal(tf.Variable([1.0, 2.0])))
  path = tmp_path / 'm'
  tff.export_saved_model(model, path)
  with pytest.raises(
    ValueError, match='holds an export. Pass another path, or overwrite=True'
  ):
    tff.export_saved_model(model, path)
  tff.export_saved_model(model, path, overwrite=True)
  (path / 'notes.txt').write_text('mine')
  with pytest.raises(ValueError, match="holds other things, as 'notes.txt'"):
    tff.export_saved_model(model, path, overwrite=True)
  with pytest.raises(ValueError, match='is a file'):
    tff.export_saved_model(model, path / 'notes.txt')
  assert sorted(os.listdir(path))[:3] == ['assets', 'fingerprint.pb', 'notes.txt']


def test_an_export_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
  model = tff.FlowModel(normal(tf.Variable([1.0, 2.0])))
  tff.export_saved_model(model, tmp_path / 'm')
  before = (tmp_path / 'm' / 'saved_model.pb').read_bytes()

  def full(module, folder, *_):
    pathlib.Path(folder, 'saved_model.pb').write_bytes(b'half')
    raise OSError('No space left on device')

  with monkeypatch.context() as patch, pytest.raises(OSError, match='No space'):
    patch.setattr(tf.saved_model, 'save', full)
    tff.export_saved_model(model, tmp_path / 'm', overwrite=True)
  assert (tmp_path / 'm' / 'saved_model.pb').read_bytes() == before
  # What a killed writer leaves is in the way of nobody.
  (tmp_path / 'n' / '.unfinished').mkdir(parents=True)
  (tmp_path / 'n' / '.unfinished' / 'saved_model.pb').write_bytes(b'half')
  tff.export_saved_model(model, tmp_path / 'n')
  assert sorted(p.name for p in (tmp_path / 'n').iterdir()) == sorted(
    p.name for p in (tmp_path / 'm').iterdir()
  )


def test_hidden_variables_are_named(tmp_path):
  mask = tff.ChannelMask([4])
  network = tff.MLP(mask.kept_shape, 4, hidden=[4], seed=0)
  hidden = tff.AffineCoupling(mask, lambda x: network(x))
  layers = tff.Sequential([tff.ActNorm([4]), hidden])
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [4])
  model = tff.FlowModel(tfd.TransformedDistribution(base, tfp.bijectors.Invert(layers)))
  with pytest.raises(ValueError, match='log_prob` reads to be a weight.*kernel'):
    tff.export_saved_model(model, tmp_path / 'm')
  assert not (tmp_path / 'm').exists()


def test_the_size_of_a_condition_must_be_known(tmp_path):
  network = tff.MLP(CONDITION, 8, hidden=[], seed=0)
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [4])
  layer = tff.ActNorm([4], network)
  flow = tfd.TransformedDistribution(
    base, tfp.bijectors.Invert(layer), kwargs_split_fn=lambda kwargs: ({}, kwargs)
  )
  model = tff.FlowModel(flow)
  with pytest.raises(ValueError, match='condition_size=K'):
    tff.export_saved_model(model, tmp_path / 'm')
  tff.export_saved_model(model, tmp_path / 'm', condition_size=CONDITION)
  log_prob = tf.saved_model.load(tmp_path / 'm').signatures['log_prob']
  assert log_prob.structured_input_signature[1]['condition'].shape == [None, CONDITION]


def test_variables_have_names_that_can_be_saved(tmp_path):
  flow = tff.real_nvp([2, 2, 1], num_levels=1, num_steps=1, width=2, num_blocks=1)
  assert not any(v.name.startswith('_') for v in flow.variables)
  tff.export_saved_model(tff.FlowModel(flow), tmp_path / 'export')
  assert (tmp_path / 'export' / 'saved_model.pb').exists()
