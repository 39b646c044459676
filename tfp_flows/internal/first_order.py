"""Gradients that refuse to be differentiated again."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

__all__ = ['without_gradient']


def without_gradient(values: Any, sources: Sequence[Any], message: str) -> Any:
  """`values`, whose gradients with respect to `sources` raise `LookupError`.

  Args:
    values: a structure of tensors.
    sources: tensors and variables that they were computed from.
    message: of the error.
  """

  @tf.custom_gradient
  def blocked(*sources):
    del sources

    def gradient(*upstream):
      raise LookupError(message)

    return tuple(tf.identity(v) for v in tf.nest.flatten(values)), gradient

  blocked_values = blocked(*(tf.convert_to_tensor(s) for s in sources))
  return tf.nest.pack_sequence_as(values, blocked_values)
