"""Seeded initial weights."""

import keras
import numpy as np

from tfp_flows.internal import seeds

__all__ = ['SeedStream']


class SeedStream:
  """An endless sequence of integer seeds, fixed by the first.

  None is a first seed that `keras.utils.set_random_seed` fixes.
  """

  def __init__(self, seed: int | None = None):
    self._generator = np.random.default_rng(seeds.default_seed(seed))

  def __call__(self) -> int:
    return int(self._generator.integers(2**31 - 1))

  def he_normal(self) -> keras.initializers.Initializer:
    """For layers followed by a rectifier; a fresh seed at each call."""
    return keras.initializers.HeNormal(seed=self())

  def glorot_uniform(self) -> keras.initializers.Initializer:
    """For layers followed by a smooth activation; a fresh seed at each call."""
    return keras.initializers.GlorotUniform(seed=self())
