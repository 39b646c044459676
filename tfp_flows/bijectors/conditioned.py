"""What layers share whose elementwise map depends on a network."""

import inspect

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import flow_bijector
from tfp_flows.bijectors import transformers
from tfp_flows.internal import conditions

__all__ = ['Conditioned']

tfb = tfp.bijectors


class Conditioned(flow_bijector.FlowBijector):
  """A layer with an elementwise bijector `transformer(conditioner(x))`."""

  def _set_conditioner(self, conditioner, transformer, params_shape):
    """To be called by the constructor; `params_shape` has the event of one number."""
    self._conditioner = self._expose(conditioner)
    # Files have variables in the order of attributes by name: it stays this one.
    self._bijector_fn = transformer
    self._changed_shape = tuple(params_shape)
    is_layer = isinstance(conditioner, keras.layers.Layer)
    call = conditioner.call if is_layer else conditioner
    self._accepts_condition = 'condition' in inspect.signature(call).parameters

  @property
  def takes_condition(self) -> bool:
    # A network of ours has the keyword always, and a use for it by its size.
    is_other = not isinstance(self._conditioner, conditions.Conditional)
    has_size = conditions.size_of(self._conditioner) is not None
    return self._accepts_condition and (is_other or has_size)

  def _inner(self, x: tf.Tensor, condition: tf.Tensor | None) -> tfb.Bijector:
    """The elementwise bijector, from one evaluation of the network."""
    self._check_condition(self._conditioner, condition)
    if self._accepts_condition and condition is not None:
      params = self._conditioner(x, condition=condition)
    else:
      params = self._conditioner(x)
    self._check_params(params)
    self._report('network', params)
    return self._bijector_fn(tf.cast(params, self.dtype))

  def _check_params(self, params):
    per_dim = transformers.params_per_dim(self._bijector_fn)
    if per_dim is None:
      return
    *space, channels = self._changed_shape
    expected = (*space, per_dim * channels)
    if tuple(params.shape[-len(expected) :]) != expected:
      raise ValueError(
        f'{self.name} expects its conditioner to return [..., '
        f'{", ".join(map(str, expected))}]: {per_dim} numbers for each changed '
        f'one; received {params.shape}.'
      )
