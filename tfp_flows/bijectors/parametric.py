"""What layers share that are a formula of a few vectors and matrices."""

import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfp_flows.bijectors import flow_bijector
from tfp_flows.internal import shapes

__all__ = ['Parametric']


class Parametric(flow_bijector.FlowBijector):
  """A layer of vectors `[..., D]` with variables that a condition may move."""

  def _set_event_shape(self, event_shape: Sequence[int]) -> int:
    """To be called by the constructor; returns `D`."""
    owner = type(self).__name__
    self._event = shapes.as_event_shape(event_shape, owner)
    if len(self._event) != 1:
      raise ValueError(
        f'{owner} expects an event shape [D]; received {list(self._event)}. Flatten '
        f'the events with `tfb.Reshape`.'
      )
    return self._event[0]

  def _set_parameters(
    self,
    starts: Mapping[str, np.ndarray],
    conditioner: Callable[..., tf.Tensor] | None,
  ) -> None:
    """To be called by the constructor: makes a variable of each start, by its name."""
    self._names = tuple(starts)
    for name, start in starts.items():
      setattr(self, name, tf.Variable(start, dtype=self.dtype, name=name))
    self._conditioner = self._expose(conditioner)

  @property
  def takes_condition(self) -> bool:
    return self._conditioner is not None

  def _event_shape_or_none(self):
    return self._event

  def _values(self, condition: tf.Tensor | None) -> list[tf.Tensor]:
    """The values of the variables, with a batch shape if conditional."""
    variables = [getattr(self, name) for name in self._names]
    values = [self._weight(v) for v in variables]
    if self._conditioner is None:
      return values
    offsets = self._of_condition(self._conditioner, condition)
    sizes = [math.prod(v.shape) for v in variables]
    if offsets.shape[-1] != sum(sizes):
      listed = ', '.join(f'{n} {list(v.shape)}' for n, v in zip(self._names, variables))
      raise ValueError(
        f'{self.name} expects its conditioner to return [..., {sum(sizes)}], the '
        f'offsets of {listed}; received {offsets.shape}.'
      )
    batch = shapes.batch_shape(offsets, 1)
    return [
      value + shapes.reshape(offset, batch, value.shape)
      for value, offset in zip(values, tf.split(offsets, sizes, axis=-1))
    ]
