"""How a `FlowModel` is written to files, and read from those of earlier versions."""

import contextlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any

import keras

from tfp_flows.internal import configurable
from tfp_flows.internal import constructors
from tfp_flows.internal import keras_private
from tfp_flows.internal import missing
from tfp_flows.internal import names
from tfp_flows.model import older

__all__ = ['Saving', 'load_model']


if TYPE_CHECKING:
  from keras import Model as _Whole  # What the class is a part of.
else:
  _Whole = object


class Saving(configurable.Configurable, _Whole):
  """The part of `FlowModel` that Keras calls to save and to load."""

  def load_weights(self, filepath: str | os.PathLike[str], **kwargs: Any) -> None:
    """Like `keras.Model.load_weights`, also of files of earlier versions."""
    try:
      super().load_weights(filepath, **kwargs)
    except ValueError:
      if not older.has_older(self):
        raise
      before, is_older = older.Older(self), True
      try:
        super(Saving, before.model).load_weights(filepath, **kwargs)
      except ValueError:
        is_older = False
      if not is_older:
        raise
      before.assign()

  def load_own_variables(self, store: Mapping[str, Any]) -> None:
    own = keras_private.own_variables(self)
    for lacking in older.lacking(self):
      there = [v for v in own if id(v) not in lacking]
      if lacking and _fits(there, store):
        for i, variable in enumerate(there):
          variable.assign(store[f'{i}'])
        for variable in own:
          if id(variable) in lacking:
            variable.assign(lacking[id(variable)])
        return
    super().load_own_variables(store)

  def get_config(self) -> dict[str, Any]:
    """The distribution and the other arguments, for `save` and `keras.saving`.

    Raises:
      ValueError: if the distribution has an argument that cannot be saved, as a lambda
        or an object of a class that is not registered with Keras.
    """
    config = super().get_config()
    if constructors.takes(type(self), 'name'):
      config['name'] = self.name
    return config if self.trainable else dict(config, trainable=False)

  @classmethod
  def from_config(
    cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None
  ) -> Any:
    config = dict(config)
    trainable = config.pop('trainable', True)
    # An empty scope would hide the one around it.
    scope = keras.saving.custom_object_scope(custom_objects)
    with scope if custom_objects else contextlib.nullcontext():
      model = super().from_config(config)
    if not trainable:
      model.trainable = False
    return model

  def get_compile_config(self) -> dict[str, Any]:
    config = super().get_compile_config()
    # A file has the variables of an optimizer only if that had them.
    return config and dict(config, optimizer_built=self.optimizer.built)

  def compile_from_config(self, config: dict[str, Any]) -> None:
    config = keras.saving.deserialize_keras_object(config)
    is_built = config.pop('optimizer_built', True)
    self.compile(**config)
    if is_built:
      self.optimizer.build(self.trainable_variables)


def _fits(variables, store):
  shapes = [tuple(v.shape) for v in variables]
  there = [store[f'{i}'].shape for i in range(len(store.keys()))]
  return shapes == there


def load_model(
  filepath: str | os.PathLike[str],
  custom_objects: Mapping[str, Any] | None = None,
  compile: bool = True,
  safe_mode: bool = True,
) -> Any:
  """`keras.saving.load_model`, which knows the classes of this library.

  Names of `tfp_flows` are imported, and registered with Keras, when they are first
  used: `keras.saving.load_model` finds `FlowModel` only in programs that have used it.

  Args:
    filepath: a `.keras` file, of a `FlowModel` or of any Keras model.
    custom_objects: classes and functions by the names that they are registered by, for
      those that are not registered.
    compile: whether the model is compiled as it was when it was saved.
    safe_mode: whether lambdas in the file are refused.

  Returns:
    The model, with its weights and its optimizer.

  Raises:
    ValueError: if there is no such file, or it names a class or function that is not
      registered with Keras.
  """
  names.register_all()
  scope = dict(custom_objects or {})
  try:
    return keras.saving.load_model(filepath, scope, compile, safe_mode)
  except TypeError as error:
    raise missing.shortened(error) from error
