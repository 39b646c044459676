"""Seeded initial weights."""

import keras
import numpy as np

__all__ = ['SeedStream']


class SeedStream:
  """An endless sequence of integer seeds, fixed by the first."""

  def __init__(self, seed: int | None = None):
    self._generator = np.random.default_rng(seed)

  def __call__(self) -> int:
    return int(self._generator.integers(2**31 - 1))

  def he_normal(self) -> keras.initializers.Initializer:
    """For layers followed by a rectifier; a fresh seed at each call."""
    return keras.initializers.HeNormal(seed=self())
