"""What a library hands to `measure.py`."""

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence

__all__ = ['Task', 'Unavailable']


class Unavailable(ValueError):
  """A workload that a library does not offer, or an option that it does not have."""


@dataclasses.dataclass(frozen=True)
class Task:
  """One workload in one library.

  Attributes:
    step: makes one training step, or one call of `log_prob`, and returns the mean
      negative log-likelihood in nats; or one call of `sample`, and returns the mean
      of the samples. Either way the result has been read back.
    num_parameters: how many numbers the optimizer trains.
    packages: names of the distributions whose versions matter.
  """

  step: Callable[[], float]
  num_parameters: int
  packages: Sequence[str]
