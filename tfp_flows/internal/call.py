"""What surrounds a call of a flow: what it is given, and who is told of what it does.

All of it is in one `Call` of one context variable. Each thread has its own, and each
task; what copies a context, as `asyncio.to_thread`, takes the blocks around it along.
Layers come to it by `FlowBijector._weight` and `_report`, by `estimation.current()` and
by `reports.innermost()`; users by `tff.estimation` and `tff.flow_report`.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

__all__ = ['Call', 'current', 'within']


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
  """What the innermost blocks say.

  Attributes:
    estimation: the `Estimation` of stochastic layers; None outside of any block.
    observer: the `inspection.Observer` that sees each layer; None if there is none.
    report: the `reports.Report` that takes what solvers did; None if there is none.
    substitutes: what stands for variables and salts, by the `id` of these.
  """

  estimation: Any = None
  observer: Any = None
  report: Any = None
  substitutes: Mapping[int, Any] = dataclasses.field(default_factory=dict)


_current = contextvars.ContextVar('call of a flow', default=Call())  # noqa: B039


def current() -> Call:
  """That of the innermost block."""
  return _current.get()


@contextlib.contextmanager
def within(**changes: Any) -> Iterator[None]:
  """Inside of it some of the fields of the `Call` are others."""
  before = current()
  _current.set(dataclasses.replace(before, **changes))
  try:
    yield
  finally:
    # The others may be of blocks that were entered since, and are not left yet.
    kept = {name: getattr(before, name) for name in changes}
    _current.set(dataclasses.replace(current(), **kept))
