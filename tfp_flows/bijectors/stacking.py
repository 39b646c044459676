"""Weights of equal steps, stacked."""

from collections.abc import Sequence

import tensorflow as tf

__all__ = ['as_list', 'pop', 'rows', 'spec', 'stacked']


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


# The gradient of what a loop takes from the end of a list is a list, to which the loop
# back adds one item at a time; that of `stack[k]` would be all of `stack` at each step.


def as_list(stack: tf.Tensor) -> tf.Tensor:
  """The rows as a list, to take one from the end at each step of a loop."""
  return tf.raw_ops.TensorListFromTensor(tensor=stack, element_shape=stack.shape[1:])


def pop(rows: tf.Tensor, stack: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """What is left of a list of rows of `stack`, and its last row."""
  return tf.raw_ops.TensorListPopBack(
    input_handle=rows, element_shape=stack.shape[1:], element_dtype=stack.dtype
  )


def spec(stacked: tf.Variable) -> tuple[tf.DType, tf.TensorShape]:
  """Dtype and shape of one row."""
  return stacked.dtype, stacked.shape[1:]
