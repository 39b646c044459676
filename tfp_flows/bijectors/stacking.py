"""Weights of equal steps, stacked, and one step after the other."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfp_flows.internal import inspection
from tfp_flows.internal import tf_private

__all__ = ['for_each', 'rows', 'spec', 'stacked']


def stacked(variables: Sequence[tf.Variable]) -> tf.Variable:
  """One variable for the same one of all steps."""
  first = variables[0]
  return tf.Variable(
    tf.stack([tf.convert_to_tensor(v) for v in variables]),
    trainable=first.trainable,
    synchronization=first.synchronization,
    aggregation=first.aggregation,
    name=first.name.split(':')[0],
  )


def rows(stacks: Sequence[tf.Tensor], count: int) -> list[tuple[tf.Tensor, ...]]:
  """What the stacks have for each step."""
  return list(zip(*(tf.unstack(stack, num=count) for stack in stacks)))


def spec(stacked: tf.Variable) -> tuple[tf.DType, tf.TensorShape]:
  """Dtype and shape of one row."""
  return stacked.dtype, stacked.shape[1:]


def for_each(
  body: Callable[..., tuple[Any, list[tf.Tensor]]],
  state: tuple[Any, ...],
  stacks: Sequence[tf.Tensor],
  specs: Sequence[tuple[tf.DType, Any]],
  count: int,
  backward: bool = False,
  loop: bool = True,
) -> tuple[Any, list[tf.Tensor]]:
  """Calls `state, found = body(row, *state)` for each row of `stacks`.

  Args:
    body: function of what the stacks have for a step, a tuple, and of the state.
    state: a structure of tensors for each argument of `body` but the first.
    stacks: tensors with a first axis for the steps.
    specs: dtypes and shapes of what `body` returns beside the state, a list.
    count: number of steps.
    backward: whether from the last step to the first.
    loop: whether graphs have a loop, where they can.

  Returns:
    The last state, and a list of what was returned beside it, stacked.
  """
  run = _looped if loop and _can_loop(state, stacks) else _unrolled
  return run(body, state, stacks, specs, count, backward)


def _can_loop(state, stacks):
  if tf.executing_eagerly() or inspection.innermost():
    return False
  if tf_private.has_tangents([state, stacks]):
    return False  # TensorFlow's forward mode knows no loops.
  # XLA cannot compile gradients of loops over tensors of sizes unknown to the graph.
  is_known = all(t.shape.is_fully_defined() for t in tf.nest.flatten(state))
  return is_known or not tf_private.in_xla()


def _unrolled(body, state, stacks, specs, count, backward):
  order, found_rows = list(enumerate(rows(stacks, count))), []
  for k, row in reversed(order) if backward else order:
    with inspection.part(f'step {k + 1}'):
      state, found = body(row, *state)
    found_rows.append(found)
  found_rows = found_rows[::-1] if backward else found_rows
  return state, [tf.stack(column) for column in zip(*found_rows)]


def _looped(body, state, stacks, specs, count, backward):
  arrays = [
    tf.TensorArray(dtype, size=count, element_shape=shape) for dtype, shape in specs
  ]

  def step(i, state, lists, arrays):
    k = count - 1 - i if backward else i
    lists, row = zip(*map(_pop, lists, stacks))
    state, found = body(row, *state)
    arrays = [array.write(k, v) for array, v in zip(arrays, found, strict=True)]
    return i + 1, state, list(lists), arrays

  lists = [_as_list(stack if backward else tf.reverse(stack, [0])) for stack in stacks]
  _, state, _, arrays = tf.while_loop(
    lambda i, *_: i < count, step, (0, state, lists, arrays), maximum_iterations=count
  )
  return state, [array.stack() for array in arrays]


# The gradient of what a loop takes from the end of a list is a list, to which the loop
# back adds one item at a time; that of `stack[k]` would be all of `stack` at each step.


def _as_list(stack: tf.Tensor) -> tf.Tensor:
  """The rows as a list, to take one from the end at each step of a loop."""
  return tf.raw_ops.TensorListFromTensor(tensor=stack, element_shape=stack.shape[1:])


def _pop(rows: tf.Tensor, stack: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """What is left of a list of rows of `stack`, and its last row."""
  return tf.raw_ops.TensorListPopBack(
    input_handle=rows, element_shape=stack.shape[1:], element_dtype=stack.dtype
  )
