"""Metrics of log-likelihoods."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal import reports
from tfp_flows.math import bits

__all__ = ['BitsPerDim', 'NegativeLogLikelihood', 'SolverWork', 'counted', 'is_empty']


class NegativeLogLikelihood(keras.metrics.Mean):
  """Weighted mean of `-log_prob`, in nats per example."""

  def __init__(self, name: str = 'loss', dtype: Any = None):
    super().__init__(name=name, dtype=dtype)

  def update_state(
    self, log_prob: tf.Tensor, sample_weight: tf.Tensor | None = None
  ) -> None:
    super().update_state(-log_prob, sample_weight=sample_weight)


class BitsPerDim(keras.metrics.Mean):
  """Weighted mean of `bits_per_dim(log_prob, num_dims)`, for integer data.

  `log_prob` must be that of the integers, or a bound of it (see
  `UniformDequantization.log_prob`): of a density at undequantized integers, bits
  are meaningless.
  """

  def __init__(self, num_dims: int, name: str = 'bits_per_dim', dtype: Any = None):
    super().__init__(name=name, dtype=dtype)
    self._num_dims = num_dims

  def update_state(
    self, log_prob: tf.Tensor, sample_weight: tf.Tensor | None = None
  ) -> None:
    super().update_state(
      bits.bits_per_dim(log_prob, self._num_dims), sample_weight=sample_weight
    )


class SolverWork:
  """Metrics of the solvers of continuous flows.

  `nfe`: evaluations of all fields in the solves of one batch, and in training
  `nfe_backward`, of those for the gradient; means over batches. `kinetic` and
  `jacobian`: weighted penalties, as they are in the loss.
  """

  def __init__(self, penalties: Iterable[str], dtype: Any = None):
    names = ['nfe', 'nfe_backward', *penalties]
    self._means = {name: keras.metrics.Mean(name, dtype=dtype) for name in names}
    self._failures = keras.metrics.Sum('solver_failures', dtype=dtype)

  @property
  def metrics(self) -> list[keras.metrics.Metric]:
    return [*self._means.values(), self._failures]

  @property
  def failures(self) -> int:
    """Solves that failed since the last reset."""
    return int(self._failures.result())

  def update(
    self,
    report: reports.Report,
    penalties: dict[str, tf.Tensor] | None = None,
    backward: tf.Tensor | None = None,
    made: tf.Tensor | None = None,
  ) -> dict[str, tf.Tensor]:
    """Takes in the report of one batch; returns what is to be logged.

    Args:
      report: of the batch.
      penalties: of its loss, in training.
      backward: evaluations for the gradient, in training.
      made: boolean scalar: whether the batch counts; failures always do.
    """
    values = dict(nfe=_total(report.evaluations)) | (penalties or {})
    if backward is not None:
      values['nfe_backward'] = backward
    failures = list(report.failures)
    if backward is not None:
      failures.append(tf.math.is_nan(backward))
    self._failures.update_state(_total(failures))
    for name, value in values.items():
      self._means[name].update_state(*counted(value, None, made))
    return {name: self._means[name].result() for name in values}


def is_empty(metric: keras.metrics.Metric) -> bool:
  """Whether a mean has seen nothing since its last reset."""
  if not isinstance(metric, keras.metrics.Mean):
    return False
  return not float(tf.convert_to_tensor(metric.count.value))


def counted(
  values: tf.Tensor, weight: tf.Tensor | None, made: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor | None]:
  """`values` and `weight`, both zero unless `made`, if that is given."""
  if made is None:
    return values, weight
  if weight is None:
    weight = tf.ones_like(values)
  return tf.where(made, values, 0), tf.where(made, weight, 0)


def _total(values):
  return sum((tf.cast(value, tf.float32) for value in values), tf.zeros([]))
