"""Metrics of log-likelihoods."""

import keras
import tensorflow as tf

from tfp_flows.math import bits

__all__ = ['BitsPerDim', 'NegativeLogLikelihood']


class NegativeLogLikelihood(keras.metrics.Mean):
  """Weighted mean of `-log_prob`, in nats per example."""

  def __init__(self, name: str = 'loss', dtype=None):
    super().__init__(name=name, dtype=dtype)

  def update_state(self, log_prob: tf.Tensor, sample_weight: tf.Tensor | None = None):
    super().update_state(-log_prob, sample_weight=sample_weight)


class BitsPerDim(keras.metrics.Mean):
  """Weighted mean of `bits_per_dim(log_prob, num_dims)`, for integer data.

  `log_prob` must be that of the integers, or a bound of it (see
  `UniformDequantization.log_prob`): of a density at undequantized integers, bits
  are meaningless.
  """

  def __init__(self, num_dims: int, name: str = 'bits_per_dim', dtype=None):
    super().__init__(name=name, dtype=dtype)
    self._num_dims = num_dims

  def update_state(self, log_prob: tf.Tensor, sample_weight: tf.Tensor | None = None):
    super().update_state(
      bits.bits_per_dim(log_prob, self._num_dims), sample_weight=sample_weight
    )
