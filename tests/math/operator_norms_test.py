import math

import numpy as np
import pytest
import tensorflow as tf

from tests import test_util
from tfp_flows.math import operator_norms

ITERATED = [(2.0, 2.0), (3.0, 1.5), (1.5, 3.0), (2.0, 4.0), (1.2, 1.2)]


def matrix_maps(kernel):
  return (
    lambda v: tf.linalg.matvec(kernel, v, transpose_a=True),
    lambda u: tf.linalg.matvec(kernel, u),
  )


def conv_maps(kernel, shape):
  return (
    lambda v: tf.nn.conv2d(v, kernel, 1, 'SAME'),
    lambda u: tf.nn.conv2d_transpose(u, kernel, shape, 1, 'SAME'),
  )


def materialized(kernel, space):
  """The matrix `[inputs, outputs]` of a convolution on an image."""
  size = math.prod(space) * kernel.shape[2]
  images = tf.reshape(tf.eye(size, dtype=kernel.dtype), [size, *space, kernel.shape[2]])
  return tf.reshape(tf.nn.conv2d(images, kernel, 1, 'SAME'), [size, -1])


def found_norm(maps, start, domain=2.0, codomain=2.0, **options):
  options = {'tolerance': 1e-7, 'max_iterations': 2000} | options
  v = operator_norms.power_iteration(*maps, start, domain, codomain, **options)
  return operator_norms.operator_norm(maps[0], v, domain, codomain)


def induced_norm(kernel, domain, codomain):
  """Brute force, for two inputs: the best of many directions."""
  angles = np.linspace(0.0, np.pi, 200_001)
  v = np.stack([np.cos(angles), np.sin(angles)], -1)
  images = v @ np.asarray(kernel)
  stretch = np.linalg.norm(images, codomain, -1) / np.linalg.norm(v, domain, -1)
  return stretch.max()


@pytest.mark.parametrize('order', [1.0, 1.3, 2.0, 5.0, 60.0, math.inf])
def test_p_norm(order):
  x = test_util.normal((3, 4, 5))
  expected = np.linalg.norm(np.reshape(x, -1), order)
  np.testing.assert_allclose(operator_norms.p_norm(x, order), expected)
  if math.isfinite(order):
    tensor = tf.constant(order, x.dtype)
    np.testing.assert_allclose(operator_norms.p_norm(x, tensor), expected)
  rows = operator_norms.p_norm(x, order, axis=[0, 2])
  expected = [np.linalg.norm(np.ravel(x[:, i]), order) for i in range(4)]
  np.testing.assert_allclose(rows, expected)


@pytest.mark.parametrize('order', [1.0, 1.3, 2.0, 60.0, math.inf])
@pytest.mark.parametrize('scale', [0.0, 1e-37, 1e30])
def test_p_norm_of_any_scale_has_a_gradient(order, scale):
  if order == 2.0:
    scale **= 0.5  # It squares.
  x = scale * tf.constant([1.0, 0.0, -1.0])
  with tf.GradientTape() as tape:
    tape.watch(x)
    norm = operator_norms.p_norm(x, order)
  expected = scale * np.linalg.norm([1.0, 0.0, -1.0], order)
  np.testing.assert_allclose(norm, expected, rtol=1e-5)
  gradient = tape.gradient(norm, x)
  assert np.isfinite(gradient).all()
  np.testing.assert_allclose(gradient[1], 0.0)
  if scale == 0.0:
    np.testing.assert_array_equal(gradient, np.zeros(3))


@pytest.mark.parametrize('shape', [(4, 7), (7, 4), (5, 5), (1, 3)])
def test_matrix_norm_is_the_largest_singular_value(shape):
  kernel = test_util.normal(shape)
  norm = found_norm(matrix_maps(kernel), test_util.normal(shape[:1], seed=1))
  np.testing.assert_allclose(norm, np.linalg.norm(kernel, 2), rtol=1e-10)


def test_conv_norm_is_that_of_the_operator_and_not_of_the_reshaped_kernel():
  kernel = test_util.normal((3, 3, 2, 3))
  start = test_util.normal((1, 5, 6, 2), seed=1)
  norm = found_norm(conv_maps(kernel, start.shape), start)
  expected = np.linalg.norm(materialized(kernel, (5, 6)), 2)
  np.testing.assert_allclose(norm, expected, rtol=1e-8)
  reshaped = np.linalg.norm(np.reshape(kernel, (18, 3)), 2)
  assert abs(norm - reshaped) > 0.2 * reshaped


@pytest.mark.parametrize('orders', ITERATED)
def test_iterated_norm_is_the_induced_norm_from_the_best_of_some_starts(orders):
  kernel = test_util.normal((2, 5))
  found = [
    found_norm(matrix_maps(kernel), test_util.normal((2,), seed=seed), *orders)
    for seed in range(5)
  ]
  expected = induced_norm(kernel, *orders)
  assert max(found) <= expected * (1 + 1e-7)
  np.testing.assert_allclose(max(found), expected, rtol=1e-7)


