"""Paths between two latent vectors."""

import tensorflow as tf

__all__ = ['lerp', 'slerp']


def lerp(start: tf.Tensor, end: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
  """Straight line: `(1 - w) * start + w * end`.

  Args:
    start: floating-point tensor `[D]`.
    end: tensor like `start`.
    weights: tensor `[N]` in [0, 1].

  Returns:
    Tensor `[N, D]`.
  """
  w = tf.cast(weights, start.dtype)[:, tf.newaxis]
  return (1.0 - w) * start + w * end


def slerp(start: tf.Tensor, end: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
  """Great arc: constant angular speed, and lengths that a Gaussian would have.

    sin((1 - w) * a) / sin(a) * start + sin(w * a) / sin(a) * end

  with `a` the angle between `start` and `end` [(Shoemake, 1985)][1]. For
  parallel vectors, where the arc is not defined, it is `lerp`.

  Args:
    start: floating-point tensor `[D]`.
    end: tensor like `start`.
    weights: tensor `[N]` in [0, 1].

  Returns:
    Tensor `[N, D]`.

  #### References

  [1]: Ken Shoemake. Animating rotation with quaternion curves. In
       _SIGGRAPH_, 1985.
  """
  w = tf.cast(weights, start.dtype)[:, tf.newaxis]
  cosine = tf.reduce_sum(tf.math.l2_normalize(start) * tf.math.l2_normalize(end))
  angle = tf.acos(tf.clip_by_value(cosine, -1.0, 1.0))
  sine = tf.sin(angle)
  parallel = tf.abs(sine) < 1e-3
  safe = tf.where(parallel, tf.ones_like(sine), sine)
  arc = tf.sin((1.0 - w) * angle) / safe * start + tf.sin(w * angle) / safe * end
  return tf.where(parallel, lerp(start, end, weights), arc)
