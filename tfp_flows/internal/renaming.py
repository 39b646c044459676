"""Arguments that had other names in earlier versions.

Code that uses an old name is told the new one, and files with it are read. A class says
in `_renamed` what its arguments were called, a function and a dataclass by `renamed`.
"""

import functools
import inspect
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import TypeVar

__all__ = ['check', 'current', 'renamed', 'table']

Named = TypeVar('Named', bound=Callable[..., Any])


def renamed(**names: str) -> Callable[[Named], Named]:
  """Decorates a function or a dataclass whose arguments had other names.

  Args:
    **names: `old='new'`.
  """

  def decorate(named: Any) -> Any:
    call = vars(named)['__init__'] if isinstance(named, type) else named

    @functools.wraps(call)
    def checked(*args, **kwargs):
      check(named.__name__, kwargs, names)
      return call(*args, **kwargs)

    if isinstance(named, type):
      setattr(named, '__init__', checked)  # noqa: B010
    else:
      named = checked
    named._renamed = names
    return named

  return decorate


def table(named: Any) -> dict[str, str]:
  """The old names of the arguments of a class or function, and the new ones."""
  classes = inspect.getmro(named) if isinstance(named, type) else (named,)
  found: dict[str, str] = {}
  for cls in reversed(classes):
    found |= vars(cls).get('_renamed', {})
  return found


def check(owner: str, given: Iterable[str], names: dict[str, str]) -> None:
  """Raises `TypeError`, which tells the new name, if an old one is `given`."""
  for old in given:
    if old in names:
      raise TypeError(
        f'{owner} expects an argument {names[old]!r}, which earlier versions called '
        f'{old!r}; received {old!r}. Rename it.'
      )


def current(named: Any, arguments: dict[str, Any]) -> dict[str, Any]:
  """Arguments that an earlier version has written, with their names of today."""
  names = table(named)
  return {names.get(name, name): value for name, value in arguments.items()}
