"""Multi-scale architecture: part of the event leaves after each level."""

from collections.abc import Callable
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import calls
from tfp_flows.bijectors import flow_bijector
from tfp_flows.bijectors import masks
from tfp_flows.internal import shapes

__all__ = ['Multiscale']

tfb = tfp.bijectors


class Multiscale(flow_bijector.FlowBijector):
  """Factors out half of the channels after each level but the last.

  `x` goes through the first level; half of the channels of the result leave to
  the latent vector, the other half goes through the next level, and so on
  [(Dinh et al., 2017)][1]. With `flat`, `y` is the vector `[D]` of what left,
  level by level, each in row-major order; otherwise it is a list with one tensor
  per level, of `latent_shapes`. `split_levels` and `join_levels` go from the one
  to the other.

    log-det: the sum of the log-dets of the levels   (nats)

  What leaves is the changed part of `mask_fn(shape)`. Glow's learned prior of
  what leaves early given what stays, `N(mu(kept), sigma(kept))`, is an
  `AffineCoupling` on that same mask at the end of a level: it maps what leaves
  to a standard normal.

  #### References

  [1]: Laurent Dinh, Jascha Sohl-Dickstein and Samy Bengio. Density estimation
       using Real NVP, section 3.6. In _ICLR_, 2017.
       https://arxiv.org/abs/1605.08803
  """

  def __init__(
    self,
    levels: Sequence[tfb.Bijector],
    event_shape: Sequence[int],
    flat: bool = True,
    mask_fn: Callable[..., masks.Mask] = masks.ChannelMask,
    name: str = 'multiscale',
  ):
    """Creates the layer.

    Args:
      levels: a bijector on `[H, W, C]` per level; the first sees the data.
      event_shape: `[H, W, C]` or `[D]`, of the data.
      flat: whether the latents are one vector, or a list.
      mask_fn: callable `event_shape -> Mask`.
      name: name of the layer.

    Raises:
      ValueError: if there is no level, or only one channel to halve.
    """
    flow_bijector.check_bijectors(levels, 'Multiscale')
    if not levels:
      raise ValueError('Multiscale expects at least one level; received none.')
    self._levels = list(levels)
    self._event = tf.TensorShape(shapes.as_event_shape(event_shape, 'Multiscale'))
    self._masks, self._level_shapes = [], []
    shape = self._event
    for level in self._levels[:-1]:
      shape = level.forward_event_shape(shape)
      mask = mask_fn(shape)
      self._masks.append(mask)
      self._level_shapes.append(tuple(mask.changed_shape))
      shape = tf.TensorShape(mask.kept_shape)
    shape = self._levels[-1].forward_event_shape(shape)
    self._level_shapes.append(tuple(shape.as_list()))
    self._sizes = [int(np.prod(s)) for s in self._level_shapes]
    self._flat = flat
    with tf.name_scope(name) as scope:
      super().__init__(
        forward_min_event_ndims=self._event.rank,
        inverse_min_event_ndims=1 if flat else [len(s) for s in self._level_shapes],
        dtype=next(filter(None, (b.dtype for b in self._levels)), None),
        name=scope,
      )

  @property
  def levels(self) -> list[tfb.Bijector]:
    return list(self._levels)

  @property
  def latent_shapes(self) -> list[tuple[int, ...]]:
    """Shape of what leaves at each level; the last is what is left."""
    return list(self._level_shapes)

  def split_levels(self, y: tf.Tensor) -> list[tf.Tensor]:
    """Cuts latent vectors `[..., D]` into one tensor per level."""
    parts = tf.split(y, self._sizes, axis=-1)
    batch = shapes.batch_shape(y, 1)
    return [shapes.reshape(p, batch, s) for p, s in zip(parts, self._level_shapes)]

  def join_levels(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
    """The inverse of `split_levels`."""
    return tf.concat(
      [
        shapes.reshape(p, shapes.batch_shape(p, len(s)), [n])
        for p, s, n in zip(parts, self._level_shapes, self._sizes)
      ],
      axis=-1,
    )

  @property
  def takes_condition(self) -> bool:
    return any(calls.takes_condition(b) for b in self._levels)

  def _forward_event_shape(self, shape):
    if not shape.is_compatible_with(self._event):
      raise ValueError(
        f'{self.name} expects events of shape {self._event}; received {shape}. Build '
        f'the layer for the shape of the data.'
      )
    if not self._flat:
      return [tf.TensorShape(s) for s in self._level_shapes]
    return tf.TensorShape([sum(self._sizes)])

  def _inverse_event_shape(self, shape):
    shapes_here = [[sum(self._sizes)]] if self._flat else self._level_shapes
    given = [shape] if self._flat else shape
    if len(given) != len(shapes_here) or not all(
      s.is_compatible_with(h) for s, h in zip(given, shapes_here)
    ):
      raise ValueError(
        f'The inverse of {self.name} expects latents of shape '
        f'{", ".join(map(str, shapes_here))}; received {shape}. Data go forward '
        f'through a layer, and through the `inverse` of the bijector of a builder.'
      )
    return self._event

  @property
  def log_det_costs(self) -> bool:
    return any(map(calls.log_det_costs, self._levels))

  def _forward_value(self, x, condition=None):
    return self._forward_and_log_det(x, condition, value_only=True)[0]

  def _inverse_value(self, y, condition=None):
    return self._inverse_and_log_det(y, condition, value_only=True)[0]

  def _forward_and_log_det(self, x, condition=None, value_only=False):
    step = calls.step_of(inverted=False, value_only=value_only)
    parts, total = [], tf.zeros([], x.dtype)
    for i, level in enumerate(self._levels):
      x, log_det = step(level, x, self._event.rank, condition)
      total += log_det
      if i < len(self._masks):
        x, leaving = self._masks[i].split(x)
        parts.append(leaving)
    return self._latents([*parts, x]), total

  def _inverse_and_log_det(self, y, condition=None, value_only=False):
    step = calls.step_of(inverted=True, value_only=value_only)
    *parts, x = self.split_levels(y) if self._flat else y
    total = tf.zeros([], x.dtype)
    for i, level in reversed(list(enumerate(self._levels))):
      if i < len(self._masks):
        x = self._masks[i].merge(x, parts[i])
      x, log_det = step(level, x, self._event.rank, condition)
      total += log_det
    return x, total

  def _adapt(self, x, condition):
    parts = []
    for i, level in enumerate(self._levels):
      x = calls.adapt(level, x, condition)
      if i < len(self._masks):
        x, leaving = self._masks[i].split(x)
        parts.append(leaving)
    return self._latents([*parts, x])

  def _latents(self, parts):
    return self.join_levels(parts) if self._flat else parts
