"""The types of the arguments of builders, checked as they are annotated."""

import collections.abc
import functools
import inspect
import numbers
import types
import typing
from collections.abc import Callable
from typing import Any

__all__ = ['checked']

_KINDS = {
  bool: (bool, 'True or False'),
  float: (numbers.Real, 'a number'),
  int: (numbers.Integral, 'an integer'),
  str: (str, 'a name'),
  type(None): (type(None), 'None'),
}
# Checked by what uses them: an int may stand for a shape.
_OTHERS = ('event_shape', 'dtype')


def checked(builder: Callable[..., Any]) -> Callable[..., Any]:
  """`builder`, which raises `ValueError` for an argument of another type than its own.

  So a slip such as `width='64'` ends in a message that names the argument, and not in
  that of whatever would use it.
  """
  signature, kinds = inspect.signature(builder), typing.get_type_hints(builder)

  @functools.wraps(builder)
  def call(*args, **kwargs):
    for name, value in signature.bind(*args, **kwargs).arguments.items():
      if name not in _OTHERS and not _fits(value, kinds[name]):
        raise ValueError(
          f'{builder.__name__} expects {name} to be {_described(kinds[name])}; '
          f'received {value!r}.'
        )
    return builder(*args, **kwargs)

  return call


def _options(kind):
  """The types of a union, or the one type."""
  is_union = typing.get_origin(kind) in (typing.Union, types.UnionType)
  return typing.get_args(kind) if is_union else (kind,)


def _fits(value, kind):
  return any(_is(value, option) for option in _options(kind))


def _is(value, kind):
  if kind in _KINDS:
    # Python's True is an integer.
    is_truth = isinstance(value, bool) and kind is not bool
    return isinstance(value, _KINDS[kind][0]) and not is_truth
  origin = typing.get_origin(kind)
  if origin is collections.abc.Sequence:
    (item,) = typing.get_args(kind)
    return isinstance(value, list | tuple) and all(_fits(v, item) for v in value)
  if kind is Any:
    return True
  return callable(value) if origin else isinstance(value, kind)


def _described(kind):
  names = []
  for option in _options(kind):
    if option in _KINDS:
      names.append(_KINDS[option][1])
    elif typing.get_origin(option) is collections.abc.Sequence:
      items = _described(typing.get_args(option)[0])
      names.append(f'a list, each of it {items},')
    elif option is not Any:
      names.append(getattr(option, '__name__', 'an object'))
  return ' or '.join(names).rstrip(',')
