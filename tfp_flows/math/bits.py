"""The one definition of bits/dim."""

import math

import tensorflow as tf

__all__ = ['bits_per_dim']


def bits_per_dim(log_prob: tf.Tensor, num_dims: int) -> tf.Tensor:
  """Converts the log-likelihood of integer data to bits per dimension.

    bits/dim = -log_prob / (num_dims * log(2))

  The unit chain: `log_prob` is in nats, per example, of the *integers* (or a
  lower bound of it: the density of `x + u` on the integer scale, `u` uniform
  in [0, 1), has cells of volume 1, so no `log(256)` is to be added). Divided
  by `log(2)` it is in bits, divided by `num_dims` in bits per dimension.

  Args:
    log_prob: floating-point tensor, nats.
    num_dims: the number of integers in one example, as `H * W * C`.

  Returns:
    Tensor like `log_prob`.
  """
  if num_dims < 1:
    raise ValueError(f'Expected num_dims >= 1; received {num_dims}.')
  return -log_prob / (num_dims * math.log(2.0))
