"""Maps pixel values to real numbers, as part of the density."""

import math
import numbers
from typing import Any

import tensorflow as tf

from tfp_flows.bijectors import flow_bijector
from tfp_flows.internal import checks

__all__ = ['Preprocess']


class Preprocess(flow_bijector.FlowBijector):
  """Maps dequantized pixels in `[0, num_bins)` to real numbers.

  With `alpha` a number, the logit of [(Dinh et al., 2017)][1]:

    s = alpha + (1 - 2 * alpha) * x / num_bins
    forward: `y = logit(s)`
    inverse: `x = num_bins * (sigmoid(y) - alpha) / (1 - 2 * alpha)`
    log-det: sum of `log((1 - 2 * alpha) / num_bins) - log(s) - log(1 - s)`

  With `alpha=None`, Glow's centring [(Kingma and Dhariwal, 2018)][2]:

    forward: `y = x / num_bins - 1/2`
    log-det: sum of `-log(num_bins)`                                 (nats)

  As it is a layer of the flow, densities are those of the pixels on their own
  scale, and bits/dim needs no further constant. It acts elementwise, on events
  of any rank. (The paper prints `1 - alpha` for `1 - 2 * alpha`; its code has
  the latter, which alone keeps `s` below `1 - alpha`.)

  #### References

  [1]: Laurent Dinh, Jascha Sohl-Dickstein and Samy Bengio. Density estimation
       using Real NVP, section 4.1. In _ICLR_, 2017.
       https://arxiv.org/abs/1605.08803
  [2]: Diederik P. Kingma and Prafulla Dhariwal. Glow: Generative Flow with
       Invertible 1x1 Convolutions. In _NeurIPS_, 2018.
       https://arxiv.org/abs/1807.03039
  """

  def __init__(
    self,
    num_bins: int = 256,
    alpha: float | None = None,
    dtype: Any = tf.float32,
    name: str = 'preprocess',
  ):
    """Creates the layer.

    Args:
      num_bins: number of values that a pixel can take: 256 for `uint8`.
      alpha: None, or a number in (0, 0.5); 0.05 and 1e-6 are in use.
      dtype: of `x`.
      name: name of the layer.

    Raises:
      ValueError: for other values.
    """
    num_bins = checks.as_count(num_bins, 'num_bins', 2, owner='Preprocess')
    is_number = isinstance(alpha, numbers.Real)
    if alpha is not None and not (is_number and 0.0 < alpha < 0.5):
      raise ValueError(
        f'Preprocess expects alpha=None or 0 < alpha < 0.5; received {alpha}.'
      )
    self._num_bins, self._alpha = num_bins, alpha
    with tf.name_scope(name) as scope:
      super().__init__(
        forward_min_event_ndims=0,
        dtype=dtype,
        name=scope,
      )

  @property
  def num_bins(self) -> int:
    return self._num_bins

  def _forward_and_log_det(self, x, condition=None):
    if self._alpha is None:
      log_det = tf.fill(tf.shape(x), tf.constant(-math.log(self._num_bins), x.dtype))
      return x / self._num_bins - 0.5, log_det
    width = (1.0 - 2.0 * self._alpha) / self._num_bins
    # 1 - s is taken from num_bins - x: subtracting s from 1 would round.
    # A rounded sample may lie just outside of the support: no log of a negative.
    least = self._alpha * 1e-6
    log_s = tf.math.log(tf.maximum(self._alpha + width * x, least))
    rest = self._num_bins - x
    log_1_s = tf.math.log(tf.maximum(self._alpha + width * rest, least))
    return log_s - log_1_s, math.log(width) - log_s - log_1_s

  def _inverse_and_log_det(self, y, condition=None):
    if self._alpha is None:
      log_det = tf.fill(tf.shape(y), tf.constant(math.log(self._num_bins), y.dtype))
      return (y + 0.5) * self._num_bins, log_det
    width = (1.0 - 2.0 * self._alpha) / self._num_bins
    log_det = tf.math.log_sigmoid(y) + tf.math.log_sigmoid(-y) - math.log(width)
    return (tf.sigmoid(y) - self._alpha) / width, log_det
