"""Inverse autoregressive flow."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.flows import arguments
from tfp_flows.flows import autoregressive
from tfp_flows.flows import building

__all__ = ['iaf']

tfd = tfp.distributions


@arguments.checked
def iaf(
  event_shape: Sequence[int],
  num_layers: int = 5,
  hidden: Sequence[int] = (256, 256),
  activation: str = 'relu',
  transformer: str | None = None,
  scale: str = 'clamp',
  act_norm: bool = True,
  order: str = 'alternating',
  linear: str | None = None,
  num_bins: int | None = None,
  alpha: float | None = 0.05,
  base: str = 'normal',
  condition_size: int | None = None,
  loop: bool = True,
  precision: str | None = None,
  seed: int | None = None,
  dtype: Any = tf.float32,
  name: str = 'iaf',
) -> tfd.TransformedDistribution:
  """Inverse autoregressive flow [(Kingma et al., 2016)][1], for vectors.

  `num_layers` autoregressive layers with `MADE` networks that read latents, not data:
  each is `tfb.Invert(tff.Autoregressive(...))`, data to latent. Samples and their
  densities, as `sample_and_log_prob` or `experimental_sample_and_log_prob` give them
  together, take one evaluation of each network: that is what variational inference
  needs. The density of other points takes the work of about one evaluation, too, but
  in D steps one after the other; to fit data, `maf` is the one to take.

  With a `condition_size` each network reads the condition: the features `h` of an
  encoder make it the paper's amortized posterior, and `tff.given(flow, h)` the one
  given `h`. A layer maps `z_i` to `(z_i + t_i) exp(l_i)`, with a bounded `l_i` in place
  of the gate of the paper's equation 10, and starts as the identity.

  Args:
    event_shape: `[D]`.
    num_layers: number of autoregressive layers.
    hidden: widths of the hidden layers of each network.
    activation: of the networks, by its Keras name.
    transformer: latent to data, `'affine'`, `'spline'` or `'mixture'`; None is affine,
      and a spline for one dimension. The inverse of a mixture is a root.
    scale: of affine transformers, see `Affine`.
    act_norm: whether there is an `ActNorm` on the data side of each layer.
    order: `'alternating'`: that of the data, and the reverse in every second layer; or
      `'random'`, one for each layer.
    linear: `'lu'` for an `Invertible1x1ConvLU` on the data side of each layer, which
      starts as a random rotation; None for none.
    num_bins: number of values of a pixel, for images that were flattened; None is 0,
      continuous data.
    alpha: of the logit, see `Preprocess`.
    base: `'normal'` or `'logistic'`.
    condition_size: `K` for a distribution given `condition` of `[..., K]`.
    loop: whether graphs have the layers in one loop, see `Repeated`, or, compiled for
      longer, one after the other.
    precision: what the networks compute in: None is Keras's global policy,
      `'mixed_bfloat16'` is bfloat16 while the flow stays in float32, `'float32'` and
      `'float64'` are the dtype itself.
    seed: int, of all initial weights and random orders.
    dtype: `tf.float32` or `tf.float64`.
    name: name of the distribution.

  Returns:
    A distribution of `event_shape`. Its `log_prob` and `sample` take
    `condition`.

  Raises:
    ValueError: for images, or if an option is unknown.

  #### References

  [1]: Diederik P. Kingma, Tim Salimans, Rafal Jozefowicz, Xi Chen, Ilya Sutskever and
       Max Welling. Improving Variational Inference with Inverse Autoregressive Flow.
       In _NeurIPS_, 2016. https://arxiv.org/abs/1606.04934
  """
  make = autoregressive.Layers(
    'iaf',
    event_shape,
    num_layers,
    hidden,
    activation,
    transformer,
    scale,
    act_norm,
    linear,
    order,
    condition_size,
    precision,
    seed,
    dtype,
  )
  event_shape, dtype = make.event_shape, make.dtype
  layers = building.preprocessing(event_shape, num_bins, alpha, dtype)
  layers += building.repeated(make.steps(inverted=True), loop=loop)
  return building.normalizing_flow(layers, event_shape, base, dtype, name)
