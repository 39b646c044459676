import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff


def squeezed(order, shape=(1, 2, 2, 3)):
  x = tf.reshape(tf.range(np.prod(shape), dtype=tf.float32), shape)
  return x.numpy(), tff.Squeeze(pixel_order=order).forward(x).numpy()


def test_glow_is_channel_major():
  x, y = squeezed('glow')
  for c in range(3):
    for i in range(2):
      for j in range(2):
        assert y[0, 0, 0, 4 * c + 2 * i + j] == x[0, i, j, c]


def test_real_nvp_is_pixel_major_with_diagonals_first():
  x, y = squeezed('real_nvp')
  for k, (i, j) in enumerate([(0, 0), (1, 1), (0, 1), (1, 0)]):
    np.testing.assert_array_equal(y[0, 0, 0, 3 * k : 3 * k + 3], x[0, i, j])


def test_blocks_stay_in_place():
  x, y = squeezed('glow', (2, 4, 6, 1))
  np.testing.assert_array_equal(np.sort(y[1, 1, 2]), np.sort(x[1, 2:4, 4:6].ravel()))


def test_odd_height_says_what_to_do():
  with pytest.raises(ValueError, match=r'multiples of 2.*\[7, 8, 1\].*Pad or crop'):
    tff.Squeeze().forward_event_shape([7, 8, 1])
  with pytest.raises(ValueError, match='Pad or crop'):
    tff.Squeeze().forward(tf.zeros([1, 8, 7, 1]))


@pytest.mark.parametrize(
  ('kwargs', 'message'),
  [
    ({'block_size': 1}, 'block_size >= 2; received 1'),
    ({'block_size': 2.5}, 'received 2.5'),
    ({'pixel_order': 'nchw'}, "'space_to_depth'; received 'nchw'"),
  ],
)
def test_bad_options(kwargs, message):
  with pytest.raises(ValueError, match=message):
    tff.Squeeze(**kwargs)


def test_inverse_refuses_other_channels():
  with pytest.raises(ValueError, match='multiple of 4 channels'):
    tff.Squeeze().inverse(tf.zeros([1, 2, 2, 6]))


@pytest.mark.parametrize('block_size', [2, 3])
def test_order_of_space_to_depth(block_size):
  x = tf.reshape(tf.range(2 * 6 * 12 * 3, dtype=tf.float32), [2, 6, 12, 3])
  layer = tff.Squeeze(block_size, 'space_to_depth')
  np.testing.assert_array_equal(layer.forward(x), tf.nn.space_to_depth(x, block_size))
