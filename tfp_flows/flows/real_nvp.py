"""RealNVP."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors
from tfp_flows import networks
from tfp_flows.flows import arguments
from tfp_flows.flows import building
from tfp_flows.internal import renaming
from tfp_flows.internal import shapes

__all__ = ['real_nvp']

tfd = tfp.distributions


@renaming.renamed(coupling='transformer')
@arguments.checked
def real_nvp(
  event_shape: Sequence[int],
  num_levels: int = 2,
  num_steps: int | None = None,
  width: int = 64,
  num_blocks: int = 2,
  transformer: str = 'affine',
  scale: str = 'tanh',
  dropout: float = 0.0,
  num_bins: int | None = None,
  alpha: float | None = 0.05,
  base: str = 'normal',
  flat_latents: bool = True,
  condition_size: int | None = None,
  memory: str = 'stored',
  loop: bool = True,
  precision: str | None = None,
  seed: int | None = None,
  dtype: Any = tf.float32,
  name: str = 'real_nvp',
) -> tfd.TransformedDistribution:
  """RealNVP [(Dinh et al., 2017)][1], for images and vectors.

  Images: each level has `num_steps` couplings with checkerboard masks, a squeeze
  and `num_steps` couplings with channel masks, then half of the channels leave;
  the last level has `num_steps + 1` checkerboard couplings. The networks are
  residual. Vectors: `num_steps` couplings on the even and the odd entries in
  turn, with MLPs of `num_blocks` hidden layers.

  Before each coupling stands an `ActNorm` where the paper has batch
  normalisation after it, which would make the density of an example depend on
  its batch.

  Args:
    event_shape: `[D]` or `[H, W, C]`.
    num_levels: for images, number of levels; height and width must be
      multiples of `2 ** num_levels`.
    num_steps: couplings, see above; None is 3 for images and 8 for vectors.
    width: of the hidden layers of each network.
    num_blocks: residual blocks, or hidden layers, of each network.
    transformer: of the couplings, `'affine'`, `'additive'`, `'spline'` or `'mixture'`,
      the `MixtureCDF` of Flow++.
    scale: of affine transformers, see `Affine`.
    dropout: in the networks, while training.
    num_bins: number of values of a pixel; None is 256 for `[H, W, C]` and 0,
      continuous data, for `[D]`.
    alpha: of the logit, see `Preprocess`.
    base: `'normal'` or `'logistic'`.
    flat_latents: whether the latents are one vector, or a list of one tensor per
      level, see `Multiscale`.
    condition_size: `K` for a distribution given `condition` of `[..., K]`.
    memory: `'stored'`, or `'reversible'` for gradients that need no stored
      activations, see `Sequential`.
    loop: whether graphs have pairs of couplings in one loop, see `Repeated`, or,
      compiled for longer, all one after the other.
    precision: what the networks compute in: None is Keras's global policy,
      `'mixed_bfloat16'` is bfloat16 while the flow stays in float32, `'float32'` and
      `'float64'` are the dtype itself.
    seed: int, of all initial weights.
    dtype: `tf.float32` or `tf.float64`.
    name: name of the distribution.

  Returns:
    A distribution of `event_shape`. Its `log_prob` and `sample` take
    `condition`.

  Raises:
    ValueError: if the image does not divide, an option is unknown, or
      `memory='reversible'` meets dropout.

  #### References

  [1]: Laurent Dinh, Jascha Sohl-Dickstein and Samy Bengio. Density estimation
       using Real NVP. In _ICLR_, 2017. https://arxiv.org/abs/1605.08803
  """
  event_shape = shapes.as_event_shape(event_shape, 'real_nvp')
  building.check_dimensions(event_shape, 'real_nvp')
  dtype = building.flow_dtype(dtype, 'real_nvp')
  if num_steps is None:
    num_steps = 3 if len(event_shape) == 3 else 8
  building.check_positive(num_levels=num_levels, num_steps=num_steps, width=width)
  building.check_divisible(event_shape, num_levels, 'real_nvp')
  building.check_positive(0, num_num_blocks=num_blocks)
  make = building.Couplings(
    transformer,
    scale,
    condition_size,
    dropout,
    dtype,
    networks.SeedStream(seed),
    _num_couplings(event_shape, num_levels, num_steps),
    precision,
  )
  layers = building.preprocessing(event_shape, num_bins, alpha, dtype)
  if len(event_shape) == 1:
    steps = []
    for i in range(num_steps):
      mask = building.alternating_mask(event_shape[0], i)
      network = make(mask, networks.MLP, hidden=[width] * num_blocks)
      steps.append([bijectors.ActNorm(event_shape, dtype=dtype), network])
    couplings = building.repeated_pairs(steps, memory, loop)
    layers.append(bijectors.Sequential(couplings, memory))
  else:
    conditioner = dict(network=networks.ResNet, width=width, num_blocks=num_blocks)
    levels = [
      bijectors.Sequential(level, memory)
      for level in _levels(
        event_shape, num_levels, num_steps, make, conditioner, memory, loop
      )
    ]
    layers.append(bijectors.Multiscale(levels, event_shape, flat_latents))
  return building.normalizing_flow(layers, event_shape, base, dtype, name)


def _num_couplings(event_shape, num_levels, num_steps):
  if len(event_shape) == 1:
    return num_steps
  return (2 * num_levels - 1) * num_steps + 1


def _levels(shape, num_levels, num_steps, make, conditioner, memory, loop):
  """The layers of each level."""

  def couplings(mask_class, count):
    steps = []
    for i in range(count):
      act_norm = bijectors.ActNorm(shape, dtype=make.dtype)
      steps.append(
        [act_norm, make(mask_class(shape, invert=bool(i % 2)), **conditioner)]
      )
    return building.repeated_pairs(steps, memory, loop)

  levels = []
  for _ in range(num_levels - 1):
    squeeze = bijectors.Squeeze(pixel_order='real_nvp')
    layers = [*couplings(bijectors.CheckerboardMask, num_steps), squeeze]
    shape = tuple(squeeze.forward_event_shape(shape))
    layers += couplings(bijectors.ChannelMask, num_steps)
    levels.append(layers)
    shape = bijectors.ChannelMask(shape).kept_shape
  last = couplings(bijectors.CheckerboardMask, num_steps + 1)
  return [*levels, last]
