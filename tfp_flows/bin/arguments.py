"""The arguments of a model from `--arg=NAME=VALUE`."""

import ast
import collections.abc
import inspect
import types
import typing
import warnings
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from tfp_flows.bin import cli

__all__ = ['parse']

_NAMES = {
  bool: 'True or False',
  float: 'a number',
  int: 'an integer',
  str: 'a name',
  type(None): 'None',
}


def parse(
  builder: Callable[..., Any], texts: Sequence[str], given: Sequence[str]
) -> dict[str, Any]:
  """The keyword arguments that `texts` stand for, each `NAME=VALUE`.

  A value is what Python reads it as, or else a string; of a name that is there twice
  the last one counts.

  Args:
    builder: a function whose parameters have types.
    texts: the values of `--arg`.
    given: parameters that come from elsewhere.

  Raises:
    UsageError: for another name, or a value that is not of the parameter's type.
  """
  known = [p for p in inspect.signature(builder).parameters if p not in given]
  kinds = typing.get_type_hints(builder)
  found = {}
  for text in texts:
    key, _, value = text.partition('=')
    if key not in known:
      raise cli.UsageError(
        f'Expected --arg to be NAME=VALUE with a name of {", ".join(known)}; '
        f'received {text!r}.'
      )
    found[key] = _literal(value)
    if not _fits(found[key], kinds[key]):
      raise cli.UsageError(
        f'Expected arguments that fit {builder.__name__}, of which {key} is '
        f'{_described(kinds[key])}; received {value!r}.'
      )
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


def _options(kind):
  """The types of a union, or the one type."""
  is_union = typing.get_origin(kind) in (typing.Union, types.UnionType)
  return typing.get_args(kind) if is_union else (kind,)


def _fits(value, kind):
  return any(_is(value, option) for option in _options(kind))


def _is(value, kind):
  if kind is float:
    return isinstance(value, int | float) and not isinstance(value, bool)
  if kind is int:
    return isinstance(value, int) and not isinstance(value, bool)
  if kind in _NAMES:
    return isinstance(value, kind)
  if typing.get_origin(kind) is collections.abc.Sequence:
    (item,) = typing.get_args(kind)
    return isinstance(value, list | tuple) and all(_fits(v, item) for v in value)
  return False  # Objects, which no text stands for.


def _described(kind):
  names = []
  for option in _options(kind):
    if option in _NAMES:
      names.append(_NAMES[option])
    elif typing.get_origin(option) is collections.abc.Sequence:
      items = _described(typing.get_args(option)[0]).removeprefix('an ')
      names.append(f'a list, each {items.removeprefix("a ")}')
  return ' or '.join(names)
