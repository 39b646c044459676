"""Normalization by moving statistics of the batches."""

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfp_flows.bijectors import flow_bijector
from tfp_flows.internal import estimation
from tfp_flows.internal import shapes
from tfp_flows.internal import weight_values

__all__ = ['MovingBatchNorm']


class MovingBatchNorm(flow_bijector.FlowBijector):
  """Normalizes each channel by moving statistics [(Grathwohl et al., 2019)][1].

  For `x` of shape `[..., H, W, C]`, moving mean `m` and variance `v`, and trained
  vectors `s`, `b`, all of shape `[C]`:

    forward: `y = (x - m) / sqrt(v + epsilon) * exp(s) + b`
    inverse: `x = (y - b) * exp(-s) * sqrt(v + epsilon) + m`
    log-det: `log|det dy/dx| = H * W * sum(s - log(v + epsilon) / 2)`   (nats)

  For vectors `[..., D]`, `C = D` and `H = W = 1`. `m`, `s` and `b` start at 0, `v`
  at 1. `adapt(batch)` sets `m` and `v` to the statistics of that batch; the variable
  `adapted` records it, and is saved with the weights.

  In a `tff.estimation` block with `training=True`, as `FlowModel.fit` opens, `forward`
  first moves the statistics towards those of `x`,

    `m <- decay * m + (1 - decay) * mean(x)`
    `v <- decay * v + (1 - decay) * var(x)`

  and uses the result. Gradients go through the share of the batch; the log-det is
  that of the map with `m` and `v` held fixed. The code of the paper by default uses
  the statistics from before the batch, without a gradient. Everywhere else, and in
  the inverse always, the layer takes `m` and `v` as they are: an exact bijection,
  which also undoes the `forward` of a step just made.

  * `mean` and `var` are over all dimensions but the last; `var` is about the mean
    of the batch and divides by the count, so that `n` independent examples
    have `(n - 1) / n` of the variance in expectation, and a single vector has 0.
  * Sample weights are not seen: each example counts once.
  * Each evaluation in training counts as a batch; value and log-det of the same
    tensor, as in `log_prob`, are one.
  * A channel whose batch statistics are not finite keeps its `m` and `v`.
  * With several replicas of a `tf.distribute` strategy the statistics are those of
    the global batch, if its parts have the same size; `FlowModel` then runs as a
    graph, without XLA.

  #### References

  [1]: Will Grathwohl, Ricky T. Q. Chen, Jesse Bettencourt, Ilya Sutskever and David
       Duvenaud. FFJORD: Free-form Continuous Dynamics for Scalable Reversible
       Generative Models. In _ICLR_, 2019. https://arxiv.org/abs/1810.01367
  """

  def __init__(
    self,
    event_shape: Sequence[int],
    decay: float = 0.99,
    epsilon: float = 1e-5,
    affine: bool = True,
    dtype: Any = tf.float32,
    name: str = 'moving_batch_norm',
  ):
    """Creates the layer.

    Args:
      event_shape: `[D]` or `[H, W, C]`.
      decay: share of the old statistics in the new, in `[0, 1)`.
      epsilon: added to the variance; positive.
      affine: whether there are `s` and `b`; else they are 0.
      dtype: of the variables and of `x`.
      name: name of the layer.

    Raises:
      ValueError: if `event_shape` is not static or of another rank, or a number is
        out of range.
    """
    self._event = shapes.as_event_shape(event_shape, 'MovingBatchNorm')
    if not 0.0 <= decay < 1.0:
      raise ValueError(
        f'MovingBatchNorm expects decay in [0, 1), the share of the old statistics; '
        f'received {decay}.'
      )
    if not epsilon > 0.0:
      raise ValueError(
        f'MovingBatchNorm expects a positive epsilon, as a channel may be constant; '
        f'received {epsilon}.'
      )
    self._decay, self._epsilon = decay, epsilon
    with tf.name_scope(name) as scope:
      super().__init__(
        forward_min_event_ndims=len(self._event),
        dtype=dtype,
        name=scope,
      )
      zeros = tf.zeros(self._event[-1:], self.dtype)
      self.shift = tf.Variable(zeros, name='shift') if affine else zeros
      self.log_scale = tf.Variable(zeros, name='log_scale') if affine else zeros
      self.moving_mean = _statistic(zeros, 'moving_mean')
      self.moving_variance = _statistic(zeros + 1.0, 'moving_variance')
      self.adapted = tf.Variable(False, trainable=False, name='adapted')

  @property
  def is_recomputable(self) -> bool:
    return False

  def _event_shape_or_none(self):
    return self._event

  def _forward_and_log_det(self, x, condition=None):
    if estimation.current().training:
      mean, variance = self._updated(x)
    else:
      mean, variance = self._statistics()
    return self._normalized(x, mean, variance)

  def _inverse_and_log_det(self, y, condition=None):
    mean, variance = self._statistics()
    log_factor = self._log_factor(variance)
    x = (y - self._weight(self.shift)) * tf.exp(-log_factor) + mean
    return x, -self._log_det(log_factor)

  @property
  def moving_variables(self) -> list[tf.Variable]:
    """Mean and variance, which a call in training assigns to."""
    return [self.moving_mean, self.moving_variance]

  @property
  def reduces_over_replicas(self) -> bool:
    return True

  def _statistics(self):
    return tuple(self._weight(v) for v in self.moving_variables)

  def _adapt(self, x, condition):
    mean, variance = _moments(x)
    if not tf.reduce_all(tf.math.is_finite(mean) & tf.math.is_finite(variance)):
      raise ValueError(
        f'{self.name}.adapt expects a batch with finite mean and variance; received '
        f'one with mean {mean.numpy()} and variance {variance.numpy()}. Remove what '
        f'is NaN or infinite.'
      )
    self.moving_mean.assign(mean)
    self.moving_variance.assign(variance)
    self.adapted.assign(True)
    return self._normalized(x, mean, variance)[0]

  def _normalized(self, x, mean, variance):
    log_factor = self._log_factor(variance)
    self._report('log_scale', log_factor)
    shift = self._weight(self.shift)
    return (x - mean) * tf.exp(log_factor) + shift, self._log_det(log_factor)

  def _log_factor(self, variance):
    return self._weight(self.log_scale) - 0.5 * tf.math.log(variance + self._epsilon)

  def _log_det(self, log_factor):
    return math.prod(self._event[:-1]) * tf.reduce_sum(log_factor)

  def _updated(self, x):
    """The statistics moved towards those of `x`, and stored."""
    mean, variance = _global_moments(x)
    finite = tf.math.is_finite(mean) & tf.math.is_finite(variance)

    def update(statistic, target):
      old = self._weight(statistic)
      moved = self._decay * old + (1.0 - self._decay) * target
      new = tf.where(finite, moved, old)
      weight_values.assign(statistic, new)
      return new

    return update(self.moving_mean, mean), update(self.moving_variance, variance)


def _statistic(start, name):
  # Each replica stores the same number: nothing is sent to assign or to save it.
  return tf.Variable(
    start,
    trainable=False,
    synchronization=tf.VariableSynchronization.ON_READ,
    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    name=name,
  )


def _moments(x):
  return tf.nn.moments(x, axes=list(range(x.shape.rank - 1)))


def _global_moments(x):
  """Mean and variance of `x`, of all replicas together if called in one of several."""
  mean, variance = _moments(x)
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return mean, variance

  def over_replicas(value):
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, value)

  global_mean = over_replicas(mean)
  # Mean of squares less the square of the mean would lose the digits of the variance.
  return global_mean, over_replicas(variance + (mean - global_mean) ** 2)
