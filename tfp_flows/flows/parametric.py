"""What builders of planar, radial and Sylvester flows share."""

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow_probability as tfp

from tfp_flows import bijectors
from tfp_flows import networks
from tfp_flows.flows import building
from tfp_flows.flows.flow import Flow

__all__ = ['Layers']

tfb = tfp.bijectors

DIRECTIONS = ('density', 'sampling')


@dataclasses.dataclass
class Layers:
  """Makes the layers of one model, whose weights may depend on a condition.

  Attributes:
    owner: name of the builder, for messages.
    event_shape: `[D]`.
    num_layers: number of layers of the flow.
    direction: `'density'` or `'sampling'`.
    act_norm: whether there is an `ActNorm` before each layer.
    hidden: widths of the hidden layers of the networks of the condition.
    condition_size: size of the condition, or None.
    precision: of the networks, see `network_policy`.
    seed: of all weights.
    dtype: of the flow.
  """

  owner: str
  event_shape: Sequence[int]
  num_layers: int
  direction: str
  act_norm: bool
  hidden: Sequence[int]
  condition_size: int | None
  precision: str | None
  seed: int | None
  dtype: Any

  def __post_init__(self):
    self.event_shape = building.vector_shape(self.event_shape, self.owner)
    if self.direction not in DIRECTIONS:
      raise ValueError(
        f"Expected direction to be 'density' or 'sampling'; received "
        f'{self.direction!r}.'
      )
    building.check_positive(num_layers=self.num_layers)
    self.dtype = building.flow_dtype(self.dtype, self.owner)
    self._seeds = networks.SeedStream(self.seed)

  def __call__(
    self, layer: Callable[..., tfb.Bijector], num_parameters: int, **options: Any
  ) -> list[tfb.Bijector]:
    """A step, from data to latents: `layer(event_shape, **options)`, or its inverse.

    Args:
      layer: class of the layer.
      num_parameters: size of what its conditioner returns.
      **options: for its constructor.
    """
    made = layer(
      self.event_shape,
      conditioner=self._network(num_parameters),
      seed=self._seeds(),
      dtype=self.dtype,
      **options,
    )
    step = [bijectors.ActNorm(self.event_shape, dtype=self.dtype)]
    step = step if self.act_norm else []
    return [*step, tfb.Invert(made) if self.direction == 'sampling' else made]

  def flow(
    self,
    layers: Sequence[tfb.Bijector],
    num_bins: int | None,
    alpha: float | None,
    base: str,
    name: str,
  ) -> Flow:
    """The distribution of the data, whose latents `layers` make."""
    layers = [
      *building.preprocessing(self.event_shape, num_bins, alpha, self.dtype),
      *layers,
    ]
    if self.condition_size is not None:
      network = self._network(2 * self.event_shape[0])
      layers.append(bijectors.ActNorm(self.event_shape, network, dtype=self.dtype))
    return building.normalizing_flow(
      layers, self.event_shape, base, self.dtype, name, self.condition_size
    )

  def _network(self, num_outputs):
    """A network of the condition, whose outputs start at zero."""
    if self.condition_size is None:
      return None
    return networks.MLP(
      self.condition_size,
      num_outputs,
      self.hidden,
      seed=self._seeds(),
      depth=self.num_layers,
      **building.network_policy(self.dtype, self.precision),
    )
