"""Bounded log-scales for affine couplings: raw network output -> log scale."""

import tensorflow as tf

__all__ = ['clamped_log_scale', 'sigmoid_log_scale', 'tanh_log_scale']


def sigmoid_log_scale(raw: tf.Tensor) -> tf.Tensor:
  """`log sigmoid(raw + 2)`: Glow's scale, in (0, 1), 0.881 at `raw = 0`."""
  return tf.math.log_sigmoid(raw + 2.0)


def tanh_log_scale(raw: tf.Tensor, bound: tf.Tensor) -> tf.Tensor:
  """`bound * tanh(raw)`: RealNVP's scale, in [exp(-|bound|), exp(|bound|)]."""
  return bound * tf.tanh(raw)


def clamped_log_scale(raw: tf.Tensor, bound: float = 2.0) -> tf.Tensor:
  """`bound * tanh(raw / bound)`: slope 1 and scale 1 at `raw = 0`."""
  return bound * tf.tanh(raw / bound)
