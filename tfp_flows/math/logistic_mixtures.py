"""The logit of the distribution function of logistic mixtures, and its inverse.

    F(x) = sum_k w_k sigmoid(u_k),   u_k = (x - m_k) / s_k
    y = log F(x) - log(1 - F(x))

`F` rounds to 1 at 17 scales in float32. Here nothing leaves the logarithms, so that
`y` is right as far as `x` is a number, and maps onto all of them.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfp_flows.math import roots

__all__ = ['Mixture', 'logit_cdf', 'quantile']


class Mixture(NamedTuple):
  """The parameters of mixtures, one for each number; the last axis has components.

  Attributes:
    log_weights: `log w_k`, which sum to 1.
    means: `m_k`.
    log_scales: `log s_k`.
  """

  log_weights: tf.Tensor
  means: tf.Tensor
  log_scales: tf.Tensor


def logit_cdf(x: tf.Tensor, mixture: Mixture) -> tuple[tf.Tensor, tf.Tensor]:
  """`y = logit F(x)` and `log dy/dx`.

    dy/dx = (sum_k w_k / s_k sigmoid(u_k) sigmoid(-u_k)) / (F (1 - F))

  Args:
    x: `[...]`.
    mixture: tensors of `[..., K]`.
  """
  log_weights, means, log_scales = mixture
  u = (x[..., tf.newaxis] - means) * tf.exp(-log_scales)
  above = tf.math.softplus(u)
  below = log_weights - tf.math.softplus(-u)
  log_p = tf.reduce_logsumexp(below, axis=-1)
  log_q = tf.reduce_logsumexp(log_weights - above, axis=-1)
  log_density = tf.reduce_logsumexp(below - above - log_scales, axis=-1)
  return log_p - log_q, log_density - log_p - log_q


def quantile(y: tf.Tensor, mixture: Mixture) -> tf.Tensor:
  """The `x` with `logit F(x) = y`, with derivatives.

  As `y` is an average of the `u_k`, `x` lies between the least and the greatest of
  `m_k + s_k y`: a bracket that always holds, and no guess.

  Between components that are far apart `F` is flat, and its inverse steep: where
  `dy/dx` is less than the precision, 1.2e-7 or 2.2e-16, digits of `y` do not tell `x`.
  Derivatives are those of a slope of that size there, so that they stay finite.
  """
  ends = mixture.means + tf.exp(mixture.log_scales) * y[..., tf.newaxis]
  low, high = tf.reduce_min(ends, axis=-1), tf.reduce_max(ends, axis=-1)
  # Parameters may have batch axes that `y` has not.
  y += tf.zeros_like(low)
  return roots.find_root(_value_and_slope, y, low, high, mixture)


def _value_and_slope(x, mixture):
  value, log_slope = logit_cdf(x, mixture)
  least = float(np.log(np.finfo(x.dtype.as_numpy_dtype).eps))
  return value, tf.exp(tf.maximum(log_slope, least))
