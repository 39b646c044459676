"""Log-determinants of `x + g(x)`, for a contraction `g`.

Pure functions without weights. Each takes `g` as a callable, evaluates it once, and
reaches its Jacobian `J` by vector-Jacobian products only. In nats.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfp_flows.internal import names
from tfp_flows.internal import renaming
from tfp_flows.internal import shapes
from tfp_flows.math import random

__all__ = [
  'Lengths',
  'LogDetEstimate',
  'exact_log_det',
  'geometric',
  'linearize',
  'poisson',
  'series_log_det',
  'truncation_error_bound',
  'value_and_jacobian',
]

_UNROLLED = 8


class LogDetEstimate(NamedTuple):
  """An estimate of `log|det(I + J)|`.

  Attributes:
    value: `g(x)`, `[*batch, *event]`.
    log_det: `[*batch]`.
    standard_error: of `log_det` over the samples of one example, `[*batch]`; zero
      if it is exact, NaN if there is but one sample.
  """

  value: tf.Tensor
  log_det: tf.Tensor
  standard_error: tf.Tensor


@names.named
@dataclasses.dataclass(frozen=True)
class Lengths:
  """A distribution of the number `N` of random terms of a series.

  Attributes:
    name: of the distribution.
    survival: `P(N >= k)` for k = 0, 1, ..., until it falls below 2^-53, the
      resolution of the draws.
    largest_lipschitz: the supremum of the `L` for which the variance of the
      estimate is finite if `Lip(g) = L`.
  """

  name: str
  survival: np.ndarray = dataclasses.field(compare=False, repr=False)
  largest_lipschitz: float


def geometric(p: float = 0.5) -> Lengths:
  """`N` = 1, 2, ... with `P(N >= k) = (1 - p)^(k - 1)`.

  The variance of the estimate is finite if `L^2 < 1 - p`.
  """
  if not 0.0 < p < 1.0:
    raise ValueError(f'Expected 0 < p < 1 of the geometric distribution; received {p}.')
  count = math.ceil(-53 * math.log(2) / math.log1p(-p)) + 1
  survival = (1.0 - p) ** np.arange(count)
  return Lengths(f'geometric({p:g})', np.concatenate([[1.0], survival]), (1 - p) ** 0.5)


def poisson(rate: float = 2.0) -> Lengths:
  """`N` = 0, 1, ..., Poisson with mean `rate`.

  Its tail falls faster than any `L^k`: the variance of the estimate is infinite for
  every `L > 0`, though draws that show it are rare for small `L`. Above `L = 0.9`
  prefer `geometric(p)` with `p < 1 - L^2`.
  """
  if not rate > 0.0:
    raise ValueError(
      f'Expected a rate > 0 of the Poisson distribution; received {rate}.'
    )
  logs = [k * math.log(rate) - rate - math.lgamma(k + 1) for k in range(1000)]
  survival = np.cumsum(np.exp(logs[::-1]))[::-1]
  survival = survival[survival > 2.0**-53]
  return Lengths(f'poisson({rate:g})', np.minimum(survival, 1.0), 0.0)


def truncation_error_bound(lipschitz: float, num_terms: int, num_dims: int) -> float:
  """Largest possible `|E[series of n terms] - log det|`, in nats.

    D * (-log(1 - L) - sum_{k=1}^n L^k / k)

  after [(Behrmann et al., 2019)][1], theorem 4.

  #### References

  [1]: Jens Behrmann, Will Grathwohl, Ricky T. Q. Chen, David Duvenaud and
       Joern-Henrik Jacobsen. Invertible Residual Networks. In _ICML_, 2019.
       https://arxiv.org/abs/1811.00995
  """
  if not 0.0 <= lipschitz < 1.0:
    raise ValueError(f'Expected 0 <= lipschitz < 1; received {lipschitz}.')
  k = np.arange(1, num_terms + 1)
  return float(num_dims * (-np.log1p(-lipschitz) - np.sum(lipschitz**k / k)))


def exact_log_det(
  g: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, event_ndims: int
) -> LogDetEstimate:
  """`log|det(I + J)|` from the whole Jacobian.

  Costs as many vector-Jacobian products as there are dimensions, and a QR
  decomposition: for small events.

  Args:
    g: maps `[*batch, *event]` to the same shape, example by example.
    x: `[*batch, *event]`.
    event_ndims: number of event dimensions.
  """
  value, rows = value_and_jacobian(g, x, event_ndims)
  log_det = _log_abs_det(rows + tf.eye(rows.shape[-1], dtype=x.dtype))
  return LogDetEstimate(value, log_det, tf.zeros_like(log_det))


def value_and_jacobian(
  g: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, event_ndims: int
) -> tuple[tf.Tensor, tf.Tensor]:
  """`g(x)` and its Jacobians `[*batch, D, D]`, of events flattened to D numbers."""
  value, vjp = linearize(g, x)
  batch = shapes.batch_shape(x, event_ndims)
  event = x.shape[x.shape.rank - event_ndims :]
  size = event.num_elements()
  units = tf.reshape(tf.eye(size, dtype=x.dtype), [size, *event])

  def row(unit):
    return shapes.reshape(vjp(unit + tf.zeros_like(x)), batch, [size])

  if size <= _UNROLLED:
    rows = tf.stack([row(units[i]) for i in range(size)], axis=-2)
  else:
    rows = tf.map_fn(row, units)
    rank = x.shape.rank - event_ndims
    rows = tf.transpose(rows, [*range(1, rank + 1), 0, rank + 1])
  return value, rows


@renaming.renamed(num_samples='num_probes')
def series_log_det(
  g: Callable[[tf.Tensor], tf.Tensor],
  x: tf.Tensor,
  event_ndims: int,
  seed: tf.Tensor,
  num_terms: int,
  lengths: Lengths | None = None,
  noise: str = 'rademacher',
  num_probes: int = 1,
  keys: tf.Tensor | None = None,
) -> LogDetEstimate:
  """A stochastic estimate of `log|det(I + J)|` by its power series.

    log det(I + J) = sum_{k >= 1} (-1)^(k+1) / k * tr(J^k),   tr(J^k) = E[v' J^k v]

  With `lengths` it is a Russian roulette [(Chen et al., 2019)][1], eq. 6: the
  first n = `num_terms` terms, then N more, each divided by the probability that
  it is computed, `c_k = 1 / P(N >= k - n)`. Value and gradient are unbiased. N is
  drawn once per sample and shared by the batch; v is drawn per example. With `keys`
  both are drawn per example, and the batch computes the longest of its series. (Lengths
  of a probability below 2^-53 are never drawn.) Without `lengths` the series ends after
  n terms: biased, see `truncation_error_bound`.

  The gradient is that of the Neumann series, eq. 8:

    d log det(I + J) = tr[(I + J)^-1 dJ] = E[sum_{k >= 0} (-1)^k c_k v' J^k dJ v]

  with `c_0 = 1`, from the same v and N as the value. It needs memory for one
  vector-Jacobian product, whatever the number of terms, and reaches x, the
  weights of `g` and all that `g` has captured, each example with its own
  upstream gradient. Without `lengths` it is, in the mean, the gradient of the
  truncated series. Second derivatives are not those of the log-det. An outer tape
  in eager mode does record the loop: train in a `tf.function`.

  Args:
    g: maps `[*batch, *event]` to the same shape, example by example; for
      `num_probes > 1` also `[num_probes, *batch, *event]`.
    x: `[*batch, *event]`.
    event_ndims: number of event dimensions.
    seed: stateless seed `[2]`.
    num_terms: terms that are always computed.
    lengths: `geometric(p)`, `poisson(rate)` or None.
    noise: of v, `'rademacher'` or `'normal'`. The former has the smaller variance.
    num_probes: independent draws of v and N, of which the mean is taken.
    keys: of the examples, `[*batch, 2]`, for noise that does not depend on the place;
      see `tff.example_keys`.

  #### References

  [1]: Ricky T. Q. Chen, Jens Behrmann, David Duvenaud and Joern-Henrik
       Jacobsen. Residual Flows for Invertible Generative Modeling, section 3. In
       _NeurIPS_, 2019. https://arxiv.org/abs/1906.02735
  """
  _check_series(num_terms, lengths, noise, num_probes)
  v_seed, n_seed = tf.unstack(
    tf.random.experimental.stateless_split(seed, 2, alg='philox')
  )
  ndims = x.shape.rank - event_ndims + 1
  samples = x[tf.newaxis]
  if num_probes > 1:
    samples = tf.repeat(samples, num_probes, axis=0)
    value, vjp = linearize(g, samples)
  else:
    value, inner = linearize(g, x)
    value, vjp = value[tf.newaxis], lambda w: inner(w[0])[tf.newaxis]
  shape = shapes.static_or_dynamic(samples)
  draw = random.rademacher if noise == 'rademacher' else random.normal
  v = random.for_examples(draw, shape, v_seed, x.dtype, axis=1, keys=keys)
  weight, last = _weights(
    num_terms, lengths, [num_probes, *[1] * (ndims - 1)], n_seed, x.dtype, keys
  )

  def dot(a, b):
    return tf.reduce_sum(a * b, axis=list(range(ndims, samples.shape.rank)))

  def step(k, w, total, u):
    w = -vjp(w)
    term = weight(k)
    total -= term / tf.cast(k, x.dtype) * dot(w, v)
    # The truncated series of n terms has the gradient of n, not n + 1, terms.
    kept = term if lengths is not None else term * tf.cast(k < last, x.dtype)
    return k + 1, w, total, u + w * _expand(kept, samples.shape.rank)

  start = (tf.constant(1), v, tf.zeros(shape[:ndims], x.dtype), v)
  _, _, total, u = tf.while_loop(
    lambda k, *_: k <= last,
    step,
    start,
    shape_invariants=tf.nest.map_structure(lambda t: t.shape, start),
  )
  u, total = tf.stop_gradient(u), tf.stop_gradient(total)
  total = _with_gradient_of(total, dot(vjp(u), v))
  return LogDetEstimate(value[0], tf.reduce_mean(total, axis=0), _standard_error(total))


def linearize(
  g: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
  """`g(x)` and the function `w -> J' w`, which does not run `g` again."""
  with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
    tape.watch(x)
    value = g(x)

  if not value.shape.is_compatible_with(x.shape) or value.dtype != x.dtype:
    raise ValueError(
      f'Expected a function that keeps shape and dtype, {x.shape} of '
      f'{x.dtype.name}; it returned {value.shape} of {value.dtype.name}. Build '
      f'the network for the event shape and dtype of the layer.'
    )

  def vjp(w):
    product = tape.gradient(value, x, w, unconnected_gradients='zero')
    # Gradients of slices and the like do not know their shape.
    return shapes.ensure(product, x.shape)

  return value, vjp


def _expand(x, rank):
  return tf.reshape(x, tf.concat([tf.shape(x), [1] * (rank - x.shape.rank)], axis=0))


def _weights(num_terms, lengths, shape, seed, dtype, keys):
  """The function `k -> c_k`, which broadcasts to `shape`, and the last k that counts.

  With keys the result is one per example.
  """
  if lengths is None:
    return lambda k: tf.ones(shape, dtype), tf.constant(num_terms)
  survival = lengths.survival
  uniform = random.for_examples(
    random.uniform,
    [*shape, 1],
    seed,
    tf.float64,
    axis=1,
    keys=keys,
  )
  count = tf.reduce_sum(tf.cast(uniform < survival[1:], tf.int32), axis=-1)
  table = tf.constant(
    np.concatenate([np.ones(num_terms + 1), 1.0 / survival[1:]]), dtype
  )

  def weight(k):
    return tf.where(k <= num_terms + count, tf.gather(table, k), tf.zeros([], dtype))

  return weight, num_terms + tf.reduce_max(count)


@tf.custom_gradient
def _with_gradient_of(value, surrogate):
  """`value`, with the derivatives of `surrogate`, which is not computed for it."""
  return tf.identity(value), lambda upstream: (None, upstream)


def _standard_error(samples):
  count = int(samples.shape[0])
  if count == 1:
    return tf.fill(tf.shape(samples)[1:], tf.constant(np.nan, samples.dtype))
  deviation = tf.math.reduce_std(samples, axis=0) * (count / (count - 1)) ** 0.5
  return tf.stop_gradient(deviation / count**0.5)


def _log_abs_det(a):
  if a.shape[-1] == 1:
    return tf.math.log(tf.abs(a[..., 0, 0]))
  if a.shape[-1] == 2:
    det = a[..., 0, 0] * a[..., 1, 1] - a[..., 0, 1] * a[..., 1, 0]
    return tf.math.log(tf.abs(det))
  # `tf.linalg.slogdet` does not compile under XLA.
  diagonal = tf.linalg.diag_part(tf.linalg.qr(a).r)
  return tf.reduce_sum(tf.math.log(tf.abs(diagonal)), axis=-1)


def _check_series(num_terms, lengths, noise, num_probes):
  if num_terms < (0 if lengths is not None else 1):
    raise ValueError(
      f'Expected num_terms >= 1, or 0 with a roulette; received {num_terms}.'
    )
  if noise not in ('rademacher', 'normal'):
    raise ValueError(f"Expected noise 'rademacher' or 'normal'; received {noise!r}.")
  if num_probes < 1:
    raise ValueError(f'Expected num_probes >= 1; received {num_probes}.')
