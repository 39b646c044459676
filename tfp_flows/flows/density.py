"""Any distribution as a base and one bijector, however it is nested."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import calls
from tfp_flows.bijectors import flow_bijector
from tfp_flows.bijectors import walk
from tfp_flows.internal import tfp_private

__all__ = ['Bound', 'Density', 'Transformed']

tfb, tfd = tfp.bijectors, tfp.distributions


class Transformed(tfp_private.TransformedDistribution):
  """A subclass whose density is that of its base and bijector."""


_PLAIN = (tfd.TransformedDistribution, tfp_private.TransformedDistribution)


class Density:
  """A distribution as the density of `x`, and of its latents if it has some.

  A `tfd.TransformedDistribution` may have another one as its base, and so on: latents
  are those of the innermost base, and the condition reaches every bijector that takes
  one, also inside of `tfb.Chain`, `tfb.Blockwise`, `tfb.JointMap` and `tfb.Invert`.
  Subclasses, as `tfd.MultivariateNormalTriL`, are bases.

  Attributes:
    distribution: the whole.
    base: of the latents, or None if there are none.
    base_takes_condition: whether that depends on the condition itself.
    bijector: from the latents to the data, or None; takes the condition.
    bijectors: its parts; the last is applied first to the latents.
    event_ndims: of the latents, a structure if they are one.
    is_composed: whether it has several parts, and `log_prob` goes through them.
  """

  base: Any
  bijector: Any
  event_ndims: Any

  def __init__(self, distribution: tfd.Distribution):
    self.distribution = distribution
    self.base = self.bijector = self.event_ndims = None
    self.bijectors, self.base_takes_condition = [], False
    self.is_composed = False
    inner, can_go_on = distribution, hasattr(distribution, 'bijector')
    while can_go_on:
      self.base_takes_condition = 'condition' in _split(inner)[0]
      self.bijectors.append(inner.bijector)
      inner = self.base = inner.distribution
      # What is no composition of one-to-one maps has the rest as its base.
      can_go_on = _is_one_to_one(distribution) and _is_one_to_one(inner)
    if self.base is None:
      return
    self.event_ndims = _ndims(self.base.event_shape)
    (self.bijector, *others) = self.bijectors
    has_parts = bool(others) or _has_parts(self.bijector)
    is_injective = all(map(tfp_private.is_injective, self.bijectors))
    self.is_composed = has_parts and is_injective and _is_plain(distribution)
    if self.is_composed:
      self.bijector = Bound(self.bijectors, self.base.event_shape)

  @property
  def dtype(self) -> tf.DType:
    return self.distribution.dtype

  @property
  def submodules(self) -> Sequence[tf.Module]:
    return self.distribution.submodules

  @functools.cached_property
  def takes_condition(self) -> bool:
    """Whether something in it is known to depend on a condition."""
    layers = [
      m
      for m in self.distribution.submodules
      if isinstance(m, flow_bijector.FlowBijector)
    ]
    return (
      self.base_takes_condition
      or any(layer.takes_condition for layer in layers)
      or any(calls.takes_condition(b) for b in self.bijectors)
    )

  def log_prob(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
    """The logarithm of the density at `x`, of the batch shape of both."""
    if self.is_composed:
      return self.composed_log_prob(x, condition)
    return self.distribution.log_prob(x, **self._keywords(condition))

  def composed_log_prob(
    self, x: tf.Tensor, condition: tf.Tensor | None = None
  ) -> tf.Tensor:
    """`log_prob` by base and bijector; only if there are these."""
    given = _given(condition)
    z = self.bijector.inverse(x, **given)
    ndims = self.bijector.forward_event_ndims(self.event_ndims)
    log_det = self.bijector.inverse_log_det_jacobian(x, event_ndims=ndims, **given)
    log_prob = self.base.log_prob(z, **self._for_base(condition))
    return log_prob + tf.cast(log_det, log_prob.dtype)

  def latents(
    self, shape: Any, seed: tf.Tensor, condition: tf.Tensor | None = None
  ) -> Any:
    """Independent draws of the base, `[*shape, *batch shape of condition]`."""
    base, given = self.base, self._for_base(condition)
    if condition is None or given:
      return base.sample(shape, seed=seed, **given)
    batch = _batch_shape(condition)
    if any(s.rank for s in tf.nest.flatten(base.batch_shape)):
      return tfd.BatchBroadcast(base, batch).sample(shape, seed=seed)
    shape = _as_vector(shape)
    if isinstance(shape, list) and isinstance(batch, list):
      return base.sample([*shape, *batch], seed=seed)
    return base.sample(tf.concat([shape, batch], axis=0), seed=seed)

  def forward(self, z: Any, condition: tf.Tensor | None = None) -> tf.Tensor:
    """What the latents stand for."""
    if calls.log_det_costs(self.bijector):
      return calls.value(self.bijector, z, self.event_ndims, condition)
    return self.bijector.forward(z, **_given(condition))

  def inverse(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> Any:
    """The latents of what the density is of."""
    if calls.log_det_costs(self.bijector):
      ndims = self.bijector.forward_event_ndims(self.event_ndims)
      return calls.value(self.bijector, x, ndims, condition, inverted=True)
    return self.bijector.inverse(x, **_given(condition))

  def forward_and_log_prob(
    self, z: Any, condition: tf.Tensor | None = None
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """What the latents stand for, and the logarithm of the density there."""
    given = _given(condition)
    x = self.bijector.forward(z, **given)
    log_det = self.bijector.forward_log_det_jacobian(z, self.event_ndims, **given)
    log_prob = self.base.log_prob(z, **self._for_base(condition))
    return x, log_prob - tf.cast(log_det, log_prob.dtype)

  def sample(
    self, shape: Any, seed: tf.Tensor, condition: tf.Tensor | None = None
  ) -> tf.Tensor:
    """Independent draws, `[*shape, *batch shape of condition, *event_shape]`."""
    if self.base is None:
      return self.distribution.sample(shape, seed=seed, **self._keywords(condition))
    return self.forward(self.latents(shape, seed, condition), condition)

  def _for_base(self, condition):
    return _given(condition) if self.base_takes_condition else {}

  def _keywords(self, condition):
    """The condition as the distribution takes it."""
    if condition is None:
      return {}
    split = self.distribution.parameters.get('kwargs_split_fn')
    if split is not None and 'condition' not in split({'condition': condition})[1]:
      # TFP's default: keywords of the bijector have a dictionary of their own.
      return dict(bijector_kwargs=dict(condition=condition))
    return dict(condition=condition)


def _is_plain(distribution):
  """Whether the density is that of base and bijector, and nothing else."""
  return type(distribution) in _PLAIN or isinstance(distribution, Transformed)


def _is_one_to_one(distribution):
  return _is_plain(distribution) and tfp_private.is_injective(distribution.bijector)


def _split(distribution):
  split = distribution.parameters.get('kwargs_split_fn')
  return ({}, {}) if split is None else split({'condition': None})


def _given(condition):
  return {} if condition is None else dict(condition=condition)


def _batch_shape(condition):
  static = condition.shape[:-1]
  return static.as_list() if static.is_fully_defined() else tf.shape(condition)[:-1]


def _as_vector(shape):
  static = tf.get_static_value(shape)
  if static is None:
    return tf.reshape(tf.cast(shape, tf.int32), [-1])
  return [int(size) for size in np.reshape(static, [-1])]


def _uninverted(bijector):
  while isinstance(bijector, tfp_private.Invert):
    bijector = bijector.bijector
  return bijector


def _has_parts(bijector):
  return walk.is_composition(_uninverted(bijector))


class Bound(flow_bijector.FlowBijector):
  """Several bijectors as one that passes the condition on, or that holds it.

  Forward is `y = b_1(b_2(...b_n(z)))`, from the latents to the data, as in `tfb.Chain`.
  """

  def __init__(
    self,
    bijectors: Sequence[tfb.Bijector],
    event_shape: Any,
    condition: tf.Tensor | None = None,
    name: str = 'bound',
  ):
    """Creates the bijector.

    Args:
      bijectors: the last is applied first to the latents.
      event_shape: of the latents, a structure if they are one.
      condition: `[..., K]`, passed to every bijector that takes one; None: that of
        each call.
      name: name of the bijector.
    """
    self._bijectors, self._condition = list(bijectors), condition
    self._shapes = _event_shapes(self._bijectors, event_shape)
    with tf.name_scope(name) as scope:
      super().__init__(
        forward_min_event_ndims=_ndims(self._shapes[-1]),
        inverse_min_event_ndims=_ndims(self._shapes[0]),
        dtype=_dtype(self._bijectors),
        name=scope,
      )

  @property
  def takes_condition(self) -> bool:
    return any(calls.takes_condition(b) for b in self._bijectors)

  def _as_condition(self, condition):
    # Each part casts it: one that scales it first needs all of its digits.
    return tf.convert_to_tensor(condition)

  @property
  def log_det_costs(self) -> bool:
    return any(map(calls.log_det_costs, self._bijectors))

  def _prepared(self, x, condition, inverted):
    condition = condition if self._condition is None else self._condition
    return super()._prepared(x, condition, inverted)

  def _forward_value(self, z, condition=None):
    return self._forward_and_log_det(z, condition, value_only=True)[0]

  def _inverse_value(self, x, condition=None):
    return self._inverse_and_log_det(x, condition, value_only=True)[0]

  def _forward_and_log_det(self, z, condition=None, value_only=False):
    step = calls.step_of(inverted=False, value_only=value_only)
    total = tf.zeros([], tf.nest.flatten(z)[0].dtype)
    for bijector, before, after in reversed(self._steps()):
      z, log_det = step(bijector, z, _ndims(before), condition)
      z = _with_event_shape(z, after)
      total += tf.cast(log_det, total.dtype)
    return z, total

  def _inverse_and_log_det(self, x, condition=None, value_only=False):
    step = calls.step_of(inverted=True, value_only=value_only)
    total = tf.zeros([], tf.nest.flatten(x)[0].dtype)
    for bijector, before, after in self._steps():
      x, log_det = step(bijector, x, _ndims(after), condition)
      x = _with_event_shape(x, before)
      total += tf.cast(log_det, total.dtype)
    return x, total

  def _steps(self):
    """Each bijector with the event shapes before and after it, on the way to data."""
    return list(zip(self._bijectors, self._shapes[1:], self._shapes[:-1], strict=True))

  def _forward_event_shape(self, shape):
    for bijector in reversed(self._bijectors):
      shape = bijector.forward_event_shape(shape)
    return shape

  def _inverse_event_shape(self, shape):
    for bijector in self._bijectors:
      shape = bijector.inverse_event_shape(shape)
    return shape


def _dtype(bijectors):
  modules = [m for b in bijectors for m in (b, *b.submodules)]
  layers = [m for m in modules if isinstance(m, flow_bijector.FlowBijector)]
  return next((layer.dtype for layer in layers if layer.dtype is not None), None)


def _event_shapes(bijectors, shape):
  """Those of the data, between the bijectors, and of the latents."""
  found = [tf.nest.map_structure(tf.TensorShape, shape)]
  for bijector in reversed(bijectors):
    found.insert(0, bijector.forward_event_shape(found[0]))
  return found


def _ndims(shape):
  return tf.nest.map_structure(len, shape)


def _with_event_shape(x, shape):
  """`x` with the event shape that bijectors of TFP may have lost."""

  def known(x, shape):
    return tf.ensure_shape(x, x.shape[: x.shape.rank - shape.rank] + shape)

  return tf.nest.map_structure(known, x, shape)