def test_a_positive_matrix_has_one_maximum():
  kernel = tf.abs(test_util.normal((2, 5)))
  for seed in range(5):
    start = test_util.normal((2,), seed=seed)
    norm = found_norm(matrix_maps(kernel), start, 3.0, 1.5)
    np.testing.assert_allclose(norm, induced_norm(kernel, 3.0, 1.5), rtol=1e-7)


def test_iterated_conv_norm_is_above_random_search():
  kernel = test_util.normal((3, 3, 2, 3))
  maps = conv_maps(kernel, (1, 5, 6, 2))
  start = test_util.normal((1, 5, 6, 2), seed=1)
  norm = found_norm(maps, start, 3.0, 1.5)
  tries = test_util.normal((2000, 5, 6, 2), seed=2)
  images = np.reshape(maps[0](tries), (2000, -1))
  sizes = np.linalg.norm(np.reshape(tries, (2000, -1)), 3.0, -1)
  assert norm > 1.3 * np.max(np.linalg.norm(images, 1.5, -1) / sizes)
  matrix = materialized(kernel, (5, 6))
  same = found_norm(matrix_maps(matrix), tf.reshape(start, [-1]), 3.0, 1.5)
  np.testing.assert_allclose(norm, same, rtol=1e-8)


@pytest.mark.parametrize(
  'orders', [(1, 1), (1, 1.5), (1, math.inf), (3.0, math.inf), (math.inf, math.inf)]
)
def test_closed_forms(orders):
  assert operator_norms.has_closed_form(*orders)
  dense = test_util.normal((2, 5))
  expected = induced_norm(dense, *orders)
  np.testing.assert_allclose(
    operator_norms.kernel_norm(dense, *orders), expected, rtol=1e-8
  )
  conv = test_util.normal((3, 2, 2, 3))
  norm = operator_norms.kernel_norm(conv, *orders)
  exact = operator_norms.kernel_norm(materialized(conv, (3, 4)), *orders)
  np.testing.assert_allclose(norm, exact)
  small = operator_norms.kernel_norm(materialized(conv, (1, 2)), *orders)
  assert small <= norm


def test_closed_forms_are_limits_of_the_iteration():
  kernel = test_util.normal((2, 5))
  start = tf.constant([1.0, 0.1], 'float64')
  norm = max(
    found_norm(matrix_maps(kernel), v, 1.001, 3.0) for v in (start, start[::-1])
  )
  closed = operator_norms.kernel_norm(kernel, 1.0, 3.0)
  np.testing.assert_allclose(norm, closed, rtol=2e-3)


@pytest.mark.parametrize('orders', ITERATED)
def test_no_iteration_lessens_the_norm(orders):
  maps = matrix_maps(test_util.normal((6, 5)))
  v = test_util.normal((6,), seed=1)
  norms = [operator_norms.operator_norm(maps[0], v, *orders)]
  for _ in range(20):
    v = operator_norms.power_iteration(
      *maps, v, *orders, tolerance=0.0, max_iterations=1
    )
    np.testing.assert_allclose(np.linalg.norm(v, orders[0]), 1.0)
    norms.append(operator_norms.operator_norm(maps[0], v, *orders))
  assert np.all(np.diff(norms) >= -1e-14 * norms[-1])
  assert norms[1] > norms[0]


def test_the_iteration_stops_at_the_tolerance():
  calls = []
  apply, transpose = matrix_maps(test_util.normal((30, 30)))

  def counted(u):
    calls.append(1)
    return transpose(u)

  def iterations(**options):
    calls.clear()
    start = test_util.normal((30,), seed=1)
    operator_norms.power_iteration(apply, counted, start, **options)
    return len(calls)

  assert iterations(max_iterations=0) == 0
  assert iterations(tolerance=0.0, max_iterations=7) == 7
  few, many = (iterations(tolerance=t, max_iterations=10_000) for t in (1e-2, 1e-6))
  assert 1 < few < many < 10_000


def test_the_iteration_leaves_a_direction_that_was_overtaken():
  kernel = tf.linalg.diag([1.0, 1.1])
  v = operator_norms.power_iteration(*matrix_maps(kernel), tf.constant([1.0, 0.02]))
  norm = operator_norms.operator_norm(matrix_maps(kernel)[0], v)
  np.testing.assert_allclose(norm, 1.1, rtol=1e-3)


def test_a_worse_v_is_not_taken():
  apply, _ = matrix_maps(tf.linalg.diag([1.0, 2.0]))
  v = operator_norms.power_iteration(
    apply, lambda u: tf.constant([1.0, 0.0]) + 0.0 * u, tf.constant([3.0, 4.0])
  )
  np.testing.assert_allclose(v, [0.6, 0.8])


