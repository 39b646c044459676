"""Planar flow."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.bijectors import parametric
from tfp_flows.internal import seeds
from tfp_flows.math import tanh_maps

__all__ = ['Planar']

ACTIVATIONS = ('tanh', 'leaky_relu')
# log(1 + exp(_IDENTITY)) = 1.
_IDENTITY = np.log(np.e - 1.0)


class Planar(parametric.Parametric):
  """Moves points along one direction, as far as another one says.

  For `x` of shape `[..., D]`, vectors `w`, `u` of `[D]` and a number `b`
  [(Rezende and Mohamed, 2015)][1]:

    forward: `y = x + v h(a)`,   `a = w'x + b`                     (eq. 10)
    inverse: the root `a` of `a + c h(a) = w'y + b`, then `x = y - v h(a)`
    log-det: `log|det dy/dx| = log(1 + c h'(a))`   (nats)          (eq. 12)

  with `c = w'v > -1`, by which `a + c h(a)` increases, and

    v = u + (c - w'u) w / |w|^2,   c = log(1 + exp(w'u)) - 1       (appendix A.1)

  `h` is `tanh`, or a leaky ReLU, `h(a) = a` for `a >= 0` and `negative_slope * a` else,
  with which the inverse is a formula, too, and the layer bends space at one plane. For
  `tanh` the root is enclosed by a bracket and found up to rounding, see
  `tfp_flows.math.find_root`; its derivatives are those of the implicit function
  theorem. The log-det is computed from sums of positive numbers:
  `1 + c h' = tanh(a)^2 + (1 + c) / cosh(a)^2`. `1 + c` is at least 1e-19 in float32 and
  1.5e-154 in float64; with `w = 0`, where the formula has no value, `v = u`, `c = 0`.

  The paper's flows go from latents to data: `tfb.Invert(Planar(...))` does, with
  samples and their densities by the formula, as variational inference needs it.

  With a `conditioner`, `w`, `u` and `b` are sums of the variables and of what it
  returns for `condition`: an amortized flow.

  The layer starts near the identity, which is not `u = 0`: with `w'u = log(e - 1)`, and
  a little noise, `v` is a small random vector, and each weight has a gradient. `w` and
  `b` are drawn so that `a` has variance 2 for a standard normal `x`.

  #### References

  [1]: Danilo Jimenez Rezende and Shakir Mohamed. Variational Inference with Normalizing
       Flows. In _ICML_, 2015. https://arxiv.org/abs/1505.05770
  """

  def __init__(
    self,
    event_shape: Sequence[int],
    activation: str = 'tanh',
    negative_slope: float = 0.1,
    conditioner: Callable[..., tf.Tensor] | None = None,
    seed: int | None = None,
    dtype: Any = tf.float32,
    name: str = 'planar',
  ):
    """Creates the layer.

    Args:
      event_shape: `[D]`.
      activation: `h`: `'tanh'` or `'leaky_relu'`.
      negative_slope: of the leaky ReLU, in (0, 1].
      conditioner: callable `condition -> [..., 2 * D + 1]`, offsets of `w`, `u` and
        `b`; a Keras layer must be built.
      seed: int, of the initial weights; None draws one, which
        `keras.utils.set_random_seed` fixes.
      dtype: of the variables and of `x`.
      name: name of the layer.

    Raises:
      ValueError: if `event_shape` is not `[D]`, for another activation, or a slope that
        is out of range.
    """
    size = self._set_event_shape(event_shape)
    if activation not in ACTIVATIONS:
      raise ValueError(
        f'Planar expects activation to be one of {ACTIVATIONS}; received '
        f'{activation!r}.'
      )
    if not 0.0 < negative_slope <= 1.0:
      raise ValueError(
        f'Planar expects negative_slope in (0, 1], or the layer would not be '
        f'invertible; received {negative_slope}.'
      )
    self._activation, self._negative_slope = activation, float(negative_slope)
    with tf.name_scope(name) as scope:
      super().__init__(forward_min_event_ndims=1, dtype=dtype, name=scope)
      self._set_parameters(_start(size, seed), conditioner)

  def _forward_and_log_det(self, x, condition=None):
    w, v, b, s = self._vectors(condition)
    a = tf.reduce_sum(w * x, axis=-1) + b
    return x + v * self._h(a)[..., tf.newaxis], self._log_det(a, s)

  def _inverse_and_log_det(self, y, condition=None):
    w, v, b, s = self._vectors(condition)
    a = self._root(tf.reduce_sum(w * y, axis=-1) + b, s)
    return y - v * self._h(a)[..., tf.newaxis], -self._log_det(a, s)

  def _vectors(self, condition):
    """`w`, `v`, `b` and `s = 1 + c`."""
    w, u, b = self._values(condition)
    square, product = (tf.reduce_sum(w * t, axis=-1) for t in (w, u))
    is_zero = square < tanh_maps.smallest(self.dtype)
    one = tf.ones_like(square)
    s = tf.where(is_zero, one, tanh_maps.positive(product))
    # c - w'u, as log(1 + exp(p)) - p = log(1 + exp(-p)).
    missing = tf.math.softplus(-product) - 1.0
    share = tf.where(is_zero, 0.0 * one, missing / tf.where(is_zero, one, square))
    return w, u + share[..., tf.newaxis] * w, b, s

  def _h(self, a):
    if self._activation == 'tanh':
      return tf.tanh(a)
    return tf.where(a >= 0.0, a, self._negative_slope * a)

  def _below(self, s):
    """`1 + c h'(a)` for `a < 0`, with the leaky ReLU."""
    return (1.0 - self._negative_slope) + self._negative_slope * s

  def _root(self, target, s):
    if self._activation == 'tanh':
      return tanh_maps.solve(target, s)
    return target / tf.where(target >= 0.0, s, self._below(s))

  def _log_det(self, a, s):
    if self._activation == 'tanh':
      return tanh_maps.log_slope(a, s)
    return tf.math.log(tf.where(a >= 0.0, s, self._below(s)))


def _start(size, seed):
  rng = np.random.default_rng(seeds.default_seed(seed))
  w = rng.standard_normal(size) / np.sqrt(size)
  moved = 0.01 * rng.standard_normal(size)
  return dict(w=w, u=_IDENTITY * w / (w @ w) + moved, b=rng.standard_normal())
