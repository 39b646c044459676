"""Compositions of TFP, part by part."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.internal import tfp_private

__all__ = ['accepts_condition', 'is_composition', 'through']

tfb = tfp.bijectors
_COMPOSITIONS = (tfp_private.Chain, tfp_private.Blockwise, tfp_private.JointMap)


def is_composition(bijector: tfb.Bijector) -> bool:
  """Whether `through` knows the parts of `bijector`."""
  return isinstance(bijector, _COMPOSITIONS)


def through(
  bijector: tfb.Bijector,
  x: Any,
  event_ndims: Any,
  inverted: bool,
  step: Callable[..., tuple[Any, Any]],
) -> tuple[Any, Any]:
  """Value and log-det of a composition.

  Args:
    bijector: a `tfb.Chain`, `tfb.Blockwise` or `tfb.JointMap`.
    x: what goes in; of its inverse, if `inverted`.
    event_ndims: of `x`; None if `step` has no use for it.
    inverted: whether the inverse is meant.
    step: `step(part, x, event_ndims) -> (y, log_det)`, of each part in that direction.
  """
  if isinstance(bijector, tfp_private.Chain):
    return _in_turn(bijector, x, event_ndims, inverted, step)
  if isinstance(bijector, tfp_private.Blockwise):
    return _of_blocks(bijector, x, event_ndims, inverted, step)
  return _beside(bijector, x, event_ndims, step)


def _in_turn(chain, x, event_ndims, inverted, step):
  total = tf.zeros([], tf.nest.flatten(x)[0].dtype)
  parts = chain.bijectors if inverted else reversed(chain.bijectors)
  for part in parts:
    x, log_det = step(part, x, event_ndims)
    # Some of TFP's have a dtype of their own.
    total += tf.cast(log_det, total.dtype)
    if event_ndims is not None:
      change = part.inverse_event_ndims if inverted else part.forward_event_ndims
      event_ndims = change(event_ndims)
  return x, total


def _of_blocks(blockwise, x, event_ndims, inverted, step):
  # As tensors the sizes would be no constants to XLA.
  sizes = blockwise.inverse_block_sizes if inverted else blockwise.block_sizes
  static = tf.get_static_value(sizes)
  blocks = tf.split(x, sizes if static is None else static.tolist(), axis=-1)
  found = [step(b, x, event_ndims) for b, x in zip(blockwise.bijectors, blocks)]
  values, log_dets = zip(*found, strict=True)
  return tf.concat(values, axis=-1), _sum(log_dets, x.dtype)


def _beside(joint, x, event_ndims, step):
  parts, tensors = tf.nest.flatten(joint.bijectors), tf.nest.flatten(x)
  ranks = tf.nest.flatten(event_ndims)
  ranks = ranks if len(ranks) == len(parts) else len(parts) * ranks
  found = [step(*each) for each in zip(parts, tensors, ranks, strict=True)]
  values, log_dets = zip(*found, strict=True)
  return tf.nest.pack_sequence_as(x, values), _sum(log_dets, tensors[0].dtype)


def _sum(log_dets, dtype):
  return sum(tf.cast(log_det, dtype) for log_det in log_dets)


def accepts_condition(bijector: tfb.Bijector) -> bool:
  """Whether a bijector that is none of ours takes the keyword `condition`.

  That is if its methods name it, or pass all keywords to a function which takes it.
  """
  hooks = tfp_private.hooks(bijector)
  if any('condition' in _keywords(hook) for hook in hooks):
    return True
  if not any(None in _keywords(hook) for hook in hooks):
    return False
  if not type(bijector).__module__.startswith('tensorflow_probability.'):
    return True
  functions = [f for f in (bijector.parameters or {}).values() if callable(f)]
  return any(_keywords(f) & {'condition', None} for f in functions)


def _keywords(function):
  """Names of parameters; None if there are any keywords."""
  if isinstance(function, tf.Module):
    return set()
  if isinstance(function, keras.layers.Layer):
    function = function.call
  try:
    parameters = inspect.signature(function).parameters.values()
  except (TypeError, ValueError):  # Nothing, or a builtin.
    return set()
  return {None if p.kind == p.VAR_KEYWORD else p.name for p in parameters}
