"""Composition in reading order."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import calls
from tfp_flows.bijectors import flow_bijector
from tfp_flows.bijectors import reversible
from tfp_flows.internal import checks

__all__ = ['Sequential']

tfb = tfp.bijectors


class Sequential(reversible.Composition):
  """Applies bijectors one after the other, from data to latent.

    forward: `y = f_n(...f_2(f_1(x)))`
    log-det: the sum of the log-dets, each at its own input   (nats)

  Unlike `tfb.Chain`, which lists its parts right to left and addresses keyword
  arguments to each by name, it reads in the order of the data and passes
  `condition` on to every `FlowBijector`. Its parts may be any `tfb.Bijector`s
  whose minimal event ranks are at most those of the event.

  With `memory='reversible'` no activations are kept for gradients: the input of each
  part is recovered from its output, and the gradients of value and log-det are
  computed part by part [(Gomez et al., 2017)][1], so that memory does not grow with
  depth. A coupling evaluates its network once more, other parts themselves and their
  inverse. Gradients equal the ordinary ones up to the rounding of the inverses; second
  derivatives raise `LookupError`. Layers that are random, keep statistics, or are
  inverted by iterations are refused. Networks must own the variables that they read,
  be the same in training and else, and leave gradients to others: tensors that they
  close over, losses of activations, and gradients inside of a network get none.

  With a `condition_size` the parts see `(condition - shift) / scale`. That is the
  condition itself until `adapt(batch, condition)` sets mean and standard deviation of
  each of its columns. A constant column is centred and keeps its scale; one of nothing
  but 0 and 1, an indicator of a class, stays as it is. The difference is taken in the
  dtype of the condition: of float64 no digits are lost in a large mean.

  #### References

  [1]: Aidan N. Gomez, Mengye Ren, Raquel Urtasun and Roger B. Grosse. The Reversible
       Residual Network: Backpropagation Without Storing Activations, algorithm 1. In
       _NeurIPS_, 2017. https://arxiv.org/abs/1707.04585
  """

  def __init__(
    self,
    bijectors: Sequence[tfb.Bijector],
    memory: str = 'stored',
    name: str = 'sequential',
    condition_size: int | None = None,
  ):
    """Creates the composition.

    Args:
      bijectors: at least one; the first is applied first to the data.
      memory: `'stored'` or `'reversible'`, see above.
      name: name of the composition.
      condition_size: `K`, for a condition `[..., K]` that `adapt` standardizes; None
        passes it on as it is.

    Raises:
      ValueError: if there is none, or one that `memory` does not allow.
    """
    flow_bijector.check_bijectors(bijectors, 'Sequential')
    if not bijectors:
      raise ValueError('Sequential expects at least one bijector; received none.')
    reversible.check_memory(memory, bijectors)
    self._bijectors, self._memory = list(bijectors), memory
    *self._ranks, inverse_rank = _event_ranks(self._bijectors)
    with tf.name_scope(name) as scope:
      super().__init__(
        forward_min_event_ndims=self._ranks[0],
        inverse_min_event_ndims=inverse_rank,
        dtype=next(filter(None, (b.dtype for b in self._bijectors)), None),
        name=scope,
      )
      self._condition_scaling = None
      self._condition_size = condition_size
      if condition_size is not None:
        checks.as_count(condition_size, 'condition_size', owner='Sequential')
        self._condition_scaling = _Scaling(condition_size, self.dtype)

  @property
  def condition_size(self) -> int | None:
    """`K`, if the condition is standardized."""
    return self._condition_size

  @property
  def condition_variables(self) -> list[tf.Variable]:
    """Shift and scale of the condition, if it is standardized."""
    scaling = self._condition_scaling
    return [] if scaling is None else [scaling.shift, scaling.scale]

  @property
  def is_recomputable(self) -> bool:
    # Gradients of the condition would be those of the standardized one.
    return self._condition_scaling is None

  def adapt(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
    if condition is not None and self._condition_scaling is not None:
      self._condition_scaling.adapt(condition)
    return super().adapt(x, condition)

  def _as_condition(self, condition):
    if self._condition_scaling is not None:
      condition = self._condition_scaling(tf.convert_to_tensor(condition))
    return super()._as_condition(condition)

  @property
  def bijectors(self) -> list[tfb.Bijector]:
    return list(self._bijectors)

  def with_bijectors(self, bijectors: Sequence[tfb.Bijector]) -> 'Sequential':
    """The same composition of other bijectors; what scales the condition is shared."""
    other = type(self)(**dict(self.parameters, bijectors=bijectors))
    other._condition_scaling = self._condition_scaling
    return other

  @property
  def takes_condition(self) -> bool:
    return any(calls.takes_condition(b) for b in self._bijectors)

  def _forward_event_shape(self, shape):
    for bijector in self._bijectors:
      shape = bijector.forward_event_shape(shape)
    return shape

  def _inverse_event_shape(self, shape):
    for bijector in reversed(self._bijectors):
      shape = bijector.inverse_event_shape(shape)
    return shape

  @property
  def log_det_costs(self) -> bool:
    return any(map(calls.log_det_costs, self._bijectors))

  def _forward_value(self, x, condition=None):
    return self._compose(x, condition, inverted=False, value_only=True)[0]

  def _inverse_value(self, y, condition=None):
    return self._compose(y, condition, inverted=True, value_only=True)[0]

  def _compose(self, x, condition, inverted, value_only=False):
    step = calls.step_of(inverted, value_only)
    total = tf.zeros([], tf.nest.flatten(x)[0].dtype)
    for bijector, rank in self._path(inverted):
      x, log_det = step(bijector, x, rank, condition)
      total += log_det
    return x, total

  def _path(self, inverted):
    """Each bijector with the event rank of its input, in order of application."""
    if not inverted:
      return list(zip(self._bijectors, self._ranks))
    ranks = [*self._ranks[1:], self.inverse_min_event_ndims]
    return list(zip(reversed(self._bijectors), reversed(ranks)))

  def _pull_back(self, y, upstream, condition, tensors, inverted):
    totals: dict[int, Any]
    totals, known = {}, tf.nest.flatten(upstream)
    for bijector, rank in reversed(self._path(inverted)):
      y, gradient, weights = reversible.pull_back(
        bijector,
        reversible.after(y, known),
        upstream,
        rank,
        condition,
        tensors,
        inverted,
      )
      upstream = upstream._replace(y=gradient)
      known = [*tf.nest.flatten(gradient), *weights.values()]
      for source, value in weights.items():
        totals[source] = totals[source] + value if source in totals else value
    return reversible.PullBack(y, upstream.y, totals)

  def _adapt(self, x, condition):
    for bijector in self._bijectors:
      x = calls.adapt(bijector, x, condition)
    return x


def _event_ranks(bijectors):
  """Event rank of the input of each bijector, and of the last one's output."""
  *inner, last = bijectors
  gains = [b.inverse_min_event_ndims - b.forward_min_event_ndims for b in inner]
  offsets = list(itertools.accumulate(gains, initial=0))
  needs = [b.forward_min_event_ndims - o for b, o in zip(bijectors, offsets)]
  ranks = [max(needs) + offset for offset in offsets]
  # The output of the last alone may be a structure, as that of `Multiscale`.
  extra = ranks[-1] - last.forward_min_event_ndims
  output = tf.nest.map_structure(lambda n: n + extra, last.inverse_min_event_ndims)
  return [*ranks, output]


