"""The examples, with few steps."""

import pathlib
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

import tfp_flows as tff
from tests import test_util
from tfp_flows.bin import flags as command_flags

EXAMPLES = pathlib.Path(__file__).parents[2] / 'examples'


@pytest.fixture(scope='module')
def load():
  """The names of an example; each defines its flags, so it is loaded once."""
  loaded = {}

  def load_once(name):
    if name not in loaded:
      # The commands, tested in the same process, have flags of the same names.
      commands = [flags.FLAGS[n] for n in (*command_flags.SHARED, 'output')]
      for flag in commands:
        delattr(flags.FLAGS, flag.name)
      known = set(flags.FLAGS)
      loaded[name] = runpy.run_path(str(EXAMPLES / f'{name}.py'))
      for flag in set(flags.FLAGS) - known:
        delattr(flags.FLAGS, flag)
      for flag in commands:
        flags.FLAGS[flag.name] = flag
    return loaded[name]

  return load_once


@pytest.fixture
def small(monkeypatch):
  """The flows of the examples have few steps, which compile sooner."""
  build = tff.real_nvp
  few = dict(num_steps=2, width=32)
  monkeypatch.setattr(tff, 'real_nvp', lambda *a, **k: build(*a, **k | few))


def test_two_moons(load, small, tmp_path):
  picture = tmp_path / 'moons.png'
  # Above the entropy of the data, below the Gaussian with its moments.
  assert 2.394 < load('two_moons')['run'](epochs=2, picture=str(picture)) < 3.295
  assert picture.exists()


def test_own_layer(load):
  # The entropy of the data is 1.960, and a normal with their moments has 2.9 or more.
  assert 1.9 < load('own_layer')['run'](epochs=8) < 2.3


def test_variational_inference(load, small, capsys):
  bounds = load('variational_inference')['run'](steps=30)
  assert set(bounds) == {'mean field', 'flow'}
  assert np.isfinite(list(bounds.values())).all()
  assert capsys.readouterr().out.count('evidence lower bound') == 2


def test_energies(load, capsys, tmp_path):
  names, picture = load('energies'), tmp_path / 'energies.png'
  # Sums over a grid, known in another way: the wave has 8 * 0.4 * sqrt(2 pi).
  assert abs(names['floor']('U2') + np.log(3.2 * np.sqrt(2 * np.pi))) < 1e-5
  assert abs(names['floor']('U1') + 1.8775) < 1e-4
  gaps = names['run'](100, [2], ['planar'], ['U1', 'U4'], str(picture))
  assert set(gaps) == {('U1', 'planar', 2), ('U4', 'planar', 2)}
  # Less than at the start: 4.5 and 7.4.
  assert all(0.2 < gap < 3.5 for gap in gaps.values()), gaps
  assert picture.exists()
  assert capsys.readouterr().out.count('gap') == 2


def test_neutra_hmc(load, small, capsys):
  sizes = load('neutra_hmc')['run'](steps=30, draws=20)
  assert set(sizes) == {'plain HMC', 'NeuTra HMC'}
  assert capsys.readouterr().out.count('effective samples') == 2


def test_neural_ode_digits(load, capsys):
  accuracies = load('neural_ode_digits')['run'](epochs=4, width=8)
  assert set(accuracies) == {'neural ODE', 'residual network'}
  # One of ten digits by chance.
  assert min(accuracies.values()) > 0.2
  ode, _, residual, _ = capsys.readouterr().out.splitlines()
  forward, backward = map(float, re.findall(r'([\d.]+) (?=forward|backward)', ode))
  assert min(forward, backward) >= 8
  assert '6.0 forward and 6.0 backward' in residual


def test_irevnet_digits(load, capsys, tmp_path):
  picture = tmp_path / 'lines.png'
  accuracy, errors = load('irevnet_digits')['run'](6, 8, 1, str(picture))
  # One of ten digits by chance.
  assert accuracy > 0.5
  assert len(errors) == 3
  assert 0 < max(errors) < 1e-3
  assert picture.exists()
  assert capsys.readouterr().out.count('error of the inverse') == 3


