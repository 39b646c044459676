"""Activation normalization."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfp_flows.bijectors import flow_bijector
from tfp_flows.internal import shapes
from tfp_flows.math import normalization

__all__ = ['ActNorm']


class ActNorm(flow_bijector.FlowBijector):
  """Scales and shifts each channel [(Kingma and Dhariwal, 2018)][1].

  For `x` of shape `[..., H, W, C]` and vectors `s`, `b` of shape `[C]`:

    forward: `y = (x + b) * exp(s)`
    inverse: `x = y * exp(-s) - b`
    log-det: `log|det dy/dx| = H * W * sum(s)`   (nats)

  For vectors `[..., D]`, `C = D` and `H = W = 1`. With a `conditioner`, `s` and
  `b` are sums of the variables and of what it returns for `condition`.

  `s` and `b` start at zero: the identity. `adapt(batch)` sets them so that `y`
  has mean 0 and variance 1 per channel over that batch; the variable `adapted`
  records it, and is saved with the weights. A channel that is constant in the
  batch is centred and keeps its scale.

  #### References

  [1]: Diederik P. Kingma and Prafulla Dhariwal. Glow: Generative Flow with
       Invertible 1x1 Convolutions, section 3.1. In _NeurIPS_, 2018.
       https://arxiv.org/abs/1807.03039
  """

  def __init__(
    self,
    event_shape: Sequence[int],
    conditioner: Callable[..., tf.Tensor] | None = None,
    dtype: Any = tf.float32,
    name: str = 'act_norm',
  ):
    """Creates the layer.

    Args:
      event_shape: `[D]` or `[H, W, C]`.
      conditioner: callable `condition -> [..., 2 * C]`, offsets of `b` and `s`;
        a Keras layer must be built.
      dtype: of the variables and of `x`.
      name: name of the layer.

    Raises:
      ValueError: if `event_shape` is not static or of another rank.
    """
    self._event = shapes.as_event_shape(event_shape, 'ActNorm')
    with tf.name_scope(name) as scope:
      super().__init__(
        forward_min_event_ndims=len(self._event),
        dtype=dtype,
        name=scope,
      )
      channels = self._event[-1:]
      self.shift = tf.Variable(tf.zeros(channels, self.dtype), name='shift')
      self.log_scale = tf.Variable(tf.zeros(channels, self.dtype), name='log_scale')
      self.adapted = tf.Variable(False, trainable=False, name='adapted')
      self._conditioner = self._expose(conditioner)

  @property
  def takes_condition(self) -> bool:
    return self._conditioner is not None

  def _event_shape_or_none(self):
    return self._event

  def _offsets(self, condition):
    """What the conditioner adds to `b` and `s`, per example."""
    if self._conditioner is None:
      zeros = tf.zeros(self._event[-1:], self.dtype)
      return zeros, zeros
    offsets = self._of_condition(self._conditioner, condition)
    if len(self._event) == 3:
      offsets = offsets[..., tf.newaxis, tf.newaxis, :]
    return tf.split(offsets, 2, axis=-1)

  def _shift_and_log_scale(self, condition):
    shift, log_scale = self._offsets(condition)
    shift += self._weight(self.shift)
    log_scale += self._weight(self.log_scale)
    self._report('log_scale', log_scale)
    return shift, log_scale

  def _log_det(self, log_scale):
    axes = tuple(range(-len(self._event), 0)) if log_scale.shape.rank > 1 else -1
    pixels = 1
    for size in self._event[:-1]:
      pixels *= size
    return pixels * tf.reduce_sum(log_scale, axis=axes)

  def _forward_and_log_det(self, x, condition=None):
    shift, log_scale = self._shift_and_log_scale(condition)
    return (x + shift) * tf.exp(log_scale), self._log_det(log_scale)

  def _inverse_and_log_det(self, y, condition=None):
    shift, log_scale = self._shift_and_log_scale(condition)
    return y * tf.exp(-log_scale) - shift, -self._log_det(log_scale)

  def _adapt(self, x, condition):
    offset, log_factor = self._offsets(condition)
    factor = tf.exp(log_factor) + tf.zeros_like(x)
    axes = list(range(x.shape.rank - 1))
    mean = tf.reduce_mean((x + offset) * factor, axes) / tf.reduce_mean(factor, axes)
    deviation = tf.math.reduce_std((x + offset - mean) * factor, axes)
    self.shift.assign(-mean)
    self.log_scale.assign(normalization.log_scale_of(deviation, mean))
    self.adapted.assign(True)
    return self._forward_and_log_det(x, condition)[0]
