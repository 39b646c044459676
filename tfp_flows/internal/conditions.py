"""What networks say of the condition that they take."""

from typing import Any
from typing import Protocol
from typing import runtime_checkable

__all__ = ['Conditional', 'size_of']


@runtime_checkable
class Conditional(Protocol):
  """A network, or a layer, that says whether it takes a condition.

  Attributes:
    condition_size: `K`, of a condition `[..., K]`; None if it takes none.
  """

  @property
  def condition_size(self) -> int | None: ...


def size_of(network: Any) -> int | None:
  """The size of the condition that `network` says it takes, or None."""
  return network.condition_size if isinstance(network, Conditional) else None
