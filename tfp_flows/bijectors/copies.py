"""Copies of layers: by Python, and with other arguments."""

from typing import TYPE_CHECKING
from typing import Any

import tensorflow_probability as tfp

from tfp_flows.internal import keras_parameters
from tfp_flows.internal import serialization

__all__ = ['Copyable']

if TYPE_CHECKING:
  _Whole: Any = tfp.bijectors.Bijector  # What the class is a part of.
else:
  _Whole = object


class Copyable(_Whole):
  """The part of `FlowBijector` that makes copies.

  Python's, those of `copy` and `pickle`, are made of the configuration and the values
  of the weights: TensorFlow would copy variables that nothing reads.
  """

  def __reduce__(self):
    return _rebuilt, (serialization.serialize(self), *keras_parameters.state(self))

  def __deepcopy__(self, memo: dict[int, Any]) -> Any:
    networks = keras_parameters.keras_layers(self)
    for network in networks:
      if memo.get(id(network)) is not None:
        raise ValueError(
          f'Expected layers that share no network, or a copy of one layer that has '
          f'them all, as `tff.Sequential`; received {self.name}, whose {network.name} '
          f'was copied with another layer.'
        )
    rebuild, arguments = self.__reduce__()
    memo[id(self)] = rebuild(*arguments)
    copies = keras_parameters.keras_layers(memo[id(self)])
    memo |= {id(a): b for a, b in zip(networks, copies, strict=True)}
    return memo[id(self)]

  def __copy__(self) -> Any:
    other = object.__new__(type(self))
    other.__dict__.update(self.__dict__)
    return other

  def copy(self, **overrides: Any) -> Any:
    """The same layer with other arguments, and variables of its own.

    What is an argument, as a network, is shared; variables that the layer makes itself
    have the values of this one.

    Args:
      **overrides: of the constructor.

    Raises:
      ValueError: if the copy has variables of other shapes.
    """
    other = self._remade(overrides)
    own, copied = self.variables, other.variables
    if [v.shape for v in own] != [v.shape for v in copied]:
      raise ValueError(
        f'Expected arguments for which {self.name} has weights of the same shapes; '
        f'received {list(overrides)}. Make a new layer.'
      )
    for v, start in zip(copied, own):
      if v is not start:
        v.assign(start)
    return other

  def _remade(self, overrides):
    return super().copy(**overrides)


def _rebuilt(config, values, frozen):
  bijector = serialization.deserialize(config)
  keras_parameters.set_state(bijector, values, frozen)
  return bijector
