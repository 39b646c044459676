"""NICE."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors
from tfp_flows import networks
from tfp_flows.flows import arguments
from tfp_flows.flows import building
from tfp_flows.internal import shapes

__all__ = ['nice']

tfb = tfp.bijectors
tfd = tfp.distributions


@arguments.checked
def nice(
  event_shape: Sequence[int],
  num_steps: int = 4,
  width: int = 256,
  num_hidden: int = 3,
  base: str = 'logistic',
  dropout: float = 0.0,
  num_bins: int | None = None,
  alpha: float | None = None,
  condition_size: int | None = None,
  memory: str = 'stored',
  loop: bool = True,
  precision: str | None = None,
  seed: int | None = None,
  dtype: Any = tf.float32,
  name: str = 'nice',
) -> tfd.TransformedDistribution:
  """NICE [(Dinh et al., 2014)][1]: additive couplings, then one scaling.

  The event is flattened and each dimension scaled and shifted, which `adapt` sets from
  the data; the couplings change its odd and its even entries in turn; a scale (and
  shift) per dimension follows.

  Args:
    event_shape: `[D]` or `[H, W, C]`.
    num_steps: number of couplings.
    width: of the hidden layers of each network.
    num_hidden: number of hidden layers of each network.
    base: `'logistic'`, as in the paper, or `'normal'`.
    dropout: in the networks, while training.
    num_bins: number of values of a pixel; None is 256 for `[H, W, C]` and 0,
      continuous data, for `[D]`.
    alpha: of the logit, see `Preprocess`.
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

  #### References

  [1]: Laurent Dinh, David Krueger and Yoshua Bengio. NICE: Non-linear
       Independent Components Estimation, sections 3 and 5. 2014.
       https://arxiv.org/abs/1410.8516
  """
  event_shape = shapes.as_event_shape(event_shape, 'nice')
  building.check_dimensions(event_shape, 'nice')
  dtype = building.flow_dtype(dtype, 'nice')
  building.check_positive(num_steps=num_steps, width=width)
  building.check_positive(0, num_hidden=num_hidden)
  make = building.Couplings(
    'additive',
    'clamp',
    condition_size,
    dropout,
    dtype,
    networks.SeedStream(seed),
    num_steps,
    precision,
  )
  layers = building.preprocessing(event_shape, num_bins, alpha, dtype)
  size = tf.TensorShape(event_shape).num_elements()
  steps = [tfb.Reshape([size], event_shape)] if len(event_shape) > 1 else []
  # What is added to data of any scale is then of that scale, from the first step on.
  steps.append(bijectors.ActNorm([size], dtype=dtype, name='input_act_norm'))
  couplings = []
  for i in range(num_steps):
    mask = building.alternating_mask(size, i)
    couplings.append([make(mask, networks.MLP, hidden=[width] * num_hidden)])
  steps += building.repeated_pairs(couplings, memory, loop)
  steps.append(bijectors.ActNorm([size], dtype=dtype))
  layers.append(bijectors.Sequential(steps, memory))
  return building.normalizing_flow(layers, event_shape, base, dtype, name)
