import numpy as np
import tensorflow as tf

import tfp_flows as tff
from tests import test_util

WEIGHTS = tf.linspace(0.0, 1.0, 9)


def test_both_walks_have_the_ends():
  start, end = test_util.normal([2, 6])
  for path in (tff.lerp, tff.slerp):
    walk = path(start, end, WEIGHTS)
    assert walk.shape == (9, 6)
    np.testing.assert_allclose(walk[0], start, atol=1e-7)
    np.testing.assert_allclose(walk[-1], end, atol=1e-7)


def test_slerp_keeps_the_length_and_the_angular_speed():
  start = tf.constant([3.0, 0.0])
  end = tf.constant([0.0, 3.0])
  walk = tff.slerp(start, end, WEIGHTS).numpy()
  np.testing.assert_allclose(np.linalg.norm(walk, axis=1), 3, rtol=1e-6)
  angles = np.arctan2(walk[:, 1], walk[:, 0])
  np.testing.assert_allclose(angles, WEIGHTS * np.pi / 2, atol=1e-6)
  straight = tff.lerp(start, end, WEIGHTS).numpy()
  assert np.linalg.norm(straight[4]) < 2.2


def test_slerp_of_parallel_vectors_is_lerp():
  start = tf.constant([1.0, 2.0])
  for end in (start, 2 * start, -start):
    walk = tff.slerp(start, end, WEIGHTS)
    np.testing.assert_allclose(walk, tff.lerp(start, end, WEIGHTS), atol=1e-6)
