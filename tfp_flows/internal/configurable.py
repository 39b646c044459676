"""Objects that note what they are made of, and are saved by it."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfp_flows.internal import constructors
from tfp_flows.internal import renaming
from tfp_flows.internal import serialization

__all__ = ['Configurable']


class Configurable:
  """A base of classes that Keras can serialize.

  What the constructor of an object is called with is recorded, and is what the object
  is saved by. A constructor that does more than its signature says may have another
  property `parameters`, or give them to a base of TensorFlow Probability.

  Classes of this package are registered with Keras, others need its decorator.
  """

  # Whether it is recorded: not of what shall not keep what it was made of.
  _is_recorded = True

  def __init_subclass__(cls, **kwargs: Any):
    super().__init_subclass__(**kwargs)
    if '__init__' in vars(cls):
      setattr(cls, '__init__', _recording(cls.__init__))  # noqa: B010
    if cls.__module__.startswith('tfp_flows.'):
      keras.saving.register_keras_serializable('tfp_flows')(cls)

  @property
  def parameters(self) -> dict[str, Any]:
    """What the object is made of: arguments of its constructor by their names."""
    return self._recorded_arguments() or {}

  def _recorded_arguments(self) -> dict[str, Any] | None:
    """The arguments, defaults included; None if no constructor of ours has seen them.

    So it is with dataclasses, and where another base has the constructor.
    """
    record = vars(self).get('_recorded')
    return dict(record.arguments) if record else None

  def _record(self, cls: type, **arguments: Any) -> None:
    """For the constructor of `cls`, which chooses what is left open, as a seed.

    Subclasses whose constructors are others have other arguments.
    """
    record = vars(self).get('_recorded')
    if record and _recorder(type(self)) is vars(cls)['__init__']:
      record.arguments.update(arguments)

  def get_config(self) -> dict[str, Any]:
    """The arguments of the constructor, as JSON has them.

    Raises:
      ValueError: if there is one that cannot be saved, as a lambda, or is not known.
    """
    record = vars(self).get('_recorded')
    if record and record.has_others:
      raise ValueError(
        f'Expected arguments with names; {type(self).__name__} was created with '
        f'others, of its `*args`. Give them names, or save the weights only.'
      )
    arguments = constructors.arguments_of(type(self), self.parameters, more=True)
    return serialization.serialize_arguments(arguments)

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> Any:
    """An object of a configuration; its weights are those of a new one."""
    arguments = renaming.current(cls, config)
    return cls(**serialization.deserialize_arguments(arguments))


class _Record:
  """Hides arguments from TensorFlow, which takes variables in a dictionary for own."""

  def __init__(self, arguments: dict[str, Any], has_others: bool):
    self.arguments, self.has_others = arguments, has_others


def _recording(init: Callable[..., None]) -> Callable[..., None]:
  """A constructor that notes what an object is made of before it is."""
  signature = inspect.signature(init)

  @functools.wraps(init)
  def recording(self, *args, **kwargs):
    if type(self)._is_recorded and _recorder(type(self)) is recording:
      try:
        bound = signature.bind(self, *args, **kwargs)
      except TypeError:  # `init` says so, better.
        renaming.check(type(self).__name__, kwargs, renaming.table(type(self)))
        bound = None
      if bound is not None:
        bound.apply_defaults()
        record = _Record(*_by_name(signature, bound.arguments))
        # Past TensorFlow, which would track it.
        object.__setattr__(self, '_recorded', record)
    init(self, *args, **kwargs)

  return recording


def _recorder(cls: type) -> Any:
  """The constructor of `cls` whose signature names the arguments.

  One that passes on whatever it is given, `(*args, **kwargs)`, leaves it to its base.
  """
  for base in cls.__mro__:
    init = vars(base).get('__init__')
    if init is not None and not _passes_on(init):
      return init
  return None


@functools.cache
def _passes_on(init):
  parameters = list(inspect.signature(init).parameters.values())[1:]
  return any(p.kind is p.VAR_POSITIONAL for p in parameters) and all(
    p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters
  )


def _by_name(signature, arguments):
  """Arguments by their names, and whether there are any without one."""
  found: dict[str, Any] = {}
  has_others = False
  for name, parameter in list(signature.parameters.items())[1:]:
    value = arguments[name]
    if parameter.kind is parameter.VAR_KEYWORD:
      found |= value
    elif parameter.kind is parameter.VAR_POSITIONAL:
      has_others = bool(value)
    else:
      # Whoever owns an array or a list may write to it.
      is_open = isinstance(value, np.ndarray) or type(value) is list
      found[name] = value.copy() if is_open else value
  return found, has_others
