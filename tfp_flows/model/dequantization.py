"""From integers to a density, and back."""

import math
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors
from tfp_flows.bijectors import flow_bijector
from tfp_flows.internal import checks
from tfp_flows.internal import configurable
from tfp_flows.internal import estimation
from tfp_flows.internal import seeds
from tfp_flows.math import random

__all__ = ['UniformDequantization', 'check_num_samples', 'has_estimates']

tfd = tfp.distributions


def has_estimates(distribution: tfd.Distribution) -> bool:
  """Whether log-determinants are estimated, in the `estimation` block around."""
  block = estimation.current()
  layers = flow_bijector.estimating_layers(distribution)
  if not layers or isinstance(block.estimator, bijectors.ExactLogDet):
    return False
  if block.estimator is not None or block.training:
    return True
  return any(layer.is_estimated for layer in layers)


def check_num_samples(distribution: tfd.Distribution, num_samples: int) -> None:
  """Raises `ValueError` unless so many samples make a bound, in the block around."""
  if num_samples < 1:
    raise ValueError(f'Expected num_samples >= 1; received {num_samples}.')
  if num_samples > 1 and has_estimates(distribution):
    raise ValueError(
      f'Expected num_samples=1 with estimated log-determinants, as the logarithm of '
      f'a mean of their exponentials is no lower bound; received {num_samples}. Use '
      f'exact ones, as with `estimator=ExactLogDet()`.'
    )


class UniformDequantization(configurable.Configurable):
  """Uniform noise in the cell of each integer [(Theis et al., 2016)][1].

  An integer `x` has no density, and a density fitted to integers grows without
  bound. With `v = x + u`, `u` uniform in [0, 1), a density `p` of `v` bounds the
  likelihood of the integers `P(x) = integral of p over the cell of x`:

    log P(x) >= E[log p(x + u)]      (nats; the cell has volume 1, so `log q = 0`)

  It is no bijector: many `v` belong to one `x`.

  #### References

  [1]: Lucas Theis, Aaron van den Oord and Matthias Bethge. A note on the
       evaluation of generative models, section 3.1. In _ICLR_, 2016.
       https://arxiv.org/abs/1511.01844
  """

  def __init__(self, num_bins: int = 256):
    """Creates the dequantization.

    Args:
      num_bins: number of values, `0, ..., num_bins - 1`.

    Raises:
      ValueError: if there are fewer than 2.
    """
    self.num_bins = checks.as_count(
      num_bins, 'num_bins', 2, owner='UniformDequantization'
    )

  @property
  def dtype(self) -> tf.DType:
    """The smallest of uint8, uint16 and int32 that holds every value."""
    if self.num_bins <= 2**8:
      return tf.uint8
    return tf.uint16 if self.num_bins <= 2**16 else tf.int32

  def dequantize(
    self,
    x: tf.Tensor,
    seed: Any,
    dtype: Any = tf.float32,
    keys: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """`x + u`.

    Args:
      x: integers, of any dtype.
      seed: int or stateless seed `[2]`; the same gives the same noise.
      dtype: of the result.
      keys: of the examples, `[*batch, 2]`, for noise that does not depend on their
        places; see `tff.example_keys`.

    Returns:
      Floating-point tensor in `[x, x + 1)`.
    """
    x = tf.cast(x, dtype)
    seed = seeds.stateless_seed(seed)
    noise = random.for_examples(random.uniform, tf.shape(x), seed, x.dtype, keys=keys)
    # 255 + (1 - 2^-24) rounds to 256, which belongs to the next cell.
    return tf.minimum(x + noise, tf.math.nextafter(x + 1.0, x))

  def quantize(self, v: tf.Tensor) -> tf.Tensor:
    """The integer of each `v`, clipped to `0, ..., num_bins - 1`."""
    v = tf.clip_by_value(tf.floor(v), 0.0, self.num_bins - 1.0)
    return tf.cast(v, self.dtype)

  def log_prob(
    self,
    distribution: tfd.Distribution,
    x: tf.Tensor,
    seed: Any,
    num_samples: int = 1,
    keys: tf.Tensor | None = None,
    **kwargs: Any,
  ) -> tf.Tensor:
    """A stochastic lower bound of `log P(x)`, in nats.

    Args:
      distribution: the density of `v`.
      x: integers `[..., *event_shape]`.
      seed: int or stateless seed `[2]`.
      num_samples: `K`. The bound is `E[log(mean_k p(x + u_k))]`: with one sample
        the usual bound, and tighter with more [(Burda et al., 2016)][1].
      keys: of the examples with their samples, `[batch, 2]` or `[K, batch, 2]`.
      **kwargs: passed to `distribution.log_prob`, as `condition`.

    Returns:
      Tensor of the batch shape.

    Raises:
      ValueError: if `num_samples > 1` and log-determinants are estimated: the mean
        of the exponentials of noisy logarithms is too large, and no bound.

    #### References

    [1]: Yuri Burda, Roger Grosse and Ruslan Salakhutdinov. Importance Weighted
         Autoencoders, equation 8. In _ICLR_, 2016.
         https://arxiv.org/abs/1509.00519
    """
    check_num_samples(distribution, num_samples)
    x = tf.convert_to_tensor(x)
    if num_samples > 1:
      x = tf.broadcast_to(x, tf.concat([[num_samples], tf.shape(x)], 0))
    v = self.dequantize(x, seed, distribution.dtype, keys)
    log_prob = distribution.log_prob(v, **kwargs)
    if num_samples == 1:
      return log_prob
    return tf.reduce_logsumexp(log_prob, axis=0) - math.log(num_samples)
