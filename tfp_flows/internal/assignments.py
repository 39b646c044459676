"""Which variables a traced function assigns to."""

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

__all__ = ['assigned_captures']

_OPS = ('AssignVariableOp', 'AssignAddVariableOp', 'AssignSubVariableOp')


def assigned_captures(function: tf.types.experimental.ConcreteFunction) -> list[int]:
  """The indices of those `captured_inputs` that are variables it assigns to."""
  graph = function.graph.as_graph_def()
  library = {f.signature.name: f for f in graph.library.function}
  count = len(function.captured_inputs)
  names = [t.op.name for t in function.inputs[-count:]] if count else []
  assigned = _assigned(graph.node, library, {})
  return [i for i, name in enumerate(names) if name in assigned]


def _assigned(
  nodes: Iterable[Any], library: dict[str, Any], known: dict[str, Any]
) -> set[str]:
  """The names of what `nodes` assign to, also in the functions that they call."""
  found = set()
  for node in nodes:
    inputs = [name.split(':')[0] for name in node.input if not name.startswith('^')]
    if node.op in _OPS:
      found.add(inputs[0])
    for attribute in node.attr.values():
      called = [attribute.func] if attribute.HasField('func') else attribute.list.func
      for function in called:
        for i in _assigned_arguments(function.name, library, known):
          # A condition, or the index of a branch, comes before the arguments.
          arguments = library[function.name].signature.input_arg
          found.add(inputs[len(inputs) - len(arguments) + i])
  return found


def _assigned_arguments(name, library, known):
  """The indices of the arguments that a function of the library assigns to."""
  if name not in known:
    function = library[name]
    assigned = _assigned(function.node_def, library, known)
    arguments = function.signature.input_arg
    known[name] = [i for i, a in enumerate(arguments) if a.name in assigned]
  return known[name]
