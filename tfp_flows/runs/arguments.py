"""The arguments of a model from options `arg=NAME=VALUE`."""

import ast
import inspect
import warnings
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from tfp_flows.runs.options import UsageError

__all__ = ['parse']


def parse(
  builder: Callable[..., Any], texts: Sequence[str], given: Sequence[str]
) -> dict[str, Any]:
  """The keyword arguments that `texts` stand for, each `NAME=VALUE`.

  A value is what Python reads it as, or else a string; of a name that is there twice
  the last one counts.

  Args:
    builder: what they are arguments of.
    texts: the values of `arg`.
    given: parameters that come from elsewhere.

  Raises:
    UsageError: for another name.
  """
  known = [p for p in inspect.signature(builder).parameters if p not in given]
  found = {}
  for text in texts:
    key, _, value = text.partition('=')
    if key not in known:
      raise UsageError(
        f'Expected arg=NAME=VALUE with a name of {", ".join(known)}; received {text!r}.'
      )
    found[key] = _literal(value)
  return found


def _literal(text):
  if text.lower() in ('true', 'false'):
    return text.lower() == 'true'
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # Of Python, about strange strings.
      return ast.literal_eval(text)
  except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
    return text
