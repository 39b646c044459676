"""Sylvester flow."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors
from tfp_flows.flows import arguments
from tfp_flows.flows import building
from tfp_flows.flows import parametric

__all__ = ['sylvester']

tfd = tfp.distributions


@arguments.checked
def sylvester(
  event_shape: Sequence[int],
  num_layers: int = 8,
  rank: int | None = None,
  basis: str = 'orthogonal',
  num_reflections: int = 8,
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
  name: str = 'sylvester',
) -> tfd.TransformedDistribution:
  """Sylvester flow [(van den Berg et al., 2018)][1], for vectors.

  `num_layers` layers `Sylvester`, each a network with one hidden layer of `rank` units
  that is added to its input. An `ActNorm` stands before each. With a
  condition, the weights of each layer are sums of variables and of a network of it, and
  a last `ActNorm`, before the base, has scale and shift from such a network.

  The paper's flow is a posterior: `direction='sampling', act_norm=False`. Its samples
  and their densities take one pass; with a `condition_size` it is amortized, and
  `tff.given(flow, c)` the posterior given `c`.

  Args:
    event_shape: `[D]`.
    num_layers: number of Sylvester layers.
    rank: `M`, the hidden units of a layer, at most D; None is D, or 32 if that is
      less.
    basis: `'orthogonal'`, `'householder'` or `'triangular'`, see `Sylvester`; the last
      one with every second layer flipped.
    num_reflections: of `'householder'`.
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

  [1]: Rianne van den Berg, Leonard Hasenclever, Jakub M. Tomczak and Max Welling.
       Sylvester Normalizing Flows for Variational Inference. In _UAI_, 2018.
       https://arxiv.org/abs/1803.05649
  """
  make = parametric.Layers(
    'sylvester',
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
  size = make.event_shape[0]
  rank = min(size, 32) if rank is None else rank
  options = dict(rank=rank, basis=basis, num_reflections=num_reflections)
  in_basis = dict(orthogonal=size * rank, householder=num_reflections * size)
  count = rank * rank + 2 * rank + in_basis.get(basis, 0)
  is_triangular = basis == 'triangular'
  steps = [
    make(bijectors.Sylvester, count, flip=is_triangular and i % 2 == 1, **options)
    for i in range(num_layers)
  ]
  join = building.repeated_pairs if is_triangular else building.repeated
  return make.flow(join(steps, loop=loop), num_bins, alpha, base, name)
