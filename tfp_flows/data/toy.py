"""Eight 2-D densities, with the scalings in common use for flows.

The same as those of the FFJORD and Residual Flow experiments, so that figures
and likelihoods compare.
"""

from collections.abc import Callable
from collections.abc import Sequence

import numpy as np
from sklearn import datasets

__all__ = ['TOYS', 'sample']


def _swissroll(n, rng):
  x, _ = datasets.make_swiss_roll(n, noise=1.0, random_state=_state(rng))
  return x[:, [0, 2]] / 5


def _circles(n, rng):
  x, _ = datasets.make_circles(n, factor=0.5, noise=0.08, random_state=_state(rng))
  return 3 * x


def _rings(n, rng):
  counts = [n - 3 * (n // 4), n // 4, n // 4, n // 4]
  rings = []
  for count, radius in zip(counts, [1.0, 0.75, 0.5, 0.25]):
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    rings.append(radius * np.stack([np.cos(angle), np.sin(angle)], axis=1))
  x = rng.permutation(3 * np.concatenate(rings))
  return x + 0.08 * rng.standard_normal(x.shape)


def _moons(n, rng):
  x, _ = datasets.make_moons(n, noise=0.1, random_state=_state(rng))
  return 2 * x + [-1, -0.2]


def _eight_gaussians(n, rng):
  angle = 2 * np.pi * rng.integers(8, size=n) / 8
  centers = 4 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
  return (centers + 0.5 * rng.standard_normal([n, 2])) / 1.414


def _pinwheel(n, rng):
  arm = np.arange(n) % 5
  x = rng.standard_normal([n, 2]) * [0.3, 0.1] + [1, 0]
  angle = 2 * np.pi * arm / 5 + 0.25 * np.exp(x[:, 0])
  cos, sin = np.cos(angle), np.sin(angle)
  rotated = [x[:, 0] * cos + x[:, 1] * sin, x[:, 1] * cos - x[:, 0] * sin]
  return rng.permutation(2 * np.stack(rotated, axis=1))


def _two_spirals(n, rng):
  angle = np.sqrt(rng.random(n)) * 3 * np.pi
  arm = np.stack([-np.cos(angle) * angle, np.sin(angle) * angle], axis=1)
  arm += 0.5 * rng.random([n, 2])
  sign = np.where(np.arange(n) % 2, 1, -1)[:, np.newaxis]
  return rng.permutation(sign * arm / 3) + 0.1 * rng.standard_normal([n, 2])


def _checkerboard(n, rng):
  first = 4 * rng.random(n) - 2
  second = rng.random(n) - 2 * rng.integers(2, size=n) + np.floor(first) % 2
  return 2 * np.stack([first, second], axis=1)


TOYS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
  '2spirals': _two_spirals,
  '8gaussians': _eight_gaussians,
  'checkerboard': _checkerboard,
  'circles': _circles,
  'moons': _moons,
  'pinwheel': _pinwheel,
  'rings': _rings,
  'swissroll': _swissroll,
}


def sample(name: str, n: int, seed: int | Sequence[int] | None = None) -> np.ndarray:
  """Draws `n` points of the named density, in random order.

  Args:
    name: a key of `TOYS`.
    n: number of points.
    seed: int, or several of them; None draws one.

  Returns:
    float32 array `[n, 2]`.

  Raises:
    ValueError: for an unknown name.
  """
  if name not in TOYS:
    raise ValueError(f'Expected one of {sorted(TOYS)}; received {name!r}.')
  return TOYS[name](n, np.random.default_rng(seed)).astype(np.float32)


def _state(rng):
  return np.random.RandomState(rng.integers(2**31))
