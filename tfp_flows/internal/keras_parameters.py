"""The bridge between Keras 3 weights and `tf.Module` variables.

Keras layers are no `tf.Module`s and `tf.Variable`s are no Keras weights: each
side silently misses what the other owns. `KerasParameters` shows Keras weights
to `tf.Module` (so to every bijector, distribution and checkpoint), and
`keras_view` shows every variable of a `tf.Module` to Keras, by shared storage.
"""

from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.internal import conditions
from tfp_flows.internal import keras_private
from tfp_flows.internal import tf_private

__all__ = [
  'KerasParameters',
  'Templated',
  'condition_size',
  'expose',
  'keras_layers',
  'keras_variables',
  'keras_view',
  'parts',
  'set_state',
  'state',
]


class KerasParameters(tf_private.Following):
  """Shows the weights of built Keras layers to `tf.Module`.

  Those of frozen layers, `layer.trainable = False`, are no `trainable_variables`.
  """

  def __init__(self, *layers: keras.layers.Layer, name: str = 'keras_parameters'):
    super().__init__(name=name)
    for layer in layers:
      if not layer.built:
        raise ValueError(
          f'Expected a built Keras layer, so that its weights can be tracked; '
          f'received the unbuilt {layer.name!r}. Call '
          f'`layer.build(input_shape)` before passing it.'
        )
    self.layers = tf_private.untracked(self, layers)
    self._values = [v.value for layer in layers for v in layer.variables]

  def followed(self) -> Iterable[tuple[tf.Variable, keras.Variable]]:
    variables = (v for layer in self.layers for v in layer.variables)
    return zip(self._values, variables)


class Templated(tf_private.Following):
  """Several modules in one, whose variables take the place of those of a template."""

  @property
  def template(self) -> Any:
    """What each of them is, which is no part of this module."""
    raise NotImplementedError(f'{type(self).__name__} must have a `template`.')


class AdoptedVariable(keras.Variable):
  """A `tf.Variable` as Keras sees it: frozen while that is."""

  # What Keras says of it, and the variable, which Keras asks for before it is there.
  _may_train = True
  _adopted: tf.Variable | None = None

  def __init__(self, value: tf.Variable, owner: tf_private.Following | None, name: str):
    self._owner = owner
    dtype = value.dtype.name
    super().__init__(value, trainable=value.trainable, dtype=dtype, name=name)
    self._adopted = value

  @property
  def trainable(self) -> bool:
    if not self._may_train or self._adopted is None:
      return self._may_train
    if self._owner is not None:
      self._owner.follow()
    return self._adopted.trainable

  @trainable.setter
  def trainable(self, value: bool) -> None:
    self._may_train = bool(value)


def expose(value: Any) -> KerasParameters | None:
  """Returns `KerasParameters` of `value` if it is a Keras layer, else None."""
  if isinstance(value, keras.layers.Layer):
    return KerasParameters(value)
  return None


def parts(module: tf.Module) -> list[tf.Module]:
  """`module`, all inside of it, and that of each template, as of `Repeated`."""
  found = [module, *module.submodules]
  for part in list(found):
    if isinstance(part, Templated):
      found += parts(part.template)
  return found


def keras_layers(module: tf.Module) -> list[keras.layers.Layer]:
  """The Keras layers inside `module`, each once."""
  return _unique(
    layer
    for child in (module, *module.submodules)
    if isinstance(child, KerasParameters)
    for layer in child.layers
  )


def condition_size(module: tf.Module) -> int | None:
  """The largest `condition_size` that a part of `module` has, or None."""
  found = [*keras_layers(module), *module.submodules]
  sizes = [conditions.size_of(part) for part in found]
  return max((size for size in sizes if size is not None), default=None)


def keras_variables(module: tf.Module) -> list[tuple[keras.Variable, tf.Variable]]:
  """Each variable of the Keras layers inside `module`, with its `tf.Variable`."""
  pairs: dict[int, tuple[keras.Variable, tf.Variable]] = {}
  for child in (module, *module.submodules):
    if isinstance(child, KerasParameters):
      pairs |= {id(v): (v, value) for value, v in child.followed()}
  return list(pairs.values())


def state(module: tf.Module) -> tuple[list[np.ndarray], list[bool]]:
  """The values of `module`, and whether each Keras layer inside is frozen."""
  return [v.numpy() for v in module.variables], [not n.trainable for n in _all(module)]


def set_state(
  module: tf.Module, values: Sequence[np.ndarray], frozen: Sequence[bool]
) -> None:
  """Gives `module` the `state` of one like it."""
  for variable, value in zip(module.variables, values, strict=True):
    variable.assign(value)
  for layer, flag in zip(_all(module), frozen, strict=True):
    layer.trainable = not flag


def _all(module):
  """The Keras layers inside `module`, each before those inside of it."""
  layers = [
    layer
    for part in parts(module)
    if isinstance(part, KerasParameters)
    for layer in part.layers
  ]
  return _unique(s for layer in layers for s in keras_private.with_sublayers(layer))


def keras_view(
  module: tf.Module,
) -> tuple[list[keras.layers.Layer], list[keras.Variable]]:
  """Everything that `module` can train, as Keras sees it.

  Returns:
    layers: the Keras layers inside `module`, each once.
    variables: a `keras.Variable` for every other `tf.Variable` of `module`,
      sharing its storage.
  """
  layers = keras_layers(module)
  owned = {id(v.value) for layer in layers for v in layer.variables}
  owners = {
    id(v): part
    for part in (module, *module.submodules)
    if isinstance(part, tf_private.Following)
    for v, _ in part.followed()
  }
  adopted = [
    AdoptedVariable(v, owners.get(id(v)), name=_name(v, i))
    for i, v in enumerate(module.variables)
    if id(v) not in owned
  ]
  return layers, adopted


def _name(variable: tf.Variable, index: int) -> str:
  return f'{variable.name.split(":")[0].replace("/", "_")}_{index}'


def _unique(items: Iterable[Any]) -> list[Any]:
  return list({id(item): item for item in items}.values())
