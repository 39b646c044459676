import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

import tfp_flows as tff
from tests import test_util

MASKS = {
  'channel_vector': tff.ChannelMask([5]),
  'channel_image': tff.ChannelMask([2, 3, 4], invert=True),
  'checkerboard': tff.CheckerboardMask([4, 6, 3]),
  'checkerboard_odd': tff.CheckerboardMask([4, 6, 3], invert=True),
  'index': tff.IndexMask([False, True, True, False]),
}


@pytest.mark.parametrize('name', MASKS)
def test_merge_undoes_split(name):
  mask = MASKS[name]
  x = test_util.normal((2, 3, *mask.event_shape))
  kept, changed = mask.split(x)
  assert kept.shape == (2, 3, *mask.kept_shape)
  assert changed.shape == (2, 3, *mask.changed_shape)
  np.testing.assert_array_equal(mask.merge(kept, changed), x)


@pytest.mark.parametrize('invert', [False, True])
def test_checkerboard_keeps_pixels_of_one_parity(invert):
  rows, columns = np.indices([4, 6])
  parity = tf.constant((rows + columns) % 2, tf.float32)[..., tf.newaxis]
  kept, changed = tff.CheckerboardMask([4, 6, 1], invert).split(parity)
  assert set(np.unique(kept)) == {float(invert)}
  assert set(np.unique(changed)) == {1.0 - float(invert)}


def test_channel_halves():
  kept, changed = tff.ChannelMask([5]).split(tf.range(5.0))
  np.testing.assert_array_equal(kept, [0, 1])
  np.testing.assert_array_equal(changed, [2, 3, 4])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=9))
def test_any_index_mask(mask):
  if all(mask) or not any(mask):
    with pytest.raises(ValueError, match='at least one True'):
      tff.IndexMask(mask)
    return
  kept, changed = tff.IndexMask(mask).split(tf.range(float(len(mask))))
  np.testing.assert_array_equal(kept, np.flatnonzero(mask))
  np.testing.assert_array_equal(changed, np.flatnonzero(~np.array(mask)))


def test_one_channel_says_what_to_do():
  with pytest.raises(ValueError, match='at least 2 channels.*Put a Squeeze'):
    tff.ChannelMask([8, 8, 1])


@pytest.mark.parametrize('shape', [[7, 8, 1], [8, 7, 1], [8]])
def test_checkerboard_needs_even_images(shape):
  with pytest.raises(ValueError, match='even H and W.*Pad or crop'):
    tff.CheckerboardMask(shape)


def test_index_mask_needs_booleans():
  with pytest.raises(ValueError, match='vector of booleans'):
    tff.IndexMask([0, 1, 1])
