"""Perturbed weights, autodiff Jacobians and noise for the test suite."""

import numpy as np
import tensorflow as tf

from tfp_flows.model import inputs


def perturb(module: tf.Module, scale: float = 0.1, seed: int = 0) -> None:
  """Moves every trainable variable away from its start."""
  rng = np.random.default_rng(seed)
  for v in module.trainable_variables:
    v.assign_add(scale * tf.constant(rng.standard_normal(v.shape), v.dtype))


def layers(module: tf.Module) -> list[tf.Module]:
  """All layers inside `module`; those of repeated steps are copies of each step."""
  found = []
  for part in (module, *module.submodules):
    if hasattr(part, 'separate'):
      found += [layer for step in part.separate() for layer in layers(step)]
    else:
      found.append(part)
  return found


def autodiff_log_det(fn, x: tf.Tensor) -> np.ndarray:
  """`log|det dfn/dx|` of each example, by the Jacobian.

  `fn` takes batches of any rank: one copy of `x` for each row of the Jacobian.
  """
  size = int(np.prod(x.shape[1:]))
  x = tf.tile(x[tf.newaxis], [size, *[1] * len(x.shape)])
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = fn(x)
  rows = tf.reshape(tf.eye(size, dtype=y.dtype), [size, 1, *y.shape[2:]])
  jacobian = tape.gradient(y, x, tf.broadcast_to(rows, y.shape))
  jacobian = tf.reshape(jacobian, [size, -1, size])
  return np.linalg.slogdet(tf.transpose(jacobian, [1, 0, 2]))[1]


def normal(shape, dtype='float64', seed: int = 0) -> tf.Tensor:
  return tf.constant(np.random.default_rng(seed).standard_normal(shape), dtype)


def dataset(parts) -> tf.data.Dataset:
  """Slices of arrays, which TensorFlow does not tune.

  Tuned iterators that are deleted, as by `gc`, stand still for up to a minute.
  """
  return inputs.without_autotuning(tf.data.Dataset.from_tensor_slices(parts))
