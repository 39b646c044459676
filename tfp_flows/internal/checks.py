"""Checks of single arguments, whose errors say expected and received."""

import operator
from typing import Any

import tensorflow as tf

__all__ = ['as_count', 'as_dtype']


def as_count(
  value: Any, name: str, least: int = 1, most: int | None = None, owner: str = ''
) -> int:
  """`value` as an int.

  Args:
    value: to be checked.
    name: of the argument.
    least: smallest that is allowed.
    most: largest that is allowed, or None.
    owner: whose argument it is, for the message.

  Raises:
    ValueError: unless it is an integer from `least` to `most`. True is none.
  """
  try:
    count = operator.index(value)
  except TypeError:
    count = None
  too_large = count is not None and most is not None and count > most
  if count is None or isinstance(value, bool) or count < least or too_large:
    subject = f'{owner} expects' if owner else 'Expected'
    limit = f' and <= {most}' if too_large else ''
    raise ValueError(
      f'{subject} an integer {name} >= {least}{limit}; received {value!r}.'
    )
  return count


def as_dtype(dtype: Any, owner: str, allowed: tuple[tf.DType, ...] = ()) -> tf.DType:
  """`dtype` as a floating-point `tf.DType`.

  Args:
    dtype: to be checked.
    owner: whose argument it is, for the message.
    allowed: dtypes; none for all of floating point.

  Raises:
    ValueError: for another one.
  """
  try:
    found = tf.as_dtype(dtype)
  except TypeError:
    found = None
  if found is None or not (found in allowed if allowed else found.is_floating):
    names = ' or '.join(d.name for d in allowed) or 'one of floating point'
    raise ValueError(f'{owner} expects dtype {names}; received {dtype!r}.')
  return found
