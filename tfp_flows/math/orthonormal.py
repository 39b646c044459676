"""Matrices with orthonormal columns."""

import tensorflow as tf

__all__ = ['orthonormalized', 'reflected']


def orthonormalized(matrix: tf.Tensor) -> tf.Tensor:
  """The `Q` of `[..., D, M]`, `M <= D`, that Gram and Schmidt find.

  It is that of a QR decomposition whose `R` has a positive diagonal, a continuous
  function of a matrix of full rank; LAPACK's changes its sign.
  """
  q, r = tf.linalg.qr(matrix)
  diagonal = tf.linalg.diag_part(r)
  sign = tf.where(diagonal < 0.0, -tf.ones_like(diagonal), tf.ones_like(diagonal))
  return q * sign[..., tf.newaxis, :]


def reflected(x: tf.Tensor, vectors: tf.Tensor, backward: bool = False) -> tf.Tensor:
  """`H_n ... H_1 x`, or with `backward` its inverse, `H_1 ... H_n x`.

  `H_i = I - 2 v_i v_i' / |v_i|^2` is the reflection at the plane orthogonal to `v_i`,
  and the identity for `v_i = 0`.

  Args:
    x: `[..., D]`.
    vectors: `[..., n, D]`, of a batch shape that broadcasts against that of `x`.
    backward: whether the last reflection is the first.
  """
  square = tf.reduce_sum(vectors * vectors, axis=-1, keepdims=True)
  is_zero = tf.equal(square, 0.0)
  scaled = tf.where(is_zero, tf.zeros_like(vectors), 2.0 * vectors)
  scaled /= tf.where(is_zero, tf.ones_like(square), square)
  pairs = list(zip(tf.unstack(vectors, axis=-2), tf.unstack(scaled, axis=-2)))
  for v, w in reversed(pairs) if backward else pairs:
    x -= w * tf.reduce_sum(v * x, axis=-1, keepdims=True)
  return x
