"""Calls of a bijector whose errors say what is expected."""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.internal import conditions

__all__ = ['CheckedCalls']

tfb = tfp.bijectors


class CheckedCalls(tfb.Bijector):
  """The part of `FlowBijector` that checks what it is called with."""

  def forward(self, x: Any, name: str = 'forward', **kwargs: Any) -> Any:
    self._check_dtype(x, name)
    return super().forward(x, name, **kwargs)

  def inverse(self, y: Any, name: str = 'inverse', **kwargs: Any) -> Any:
    self._check_dtype(y, name)
    return super().inverse(y, name, **kwargs)

  def forward_log_det_jacobian(
    self,
    x: Any,
    event_ndims: Any = None,
    name: str = 'forward_log_det_jacobian',
    **kwargs: Any,
  ) -> Any:
    self._check_dtype(x, name)
    self._check_event_ndims(x, event_ndims, name, inverted=False)
    return super().forward_log_det_jacobian(x, event_ndims, name, **kwargs)

  def inverse_log_det_jacobian(
    self,
    y: Any,
    event_ndims: Any = None,
    name: str = 'inverse_log_det_jacobian',
    **kwargs: Any,
  ) -> Any:
    self._check_dtype(y, name)
    self._check_event_ndims(y, event_ndims, name, inverted=True)
    return super().inverse_log_det_jacobian(y, event_ndims, name, **kwargs)

  def _min_event_ndims(self, inverted: bool) -> Any:
    return self.inverse_min_event_ndims if inverted else self.forward_min_event_ndims

  def _check_condition(self, network: Any, condition: tf.Tensor | None) -> None:
    """Raises `ValueError` unless `condition` is what `network` was built for."""
    size = conditions.size_of(network)
    if size is None:
      return
    shape = None if condition is None else tuple(condition.shape)
    if shape is None or shape[-1:] != (size,):
      raise ValueError(
        f'{self.name} expects `condition` of shape [..., {size}]; received '
        f'{"none" if shape is None else list(shape)}. Pass condition=c, with a row of '
        f'{size} numbers for each event.'
      )

  def _check_event_shape(self, x, event_ndims, inverted):
    direction = 'inverse' if inverted else 'forward'

    def event_shape(x, ndims):
      if x.shape.rank is None or x.shape.rank < ndims:
        raise ValueError(self._too_few_axes(x.shape, ndims, direction))
      return x.shape[x.shape.rank - ndims :]

    tf.nest.assert_same_structure(x, event_ndims)
    shape = tf.nest.map_structure(event_shape, x, event_ndims)
    (self._inverse_event_shape if inverted else self._forward_event_shape)(shape)

  def _check_dtype(self, x, method):
    for part in tf.nest.flatten(x):
      # Arrays and numbers are converted.
      if tf.is_tensor(part) and self.dtype not in (None, part.dtype):
        raise ValueError(
          f'{self.name}.{method} expects a tensor of {self.dtype.name}; received one '
          f'of {part.dtype.name}. Cast it, or build the layer with that dtype if it is '
          f'one of floating point.'
        )

  def _check_event_ndims(self, x, event_ndims, method, inverted):
    least = self._min_event_ndims(inverted)
    if not isinstance(least, int):  # Of several parts.
      return
    ndims = least if event_ndims is None else event_ndims
    if isinstance(ndims, (int, np.integer)) and ndims < least:
      raise ValueError(
        f'{self.name}.{method} expects event_ndims >= {least}, the axes of its events; '
        f'received {ndims}. Leave it out for one log-determinant of each event.'
      )
    shape = getattr(x, 'shape', None)
    if isinstance(x, (int, float)):
      shape = ()
    if shape is not None and isinstance(ndims, (int, np.integer)):
      shape = tf.TensorShape(shape)
      if shape.rank is not None and shape.rank < ndims:
        raise ValueError(self._too_few_axes(shape, ndims, method))

  def _too_few_axes(self, shape, ndims, method):
    expected = self._event_shape_or_none()
    axes = f'of {ndims} {"axis" if ndims == 1 else "axes"}'
    is_whole = expected is not None and len(expected) == ndims
    of = f'of shape {list(expected or ())}' if is_whole else axes
    return (
      f'{self.name}.{method} expects whole events, {of}, with any batch axes before '
      f'them; received shape {shape}. For one event pass all of its axes.'
    )

  def _forward_event_shape(self, shape):
    expected = self._event_shape_or_none()
    if expected is not None and not shape.is_compatible_with(expected):
      raise ValueError(
        f'{self.name} expects events of shape {list(expected)}; received {shape}. '
        f'Build the layer for the shape of the data.'
      )
    return shape

  def _inverse_event_shape(self, shape):
    return CheckedCalls._forward_event_shape(self, shape)

  def _event_shape_or_none(self) -> tuple[int, ...] | None:
    """The event shape that the layer was built for, if it is the only one."""
    return None
