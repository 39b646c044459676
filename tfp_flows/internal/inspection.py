"""A look into the layers of a flow while they are called."""

import contextlib
from collections.abc import Callable
from typing import Any
from typing import Protocol

import tensorflow as tf

from tfp_flows.internal import call as call_lib

__all__ = ['Observer', 'innermost', 'observed', 'observed_by', 'part', 'report']


class Observer(Protocol):
  """Sees the layers that are called inside of an `observed_by` block."""

  def call(
    self, layer: Any, fn: Callable[..., tuple[Any, tf.Tensor]], x: Any
  ) -> tuple[Any, tf.Tensor]:
    """Returns `fn(x)`: value and log-det of `layer`, which `x` goes into."""

  def part(self, name: str) -> contextlib.AbstractContextManager[None]:
    """A block in which the part `name` of the innermost layer is called."""

  def report(self, name: str, value: tf.Tensor) -> None:
    """Takes a tensor of the innermost layer, as `'log_scale'`."""


def innermost() -> Observer | None:
  """The observer of the innermost block."""
  return call_lib.current().observer


def observed_by(observer: Observer) -> contextlib.AbstractContextManager[None]:
  """Shows `observer` every layer that is called inside of the `with` block.

  Loops over layers are unrolled inside of it. Blocks nest, and each thread has its own.
  """
  return call_lib.within(observer=observer)


# What layers call: nothing but a look-up where there is no observer.


def observed(
  layer: Any, fn: Callable[..., tuple[Any, tf.Tensor]], x: Any
) -> tuple[Any, tf.Tensor]:
  """`fn(x)`, the value and the log-det of `layer`."""
  observer = innermost()
  return fn(x) if observer is None else observer.call(layer, fn, x)


def part(name: str) -> contextlib.AbstractContextManager[None]:
  """A block in which a part of a layer is called that has no name of its own."""
  observer = innermost()
  return contextlib.nullcontext() if observer is None else observer.part(name)


def report(name: str, value: tf.Tensor) -> None:
  """Shows a tensor inside of a layer."""
  observer = innermost()
  if observer is not None:
    observer.report(name, value)
