"""Radial flow."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.bijectors import parametric
from tfp_flows.internal import seeds
from tfp_flows.math import tanh_maps

__all__ = ['Radial']

# log(1 + exp(_ONE)) = 1.
_ONE = np.log(np.e - 1.0)


class Radial(parametric.Parametric):
  """Moves points towards a centre, or away from it.

  For `x` of shape `[..., D]`, a centre `x0` of `[D]` and numbers `alpha > 0` and
  `beta > -alpha`, with `r = |x - x0|` [(Rezende and Mohamed, 2015)][1]:

    forward: `y = x + beta (x - x0) / (alpha + r)`                        (eq. 14)
    inverse: `x = x0 + (y - x0) (alpha + r) / (alpha + beta + r)`
    log-det: `log|det dy/dx| = (D - 1) log(1 + beta / (alpha + r))
                               + log(1 + alpha beta / (alpha + r)^2)`   (nats)

  The inverse is exact: with `R = |y - x0|`, `r` is the positive root of

    r^2 + (alpha + beta - R) r - alpha R = 0

  `alpha = log(1 + exp(raw_alpha))` and `alpha + beta = log(1 + exp(raw_beta))`, each at
  least 1e-19 in float32 and 1.5e-154 in float64. The log-det is computed from sums of
  positive numbers; in the paper, without its simplification, the second factor is
  `1 + beta h + beta h' r`.

  `tfb.Invert(Radial(...))` goes from latents to data by the formula of the paper.

  With a `conditioner`, `x0`, `raw_alpha` and `raw_beta` are sums of the variables and
  of what it returns for `condition`: an amortized flow.

  The layer starts near the identity: `alpha = 1`, a small random `beta`, and `x0` drawn
  from a standard normal distribution.

  #### References

  [1]: Danilo Jimenez Rezende and Shakir Mohamed. Variational Inference with Normalizing
       Flows. In _ICML_, 2015. https://arxiv.org/abs/1505.05770
  """

  def __init__(
    self,
    event_shape: Sequence[int],
    conditioner: Callable[..., tf.Tensor] | None = None,
    seed: int | None = None,
    dtype: Any = tf.float32,
    name: str = 'radial',
  ):
    """Creates the layer.

    Args:
      event_shape: `[D]`.
      conditioner: callable `condition -> [..., D + 2]`, offsets of `x0`, `raw_alpha`
        and `raw_beta`; a Keras layer must be built.
      seed: int, of the initial weights; None draws one, which
        `keras.utils.set_random_seed` fixes.
      dtype: of the variables and of `x`.
      name: name of the layer.

    Raises:
      ValueError: if `event_shape` is not `[D]`.
    """
    size = self._set_event_shape(event_shape)
    with tf.name_scope(name) as scope:
      super().__init__(forward_min_event_ndims=1, dtype=dtype, name=scope)
      self._set_parameters(_start(size, seed), conditioner)

  def _forward_and_log_det(self, x, condition=None):
    x0, alpha, s = self._numbers(condition)
    r = _norm(x - x0)
    factor = (s - alpha) / (alpha + r)
    return x + factor[..., tf.newaxis] * (x - x0), self._log_det(r, alpha, s)

  def _inverse_and_log_det(self, y, condition=None):
    x0, alpha, s = self._numbers(condition)
    r = _root(_norm(y - x0), alpha, s)
    factor = (alpha - s) / (s + r)
    return y + factor[..., tf.newaxis] * (y - x0), -self._log_det(r, alpha, s)

  def _numbers(self, condition):
    """`x0`, `alpha` and `s = alpha + beta`."""
    x0, raw_alpha, raw_beta = self._values(condition)
    return x0, tanh_maps.positive(raw_alpha), tanh_maps.positive(raw_beta)

  def _log_det(self, r, alpha, s):
    log_far = tf.math.log(r + alpha)
    tangential = tf.math.log(r + s) - log_far
    radial = tf.math.log(r * r + 2.0 * alpha * r + alpha * s) - 2.0 * log_far
    return (self._event[0] - 1) * tangential + radial


def _norm(x):
  """The Euclidean norm of `[..., D]`, of gradient 0 at 0."""
  square = tf.reduce_sum(x * x, axis=-1)
  is_zero = tf.equal(square, 0.0)
  root = tf.sqrt(tf.where(is_zero, tf.ones_like(square), square))
  return tf.where(is_zero, tf.zeros_like(root), root)


def _root(distance, alpha, s):
  """The `r >= 0` with `r (r + s) / (r + alpha) = distance`."""
  p = s - distance
  q = tf.abs(p) + tf.sqrt(p * p + 4.0 * alpha * distance)
  # Of the two forms of the root, the one that does not cancel.
  return tf.where(p >= 0.0, 2.0 * alpha * distance / q, 0.5 * q)


def _start(size, seed):
  rng = np.random.default_rng(seeds.default_seed(seed))
  x0 = rng.standard_normal(size)
  return dict(x0=x0, raw_alpha=_ONE, raw_beta=_ONE + 0.01 * rng.standard_normal())
