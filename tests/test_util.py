"""Perturbed weights, autodiff Jacobians and a warm-up for the test suite."""

import numpy as np
import tensorflow as tf

ATOL = {'float64': 1e-10, 'float32': 1e-4}


def perturb(module: tf.Module, scale: float = 0.1, seed: int = 0) -> None:
  """Moves every trainable variable away from its start."""
  rng = np.random.default_rng(seed)
  for v in module.trainable_variables:
    v.assign_add(scale * tf.constant(rng.standard_normal(v.shape), v.dtype))


def autodiff_log_det(fn, x: tf.Tensor) -> np.ndarray:
  """`log|det dfn/dx|` of each example, by the Jacobian."""
  with tf.GradientTape(persistent=True) as tape:
    tape.watch(x)
    y = fn(x)
    y = tf.reshape(y, [len(x), -1])
  jacobian = tape.batch_jacobian(y, x, experimental_use_pfor=False)
  size = y.shape[1]
  return np.linalg.slogdet(tf.reshape(jacobian, [len(x), size, size]))[1]


def normal(shape, dtype='float64', seed: int = 0) -> tf.Tensor:
  return tf.constant(np.random.default_rng(seed).standard_normal(shape), dtype)
