"""Glow."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors
from tfp_flows import networks
from tfp_flows.flows import arguments
from tfp_flows.flows import building
from tfp_flows.internal import renaming
from tfp_flows.internal import shapes

__all__ = ['glow']

tfd = tfp.distributions


@renaming.renamed(coupling='transformer')
@arguments.checked
def glow(
  event_shape: Sequence[int],
  num_levels: int | None = None,
  num_steps: int = 8,
  width: int = 128,
  transformer: str = 'affine',
  scale: str = 'sigmoid',
  learn_prior: bool = True,
  act_norm_in_networks: bool = False,
  dropout: float = 0.0,
  num_bins: int | None = None,
  alpha: float | None = None,
  base: str = 'normal',
  flat_latents: bool = True,
  condition_size: int | None = None,
  memory: str = 'stored',
  loop: bool = True,
  precision: str | None = None,
  seed: int | None = None,
  dtype: Any = tf.float32,
  name: str = 'glow',
) -> tfd.TransformedDistribution:
  """Glow [(Kingma and Dhariwal, 2018)][1], for images and vectors.

  Each step is an `ActNorm`, an `Invertible1x1ConvLU` and a coupling on half of
  the channels. For images each level begins with a squeeze, and half of the
  channels leave after each level but the last.

  Args:
    event_shape: `[D]` or `[H, W, C]`.
    num_levels: number of levels, `L` in the paper; None is 2 for images and 1
      for vectors. Height and width must be multiples of `2 ** num_levels`.
    num_steps: steps per level, `K` in the paper.
    width: of the hidden layers of each network.
    transformer: of the couplings, `'affine'`, `'additive'`, `'spline'` or `'mixture'`,
      the `MixtureCDF` of Flow++.
    scale: of affine transformers, see `Affine`.
    learn_prior: whether the prior of what leaves early is a normal whose mean
      and scale depend on what stays, and that of the last latents one whose mean
      and scale per channel are trained; otherwise they are standard normals.
    act_norm_in_networks: whether the hidden layers of the convolutional
      networks are normalised too, see `ConvNet`.
    dropout: in the networks, while training.
    num_bins: number of values of a pixel; None is 256 for `[H, W, C]` and 0,
      continuous data, for `[D]`.
    alpha: of the logit, see `Preprocess`; None centres as in the paper.
    base: `'normal'` or `'logistic'`.
    flat_latents: whether the latents are one vector, or a list of one tensor per
      level, see `Multiscale`.
    condition_size: `K` for a distribution given `condition` of `[..., K]`.
    memory: `'stored'`, or `'reversible'` for gradients that need no stored
      activations, see `Sequential`.
    loop: whether graphs have the steps of a level in one loop, see `Repeated`, or,
      faster by some percent and compiled for longer, one after the other.
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

  [1]: Diederik P. Kingma and Prafulla Dhariwal. Glow: Generative Flow with
       Invertible 1x1 Convolutions. In _NeurIPS_, 2018.
       https://arxiv.org/abs/1807.03039
  """
  event_shape = shapes.as_event_shape(event_shape, 'glow')
  building.check_dimensions(event_shape, 'glow')
  dtype = building.flow_dtype(dtype, 'glow')
  is_image = len(event_shape) == 3
  if num_levels is None:
    num_levels = 2 if is_image else 1
  building.check_positive(num_levels=num_levels, num_steps=num_steps, width=width)
  building.check_divisible(event_shape, num_levels, 'glow')
  make = building.Couplings(
    transformer,
    scale,
    condition_size,
    dropout,
    dtype,
    networks.SeedStream(seed),
    num_levels * num_steps,
    precision,
  )
  network: Callable[..., keras.layers.Layer]
  options: dict[str, Any]
  network, options = networks.MLP, dict(hidden=[width, width])
  if is_image:
    network = networks.ConvNet
    options = dict(width=width, act_norm=act_norm_in_networks)

  levels, shape = [], event_shape
  for i in range(num_levels):
    layers = [bijectors.Squeeze()] if is_image else []
    if is_image:
      shape = tuple(layers[0].forward_event_shape(shape))
    steps = []
    for _ in range(num_steps):
      step = [
        bijectors.ActNorm(shape, dtype=dtype),
        bijectors.Invertible1x1ConvLU(
          shape, depth=make.depth, seed=make.seeds(), dtype=dtype
        ),
        make(bijectors.ChannelMask(shape), network, **options),
      ]
      steps.append(bijectors.Sequential(step, name='step'))
    layers.append(bijectors.Repeated(steps, memory, loop))
    is_last = i == num_levels - 1
    if learn_prior:
      layers.append(
        bijectors.ActNorm(shape, dtype=dtype, name='prior')
        if is_last
        else _split_prior(shape, make)
      )
    levels.append(bijectors.Sequential(layers, memory))
    if not is_last:
      shape = bijectors.ChannelMask(shape).kept_shape
  flow = bijectors.Multiscale(levels, event_shape, flat_latents)
  layers = building.preprocessing(event_shape, num_bins, alpha, dtype)
  return building.normalizing_flow([*layers, flow], event_shape, base, dtype, name)


def _split_prior(shape, make):
  """Normal prior of what leaves given what stays, as one more coupling."""
  mask = bijectors.ChannelMask(shape)
  outputs = 2 * mask.changed_shape[-1]
  if len(shape) == 3:
    network = networks.ConvNet(
      mask.kept_shape, outputs, **make.network_options(kernel_sizes=(3,), depth=1)
    )
  else:
    network = networks.MLP(
      mask.kept_shape, outputs, **make.network_options(hidden=(), depth=1)
    )
  return bijectors.AffineCoupling(
    mask, network, scale='clamp', dtype=make.dtype, name='split_prior'
  )