@pytest.mark.parametrize('orders', ITERATED)
def test_a_zero_operator_leaves_v_and_has_norm_and_gradient_zero(orders):
  kernel = tf.zeros([3, 4], 'float64')
  v = test_util.normal((3,))
  v /= operator_norms.p_norm(v, orders[0])
  domain, codomain = (tf.constant(order, 'float64') for order in orders)
  new = operator_norms.power_iteration(*matrix_maps(kernel), v, domain, codomain)
  np.testing.assert_allclose(new, v)
  with tf.GradientTape() as tape:
    tape.watch([kernel, domain, codomain])
    apply = matrix_maps(kernel)[0]
    norm = operator_norms.operator_norm(apply, v, domain, codomain)
  assert norm == 0.0
  for gradient in tape.gradient(norm, [kernel, domain, codomain]):
    np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


@pytest.mark.parametrize('scale', [1e-30, 1e25])
@pytest.mark.parametrize('orders', [(2.0, 2.0), (1.1, 1.2), (4.0, 3.0)])
def test_any_scale_in_float32(scale, orders):
  if orders == (2.0, 2.0):
    scale **= 0.5
  kernel = test_util.normal((4, 6), 'float32')
  start = test_util.normal((4,), 'float32', seed=1)
  options = {'tolerance': 1e-6, 'max_iterations': 100}
  norm = found_norm(matrix_maps(kernel), start, *orders, **options)
  scaled = found_norm(matrix_maps(scale * kernel), start, *orders, **options)
  np.testing.assert_allclose(scaled / scale, norm, rtol=1e-4)


@pytest.mark.parametrize('orders', [(2.0, 2.0), (3.0, 1.5), (1.5, 3.0)])
def test_gradient_at_the_maximizer_is_that_of_the_induced_norm(orders):
  base = tf.abs(test_util.normal((4, 5))) + 0.1
  start = tf.ones([4], 'float64')

  def norm_of(kernel, domain, codomain):
    return found_norm(matrix_maps(kernel), start, domain, codomain)

  values = [base, *(tf.constant(order, 'float64') for order in orders)]
  with tf.GradientTape() as tape:
    tape.watch(values)
    norm = norm_of(*values)
  gradients = tape.gradient(norm, values)
  directions = [test_util.normal(v.shape, seed=3) for v in values]
  for i, (gradient, direction) in enumerate(zip(gradients, directions)):

    def moved(step, i=i, direction=direction):
      return norm_of(*values[:i], values[i] + step * direction, *values[i + 1 :])

    difference = (moved(1e-5) - moved(-1e-5)) / 2e-5
    along = tf.reduce_sum(gradient * direction)
    np.testing.assert_allclose(along, difference, rtol=1e-6, atol=1e-8)


def test_gradients_of_closed_forms():
  kernel = test_util.normal((4, 5))
  direction = test_util.normal((4, 5), seed=1)
  for orders in ((1.0, 1.5), (3.0, math.inf)):
    with tf.GradientTape() as tape:
      tape.watch(kernel)
      norm = operator_norms.kernel_norm(kernel, *orders)
    along = tf.reduce_sum(tape.gradient(norm, kernel) * direction)
    ends = [
      operator_norms.kernel_norm(kernel + step * direction, *orders)
      for step in (1e-6, -1e-6)
    ]
    np.testing.assert_allclose(along, (ends[0] - ends[1]) / 2e-6, rtol=1e-7)


@pytest.mark.parametrize('learned', [False, True])
def test_xla_is_as_eager(learned):
  kernel = test_util.normal((3, 3, 2, 3))
  start = test_util.normal((1, 5, 6, 2), seed=1)
  orders = [tf.constant(p, 'float64') if learned else p for p in (3.0, 1.5)]

  def norm(kernel):
    options = {'tolerance': 1e-6, 'max_iterations': 100}
    return found_norm(conv_maps(kernel, start.shape), start, *orders, **options)

  compiled = tf.function(norm, jit_compile=True)
  np.testing.assert_allclose(compiled(kernel), norm(kernel), rtol=1e-10)


def test_errors():
  for orders in ((math.inf, 2.0), (2.0, 1.0), (math.inf, 1.0)):
    with pytest.raises(ValueError, match='Choose orders in'):
      operator_norms.check_orders(*orders)
  for orders in ((0.5, 2.0), (2.0, math.nan)):
    with pytest.raises(ValueError, match=r'in \[1, inf\]'):
      operator_norms.check_orders(*orders)
  for orders in ((1.0, 1), (1, 7.0), (4.0, math.inf), (math.inf, math.inf), (2, 3)):
    operator_norms.check_orders(*orders)
  operator_norms.check_orders(tf.constant(1.5), tf.constant(1.5))
  with pytest.raises(ValueError, match='closed form'):
    operator_norms.kernel_norm(tf.eye(2), 2.0, 2.0)
