"""Calls of any bijector, those of TFP and their compositions among them."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import walk
from tfp_flows.bijectors.flow_bijector import FlowBijector
from tfp_flows.internal import inspection
from tfp_flows.internal import tfp_private

__all__ = ['adapt', 'apply', 'log_det_costs', 'step_of', 'takes_condition', 'value']

tfb = tfp.bijectors


def takes_condition(bijector: tfb.Bijector) -> bool:
  """Whether any bijector, or a part of it, depends on a condition."""
  while isinstance(bijector, tfp_private.Invert):
    bijector = bijector.bijector
  if isinstance(bijector, FlowBijector):
    return bijector.takes_condition
  if walk.is_composition(bijector):
    return any(takes_condition(b) for b in tf.nest.flatten(bijector.bijectors))
  return walk.accepts_condition(bijector)


def apply(
  bijector: tfb.Bijector,
  x: tf.Tensor,
  event_ndims: int,
  condition: tf.Tensor | None = None,
  inverted: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
  """`bijector.forward(x)`, or its inverse, and its log-det, from one call.

  Any `tfb.Bijector` will do, and a composition of TFP passes the condition on. That
  goes to each `FlowBijector`, and to others that take the keyword `condition`.

  Args:
    bijector: any.
    x: its input, or with `inverted` its output.
    event_ndims: of `x`, over which the log-det is summed.
    condition: `[..., K]`, or None.
    inverted: whether the inverse is applied.
  """
  if isinstance(bijector, tfp_private.Invert):
    return apply(bijector.bijector, x, event_ndims, condition, not inverted)
  if isinstance(bijector, FlowBijector):
    ndims = bijector._min_event_ndims(inverted)
    condition = _for_smaller_events(condition, event_ndims, ndims)
    run = bijector.inverse_and_log_det if inverted else bijector.forward_and_log_det
    y, log_det = run(x, condition)
    return y, _sum_extra(log_det, event_ndims, ndims)
  if walk.is_composition(bijector):
    step = lambda part, x, n: apply(part, x, n, condition, inverted)  # noqa: E731
    return walk.through(bijector, x, event_ndims, inverted, step)
  kwargs = _foreign_keywords(bijector, condition)

  def of_tfp(x):
    if inverted:
      log_det = bijector.inverse_log_det_jacobian(x, event_ndims, **kwargs)
      return bijector.inverse(x, **kwargs), log_det
    log_det = bijector.forward_log_det_jacobian(x, event_ndims, **kwargs)
    return bijector.forward(x, **kwargs), log_det

  return inspection.observed(bijector, of_tfp, x)


def log_det_costs(bijector: tfb.Bijector) -> bool:
  """Whether its values, or those of a part of it, take less work by `value`."""
  while isinstance(bijector, tfp_private.Invert):
    bijector = bijector.bijector
  if isinstance(bijector, FlowBijector):
    return bijector.log_det_costs
  is_composition = walk.is_composition(bijector)
  parts = tf.nest.flatten(bijector.bijectors) if is_composition else []
  return any(map(log_det_costs, parts))


def value(
  bijector: tfb.Bijector,
  x: tf.Tensor,
  event_ndims: int,
  condition: tf.Tensor | None = None,
  inverted: bool = False,
) -> tf.Tensor:
  """`bijector.forward(x)`, or its inverse, without log-dets that cost something."""
  if isinstance(bijector, tfp_private.Invert):
    return value(bijector.bijector, x, event_ndims, condition, not inverted)
  if isinstance(bijector, FlowBijector):
    condition = _for_smaller_events(
      condition, event_ndims, bijector._min_event_ndims(inverted)
    )
    return (bijector.inverse_value if inverted else bijector.forward_value)(
      x, condition
    )
  if walk.is_composition(bijector):
    part_step = step_of(inverted, value_only=True)
    step = lambda part, x, n: part_step(part, x, n, condition)  # noqa: E731
    return walk.through(bijector, x, event_ndims, inverted, step)[0]
  kwargs = _foreign_keywords(bijector, condition)
  return (bijector.inverse if inverted else bijector.forward)(x, **kwargs)


def step_of(inverted: bool, value_only: bool = False) -> Callable[..., Any]:
  """`apply` in one direction, or the like with 0 for each log-det."""
  if not value_only:
    return functools.partial(apply, inverted=inverted)
  return lambda *args: (value(*args, inverted=inverted), 0.0)  # type: ignore[misc]


def _for_smaller_events(condition, event_ndims, min_event_ndims):
  """The condition of a layer whose events are axes of larger events."""
  extra = tf.nest.flatten(event_ndims)[0] - tf.nest.flatten(min_event_ndims)[0]
  if condition is None or not extra or condition.shape.rank in (None, 1):
    return condition
  return condition[(..., *[tf.newaxis] * extra, slice(None))]


def _foreign_keywords(bijector, condition):
  if condition is None or not walk.accepts_condition(bijector):
    return {}
  return dict(condition=condition)


def _sum_extra(log_det, event_ndims, min_event_ndims):
  extra = tf.nest.flatten(event_ndims)[0] - tf.nest.flatten(min_event_ndims)[0]
  return tf.reduce_sum(log_det, axis=list(range(-extra, 0))) if extra else log_det


def adapt(
  bijector: tfb.Bijector,
  x: tf.Tensor,
  condition: tf.Tensor | None = None,
  inverted: bool = False,
) -> tf.Tensor:
  """Runs `x` through `bijector`, initialising each `FlowBijector` on its way.

  Walks into `tfb.Invert`, `tfb.Chain`, `tfb.Blockwise` and `tfb.JointMap`. A layer
  that is passed through its inverse is left as it is.

  Args:
    bijector: any bijector.
    x: a batch.
    condition: passed to each `FlowBijector`.
    inverted: whether `x` is to go through `bijector.inverse` instead.

  Returns:
    The transformed batch.
  """
  if isinstance(bijector, tfp_private.Invert):
    return adapt(bijector.bijector, x, condition, not inverted)
  if walk.is_composition(bijector):
    step = lambda part, x, _: (adapt(part, x, condition, inverted), 0.0)  # noqa: E731
    return walk.through(bijector, x, None, inverted, step)[0]
  if not isinstance(bijector, FlowBijector):
    kwargs = _foreign_keywords(bijector, condition)
    go = bijector.inverse if inverted else bijector.forward
    return go(x, **kwargs)
  if inverted:
    return bijector.inverse(x, condition=condition)
  return bijector.adapt(x, condition)
