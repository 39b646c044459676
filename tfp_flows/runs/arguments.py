"""The arguments of a model from options `arg=NAME=VALUE`."""

import ast
import inspect
import warnings
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
from typing import Any

from tfp_flows.internal import renaming
from tfp_flows.runs.options import UsageError

__all__ = ['parse', 'with_current_name']


def parse(
  builder: Callable[..., Any],
  texts: Sequence[str],
  given: Sequence[str],
  older: Collection[str] = (),
) -> dict[str, Any]:
  """The keyword arguments that `texts` stand for, each `NAME=VALUE`.

  A value is what Python reads it as, or else a string; of a name that is there twice
  the last one counts.

  Args:
    builder: what they are arguments of.
    texts: the values of `arg`.
    given: parameters that come from elsewhere.
    older: those of `texts` that an earlier version may have written, with the names
      that arguments had then.

  Raises:
    UsageError: for another name.
  """
  known = [p for p in inspect.signature(builder).parameters if p not in given]
  names, found = renaming.table(builder), {}
  for text in texts:
    if text in older:
      text = with_current_name(builder, text)
    key, _, value = text.partition('=')
    if key in names:
      raise UsageError(
        f'Expected arg={names[key]}=..., which earlier versions called {key}; '
        f'received {text!r}.'
      )
    if key not in known:
      raise UsageError(
        f'Expected arg=NAME=VALUE with a name of {", ".join(known)}; received {text!r}.'
      )
    found[key] = _literal(value)
  return found


def with_current_name(builder: Callable[..., Any], text: str) -> str:
  """`NAME=VALUE` of an earlier version, with the name of today."""
  name, equals, value = text.partition('=')
  return renaming.table(builder).get(name, name) + equals + value


def _literal(text):
  if text.lower() in ('true', 'false'):
    return text.lower() == 'true'
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # Of Python, about strange strings.
      return ast.literal_eval(text)
  except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
    return text
