"""The norms of all Lipschitz networks of a flow."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfp_flows.bijectors import repeated
from tfp_flows.bijectors import residual_flow
from tfp_flows.internal import keras_parameters

__all__ = ['at_networks_with_norms', 'networks_with_norms', 'update_norms']


def networks_with_norms(module: tf.Module) -> list[Any]:
  """The networks inside a bijector or distribution that measure norms.

  Of a `Repeated` they are those of its template; see `at_networks_with_norms`.
  """
  layers = [
    layer for part in keras_parameters.parts(module) for layer in _own_networks(part)
  ]
  return list({id(layer): layer for layer in layers}.values())


def at_networks_with_norms(module: tf.Module, fn: Callable[[Any], Any]) -> list[Any]:
  """`fn(network)` for each network that measures norms, of all steps of `Repeated`."""
  found = [fn(network) for network in _own_networks(module)]
  for part in _repeated(module):
    for of_step in part.map(lambda step: at_networks_with_norms(step, fn)):
      found += of_step
  return found


def update_norms(
  module: tf.Module, tolerance: float = 1e-5, max_iterations: int = 500
) -> None:
  """Brings the norms of every Lipschitz network of `module` up to date.

  To be called after each change of the weights, or the networks may cease to be
  contractions; `FlowModel` does so in `fit` and `evaluate`. Runs in eager mode, in
  graphs and under XLA.

  Args:
    module: a bijector or a distribution.
    tolerance: power iteration stops when it moves its unit vector by less than this.
    max_iterations: most steps for one norm.
  """
  for network in _own_networks(module):
    network.update_norms(tolerance, max_iterations)
  for part in _repeated(module):
    if networks_with_norms(part):
      part.update(lambda step: update_norms(step, tolerance, max_iterations))


def _own_networks(module):
  layers = keras_parameters.keras_layers(module)
  return [layer for layer in layers if isinstance(layer, residual_flow.Normed)]


def _repeated(module):
  parts = (module, *module.submodules)
  return [part for part in parts if isinstance(part, repeated.Repeated)]
