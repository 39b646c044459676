"""Planar flow."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors
from tfp_flows.flows import arguments
from tfp_flows.flows import building
from tfp_flows.flows import parametric

__all__ = ['planar']

tfd = tfp.distributions


@arguments.checked
def planar(
  event_shape: Sequence[int],
  num_layers: int = 32,
  activation: str = 'tanh',
  negative_slope: float = 0.1,
  direction: str = 'density',
  act_norm: bool = True,
  hidden: Sequence[int] = (64, 64),
  num_bins: int | None = None,
  alpha: float | None = 0.05,
  base: str = 'normal',
  condition_size: int | None = None,
  loop: bool = True,
  precision: str | None = None,
  seed: int | None = None,
  dtype: Any = tf.float32,
  name: str = 'planar',
) -> tfd.TransformedDistribution:
  """Planar flow [(Rezende and Mohamed, 2015)][1], for vectors.

  `num_layers` layers `Planar`, which cost little and do little: each moves points along
  one direction, by a function of one number. An `ActNorm` stands before each. With a
  condition, the weights of each layer are sums of variables and of a network of it, and
  a last `ActNorm`, before the base, has scale and shift from such a network.

  The paper's flow is a posterior: `direction='sampling', act_norm=False`. Its samples
  and their densities take one pass; with a `condition_size` it is amortized, and
  `tff.given(flow, c)` the posterior given `c`.

  Args:
    event_shape: `[D]`.
    num_layers: number of planar layers.
    activation: of the layers: `'tanh'` or `'leaky_relu'`, see `Planar`.
    negative_slope: of the leaky ReLU, in (0, 1].
    direction: which one takes the formula: `'density'`, data to latent, to be fitted
      to data, or `'sampling'`, latent to data, as variational inference needs it. The
      other one solves an equation for each layer.
    act_norm: whether there is an `ActNorm` before each layer.
    hidden: widths of the hidden layers of the networks of the condition; empty for
      linear maps, which do for features of an encoder.
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
    seed: int, of all initial weights.
    dtype: `tf.float32` or `tf.float64`.
    name: name of the distribution.

  Returns:
    A distribution of `event_shape`. Its `log_prob` and `sample` take `condition`.

  Raises:
    ValueError: for images, or if an option is unknown.

  #### References

  [1]: Danilo Jimenez Rezende and Shakir Mohamed. Variational Inference with Normalizing
       Flows. In _ICML_, 2015. https://arxiv.org/abs/1505.05770
  """
  make = parametric.Layers(
    'planar',
    event_shape,
    num_layers,
    direction,
    act_norm,
    hidden,
    condition_size,
    precision,
    seed,
    dtype,
  )
  size = 2 * make.event_shape[0] + 1
  options = dict(activation=activation, negative_slope=negative_slope)
  steps = [make(bijectors.Planar, size, **options) for _ in range(num_layers)]
  layers = building.repeated(steps, loop=loop)
  return make.flow(layers, num_bins, alpha, base, name)