def test_mnist_gaussian(load):
  # Pixels that are rounded normals: a Gaussian in logit space is near enough.
  rng = np.random.default_rng(0)
  factor = rng.normal(size=[6, 6])
  x = (128 + 12 * rng.normal(size=[4000, 6]) @ factor.T / 2).clip(0, 255)
  nats, error, bits = load('mnist_gaussian')['run'](x[:3000], x[3000:])
  covariance = np.cov(x.T)
  expected = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1] / 6 / np.log(2)
  assert abs(bits - expected) < 0.1
  assert 0 < error < 1
  assert np.isfinite(nats)


def test_log_det_bias(load):
  flow = tff.residual_flow(
    [2, 2, 1],
    num_levels=1,
    num_blocks=1,
    width=4,
    num_dense_blocks=0,
    num_bins=16,
    lipschitz=0.9,
    log_det='exact',
    seed=0,
  )
  test_util.perturb(flow, 2.0)
  tff.update_norms(flow)
  model = tff.FlowModel(flow)
  images = np.random.default_rng(0).integers(0, 16, [20, 2, 2, 1]).astype(np.uint8)
  names, num_terms = load('log_det_bias'), tf.Variable(1)
  estimator = names['truncated'](num_terms)
  exact = names['bits'](model, images, tff.ExactLogDet())
  errors = []
  for n in (1, 2, 60):
    num_terms.assign(n)
    errors.append(abs(names['bits'](model, images, estimator) - exact))
  assert errors[0] > 1e-3
  assert errors[0] > errors[1] > errors[2]
  assert errors[2] < 1e-5


def test_exported_steps(tmp_path):
  script = EXAMPLES / 'benchmarks' / 'exported_steps.py'
  names = runpy.run_path(str(script))
  names['ROWS'].update(
    glow=('glow', [4, 4, 1], (2,), dict(num_levels=1, num_steps=2, width=4)),
    residual=(
      'residual_flow',
      [4, 4, 1],
      (2,),
      dict(num_levels=1, num_blocks=2, num_dense_blocks=0, width=4),
    ),
    ffjord=('ffjord', [2], (3,), dict(hidden=[4])),
  )
  names['export'](tmp_path, list(names['ROWS']), [])
  # Two networks, one for each coupling, on 2x2 pixels of 2 of the 4 channels.
  kernels = 3 * 3 * 2 * 4 + 4 * 4 + 3 * 3 * 4 * 4
  flops = names['flops_of'](tmp_path / 'glow_2', tmp_path)
  assert flops == 2 * 3 * 2 * (2 * 2 * 2) * kernels
  command = [sys.executable, script, 'run', tmp_path, '--steps=2', '--peak=0.01']
  done = subprocess.run(command, check=True, capture_output=True, text=True)
  rows = [line.split() for line in done.stdout.splitlines()[2:]]
  sizes = dict(glow=2, residual=2, ffjord=3)
  steps = [f'{k}_{n}{end}' for k, n in sizes.items() for end in ('', '_networks')]
  assert {row[0] for row in rows} == set(steps)
  for name, _, _, first, last, *_ in rows:
    assert np.isfinite([float(first), float(last)]).all()
    assert (first == last) == name.endswith('_networks')


def test_builders_side_by_side(capsys):
  found = runpy.run_path(str(EXAMPLES / 'benchmarks' / 'which_flow.py'))
  assert set(found['FLOWS']) == set(tff.flows.MODELS)
  rows = found['run'](['nice', 'maf'], '8gaussians', steps=60, batch_size=200)
  # Below a Gaussian with the moments of the data; the entropy is 2.832.
  assert 2.8 < rows['maf']['nats'] < 4.0 < rows['nice']['nats']
  assert capsys.readouterr().out.count('| `tff.') == 2
