"""Objects that note what they are made of, and are saved by it."""

import contextlib
import dataclasses
import functools
import inspect
import types
from typing import Any

import keras
import numpy as np

from tfp_flows.internal import serialization

__all__ = ['Configurable']


class Configurable:
  """A base of classes that Keras can serialize.

  What the constructor of an object is called with is recorded, `recorded_arguments`.
  Classes of this package are registered with Keras, others need its decorator.
  """

  def __init_subclass__(cls, **kwargs):
    super().__init_subclass__(**kwargs)
    if '__init__' in vars(cls):
      setattr(cls, '__init__', _recording(cls.__init__))  # noqa: B010
    if cls.__module__.startswith('tfp_flows.'):
      keras.saving.register_keras_serializable('tfp_flows')(cls)

  @property
  def recorded_arguments(self) -> dict[str, Any]:
    """The arguments of the constructor by name, defaults included."""
    record = vars(self).get('_recorded')
    return dict(record.arguments) if record else {}

  def _record(self, **arguments: Any) -> None:
    """For constructors that choose what is left open, as a seed."""
    vars(self)['_recorded'].arguments.update(arguments)

  def get_config(self) -> dict[str, Any]:
    """The arguments of the constructor, as JSON has them.

    Raises:
      ValueError: if there is one that cannot be saved, as a lambda.
    """
    return serialization.serialize_arguments(_unlike_private_defaults(self))

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> Any:
    """An object of a configuration; its weights are those of a new one."""
    return cls(**serialization.deserialize_arguments(config))


@dataclasses.dataclass
class _Record:
  """Hides arguments from TensorFlow, which takes variables in a dictionary for own."""

  arguments: dict[str, Any]


def _recording(init):
  """A constructor that notes what an object is made of before it is."""
  signature = inspect.signature(init)

  @functools.wraps(init)
  def recording(self, *args, **kwargs):
    # The first is that of the class itself, those of its bases follow.
    if '_recorded' not in vars(self):
      with contextlib.suppress(TypeError):  # `init` will say so.
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        record = _Record(_by_name(signature, bound.arguments))
        object.__setattr__(self, '_recorded', record)
    init(self, *args, **kwargs)

  return recording


def _by_name(signature, arguments):
  found: dict[str, Any] = {}
  for name, parameter in list(signature.parameters.items())[1:]:
    value = arguments[name]
    if parameter.kind is parameter.VAR_KEYWORD:
      found |= value
    else:
      # Whoever owns an array may write to it.
      found[name] = value.copy() if isinstance(value, np.ndarray) else value
  return found


def _unlike_private_defaults(value):
  """What `value` was made of, but for defaults that are functions without a name.

  TensorFlow Probability has such.
  """
  defaults = inspect.signature(type(value).__init__).parameters
  return {
    name: argument
    for name, argument in value.recorded_arguments.items()
    if not isinstance(argument, types.FunctionType)
    or name not in defaults
    or argument is not defaults[name].default
  }
