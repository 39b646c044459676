"""The block of fully invertible residual networks."""

import functools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import tensorflow as tf

from tfp_flows.bijectors import calls
from tfp_flows.bijectors import conditioned
from tfp_flows.bijectors import coupling
from tfp_flows.bijectors import reversible
from tfp_flows.bijectors import squeeze
from tfp_flows.bijectors import transformers
from tfp_flows.internal import checks
from tfp_flows.internal import shapes

__all__ = ['IRevNetBlock']


class IRevNetBlock(conditioned.Conditioned, reversible.Composition):
  """A residual branch on half of the channels [(Jacobsen et al., 2018)][1].

  For the two halves `x1, x2` of the channels and `S`, space to depth:

    forward: `y1 = S(x2)`, `y2 = S(x1) + f(x2)`
    inverse: `x2 = S^-1(y1)`, `x1 = S^-1(y2 - f(x2))`
    log-det: 0, as `|det|` of a permutation and of a shear is 1

  `S` is that of `tf.nn.space_to_depth` with blocks of `stride` by `stride` pixels, and
  nothing where `stride` is 1. Maps `[..., H, W, C]` to
  `[..., H / stride, W / stride, stride**2 * C]`; `f` sees `x2` before `S` and makes
  the images smaller by itself.

  With `memory='reversible'` the input is recovered from the output instead of being
  kept for gradients, see `Sequential`; several blocks one after the other belong into
  a `Sequential` with this option. The whole classifier is `IRevNet`.

  #### Examples

  ```python
  f = tff.ConvNet([8, 8, 2], 2)
  block = tff.IRevNetBlock(f, [8, 8, 4])
  ```

  #### References

  [1]: Jorn-Henrik Jacobsen, Arnold Smeulders and Edouard Oyallon. i-RevNet: Deep
       Invertible Networks, section 3. In _ICLR_, 2018.
       https://arxiv.org/abs/1802.07088
  """

  def __init__(
    self,
    network: coupling.Conditioner,
    event_shape: Sequence[int],
    stride: int = 1,
    memory: str = 'reversible',
    dtype: Any = tf.float32,
    name: str = 'i_rev_net_block',
  ):
    """Creates the block.

    Args:
      network: `f`, a callable from `[..., H, W, C / 2]` to
        `[..., H / stride, W / stride, stride**2 * C / 2]`, or one with `condition=...`
        if its signature has that name; a Keras layer must be built.
      event_shape: `[H, W, C]` with an even `C`.
      stride: side of the blocks of `S`; `H` and `W` are multiples of it.
      memory: `'stored'` or `'reversible'`.
      dtype: of `x`.
      name: name of the block.

    Raises:
      ValueError: for another shape, if `network` is a Keras layer that is not built or
        that `memory` does not allow, as with dropout; when called, if it returns
        another shape.
    """
    shape = shapes.as_event_shape(event_shape, 'IRevNetBlock')
    if len(shape) != 3 or shape[-1] % 2:
      raise ValueError(
        f'IRevNetBlock expects an event shape [H, W, C] with an even number of '
        f'channels; received {list(shape)}. Put a Squeeze before it, which makes four '
        f'of one channel.'
      )
    stride = checks.as_count(stride, 'stride', owner='IRevNetBlock')
    with tf.name_scope(name) as scope:
      super().__init__(forward_min_event_ndims=3, dtype=dtype, name=scope)
      self._shape, self._memory = shape, memory
      self._squeeze = None
      after = tf.TensorShape([*shape[:-1], shape[-1] // 2])
      if stride > 1:
        self._squeeze = squeeze.Squeeze(stride, 'space_to_depth', name='s')
        after = self._squeeze.forward_event_shape(after)
      self._set_conditioner(network, transformers.Additive(), after.as_list())
      reversible.check_memory(memory, [self])

  def _forward_event_shape(self, shape):
    self._check_shape(shape, self._shape, 'forward')
    *space, channels = self._changed_shape
    return tf.TensorShape([*space, 2 * channels])

  def _inverse_event_shape(self, shape):
    *space, channels = self._changed_shape
    self._check_shape(shape, (*space, 2 * channels), 'inverse')
    return tf.TensorShape(self._shape)

  def _check_shape(self, shape, expected, direction):
    if not tf.TensorShape(shape).is_compatible_with(expected):
      raise ValueError(
        f'{self.name}.{direction} expects an event of shape {list(expected)}; received '
        f'{shape}. Give the block the shape of its data.'
      )

  def _compose(self, x, condition, inverted):
    kept, changed = self._split(x, is_output=inverted)
    inner = self._inner(kept, condition)
    changed, log_det = calls.apply(inner, changed, 3, inverted=inverted)
    return self._merge(kept, changed, is_output=not inverted), log_det

  def _pull_back(self, y, upstream, condition, tensors, inverted):
    # A mask that cuts where `y` comes from and puts together where it goes to: what is
    # kept is the same on both sides.
    cut = _Cut(
      event_shape=self._shape,
      kept_shape=(*self._shape[:-1], self._shape[-1] // 2),
      changed_shape=self._changed_shape,
      split=functools.partial(self._split, is_output=not inverted),
      merge=functools.partial(self._merge, is_output=inverted),
    )
    return reversible.pull_back_of_coupling(
      cut,
      lambda kept: self._inner(kept, condition),
      y,
      upstream,
      tensors,
      inverted,
    )

  def _split(self, x, is_output):
    """`x2` and `S(x1)`, or of an output `x2` and `y2`."""
    first, second = tf.split(x, 2, axis=-1)
    if is_output:
      return self._squeezed(first, inverted=True), second
    return second, self._squeezed(first)

  def _merge(self, kept, changed, is_output):
    """The inverse of `_split`."""
    if is_output:
      return tf.concat([self._squeezed(kept), changed], axis=-1)
    return tf.concat([self._squeezed(changed, inverted=True), kept], axis=-1)

  def _squeezed(self, x, inverted=False):
    if self._squeeze is None:
      return x
    return self._squeeze.inverse(x) if inverted else self._squeeze.forward(x)


class _Cut(NamedTuple):
  """A `Mask` of two functions."""

  event_shape: tuple[int, ...]
  kept_shape: tuple[int, ...]
  changed_shape: tuple[int, ...]
  split: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
  merge: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
