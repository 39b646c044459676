"""Invertible 1x1 convolution, LU-parameterised."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.bijectors import flow_bijector
from tfp_flows.internal import seeds
from tfp_flows.internal import shapes
from tfp_flows.math import first_steps

__all__ = ['Invertible1x1ConvLU']


class Invertible1x1ConvLU(flow_bijector.FlowBijector):
  """Mixes the channels of each pixel [(Kingma and Dhariwal, 2018)][1].

  For `x` of shape `[..., H, W, C]` and an invertible matrix `W` of `[C, C]`:

    W = P L (U + diag(s))                         (equation 10)
    forward: `y[h, w] = W x[h, w]`
    inverse: `x[h, w] = W^-1 y[h, w]`, with `W^-1` of two triangular solves
    log-det: `log|det dy/dx| = H * W * sum(log|s|)`   (nats)

  `P` (a permutation) and `sign(s)` are fixed and saved; the unit lower
  triangular `L`, the strictly upper triangular `U` and `log|s|` are trained, in
  one matrix `lu`, so that `W` stays invertible. `W` starts as a random rotation.
  For vectors `[..., D]` the layer is a `D x D` linear map.

  With a `conditioner`, `lu` is the sum of the variable and of what it returns
  for `condition`.

  #### References

  [1]: Diederik P. Kingma and Prafulla Dhariwal. Glow: Generative Flow with
       Invertible 1x1 Convolutions, section 3.2. In _NeurIPS_, 2018.
       https://arxiv.org/abs/1807.03039
  """

  def __init__(
    self,
    event_shape: Sequence[int],
    conditioner: Callable[..., tf.Tensor] | None = None,
    seed: int | None = None,
    dtype: Any = tf.float32,
    depth: int | None = None,
    name: str = 'invertible_1x1_conv',
  ):
    """Creates the layer.

    Args:
      event_shape: `[D]` or `[H, W, C]`.
      conditioner: callable `condition -> [..., C * C]`, offsets of `lu`, of
        the scaled one with `depth`, row by row; a Keras layer must be built.
      seed: int, of the initial rotation; None draws one, which
        `keras.utils.set_random_seed` fixes.
      dtype: of the variables and of `x`.
      depth: number of such layers in the flow, for the size of its first steps: the
        variable is then `lu / lu_scale`, with a constant `lu_scale` of at most 1 that
        falls with `C * depth`, see `output_scale`; None is 1.
      name: name of the layer.

    Raises:
      ValueError: if `event_shape` is not static or of another rank.
    """
    self._event = shapes.as_event_shape(event_shape, 'Invertible1x1ConvLU')
    with tf.name_scope(name) as scope:
      super().__init__(
        forward_min_event_ndims=len(self._event),
        dtype=dtype,
        name=scope,
      )
      lu, permutation = _random_rotation_lu(self._event[-1], seed)
      diagonal = np.diag(lu)
      lu = lu - np.diag(diagonal) + np.diag(np.log(np.abs(diagonal)))
      scale = first_steps.output_scale(
        self._event[-1], depth, of_images=len(self._event) == 3, from_zero=False
      )
      self.lu = tf.Variable(lu / scale, dtype=self.dtype, name='lu')
      self._lu_scale = None
      if scale != 1.0:
        # A variable, so that files that were written before it was there have another.
        self._lu_scale = tf.Variable(
          scale, dtype=self.dtype, trainable=False, name='lu_scale'
        )
      self.sign = tf.Variable(
        np.sign(diagonal), dtype=self.dtype, trainable=False, name='sign'
      )
      self.permutation = tf.Variable(
        permutation, dtype=tf.int32, trainable=False, name='permutation'
      )
      self._conditioner = self._expose(conditioner)

  @property
  def takes_condition(self) -> bool:
    return self._conditioner is not None

  def _event_shape_or_none(self):
    return self._event

  @property
  def _pixels(self):
    return int(np.prod(self._event[:-1]))

  def _factors(self, condition):
    """`L`, `U + diag(s)` and `log|s|`, with a batch shape if conditional."""
    lu = self._weight(self.lu)
    if self._lu_scale is not None:
      lu *= self._weight(self._lu_scale)
    if self._conditioner is not None:
      offsets = self._of_condition(self._conditioner, condition)
      lu += shapes.reshape(offsets, shapes.batch_shape(offsets, 1), lu.shape)
    log_s = tf.linalg.diag_part(lu)
    self._report('log_diagonal', log_s)
    # Constant masks: XLA takes seconds to compile products of `band_part`s.
    ones = np.ones(lu.shape[-2:], self.dtype.as_numpy_dtype)
    identity = np.eye(lu.shape[-1], dtype=ones.dtype)
    lower = lu * np.tril(ones, -1) + identity
    diagonal = self._weight(self.sign) * tf.exp(log_s)
    upper = lu * np.triu(ones, 1) + identity * diagonal[..., tf.newaxis]
    return lower, upper, log_s

  def _permutation_matrix(self):
    """`P^T`. Products are faster than gathers, whose gradients are scatters."""
    permutation = self._weight(self.permutation)
    return tf.one_hot(permutation, self._event[-1], dtype=self.dtype)

  def _forward_and_log_det(self, x, condition=None):
    lower, upper, log_s = self._factors(condition)
    weight = tf.matmul(self._permutation_matrix(), lower @ upper, transpose_a=True)
    y = self._at_each_pixel(weight, x)
    return y, self._pixels * tf.reduce_sum(log_s, axis=-1)

  def _inverse_and_log_det(self, y, condition=None):
    lower, upper, log_s = self._factors(condition)
    inverse = self._permutation_matrix() + tf.zeros_like(lower)
    inverse = tf.linalg.triangular_solve(lower, inverse, lower=True)
    inverse = tf.linalg.triangular_solve(upper, inverse, lower=False)
    x = self._at_each_pixel(inverse, y)
    return x, -self._pixels * tf.reduce_sum(log_s, axis=-1)

  def _at_each_pixel(self, matrix, x):
    """`matrix @ x[..., h, w, :]`, with a batch shape if conditional."""
    channels = self._event[-1]
    if self._conditioner is None:
      flat = tf.reshape(x, [-1, channels])
      return tf.reshape(tf.matmul(flat, matrix, transpose_b=True), tf.shape(x))
    # One matrix for each example: the batch shapes of both broadcast.
    rows = shapes.reshape(
      x, shapes.batch_shape(x, len(self._event)), [self._pixels, channels]
    )
    y = tf.matmul(rows, matrix, transpose_b=True)
    return shapes.reshape(y, shapes.batch_shape(y, 2), self._event)


def _random_rotation_lu(size, seed):
  """LU of a random orthogonal matrix `Q`: packed factors, and `Q[p] = L U`."""
  gaussian = np.random.default_rng(seeds.default_seed(seed)).standard_normal(
    (size, size)
  )
  rotation, _ = np.linalg.qr(gaussian)
  lu, permutation = tf.linalg.lu(tf.constant(rotation, tf.float64))
  return lu.numpy(), permutation.numpy()
