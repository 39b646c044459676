"""The norms of all Lipschitz networks of a flow."""

from typing import Any

import tensorflow as tf

from tfp_flows.internal import keras_parameters

__all__ = ['networks_with_norms', 'update_norms']


def networks_with_norms(module: tf.Module) -> list[Any]:
  """The networks inside a bijector or distribution that measure norms."""
  layers = keras_parameters.keras_layers(module)
  return [layer for layer in layers if hasattr(layer, 'update_norms')]


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
  for network in networks_with_norms(module):
    network.update_norms(tolerance, max_iterations)
