"""Objects that note what they are made of, and are saved by it."""

import functools
import inspect
import types
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.internal import constructors
from tfp_flows.internal import renaming
from tfp_flows.internal import serialization

__all__ = ['AsKeras', 'Configurable', 'ConfigurableLayer']


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
    return serialization.serialize_arguments(self._arguments_with_names())

  def _arguments_with_names(self):
    record = vars(self).get('_recorded')
    if record and record.has_others:
      raise ValueError(
        f'Expected arguments with names; {type(self).__name__} was created with '
        f'others, of its `*args`. Give them names, or save the weights only.'
      )
    return constructors.arguments_of(type(self), self.parameters, more=True)

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> Any:
    """An object of a configuration; its weights are those of a new one."""
    arguments = renaming.current(cls, config)
    return cls(**serialization.deserialize_arguments(arguments))


class AsKeras(Configurable):
  """The same for objects of Keras, which have in files what Keras would write.

  Objects of Keras among the arguments are serialized by Keras, also those of classes
  that are not registered, and sequences are lists. Functions are activations.
  """

  def get_config(self) -> dict[str, Any]:
    return {k: _as_keras(v) for k, v in self._arguments_with_names().items()}


class ConfigurableLayer(AsKeras):
  """A base of Keras layers, before `keras.layers.Layer`.

  Beside what the constructor was called with their configurations have the name, the
  dtype policy and whether they are frozen, as all of Keras have.
  """

  def get_config(self) -> dict[str, Any]:
    config, of_keras = super().get_config(), keras.layers.Layer.get_config(self)
    kept = {k: v for k, v in of_keras.items() if constructors.takes(type(self), k)}
    return {**config, **kept, 'trainable': of_keras['trainable']}

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> Any:
    """A layer of a configuration; its weights are those of a new one."""
    config = dict(config)
    trainable = config.pop('trainable', True)
    layer = super().from_config(config)
    if not trainable:
      layer.trainable = False
    return layer


_OF_KERAS = (keras.layers.Layer, keras.optimizers.schedules.LearningRateSchedule)


def _as_keras(value):
  if isinstance(value, _OF_KERAS):
    return keras.saving.serialize_keras_object(value)
  if isinstance(value, types.FunctionType):
    return keras.activations.serialize(value)
  if isinstance(value, np.generic):
    return value.item()
  is_sequence = isinstance(value, (Sequence, np.ndarray, tf.TensorShape))
  if is_sequence and not isinstance(value, str):
    return [_as_keras(v) for v in value]
  return serialization.serialize(value)


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

  # Keras looks at the arguments of what is wrapped and at those of the wrapper.
  setattr(recording, '__signature__', signature)  # noqa: B010
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
