import numpy as np
import tensorflow as tf

from tests import test_util
from tfp_flows import math


def test_jacobian_norm_is_the_largest_singular_value():
  weights = test_util.normal([6, 6], seed=1)
  x = test_util.normal([4, 3, 2])  # Events [3, 2].

  def g(x):
    flat = tf.reshape(x, [-1, 6])
    return tf.reshape(tf.tanh(flat @ weights), tf.shape(x))

  found = tf.function(
    lambda x: math.jacobian_norm(g, x, 2, tf.constant([0, 1]), num_iterations=300),
    jit_compile=True,
  )(x)
  _, jacobian = math.value_and_jacobian(g, x, 2)
  expected = np.linalg.svd(jacobian, compute_uv=False)[:, 0]
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_zero_function_has_norm_zero():
  found = math.jacobian_norm(lambda x: 0.0 * x, tf.ones([2, 3]), 1, tf.constant([0, 1]))
  np.testing.assert_array_equal(found, [0, 0])
