"""The ways to find the divergence of the field of a continuous flow."""

import dataclasses
from collections.abc import Callable
from typing import Any
from typing import Protocol
from typing import runtime_checkable

import tensorflow as tf

from tfp_flows.bijectors import log_det_estimators
from tfp_flows.internal import estimation
from tfp_flows.internal import renaming
from tfp_flows.math import divergence

__all__ = [
  'Estimator',
  'ExactTrace',
  'HutchinsonTrace',
  'Trace',
  'TraceEstimator',
  'trace_estimator',
]

# An exact trace takes as many products as there are dimensions, at each evaluation.
_EXACT_UP_TO = 64

FieldAt = Callable[[Callable[..., Any], tf.Tensor], divergence.FieldAt]


@runtime_checkable
class TraceEstimator(Protocol):
  """What finds or estimates the divergence of a field, with one noise for a solve.

  Those of this library are `ExactTrace` and `HutchinsonTrace`. To be saved, it is an
  object of a class that Keras can serialize.
  """

  def draw(self, x: tf.Tensor, event_ndims: int, seed: tf.Tensor) -> FieldAt:
    """A function of the field and a point, for one solve.

    Args:
      x: where the solve begins, `[*batch, *event]`.
      event_ndims: number of event dimensions.
      seed: stateless seed, int32 `[2]`, of all noise.

    Returns:
      `field_at(f, x)`, for a function `f` from `[*batch, *event]` to the same shape: a
      `FieldAt` with `f(x)`, its divergence and the squared norm of its Jacobian.
    """


# What a `tff.estimation` block may be given.
Estimator = log_det_estimators.LogDetEstimator | TraceEstimator


@dataclasses.dataclass(frozen=True)
class ExactTrace:
  """The trace of the whole Jacobian; for few dimensions. See `exact_divergence`."""

  def draw(self, x: tf.Tensor, event_ndims: int, seed: tf.Tensor) -> FieldAt:
    """A function of the field and a point, for one solve."""
    del x, seed
    return lambda f, x: divergence.exact_divergence(f, x, event_ndims)


@renaming.renamed(num_samples='num_probes')
@dataclasses.dataclass(frozen=True)
class HutchinsonTrace:
  """An unbiased estimate of the trace [(Grathwohl et al., 2019)][1], eq. 8.

    tr J = E[v' J v]

  with one `v` for a whole solve, per example: the field that the solver sees is a
  deterministic one.

  Attributes:
    noise: of v, `'rademacher'` or `'normal'`. The former has the smaller variance.
    num_probes: draws of v, of which the mean is taken.

  #### References

  [1]: Will Grathwohl, Ricky T. Q. Chen, Jesse Bettencourt, Ilya Sutskever and
       David Duvenaud. FFJORD: Free-form Continuous Dynamics for Scalable
       Reversible Generative Models. In _ICLR_, 2019.
       https://arxiv.org/abs/1810.01367
  """

  noise: str = 'rademacher'
  num_probes: int = 1

  def __post_init__(self):
    if self.noise not in ('rademacher', 'normal'):
      raise ValueError(
        f"Expected noise 'rademacher' or 'normal'; received {self.noise!r}."
      )
    if self.num_probes < 1:
      raise ValueError(f'Expected num_probes >= 1; received {self.num_probes}.')

  def draw(self, x: tf.Tensor, event_ndims: int, seed: tf.Tensor) -> FieldAt:
    """A function of the field and a point, for one solve."""
    keys = estimation.current().keys_for(x, event_ndims)
    noise = divergence.hutchinson_noise(self.noise, x, seed, self.num_probes, keys)
    return lambda f, x: divergence.hutchinson_divergence(f, x, event_ndims, noise)


@renaming.renamed(training='estimator', evaluation='evaluation_estimator')
@dataclasses.dataclass(frozen=True)
class Trace:
  """Which estimator is used for training, and which for evaluation.

  Which of the two is meant says the innermost `tff.estimation` block; `FlowModel`
  opens one for each step.

  Attributes:
    estimator: of training: `ExactTrace` or `HutchinsonTrace`.
    evaluation_estimator: the same outside of training; None is exact up to 64
      dimensions, and above `estimator`.
  """

  estimator: TraceEstimator = HutchinsonTrace()
  evaluation_estimator: TraceEstimator | None = None

  def current(self, num_dims: int) -> TraceEstimator:
    """The estimator of the current block for events of so many dimensions.

    Raises:
      ValueError: if the block has one that is of no use here.
    """
    current = estimation.current()
    estimator = current.estimator
    if isinstance(estimator, log_det_estimators.ExactLogDet):
      return ExactTrace()
    if estimator is None:
      return self.estimator if current.training else self.evaluation_of(num_dims)
    if not isinstance(estimator, TraceEstimator):
      raise ValueError(
        f'Expected an estimator of traces, ExactTrace or HutchinsonTrace, for a '
        f'continuous flow; received {estimator}.'
      )
    return estimator

  def evaluation_of(self, num_dims: int) -> TraceEstimator:
    """The estimator of evaluation for events of so many dimensions."""
    if self.evaluation_estimator is not None:
      return self.evaluation_estimator
    if num_dims <= _EXACT_UP_TO:
      return ExactTrace()
    return self.estimator


def trace_estimator(name: str) -> TraceEstimator:
  """The estimator of a name: `'exact'`, `'hutchinson'` or `'normal'`.

  The last is Hutchinson's with normal noise.

  Raises:
    ValueError: for another name.
  """
  estimators: dict[str, TraceEstimator] = dict(
    exact=ExactTrace(),
    hutchinson=HutchinsonTrace(),
    normal=HutchinsonTrace(noise='normal'),
  )
  if name not in estimators:
    raise ValueError(f'Expected one of {list(estimators)}; received {name!r}.')
  return estimators[name]
