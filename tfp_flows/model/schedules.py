"""Learning rates that can be lowered in the middle of a run."""

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal import configurable

__all__ = ['ScaledSchedule']


class ScaledSchedule(
  configurable.AsKeras, keras.optimizers.schedules.LearningRateSchedule
):
  """A schedule times a factor that may change while training.

  `rate(step) = factor * schedule(step)`

  The factor is a variable: the optimizer keeps its slots, and what was compiled stays
  compiled. It is part of the configuration of the schedule, and of no checkpoint.

  #### Examples

  ```python
  rate = tff.ScaledSchedule(keras.optimizers.schedules.CosineDecay(1e-3, 10_000))
  model.compile(keras.optimizers.Adam(rate))
  try:
    model.fit(x, epochs=10)
  except tff.NonFiniteError:
    rate.factor.assign(0.5 * rate.factor)
    model.fit(x, epochs=10)  # from before the bad step
  ```
  """

  def __init__(
    self,
    schedule: float | keras.optimizers.schedules.LearningRateSchedule,
    factor: float = 1.0,
    name: str = 'scaled_schedule',
  ):
    """Creates the schedule.

    Args:
      schedule: a function of the step, or a constant.
      factor: the first value of the factor, at least 0.
      name: of the schedule.

    Raises:
      ValueError: if the factor is negative or not finite.
    """
    super().__init__()
    if not 0.0 <= factor < float('inf'):
      raise ValueError(f'Expected a finite factor >= 0; received {factor}.')
    self._schedule, self._name = schedule, name
    self.factor = tf.Variable(
      float(factor), trainable=False, dtype=tf.float32, name='factor'
    )

  @property
  def schedule(self) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The schedule without its factor."""
    return self._schedule

  def __call__(self, step: Any) -> tf.Tensor:
    rate = self._schedule(step) if callable(self._schedule) else self._schedule
    return tf.cast(rate, self.factor.dtype) * self.factor

  def get_config(self) -> dict[str, Any]:
    return dict(super().get_config(), factor=float(self.factor))
