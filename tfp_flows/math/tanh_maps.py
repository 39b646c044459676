"""The increasing functions `a + c tanh(a)`, `c > -1`, of planar and Sylvester flows.

They are given by their slope at 0, `s = 1 + c > 0`, in which all of it is a sum of
positive numbers: nothing cancels, and no logarithm needs an absolute value.
"""

import numpy as np
import tensorflow as tf

from tfp_flows.math import roots

__all__ = ['log_slope', 'positive', 'solve']


def positive(x: tf.Tensor) -> tf.Tensor:
  """`log(1 + exp(x))`, and never so small that its square is no number.

  It is at least 1e-19 in float32 and 1.5e-154 in float64, which `x < -43` and
  `x < -354` would be below.
  """
  return tf.maximum(tf.math.softplus(x), smallest(x.dtype))


def smallest(dtype: tf.DType) -> float:
  """The root of the smallest number."""
  return float(np.sqrt(np.finfo(dtype.as_numpy_dtype).tiny))


def log_slope(a: tf.Tensor, s: tf.Tensor) -> tf.Tensor:
  """`log(1 + (s - 1) tanh'(a))`, as `log(tanh(a)^2 + s / cosh(a)^2)`."""
  # With e = exp(-2 |a|): tanh |a| = (1 - e) / (1 + e), 1 / cosh^2 = 4 e / (1 + e)^2.
  e = tf.exp(-2.0 * tf.abs(a))
  gap = tf.math.expm1(-2.0 * tf.abs(a))
  return tf.math.log(gap * gap + 4.0 * s * e) - 2.0 * tf.math.log1p(e)


def solve(target: tf.Tensor, s: tf.Tensor) -> tf.Tensor:
  """The `a` with `a + (s - 1) tanh(a) = target`, with derivatives.

  It has the sign of `target`, and is between it and `target -+ (s - 1)`.
  """
  target = tf.convert_to_tensor(target)
  s += tf.zeros_like(target)
  c = s - 1.0
  far = target - tf.sign(target) * c
  far = tf.where(far * target < 0.0, tf.zeros_like(far), far)
  low, high = tf.minimum(target, far), tf.maximum(target, far)
  return roots.find_root(_value_and_slope, target, low, high, s)


def _value_and_slope(a, s):
  t = tf.tanh(a)
  # The slope is t^2 + s (1 - t^2).
  return a + (s - 1.0) * t, t * t + s * (1.0 - t) * (1.0 + t)
