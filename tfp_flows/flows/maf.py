"""Masked autoregressive flow."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.flows import arguments
from tfp_flows.flows import autoregressive
from tfp_flows.flows import building

__all__ = ['maf']

tfd = tfp.distributions


@arguments.checked
def maf(
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
  name: str = 'maf',
) -> tfd.TransformedDistribution:
  """Masked autoregressive flow [(Papamakarios et al., 2017)][1], for vectors.

  `num_layers` autoregressive layers with `MADE` networks. Densities take one evaluation
  of each network; samples the work of about one, in D steps one after the other. With
  `transformer='spline', linear='lu'` it is the autoregressive neural spline flow
  [(Durkan et al., 2019)][2], and with `transformer='mixture'` a neural autoregressive
  flow [(Huang et al., 2018)][3], whose deep sigmoidal layers are `MixtureCDF` with
  the affine map around them.

  Before each layer stands an `ActNorm` where the paper has batch normalisation after
  it, which would make the density of an example depend on its batch.

  Args:
    event_shape: `[D]`.
    num_layers: number of autoregressive layers.
    hidden: widths of the hidden layers of each network.
    activation: of the networks, by its Keras name.
    transformer: `'affine'`, `'spline'` or `'mixture'`; None is affine, and a spline
      for one dimension, where affine layers, however many, leave a normal distribution
      normal.
    scale: of affine transformers, see `Affine`.
    act_norm: whether there are `ActNorm`s.
    order: `'alternating'`, as in the paper: that of the data, and the reverse in every
      second layer; or `'random'`, one for each layer.
    linear: `'lu'` for an `Invertible1x1ConvLU` before each autoregressive layer, which
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

  [1]: George Papamakarios, Theo Pavlakou and Iain Murray. Masked Autoregressive Flow
       for Density Estimation. In _NeurIPS_, 2017. https://arxiv.org/abs/1705.07057
  [2]: Conor Durkan, Artur Bekasov, Iain Murray and George Papamakarios. Neural
       Spline Flows. In _NeurIPS_, 2019. https://arxiv.org/abs/1906.04032
  [3]: Chin-Wei Huang, David Krueger, Alexandre Lacoste and Aaron Courville. Neural
       Autoregressive Flows. In _ICML_, 2018. https://arxiv.org/abs/1804.00779
  """
  make = autoregressive.Layers(
    'maf',
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
  layers += building.repeated(make.steps(), loop=loop)
  return building.normalizing_flow(layers, event_shape, base, dtype, name)
