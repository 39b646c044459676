"""Layers as functions of their weights.

`value` is how a layer reads a variable of its own, `assign` how it changes one in a
call; inside of `substituted` other tensors take their place. Keras layers have the same
from `keras.StatelessScope`.
"""

import contextlib
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.internal import call
from tfp_flows.internal import keras_parameters
from tfp_flows.internal import tf_private

__all__ = [
  'Salt',
  'Substitution',
  'assign',
  'salts',
  'set_salts',
  'source',
  'substituted',
  'value',
  'with_salts',
]


class Salt:
  """What tells the noise of one layer from that of others, and is no weight.

  Attributes:
    numbers: int32, one or those of several steps.
  """

  def __init__(self, numbers: Any):
    # Larger seeds wrap, as in `tf.random.experimental.stateless_fold_in`.
    self.numbers = np.asarray(numbers, np.int64).astype(np.int32)


def salts(module: tf.Module) -> list[Salt]:
  """Those of `module` and of what is inside of it, in a fixed order."""
  parts = (module, *module.submodules)
  return [v for part in parts for v in vars(part).values() if isinstance(v, Salt)]


def set_salts(module: tf.Module, numbers: np.ndarray) -> None:
  """Gives the `salts` of `module` these numbers, one after the other."""
  for salt, part in zip(salts(module), _divided(module, numbers)):
    salt.numbers = part.numpy()


def _divided(module, numbers):
  """The part of each salt, in its shape."""
  start = 0
  for salt in salts(module):
    size = salt.numbers.size
    yield tf.reshape(numbers[start : start + size], salt.numbers.shape)
    start += size


def source(variable: Any) -> Any:
  """What stands for `variable`, or a `Salt`, here: itself, or a substitute."""
  return call.current().substitutes.get(id(variable), variable)


def value(variable: Any) -> tf.Tensor:
  """The tensor that stands for `variable`, or a `Salt`, here."""
  found = source(variable)
  return tf.convert_to_tensor(found.numbers if isinstance(found, Salt) else found)


def assign(variable: tf.Variable, tensor: tf.Tensor) -> None:
  """Gives `variable`, or its substitute, a new value."""
  substitutes: Any = call.current().substitutes
  if id(variable) in substitutes:
    substitutes[id(variable)] = tensor
  else:
    variable.assign(tensor)


class Substitution:
  """What a `substituted` block has made of its tensors."""

  def __init__(
    self,
    module: tf.Module,
    tensors: Sequence[tf.Tensor],
    pairs: Sequence[tuple[keras.Variable, tf.Variable]],
    by_id: Mapping[int, Any],
    scope: keras.StatelessScope,
  ):
    self._variables, self._tensors = module.variables, tensors
    self._keras = {id(own): v for v, own in pairs}
    self._by_id, self._scope = by_id, scope

  def value(self, index: int) -> tf.Tensor:
    """What the variable of that index is at the end of the block."""
    variable = self._variables[index]
    found = self._by_id[id(variable)]
    if id(variable) in self._keras and found is self._tensors[index]:
      found = self._scope.get_current_value(self._keras[id(variable)])
    return tf.convert_to_tensor(found)

  def is_assigned(self, index: int) -> bool:
    """Whether it was assigned to."""
    return self.value(index) is not self._tensors[index]


@contextlib.contextmanager
def with_salts(module: tf.Module, row: tf.Tensor) -> Iterator[None]:
  """Inside of it the numbers of all `salts` of `module` are those in `row`."""
  found = {id(s): part for s, part in zip(salts(module), _divided(module, row))}
  with call.within(substitutes={**call.current().substitutes, **found}):
    yield


@contextlib.contextmanager
def substituted(
  module: tf.Module, tensors: Sequence[tf.Tensor]
) -> Iterator[Substitution]:
  """Inside of it `module` has `tensors` for its `variables`, in their order.

  Raises:
    ValueError: in the end, if a trainable variable of `module` was read itself.
  """
  by_variable = {id(v): t for v, t in zip(module.variables, tensors, strict=True)}
  pairs = keras_parameters.keras_variables(module)
  given = [(v, by_variable[id(own)]) for v, own in pairs]
  by_id = {**call.current().substitutes, **by_variable}
  with call.within(substitutes=by_id), keras.StatelessScope(given) as scope:
    with tf_private.VariableWatcher() as watcher:
      yield Substitution(module, tensors, pairs, by_id, scope)
  for variable in watcher.watched_variables():
    if id(variable) in by_variable:
      raise ValueError(
        f'Expected the layers of {module.name} to read their variables as those of '
        f'tfp_flows or Keras do, so that others can take their place; '
        f'{variable.name} was read directly. Read it by `self._weight(variable)`, or '
        f'use Sequential, not Repeated.'
      )
