"""What constructors take."""

import inspect
import types
from typing import Any

__all__ = ['arguments_of', 'takes']


def takes(cls: Any, name: str) -> bool:
  """Whether the constructor of `cls` takes an argument of that name."""
  parameters = inspect.signature(cls.__init__).parameters
  kinds = {p.kind for p in parameters.values()}
  return name in parameters or inspect.Parameter.VAR_KEYWORD in kinds


def arguments_of(
  cls: Any, parameters: dict[str, Any] | None, more: bool = False
) -> dict[str, Any]:
  """Those of `parameters` that the constructor of `cls` takes.

  Args:
    cls: the class.
    parameters: by their names.
    more: whether those that it has no name for go to its `**kwargs`, if it has them.

  Raises:
    ValueError: if there is one that it needs and that is not there.
  """
  known = inspect.signature(cls.__init__).parameters
  parameters, found = parameters or {}, {}
  for name, parameter in list(known.items())[1:]:
    is_one = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    is_optional = parameter.default is not parameter.empty or not is_one
    if name not in parameters and is_optional:
      continue
    if name not in parameters:
      raise ValueError(
        f'Expected {cls.__name__} to know the argument {name!r} that it was created '
        f'with; received {list(parameters)}. Let the class have a constructor '
        f'with that argument, or pass `parameters=dict(locals())` to that of its base.'
      )
    value = parameters[name]
    # A default of TensorFlow Probability may be a function that has no public name.
    if value is parameter.default and isinstance(value, types.FunctionType):
      continue
    found[name] = value
  keywords = [k for k, p in known.items() if p.kind is p.VAR_KEYWORD]
  if more and keywords:
    found |= found.pop(keywords[0], {})
    found |= {k: v for k, v in parameters.items() if k not in known}
  return found
