import numpy as np
import pytest
import tensorflow as tf

from tests import test_util
from tfp_flows.math import convolution


# Few to many, many to few, neither, and a matrix at each pixel.
@pytest.mark.parametrize('channels', [(1, 40), (40, 1), (2, 60), (60, 2), (8, 8)])
@pytest.mark.parametrize('size', [(3, 3), (5, 3), (2, 4), (1, 1), (4, 1)])
def test_equals_the_native_convolution(size, channels):
  x = test_util.normal([2, 6, 5, channels[0]])
  kernel = test_util.normal([*size, *channels], seed=1)
  found = []
  for conv in (
    convolution.conv2d,
    lambda x, k: tf.nn.conv2d(x, k, strides=1, padding='SAME'),
  ):
    with tf.GradientTape() as tape:
      tape.watch([x, kernel])
      y = conv(x, kernel)
      loss = tf.reduce_sum(y**2)
    found.append([y, *tape.gradient(loss, [x, kernel])])
  for ours, native in zip(*found):
    np.testing.assert_allclose(ours, native, rtol=1e-10, atol=1e-9)
