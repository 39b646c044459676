"""What layers report of their work beside values and log-dets."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from tfp_flows.internal import call

__all__ = ['Report', 'flow_report', 'innermost']


class Report:
  """Numbers that layers reported inside a `flow_report` block.

  Attributes:
    evaluations: of the fields of continuous flows, int32 scalars.
    failures: of their solvers, boolean scalars.
    penalties: name -> weighted penalties, each `[*batch]`, for the loss.
    probe: its "gradient" is the number of evaluations of the backward solves.
  """

  def __init__(self, probe: tf.Tensor | None = None):
    self.evaluations: list[tf.Tensor] = []
    self.failures: list[tf.Tensor] = []
    self.penalties: dict[str, list[tf.Tensor]] = {}
    self.probe = tf.zeros([]) if probe is None else probe

  def add_penalty(self, name: str, value: tf.Tensor) -> None:
    self.penalties.setdefault(name, []).append(value)


def innermost() -> Report:
  """The report of the innermost block; outside of any, a new one."""
  return call.current().report or Report()


@contextlib.contextmanager
def flow_report(probe: tf.Tensor | None = None) -> Iterator[Report]:
  """Collects what layers called inside the `with` block report of their work.

  ```python
  with tff.flow_report() as report, tf.GradientTape() as tape:
    tape.watch(report.probe)
    loss = -tf.reduce_mean(flow.log_prob(x))
  *gradients, backward = tape.gradient(loss, [*variables, report.probe])
  report.evaluations   # of the field, one number per solve
  backward             # of the field for the gradient, in all solves together
  ```

  `FlowModel` does this itself. In a `tf.function` open the block inside of it. A cached
  result is no second report. Blocks nest, and each thread has its own; the innermost
  one gets the report.

  Args:
    probe: of the report; None makes one.
  """
  report = Report(probe)
  with call.within(report=report):
    yield report
