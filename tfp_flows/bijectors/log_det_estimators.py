"""The ways to estimate the log-determinant of `x + g(x)`."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any
from typing import Protocol
from typing import runtime_checkable

import tensorflow as tf

from tfp_flows.internal import estimation
from tfp_flows.internal import renaming
from tfp_flows.math import log_det

__all__ = [
  'ExactLogDet',
  'LogDet',
  'LogDetEstimator',
  'RouletteLogDet',
  'TruncatedLogDet',
  'log_det_estimator',
]

# An exact determinant takes as many products as there are dimensions.
_EXACT_UP_TO = 64

# Of finite variance up to L = 0.948, which is above that of all usual branches.
_EVALUATION_P = 0.1


@runtime_checkable
class LogDetEstimator(Protocol):
  """A function that finds or estimates `log det(I + J)`, `J = dg/dx`.

  Those of this library are `ExactLogDet`, `TruncatedLogDet` and `RouletteLogDet`. To be
  saved, it is a function or an object of a class that Keras can serialize.
  """

  def __call__(
    self,
    g: Callable[[tf.Tensor], tf.Tensor],
    x: tf.Tensor,
    event_ndims: int,
    seed: tf.Tensor,
    /,
  ) -> log_det.LogDetEstimate:
    """Value of `g` at `x`, and the log-determinant there.

    Args:
      g: maps `[*batch, *event]` to the same shape, example by example.
      x: `[*batch, *event]`.
      event_ndims: number of event dimensions.
      seed: stateless seed, int32 `[2]`, of all noise.

    Returns:
      `LogDetEstimate` of `g(x)` and of what is in nats, `[*batch]`; gradients are taken
      of both.
    """


@dataclasses.dataclass(frozen=True)
class ExactLogDet:
  """The determinant of the whole Jacobian; for few dimensions.

  See `exact_log_det`.
  """

  def __call__(
    self,
    g: Callable[[tf.Tensor], tf.Tensor],
    x: tf.Tensor,
    event_ndims: int,
    seed: tf.Tensor,
  ) -> log_det.LogDetEstimate:
    del seed
    return log_det.exact_log_det(g, x, event_ndims)


@renaming.renamed(num_samples='num_probes')
@dataclasses.dataclass(frozen=True)
class TruncatedLogDet:
  """The first terms of the power series: biased [(Behrmann et al., 2019)][1].

  See `series_log_det` and `truncation_error_bound`.

  Attributes:
    num_terms: of the series.
    noise: `'rademacher'` or `'normal'`.
    num_probes: draws of the noise, of which the mean is taken.

  #### References

  [1]: Jens Behrmann, Will Grathwohl, Ricky T. Q. Chen, David Duvenaud and
       Joern-Henrik Jacobsen. Invertible Residual Networks. In _ICML_, 2019.
       https://arxiv.org/abs/1811.00995
  """

  num_terms: int = 5
  noise: str = 'rademacher'
  num_probes: int = 1

  def __call__(
    self,
    g: Callable[[tf.Tensor], tf.Tensor],
    x: tf.Tensor,
    event_ndims: int,
    seed: tf.Tensor,
  ) -> log_det.LogDetEstimate:
    return log_det.series_log_det(
      g,
      x,
      event_ndims,
      seed,
      self.num_terms,
      None,
      self.noise,
      self.num_probes,
      estimation.current().keys_for(x, event_ndims),
    )


@renaming.renamed(num_samples='num_probes')
@dataclasses.dataclass(frozen=True)
class RouletteLogDet:
  """Russian roulette: unbiased in value and gradient [(Chen et al., 2019)][1].

  See `series_log_det`.

  Attributes:
    lengths: distribution of the number of random terms, `tff.geometric(p)` or
      `tff.poisson(rate)`.
    num_terms: terms that are always computed.
    noise: `'rademacher'` or `'normal'`.
    num_probes: draws of noise and length, of which the mean is taken.

  #### References

  [1]: Ricky T. Q. Chen, Jens Behrmann, David Duvenaud and Joern-Henrik
       Jacobsen. Residual Flows for Invertible Generative Modeling. In _NeurIPS_,
       2019. https://arxiv.org/abs/1906.02735
  """

  lengths: log_det.Lengths = dataclasses.field(default_factory=log_det.geometric)
  num_terms: int = 2
  noise: str = 'rademacher'
  num_probes: int = 1

  def __call__(
    self,
    g: Callable[[tf.Tensor], tf.Tensor],
    x: tf.Tensor,
    event_ndims: int,
    seed: tf.Tensor,
  ) -> log_det.LogDetEstimate:
    return log_det.series_log_det(
      g,
      x,
      event_ndims,
      seed,
      self.num_terms,
      self.lengths,
      self.noise,
      self.num_probes,
      estimation.current().keys_for(x, event_ndims),
    )

  def problem(self, lipschitz: float) -> str | None:
    """Why the variance may be infinite if `Lip(g) = lipschitz`, and what would do."""
    largest = self.lengths.largest_lipschitz
    if not largest or lipschitz < largest:
      return None
    return (
      f'The variance of the log-determinant with {self.lengths.name} is finite '
      f'only for Lipschitz constants below {largest:.4g}; that of the branch may be '
      f'{lipschitz:.4g}. Pass geometric(p) with p < {1 - lipschitz**2:.4g}, or a '
      f'branch with a Lipschitz constant below {largest:.4g}.'
    )


_ROULETTE = RouletteLogDet(log_det.geometric(_EVALUATION_P), num_terms=20)


@renaming.renamed(training='estimator', evaluation='evaluation_estimator')
@dataclasses.dataclass(frozen=True)
class LogDet:
  """Which estimator is used for training, and which for evaluation.

  Which of the two is meant says the innermost `tff.estimation` block; `FlowModel`
  opens one for each step.

  Attributes:
    estimator: of training: `ExactLogDet`, `TruncatedLogDet` or `RouletteLogDet`.
    evaluation_estimator: the same outside of training; None is exact up to 64
      dimensions, and above a roulette of 10 terms in the mean after 20,
      `geometric(0.1)`.
  """

  estimator: LogDetEstimator = RouletteLogDet()
  evaluation_estimator: LogDetEstimator | None = None

  def __call__(
    self, g: Callable[..., Any], x: tf.Tensor, event_ndims: int, salt: Any
  ) -> log_det.LogDetEstimate:
    """The estimate at `x` with the estimator and noise of the current block."""
    current = estimation.current()
    size = x.shape[x.shape.rank - event_ndims :].num_elements()
    estimator = current.estimator or (
      self.estimator if current.training else self.evaluation_of(size)
    )
    return estimator(g, x, event_ndims, current.seed_of(salt))

  def evaluation_of(self, num_dims: int) -> LogDetEstimator:
    """The estimator of evaluation for events of so many dimensions."""
    if self.evaluation_estimator is not None:
      return self.evaluation_estimator
    return ExactLogDet() if num_dims <= _EXACT_UP_TO else _ROULETTE


def log_det_estimator(name: str, num_terms: int | None = None) -> LogDetEstimator:
  """The estimator of a name.

    'exact'       `ExactLogDet`
    'roulette'    `RouletteLogDet`, geometric with p = 1/2
    'poisson'     `RouletteLogDet`, Poisson with mean 2, as the paper has for images
    'truncated'   `TruncatedLogDet`

  Args:
    name: see above.
    num_terms: of all but the first; None is their default.

  Raises:
    ValueError: for another name, or terms of the exact one.
  """
  makers: dict[str, Callable[..., Any]] = dict(
    exact=ExactLogDet,
    roulette=RouletteLogDet,
    poisson=functools.partial(RouletteLogDet, log_det.poisson(2.0)),
    truncated=TruncatedLogDet,
  )
  if name not in makers or (name == 'exact' and num_terms is not None):
    raise ValueError(
      f'Expected an estimator, or a name among {list(makers)}, the first without '
      f'num_terms; received {name!r} with num_terms={num_terms}.'
    )
  return makers[name](**({} if num_terms is None else dict(num_terms=num_terms)))
