"""The workloads: what is computed, on which data. NumPy only.

A training step is the mean negative log-likelihood of one fixed batch, its gradient
and Adam's update (learning rate 1e-3), in float32, with the loss read back. Where a
library has data-dependent initialization, it has taken place.
"""

import dataclasses

import numpy as np

__all__ = ['LEARNING_RATE', 'WORKLOADS', 'Glow', 'Tabular', 'Workload', 'select']

LEARNING_RATE = 1e-3


@dataclasses.dataclass(frozen=True)
class Glow:
  """Glow of the images `[height, width, channels]`.

  Each level is a squeeze of 2x2 pixels and `num_steps` steps of an ActNorm, an
  LU-parameterised 1x1 convolution with a fixed permutation, and an affine coupling on
  half of the channels, with the scale `sigmoid(s + 2)`. Its network is a 3x3
  convolution to `width` channels, ReLU, a 1x1 convolution, ReLU and a 3x3 convolution
  that starts at zero, all with biases. Half of the channels leave after each level but
  the last; all latents are standard normal.

  Attributes:
    task: `'train'`: a training step; `'sample'`: `batch` samples; `'log_prob'`: that
      of the batch. The last two without a gradient.
    seed: of the batch.
  """

  task: str = 'train'
  num_steps: int = 8
  num_levels: int = 3
  width: int = 128
  image_shape: tuple[int, int, int] = (32, 32, 3)
  batch: int = 16
  seed: int = 0

  def data(self) -> np.ndarray:
    """The batch, `[batch, height, width, channels]`: smooth images with noise."""
    rng = np.random.default_rng(self.seed)
    height, width, channels = self.image_shape
    coarse = rng.standard_normal([self.batch, height // 8, width // 8, channels])
    smooth = np.kron(coarse, np.ones([1, 8, 8, 1]))
    noise = rng.standard_normal(smooth.shape)
    return (0.5 * smooth + 0.5 * noise).astype('float32')

  def network_shapes(self) -> list[tuple[int, int, int]]:
    """Shape `[height, width, channels]` of the input of each network.

    The output of a network has twice the channels of its input.
    """
    height, width, channels = self.image_shape
    shapes = []
    for _ in range(self.num_levels):
      height, width, channels = height // 2, width // 2, 4 * channels
      shapes += [(height, width, channels // 2)] * self.num_steps
      channels //= 2
    return shapes


@dataclasses.dataclass(frozen=True)
class Tabular:
  """Layers on vectors, over a standard normal.

  Attributes:
    layer: `'affine'`: affine couplings on half of the dimensions, in turn;
      `'autoregressive'`: affine autoregressive layers, whose density takes one pass,
      with the dimensions in another order from layer to layer; `'spline'`: couplings
      with rational-quadratic splines on [-bound, bound], linear beyond;
      `'autoregressive_spline'`: autoregressive layers with such splines.
    task: as that of `Glow`.
    hidden: units of the hidden layers of each network, with ReLU.
    seed: of the batch.
  """

  layer: str
  num_layers: int
  hidden: tuple[int, int]
  num_dims: int = 43
  batch: int = 1000
  num_bins: int = 8
  bound: float = 5.0
  task: str = 'train'
  seed: int = 0

  def data(self) -> np.ndarray:
    """The batch, `[batch, num_dims]`: dependent, skewed, of mean 0, deviation 1."""
    z = np.random.default_rng(self.seed).standard_normal([self.batch, self.num_dims])
    x = z + 0.5 * np.roll(z, 1, axis=1) ** 2
    return ((x - x.mean(axis=0)) / x.std(axis=0)).astype('float32')


Workload = Glow | Tabular

WORKLOADS: dict[str, Workload] = {
  'W1': Glow(),
  'W2_sample': Glow(task='sample'),
  'W2_log_prob': Glow(task='log_prob'),
  'W3a': Tabular('affine', 10, (128, 128)),
  'W3b': Tabular('autoregressive', 5, (256, 256)),
  'W3c': Tabular('spline', 5, (128, 128)),
  'W3d_sample': Tabular('autoregressive_spline', 5, (256, 256), task='sample'),
  'W6_K4': Glow(num_steps=4),
  'W6_K8': Glow(num_steps=8),
  'W6_K16': Glow(num_steps=16),
  'W6_K32': Glow(num_steps=32),
}


def select(names: list[str], known: list[str], what: str) -> list[str]:
  """The known names that are given, or that begin with a given one: `W3`.

  Raises:
    ValueError: if a name is none.
  """
  chosen = []
  for name in names:
    found = [k for k in known if k == name] or [k for k in known if k.startswith(name)]
    if not name or not found:
      raise ValueError(f'Expected {what} of {", ".join(known)}; received {name!r}.')
    chosen += [k for k in found if k not in chosen]
  return chosen
