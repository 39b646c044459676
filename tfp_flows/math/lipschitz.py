"""How much a function stretches at given points."""

from collections.abc import Callable

import tensorflow as tf

from tfp_flows.math import random

__all__ = ['jacobian_norm']


def jacobian_norm(
  g: Callable[[tf.Tensor], tf.Tensor],
  x: tf.Tensor,
  event_ndims: int,
  seed: tf.Tensor,
  num_iterations: int = 20,
) -> tf.Tensor:
  """The 2-norm of the Jacobian of `g` at each `x`, from below.

  By power iterations with products `J' J v`. The largest over many `x` is an
  empirical estimate of the Lipschitz constant of `g`, and never above it.

  Args:
    g: maps `[*batch, *event]` to the same shape, example by example.
    x: `[*batch, *event]`.
    event_ndims: number of event dimensions.
    seed: stateless seed `[2]`, of the first `v`.
    num_iterations: steps of the power iteration.

  Returns:
    Tensor `[*batch]`.
  """
  axes = list(range(-event_ndims, 0))
  with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
    w = tf.zeros_like(x)
    outer.watch(w)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
      tape.watch(x)
      y = g(x)
    # Linear in w: its derivative is the product with J itself.
    pulled = tape.gradient(y, x, w, unconnected_gradients='zero')

  def norm(v):
    return tf.sqrt(tf.reduce_sum(v * v, axes, keepdims=True))

  def step(i, v, _):
    stretched = outer.gradient(pulled, w, v, unconnected_gradients='zero')
    stretched = tf.ensure_shape(stretched, x.shape)
    v = tape.gradient(y, x, stretched, unconnected_gradients='zero')
    v = tf.ensure_shape(v, x.shape)
    return i + 1, tf.math.divide_no_nan(v, norm(v)), norm(stretched)

  v = random.normal(tf.shape(x), seed, x.dtype)
  v /= norm(v)
  start = (tf.constant(0), tf.ensure_shape(v, x.shape), norm(x) * 0.0)
  _, _, stretch = tf.while_loop(lambda i, *_: i < num_iterations, step, start)
  return tf.squeeze(stretch, axes)
