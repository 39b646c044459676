"""How a `FlowModel` is written to files, and read from those of earlier versions."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any

import keras

from tfp_flows.internal import configurable
from tfp_flows.internal import constructors
from tfp_flows.internal import keras_private
from tfp_flows.model import older

__all__ = ['Saving']


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
    with keras.saving.custom_object_scope(custom_objects or {}):
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
