"""What builders of autoregressive flows share."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow_probability as tfp

from tfp_flows import bijectors
from tfp_flows import networks
from tfp_flows.flows import building

__all__ = ['Layers']

tfb = tfp.bijectors

ORDERS = ('alternating', 'random')
TRANSFORMERS = ('affine', 'spline', 'mixture')


@dataclasses.dataclass
class Layers:
  """Makes the layers of one model.

  Attributes:
    owner: name of the builder, for messages.
    event_shape: `[D]`.
    num_layers: number of autoregressive layers of the flow.
    hidden: widths of the hidden layers of each network.
    activation: of the networks, by its Keras name.
    transformer: a name of `TRANSFORMERS`; None is a spline for one dimension, and else
      affine.
    scale: of affine transformers, see `Affine`.
    act_norm: whether there is an `ActNorm` before each layer.
    linear: `'lu'` for an `Invertible1x1ConvLU` before each layer, or None.
    order: a name of `ORDERS`.
    condition_size: size of the condition, or None.
    precision: of the networks, see `network_policy`.
    seed: of all weights.
    dtype: of the flow.
  """

  owner: str
  event_shape: Sequence[int]
  num_layers: int
  hidden: Sequence[int]
  activation: str
  transformer: str | None
  scale: str
  act_norm: bool
  linear: str | None
  order: str
  condition_size: int | None
  precision: str | None
  seed: int | None
  dtype: Any

  def __post_init__(self):
    self.event_shape = building.vector_shape(self.event_shape, self.owner)
    if self.transformer is None:
      self.transformer = 'affine' if self.event_shape[0] > 1 else 'spline'
    building.check_transformer(self.transformer, TRANSFORMERS)
    building.check_positive(num_layers=self.num_layers)
    if self.linear not in (None, 'lu'):
      raise ValueError(f"Expected linear to be None or 'lu'; received {self.linear!r}.")
    if self.order not in ORDERS:
      raise ValueError(
        f"Expected order to be 'alternating' or 'random'; received {self.order!r}."
      )
    self.dtype = building.flow_dtype(self.dtype, self.owner)
    self._seeds = networks.SeedStream(self.seed)

  def steps(self, inverted: bool = False) -> list[list[tfb.Bijector]]:
    """The layers of each step, data to latents; `inverted`, as inverses."""
    return [self._step(i, inverted) for i in range(self.num_layers)]

  def _step(self, i, inverted):
    layers = []
    if self.act_norm:
      layers.append(bijectors.ActNorm(self.event_shape, dtype=self.dtype))
    if self.linear:
      layers.append(
        bijectors.Invertible1x1ConvLU(
          self.event_shape, seed=self._seeds(), dtype=self.dtype, depth=self.num_layers
        )
      )
    transformer: Any = building.transformer_of(
      str(self.transformer), self.event_shape[0], self.scale, self.dtype
    )
    network = networks.MADE(
      self.event_shape[0],
      transformer.params_per_dim,
      self.hidden,
      self.activation,
      self._order(i),
      self.condition_size,
      params_first=self.transformer == 'affine',
      seed=self._seeds(),
      depth=self.num_layers * transformer.sensitivity,
      **building.network_policy(self.dtype, self.precision),
    )
    layer = bijectors.Autoregressive(network, transformer, self.event_shape, self.dtype)
    return [*layers, tfb.Invert(layer) if inverted else layer]

  def _order(self, i):
    """The order of layer `i`, for `MADE`."""
    if self.order == 'random':
      return 'random'
    return 'reversed' if i % 2 else None
