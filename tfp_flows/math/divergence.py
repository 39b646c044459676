"""Divergences of vector fields: the traces of their Jacobians.

Pure functions without weights. Each takes the field `f` as a callable, evaluates it
once, and reaches its Jacobian `J` by vector-Jacobian products only. First derivatives
of the results are exact, for x, the weights of `f` and all that it has captured.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfp_flows.internal import shapes
from tfp_flows.math import log_det
from tfp_flows.math import random

__all__ = [
  'FieldAt',
  'exact_divergence',
  'hutchinson_divergence',
  'hutchinson_noise',
]


class FieldAt(NamedTuple):
  """A field at a point.

  Attributes:
    value: `f(x)`, `[*batch, *event]`.
    divergence: `tr J`, or an estimate of it, `[*batch]`.
    squared_norm: `|J|_F^2`, the sum of all squared entries, or an estimate.
  """

  value: tf.Tensor
  divergence: tf.Tensor
  squared_norm: tf.Tensor


def exact_divergence(
  f: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, event_ndims: int
) -> FieldAt:
  """`tr J` from the whole Jacobian.

  Costs as many vector-Jacobian products as there are dimensions: for small events.

  Args:
    f: maps `[*batch, *event]` to the same shape, example by example.
    x: `[*batch, *event]`.
    event_ndims: number of event dimensions.
  """
  value, rows = log_det.value_and_jacobian(f, x, event_ndims)
  squared_norm = tf.reduce_sum(rows**2, axis=[-2, -1])
  return FieldAt(value, tf.linalg.trace(rows), squared_norm)


def hutchinson_divergence(
  f: Callable[[tf.Tensor], tf.Tensor],
  x: tf.Tensor,
  event_ndims: int,
  noise: tf.Tensor,
) -> FieldAt:
  """`tr J = E[v' J v]` and `|J|_F^2 = E[|v' J|^2]`, for `E[v v'] = I`.

  Unbiased [(Hutchinson, 1990)][1]; the mean over the given samples.

  Args:
    f: maps `[*batch, *event]` to the same shape, example by example.
    x: `[*batch, *event]`.
    event_ndims: number of event dimensions.
    noise: samples of v, `[num_probes, *batch, *event]`.

  #### References

  [1]: Michael F. Hutchinson. A stochastic estimator of the trace of the influence
       matrix for Laplacian smoothing splines. _Communications in Statistics_, 1990.
  """
  value, vjp = log_det.linearize(f, x)
  axes = list(range(x.shape.rank - event_ndims, x.shape.rank))
  divergences, norms = [], []
  for v in tf.unstack(noise):
    product = vjp(v)
    divergences.append(tf.reduce_sum(product * v, axis=axes))
    norms.append(tf.reduce_sum(product**2, axis=axes))
  count = len(divergences)
  return FieldAt(value, tf.add_n(divergences) / count, tf.add_n(norms) / count)


def hutchinson_noise(
  kind: str,
  x: tf.Tensor,
  seed: tf.Tensor,
  num_probes: int = 1,
  keys: tf.Tensor | None = None,
) -> tf.Tensor:
  """Samples `[num_probes, *x.shape]` of a noise of mean 0 and covariance I.

  Args:
    kind: `'rademacher'`, of the smaller variance, or `'normal'`.
    x: says shape and dtype.
    seed: stateless seed `[2]`.
    num_probes: number of samples.
    keys: of the examples, `[*batch, 2]`, for noise that does not depend on the place;
      see `tff.example_keys`.

  Raises:
    ValueError: for another kind.
  """
  if kind not in ('rademacher', 'normal'):
    raise ValueError(f"Expected noise 'rademacher' or 'normal'; received {kind!r}.")
  draw = random.rademacher if kind == 'rademacher' else random.normal
  shape = shapes.static_or_dynamic(x)
  if isinstance(shape, list):
    shape = [num_probes, *shape]
  else:
    shape = tf.concat([[num_probes], shape], axis=0)
  return random.for_examples(draw, shape, seed, x.dtype, axis=1, keys=keys)