class _Scaling(tf.Module):
  """Standardizes a condition `[..., K]`.

  Attributes:
    shift: `[2, K]`; the second row is what the first one, rounded, lacks.
    scale: `[K]`.
  """

  def __init__(self, size: int, dtype: Any):
    super().__init__(name='condition_scaling')
    options = dict(trainable=False, dtype=dtype)
    self.shift = tf.Variable(np.zeros([2, size]), name='condition_shift', **options)
    self.scale = tf.Variable(np.ones([size]), name='condition_scale', **options)

  def __call__(self, condition: tf.Tensor) -> tf.Tensor:
    if not condition.dtype.is_floating:
      condition = tf.cast(condition, tf.float64)
    size = self.scale.shape[0]
    if not condition.shape[-1:].is_compatible_with([size]):
      raise ValueError(
        f'Expected `condition` of shape [..., {size}]; received {condition.shape}.'
      )
    wide = condition.dtype if condition.dtype.size >= 4 else tf.float32
    high, low = tf.unstack(tf.cast(self.shift, wide))
    return (tf.cast(condition, wide) - high - low) / tf.cast(self.scale, wide)

  def adapt(self, condition: Any) -> None:
    given = np.asarray(condition)
    rows = given.astype(np.float64).reshape([-1, given.shape[-1]])
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    digits = np.finfo(given.dtype if given.dtype.kind == 'f' else np.float64)
    is_indicator = np.isin(rows, [0.0, 1.0]).all(axis=0)
    is_constant = deviation <= 10.0 * digits.eps * np.abs(mean)
    mean = np.where(is_indicator, 0.0, mean)
    high = mean.astype(self.shift.dtype.as_numpy_dtype)
    self.shift.assign(np.stack([high, mean - high]).astype(high.dtype))
    self.scale.assign(np.where(is_indicator | is_constant, 1.0, deviation))
