"""Masks of coupling layers, as pairs of `split` and `merge`.

A mask says which part of an event is kept and which is changed. It cuts the
event into two dense tensors, so that a layer never computes what a zero would
throw away.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from tfp_flows.bijectors import squeeze
from tfp_flows.internal import configurable
from tfp_flows.internal import shapes

__all__ = ['ChannelMask', 'CheckerboardMask', 'IndexMask', 'Mask']


class Mask(Protocol):
  """What a coupling layer asks of a mask: two methods and three shapes.

  To be saved, a mask is of a class that Keras can serialize.

  Attributes:
    event_shape: of what is cut, `[D]` or `[H, W, C]`.
    kept_shape: of the part that is kept.
    changed_shape: of the part that is changed; the last axis has its channels.
  """

  @property
  def event_shape(self) -> tuple[int, ...]: ...

  @property
  def kept_shape(self) -> tuple[int, ...]: ...

  @property
  def changed_shape(self) -> tuple[int, ...]: ...

  def split(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts `x`, `[*batch, *event]`, into the part that is kept and that changed."""

  def merge(self, kept: tf.Tensor, changed: tf.Tensor) -> tf.Tensor:
    """The inverse of `split`."""


class ChannelMask(configurable.Configurable):
  """Keeps the first half of the last axis and changes the second.

  For `[D]` or `[H, W, C]`. With an odd number of channels the second half is
  the larger one.
  """

  def __init__(self, event_shape: Sequence[int], invert: bool = False):
    """Creates the mask.

    Args:
      event_shape: `[D]` or `[H, W, C]`.
      invert: whether to keep the second half instead.

    Raises:
      ValueError: if there is but one channel.
    """
    self.event_shape = shapes.as_event_shape(event_shape, 'ChannelMask')
    self._record(ChannelMask, event_shape=list(self.event_shape))
    *space, channels = self.event_shape
    if channels < 2:
      raise ValueError(
        f'ChannelMask expects at least 2 channels; received an event of shape '
        f'{list(self.event_shape)}. Put a Squeeze before it, or use a '
        f'CheckerboardMask.'
      )
    self._invert = invert
    first, second = channels // 2, channels - channels // 2
    self._sizes = [first, second]
    kept, changed = (second, first) if invert else (first, second)
    self.kept_shape = (*space, kept)
    self.changed_shape = (*space, changed)

  def split(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    first, second = tf.split(x, self._sizes, axis=-1)
    return (second, first) if self._invert else (first, second)

  def merge(self, kept: tf.Tensor, changed: tf.Tensor) -> tf.Tensor:
    parts = [changed, kept] if self._invert else [kept, changed]
    return tf.concat(parts, axis=-1)


class CheckerboardMask(configurable.Configurable):
  """Keeps the pixels `(i, j)` with `i + j` even and changes the others.

  Each part is returned as `[H/2, W/2, 2*C]`, the two pixels of a colour in each
  2x2 block side by side as channels: the geometry stays that of the image, and
  a network sees half of the values at a quarter of the places.
  """

  def __init__(self, event_shape: Sequence[int], invert: bool = False):
    """Creates the mask.

    Args:
      event_shape: `[H, W, C]` with even `H` and `W`.
      invert: whether to keep the pixels with `i + j` odd instead.

    Raises:
      ValueError: if the height or the width is odd.
    """
    self.event_shape = shapes.as_event_shape(event_shape, 'CheckerboardMask')
    self._record(CheckerboardMask, event_shape=list(self.event_shape))
    if len(self.event_shape) != 3 or any(n % 2 for n in self.event_shape[:2]):
      raise ValueError(
        f'CheckerboardMask expects an event shape [H, W, C] with even H and W; '
        f'received {list(self.event_shape)}. Pad or crop the images, or use a '
        f'ChannelMask.'
      )
    self._squeeze = squeeze.Squeeze(pixel_order='real_nvp')
    squeezed = self._squeeze.forward_event_shape(self.event_shape)
    self._channels, self._invert = ChannelMask(squeezed, invert), invert
    self.kept_shape = self._channels.kept_shape
    self.changed_shape = self._channels.changed_shape

  def split(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return self._channels.split(self._squeeze.forward(x))

  def merge(self, kept: tf.Tensor, changed: tf.Tensor) -> tf.Tensor:
    return self._squeeze.inverse(self._channels.merge(kept, changed))


class IndexMask(configurable.Configurable):
  """Keeps the entries of a vector where a boolean mask is true."""

  def __init__(self, mask: Sequence[bool] | np.ndarray):
    """Creates the mask.

    Args:
      mask: `D` booleans, at least one of each kind.

    Raises:
      ValueError: if the mask is no boolean vector or all of one kind.
    """
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.ndim != 1 or mask.all() or not mask.any():
      raise ValueError(
        f'IndexMask expects a vector of booleans with at least one True (kept) '
        f'and one False (changed); received {mask.tolist()} of dtype '
        f'{mask.dtype}.'
      )
    self._kept, self._changed = np.flatnonzero(mask), np.flatnonzero(~mask)
    self._order = np.argsort(np.concatenate([self._kept, self._changed]))
    self.event_shape = mask.shape
    self.kept_shape = self._kept.shape
    self.changed_shape = self._changed.shape

  def split(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return (
      tf.gather(x, self._kept, axis=-1),
      tf.gather(x, self._changed, axis=-1),
    )

  def merge(self, kept: tf.Tensor, changed: tf.Tensor) -> tf.Tensor:
    both = tf.concat([kept, changed], axis=-1)
    return tf.gather(both, self._order, axis=-1)
