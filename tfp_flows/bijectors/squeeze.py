"""Squeeze: space to depth."""

import itertools

import numpy as np
import tensorflow as tf

from tfp_flows.bijectors import flow_bijector
from tfp_flows.internal import checks
from tfp_flows.internal import shapes

__all__ = ['Squeeze']


class Squeeze(flow_bijector.FlowBijector):
  """Trades space for channels: `[..., H, W, C]` to `[..., H/b, W/b, b*b*C]`.

  A permutation of the pixels, with log-det 0. The order of the channels:

  * `'glow'` [(Kingma and Dhariwal, 2018)][2]: channel-major. Channel
    `(c * b + i) * b + j` holds channel `c` of pixel `(i, j)` of each block.
  * `'real_nvp'` [(Dinh et al., 2017)][1]: pixel-major, `k * C + c`, the pixels
    of a block ordered by diagonals. For `b = 2` they are (0, 0), (1, 1), (0, 1),
    (1, 0): the first half of the channels is a checkerboard.
  * `'space_to_depth'`, that of `tf.nn.space_to_depth`
    [(Jacobsen et al., 2018)][3]: pixel-major, too, but the pixels row by row.

  #### References

  [1]: Laurent Dinh, Jascha Sohl-Dickstein and Samy Bengio. Density estimation
       using Real NVP, section 3.6. In _ICLR_, 2017.
       https://arxiv.org/abs/1605.08803
  [2]: Diederik P. Kingma and Prafulla Dhariwal. Glow: Generative Flow with
       Invertible 1x1 Convolutions. In _NeurIPS_, 2018.
       https://arxiv.org/abs/1807.03039
  [3]: Jorn-Henrik Jacobsen, Arnold Smeulders and Edouard Oyallon. i-RevNet: Deep
       Invertible Networks. In _ICLR_, 2018. https://arxiv.org/abs/1802.07088
  """

  _renamed = dict(order='pixel_order')

  def __init__(
    self, block_size: int = 2, pixel_order: str = 'glow', name: str = 'squeeze'
  ):
    """Creates the layer.

    Args:
      block_size: `b`, at least 2.
      pixel_order: `'glow'`, `'real_nvp'` or `'space_to_depth'`.
      name: name of the layer.

    Raises:
      ValueError: for another block size or order; at the first use, if height
        or width is not a multiple of `block_size`.
    """
    block_size = checks.as_count(block_size, 'block_size', 2, owner='Squeeze')
    if pixel_order not in ('glow', 'real_nvp', 'space_to_depth'):
      raise ValueError(
        f"Squeeze expects pixel_order 'glow', 'real_nvp' or 'space_to_depth'; received "
        f'{pixel_order!r}.'
      )
    self._block = block_size
    self._order = pixel_order
    with tf.name_scope(name) as scope:
      super().__init__(forward_min_event_ndims=3, name=scope)

  def _forward_event_shape(self, shape):
    height, width, channels = _rank_3(shape, self.name)
    b = self._block
    if height % b or width % b:
      raise ValueError(
        f'Squeeze expects height and width to be multiples of {b}; received an '
        f'event of shape {[height, width, channels]}. Pad or crop the images, '
        f'or use fewer levels.'
      )
    return tf.TensorShape([height // b, width // b, channels * b * b])

  def _inverse_event_shape(self, shape):
    height, width, channels = _rank_3(shape, self.name)
    b = self._block
    if channels % (b * b):
      raise ValueError(
        f'The inverse of Squeeze expects a multiple of {b * b} channels; '
        f'received an event of shape {[height, width, channels]}. Pass what `forward` '
        f'returns.'
      )
    return tf.TensorShape([height * b, width * b, channels // (b * b)])

  def _diagonal_order(self):
    b = self._block
    cells = itertools.product(range(b), repeat=2)
    return np.array(
      [i * b + j for i, j in sorted(cells, key=lambda c: ((c[1] - c[0]) % b, c))]
    )

  def _forward_and_log_det(self, x, condition=None):
    y = shapes.with_flat_batch(self._squeeze, x, 3)
    return y, tf.zeros([], x.dtype)

  def _inverse_and_log_det(self, y, condition=None):
    x = shapes.with_flat_batch(self._unsqueeze, y, 3)
    return x, tf.zeros([], y.dtype)

  def _squeeze(self, x):
    b = self._block
    height, width, channels = x.shape[1:]
    out = self._forward_event_shape(x.shape[1:])
    x = tf.reshape(x, [-1, height // b, b, width // b, b, channels])
    if self._order == 'glow':
      return tf.reshape(tf.transpose(x, [0, 1, 3, 5, 2, 4]), [-1, *out])
    x = tf.transpose(x, [0, 1, 3, 2, 4, 5])
    if self._order == 'space_to_depth':
      return tf.reshape(x, [-1, *out])
    x = tf.reshape(x, [-1, out[0], out[1], b * b, channels])
    return tf.reshape(tf.gather(x, self._diagonal_order(), axis=3), [-1, *out])

  def _unsqueeze(self, y):
    b = self._block
    out = self._inverse_event_shape(y.shape[1:])
    height, width, channels = y.shape[1], y.shape[2], out[2]
    if self._order == 'glow':
      y = tf.reshape(y, [-1, height, width, channels, b, b])
      return tf.reshape(tf.transpose(y, [0, 1, 4, 2, 5, 3]), [-1, *out])
    if self._order == 'real_nvp':
      y = tf.reshape(y, [-1, height, width, b * b, channels])
      y = tf.gather(y, np.argsort(self._diagonal_order()), axis=3)
    y = tf.reshape(y, [-1, height, width, b, b, channels])
    return tf.reshape(tf.transpose(y, [0, 1, 3, 2, 4, 5]), [-1, *out])


def _rank_3(shape, name):
  shape = tf.TensorShape(shape)
  if shape.rank != 3 or not shape.is_fully_defined():
    raise ValueError(
      f'{name} expects a static event shape [H, W, C]; received {shape}.'
    )
  return shape.as_list()
