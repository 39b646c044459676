"""What steps have to have in common to be repeated as one."""

from collections.abc import Sequence
from typing import Protocol
from typing import runtime_checkable

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import flow_bijector
from tfp_flows.bijectors import reversible
from tfp_flows.internal import keras_parameters
from tfp_flows.internal import keras_private
from tfp_flows.internal import tfp_private
from tfp_flows.internal import weight_values

__all__ = ['check_alike', 'check_repeatable', 'moving']

tfb = tfp.bijectors

# What bijectors of TFP, and Keras layers, have whatever they compute.
_COMMON = tfp_private.COMMON_ATTRIBUTES | {'_recorded'}
_COMMON_OF_LAYERS = vars(keras.layers.Layer()).keys() | {'_recorded'}


@runtime_checkable
class HasConstants(Protocol):
  """A network that has weights which no call and no update of norms changes."""

  @property
  def constant_weights(self) -> Sequence[keras.Variable]:
    """Those among its non-trainable weights."""


def moving(template: tfb.Bijector) -> tuple[int, ...]:
  """The indices of the variables that a call or an update of norms may assign to."""
  constant = {
    id(variable)
    for network in _networks(template)
    if isinstance(network, HasConstants)
    for variable in network.constant_weights
  }
  moving = {
    id(own)
    for variable, own in keras_parameters.keras_variables(template)
    if not variable.trainable and id(variable) not in constant
  }
  for part in (template, *template.submodules):
    if isinstance(part, flow_bijector.FlowBijector):
      moving |= {id(v) for v in part.moving_variables}
  return tuple(i for i, v in enumerate(template.variables) if id(v) in moving)


def check_repeatable(steps: Sequence[tfb.Bijector], memory: str) -> None:
  """Raises `ValueError` if there is something in `steps` that no loop can have."""
  for part in (steps[0], *steps[0].submodules):
    is_composition = isinstance(part, reversible.Composition)
    if memory == 'stored' and is_composition and part.memory != memory:
      raise ValueError(
        f"Repeated with memory='stored' expects parts that are stored, too; "
        f"{part.name} is reversible. Give memory='reversible' to Repeated."
      )
  for variable, _ in keras_parameters.keras_variables(steps[0]):
    if getattr(variable, 'regularizer', None) or getattr(variable, 'constraint', None):
      raise ValueError(
        f'Repeated expects weights without regularizers and constraints, which Keras '
        f'would not apply to the stacked ones; {variable.path} has one. Use '
        f'Sequential.'
      )


def check_alike(
  steps: Sequence[tfb.Bijector], variables: Sequence[Sequence[tf.Variable]]
) -> None:
  """Raises `ValueError` unless `steps` differ in the values of `variables` alone."""
  first = _signature(steps[0], variables[0])
  for i in range(1, len(steps)):
    if _signature(steps[i], variables[i]) != first:
      raise ValueError(
        f'Repeated expects steps of equal layers with weights of equal shapes; step '
        f'{i} differs from step 0. Use Sequential.'
      )


def _networks(step):
  """The Keras layers of a step, and those inside of them."""
  layers = keras_parameters.keras_layers(step)
  return [n for layer in layers for n in keras_private.with_sublayers(layer)]


def _signature(step, variables):
  parts = [step, *step.submodules, *_networks(step)]
  return (
    [(type(part), _constants(part)) for part in parts],
    [(v.shape, v.dtype, v.trainable) for v in variables],
  )


def _constants(part):
  """What tells layers of one type apart beside their weights, as masks do."""
  if isinstance(part, keras.layers.Layer):
    keys = [k for k in vars(part) if k.endswith('activation')]
    if type(part).__module__.startswith('tfp_flows'):
      keys = vars(part).keys() - _COMMON_OF_LAYERS
  else:
    keys = vars(part).keys() - _COMMON
  return {key: _constant(vars(part)[key]) for key in keys}


def _constant(value):
  if isinstance(value, (bool, int, float, str, type(None), tf.TensorShape, tf.DType)):
    return value
  if isinstance(value, (list, tuple)):
    return [_constant(v) for v in value]
  of_its_own = (tf.Module, keras.layers.Layer, keras.Variable, tf.Variable)
  if isinstance(value, (*of_its_own, weight_values.Salt)):
    return type(value)  # Has its own place in the signature, or may differ.
  if isinstance(value, np.ndarray) or tf.is_tensor(value):
    return np.asarray(value).tolist()
  if type(value).__module__.startswith('tfp_flows'):
    return type(value), {k: _constant(v) for k, v in vars(value).items()}
  return getattr(value, '__qualname__', type(value))
