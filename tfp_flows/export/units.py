"""The units of a table whose columns were scaled for the model."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

__all__ = ['Units']


class Units(NamedTuple):
  """How the columns of a table and of the model belong together.

  With `m` and `s` for mean and deviation, and `v` what the model is of:

    x = m + s * v       v = (x - m) / s       log p(x) = log p(v) - sum(log(s))

  `x` is float64, for float32 does not have the digits of large offsets; `v` has them
  in any dtype.

  Attributes:
    mean: float64 `[D]`.
    deviation: positive float64 `[D]`.
  """

  mean: np.ndarray
  deviation: np.ndarray

  @property
  def log_det(self) -> float:
    """`log|det dx/dv|`, in nats."""
    return float(np.log(self.deviation).sum())

  def to_model(self, x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """`v` of float64 `x`."""
    return tf.cast((x - self.mean) / self.deviation, dtype)

  def from_model(self, v: tf.Tensor) -> tf.Tensor:
    """Float64 `x` of `v`."""
    return tf.cast(v, tf.float64) * self.deviation + self.mean
