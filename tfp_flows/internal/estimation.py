"""Which estimators are used, and with which noise."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfp_flows.internal import call
from tfp_flows.internal import example_keys
from tfp_flows.internal import seeds

__all__ = ['Estimation', 'current', 'estimation', 'innermost']


@dataclasses.dataclass(frozen=True, eq=False)
class Estimation:
  """How stochastic layers estimate: see `estimation`."""

  training: bool
  seed: tf.Tensor
  estimator: Any = None
  keys: tf.Tensor | None = None

  def keys_for(self, x: tf.Tensor, event_ndims: int) -> tf.Tensor | None:
    """The keys of the examples `x`, if there are any."""
    if self.keys is None:
      return None
    return example_keys.for_batch(self.keys, x, event_ndims)

  def seed_of(self, salt: int | tf.Tensor) -> tf.Tensor:
    """The seed of the layer with that salt: the same at each call."""
    return tf.random.experimental.stateless_fold_in(self.seed, salt, alg='philox')


def innermost() -> Estimation | None:
  """That of the innermost `estimation` block."""
  return call.current().estimation


def current() -> Estimation:
  """The innermost block; outside of any, evaluation with seed 0."""
  return innermost() or Estimation(False, seeds.stateless_seed(0))


@contextlib.contextmanager
def estimation(
  seed: Any,
  training: bool = False,
  estimator: Any = None,
  keys: tf.Tensor | None = None,
) -> Iterator[Estimation]:
  """Says with which noise the log-dets inside the `with` block are estimated.

  ```python
  with tff.estimation(seed=step, training=True):
    loss = -tf.reduce_mean(flow.log_prob(x))
  ```

  Inside a `tf.function` open the block inside of it, with the seed as an argument that
  is a tensor: what a trace finds around itself is fixed for all calls.

  A stochastic layer draws its noise from `seed` and from its own constant, so
  that forward and inverse log-det agree inside one block. Outside of any block
  layers evaluate, with seed 0: the same call gives the same number, and an optimizer
  or sampler the same noise at each step. `FlowModel` does all of this itself. Blocks
  nest; each thread has its own.

  Noise is drawn for the places of a batch: what an example has depends on the others
  before it. With `keys` it belongs to the example, in batches of any order and size,
  and equal examples have equal noise:

  ```python
  with tff.estimation(seed=0, keys=tff.example_keys(x)):
    log_prob = flow.log_prob(x)
  ```

  Args:
    seed: int, or stateless seed of two ints; may be a tensor.
    training: whether the estimators of training are used, or those of evaluation.
    estimator: used by every layer instead of its own; `ExactLogDet` and the like.
    keys: of the examples that the block is about, see `example_keys`; the first axes
      of what layers are given are theirs.
  """
  found = Estimation(training, seeds.stateless_seed(seed), estimator, keys)
  with call.within(estimation=found):
    yield found
