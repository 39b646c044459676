"""The block of reversible residual networks."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfp_flows.bijectors import coupling
from tfp_flows.bijectors import masks
from tfp_flows.bijectors import sequential

__all__ = ['RevNetBlock']


class RevNetBlock(sequential.Sequential):
  """Two residual branches that can be undone [(Gomez et al., 2017)][1].

  For the two halves `x1, x2` of the channels:

    forward: `y1 = x1 + f(x2)`, then `y2 = x2 + g(y1)`
    inverse: `x2 = y2 - g(y1)`, then `x1 = y1 - f(x2)`
    log-det: 0

  Two `AdditiveCoupling`s. With `memory='reversible'` the input is recovered from the
  output instead of being kept for gradients, see `Sequential`; with several blocks one
  after the other, put them into a `Sequential` with this option, which then keeps the
  output of the last one only. The Keras layer is `RevNet`.

  #### Examples

  ```python
  f, g = tff.MLP(2, 2), tff.MLP(2, 2)
  block = tff.RevNetBlock(f, g, [4])
  ```

  #### References

  [1]: Aidan N. Gomez, Mengye Ren, Raquel Urtasun and Roger B. Grosse. The Reversible
       Residual Network: Backpropagation Without Storing Activations, equations 6 and 7
       and algorithm 1. In _NeurIPS_, 2017. https://arxiv.org/abs/1707.04585
  """

  def __init__(
    self,
    f: coupling.Conditioner,
    g: coupling.Conditioner,
    event_shape: Sequence[int],
    memory: str = 'reversible',
    dtype: Any = tf.float32,
    name: str = 'rev_net_block',
  ):
    """Creates the block.

    Args:
      f: callable `(x2) -> [..., C1]`, or `(x2, condition=...)` if its signature has
        that name; a Keras layer must be built.
      g: callable `(y1) -> [..., C2]`, as `f`.
      event_shape: `[D]` or `[H, W, C]`. Of the channels `x1` has `C1 = C // 2` and
        `x2` has `C2 = C - C1`.
      memory: `'stored'` or `'reversible'`.
      dtype: of `x`.
      name: name of the block.

    Raises:
      ValueError: if there is but one channel, if a network is a Keras layer that is
        not built, or one that `memory` does not allow, as with dropout; when called, if
        a network returns another shape than that of its half.
    """
    first = masks.ChannelMask(event_shape, invert=True)
    second = masks.ChannelMask(event_shape)
    super().__init__(
      [
        coupling.AdditiveCoupling(first, f, dtype, name='f'),
        coupling.AdditiveCoupling(second, g, dtype, name='g'),
      ],
      memory,
      name=name,
    )
