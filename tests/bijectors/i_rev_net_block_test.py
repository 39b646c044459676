import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import test_util
from tfp_flows.bijectors import i_rev_net_block


def network(stride=1, channels=2, dtype='float64', *others):
  """From half of 4 channels to half of those after the stride."""
  net = keras.Sequential(
    [
      keras.Input([4, 4, channels], dtype=dtype),
      keras.layers.Conv2D(3, 3, stride, 'same', activation='tanh', dtype=dtype),
      *others,
      keras.layers.Conv2D(channels * stride**2, 3, 1, 'same', dtype=dtype),
    ]
  )
  test_util.perturb(net, 0.3)
  return net


@pytest.mark.parametrize('stride', [1, 2])
def test_equals_the_formulas(stride):
  f = network(stride)
  block = i_rev_net_block.IRevNetBlock(f, [4, 4, 4], stride, dtype='float64')
  x = test_util.normal([3, 4, 4, 4])
  y = block.forward(x)
  assert y.shape == (3, *block.forward_event_shape([4, 4, 4]))
  x1, x2 = x[..., :2], x[..., 2:]
  s = (lambda t: t) if stride == 1 else (lambda t: tf.nn.space_to_depth(t, 2))
  np.testing.assert_array_equal(y, tf.concat([s(x2), s(x1) + f(x2)], -1))
  assert np.abs(f(x2)).max() > 0.1


@pytest.mark.parametrize('inverted', [False, True])
def test_reversible_gradients_are_those_of_backpropagation(inverted):
  f, found = network(2), []
  y = test_util.normal([3, 2, 2, 16] if inverted else [3, 4, 4, 4])
  for memory in ('stored', 'reversible'):
    block = i_rev_net_block.IRevNetBlock(f, [4, 4, 4], 2, memory, 'float64')
    y = tf.identity(y)
    with tf.GradientTape() as tape:
      tape.watch(y)
      run = block.inverse if inverted else block.forward
      loss = tf.reduce_sum(tf.sin(3 * run(y)))
    found.append(tape.gradient(loss, [y, *block.trainable_variables]))
  assert len(found[0]) == 5
  for a, b in zip(*found, strict=True):
    assert np.abs(a).max() > 1e-2
    np.testing.assert_allclose(b, a, atol=1e-12)


@pytest.mark.parametrize(
  ('shape', 'stride', 'message'),
  [
    ([4, 4, 3], 1, r'even number of channels; received \[4, 4, 3\].*Put a'),
    ([4], 1, r'expects an event shape \[H, W, C\]'),
    ([4, 4, 4], 0, 'an integer stride >= 1; received 0'),
    ([4, 4, 4], 3, 'multiples of 3'),
  ],
)
def test_errors_of_construction(shape, stride, message):
  with pytest.raises(ValueError, match=message):
    i_rev_net_block.IRevNetBlock(network(), shape, stride)


def test_errors_of_networks():
  dropout = network(1, 2, 'float64', keras.layers.Dropout(0.1))
  with pytest.raises(ValueError, match="draws noise.*memory='stored'"):
    i_rev_net_block.IRevNetBlock(dropout, [4, 4, 4])
  block = i_rev_net_block.IRevNetBlock(network(2), [4, 4, 4], dtype='float64')
  with pytest.raises(ValueError, match=r'return \[..., 4, 4, 2\].*received \(3, 2, 2'):
    block.forward(test_util.normal([3, 4, 4, 4]))
  with pytest.raises(ValueError, match='Give the block the shape of its data'):
    block.forward_event_shape([2, 2, 4])
