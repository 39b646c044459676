"""An observer that notes which numbers of a flow are finite."""

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfp_flows.bijectors import layer_paths

__all__ = ['Event', 'FinitenessObserver', 'first_event']


class Event(NamedTuple):
  """Something that may or may not be finite.

  Attributes:
    what: see `NonFiniteError`.
    layer: its path.
    thing: words for it, for `'the {thing} of {layer}'`.
  """

  what: str
  layer: str
  thing: str


class FinitenessObserver:
  """Notes, in a graph, whether what layers compute is finite, in order.

  To be used inside of a `tf.function`; what happens in loops and branches inside of it
  is not seen. With `with_gradients` gradients at the layers are noted instead of
  values, in the order of the backward pass.
  """

  def __init__(self, with_gradients: bool = False):
    self.events: list[Event] = []
    self._with_gradients = with_gradients
    self._flags: list[tf.Tensor] = []
    self._stack: list[tuple[str, Any]] = []
    self._graph = tf.compat.v1.get_default_graph()

  def flags(self) -> tf.Tensor:
    """Boolean `[len(events)]`: whether each was finite."""
    return tf.stack(self._flags) if self._flags else tf.ones([0], tf.bool)

  def add(self, event: Event, value: Any) -> None:
    """Notes whether all of `value`, a structure of tensors, is finite."""
    tensors = [t for t in tf.nest.flatten(value) if t.dtype.is_floating]
    if tensors and all(t.graph is self._graph for t in tensors):
      finite = [tf.reduce_all(tf.math.is_finite(t)) for t in tensors]
      self.events.append(event)
      self._flags.append(tf.reduce_all(finite))

  # What layers call.

  def call(
    self, layer: tf.Module, fn: Callable[[Any], tuple[Any, Any]], x: Any
  ) -> tuple[Any, Any]:
    with self._inside(self._label(layer), layer):
      if not self._with_gradients:
        self._note('value', 'input', x)
        y, log_det = fn(x)
        self._note('value', 'value', y)
        self._note('log-det', 'log-det', log_det)
        return y, log_det
      y, log_det = fn(self._watched('input', x))
      return self._watched('output', y), self._watched('log-det', log_det)

  def part(self, name: str) -> contextlib.AbstractContextManager[None]:
    return self._inside(name, None)

  def report(self, name: str, value: Any) -> None:
    things = dict(network='output of the network')
    if not self._with_gradients:
      self._note('value', things.get(name, name.replace('_', '-')), value)

  @contextlib.contextmanager
  def _inside(self, label, layer) -> Iterator[None]:
    self._stack.append((label, layer))
    try:
      yield
    finally:
      self._stack.pop()

  def _label(self, layer):
    parents = [parent for _, parent in self._stack if parent is not None]
    if not parents:
      return '' if layer_paths.parts(layer) else layer.name
    parts = layer_paths.parts(parents[-1])
    for label, part in parts:
      if part is layer:
        return label
    # The elementwise map of a coupling is the coupling, in words.
    return layer.name if parts else ''

  def _path(self):
    path = layer_paths.join(label for label, _ in self._stack)
    return path or next(layer.name for _, layer in self._stack if layer is not None)

  def _note(self, what, thing, value):
    self.add(Event(what, self._path(), thing), value)

  def _watched(self, thing, value):
    event = Event('gradient', self._path(), thing)

    @tf.custom_gradient
    def watched(tensor):
      def gradient(upstream):
        self.add(event, upstream)
        return upstream

      return tf.identity(tensor), gradient

    return tf.nest.map_structure(watched, value)


def first_event(
  run: Callable[[], tuple[FinitenessObserver, Any]],
) -> tuple[Event | None, Any]:
  """Calls `run` in a graph; the first event of its observer that is not finite.

  Returns:
    The event, or None; and what else `run` returned, a structure of tensors.
  """
  observers = []

  def compiled():
    observer, others = run()
    observers.append(observer)
    return observer.flags(), others

  flags, others = tf.function(compiled, autograph=False)()
  bad = np.flatnonzero(~flags.numpy())
  return (observers[0].events[bad[0]] if len(bad) else None), others
