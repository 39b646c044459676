import numpy as np
import pytest

from tfp_flows.data import toy

LOW, HIGH = -6.5, 6.5


@pytest.mark.parametrize('name', toy.TOYS)
def test_shape_dtype_seed_and_range(name):
  x = toy.sample(name, 1001, seed=1)
  assert x.shape == (1001, 2)
  assert x.dtype == np.float32
  assert LOW < x.min() < x.max() < HIGH
  np.testing.assert_array_equal(x, toy.sample(name, 1001, seed=1))
  assert np.abs(x - toy.sample(name, 1001, seed=2)).max() > 0.1


# Log-likelihood of the Gaussian with the moments of the data, in nats: a known
# constant of each generator, which moves with any slip in its scale.
GAUSSIAN = {
  '2spirals': 3.748,
  '8gaussians': 4.255,
  'checkerboard': 4.494,
  'circles': 3.894,
  'moons': 3.295,
  'pinwheel': 3.627,
  'rings': 3.587,
  'swissroll': 3.465,
}


@pytest.mark.parametrize('name', toy.TOYS)
def test_moments(name):
  x = toy.sample(name, 100_000, seed=0)
  _, log_det = np.linalg.slogdet(np.cov(x.T))
  assert abs(np.log(2 * np.pi) + 1 + log_det / 2 - GAUSSIAN[name]) < 0.02


def test_checkerboard_fills_alternate_squares():
  x = toy.sample('checkerboard', 5000, seed=0)
  squares = np.floor(x / 2).sum(1) % 2
  assert len(np.unique(squares)) == 1
  assert x.min() < -3.9
  assert x.max() > 3.9


def test_order_is_random():
  for name in toy.TOYS:
    x = toy.sample(name, 4000, seed=0)
    gap = np.abs(x[:2000].mean(0) - x[2000:].mean(0)).max()
    assert gap < 0.3, name


def test_unknown_name():
  with pytest.raises(ValueError, match="one of .*received 'spirals'"):
    toy.sample('spirals', 3)
