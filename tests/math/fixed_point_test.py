import numpy as np
import pytest
import tensorflow as tf

from tests import test_util
from tfp_flows.math import fixed_point

SOLVE = fixed_point.solve_fixed_point


def matrix(lipschitz, size=8, dtype='float64', symmetric=False):
  """Of spectral norm `lipschitz`; symmetric ones have eigenvalues of both signs."""
  a = test_util.normal([size, size], seed=1).numpy()
  a = a + a.T if symmetric else a
  return tf.constant(lipschitz * a / np.linalg.norm(a, 2), dtype)


def linear(lipschitz, dtype='float64', symmetric=False):
  """A function, and its fixed points, for six examples `[8]`."""
  a = matrix(lipschitz, dtype=dtype, symmetric=symmetric)
  solution = test_util.normal([6, 8], dtype)
  offset = solution - solution @ a
  return lambda x: x @ a + offset, solution


def network(lipschitz):
  """The inverse of a residual block: its fixed points solve `x + g(x) = y`."""
  q = [np.linalg.qr(test_util.normal([8, 8], seed=s))[0] for s in (2, 3)]
  y = test_util.normal([6, 8])
  return lambda x: y - lipschitz * tf.tanh(x @ q[0]) @ q[1]


def triangles(x):
  """Lipschitz constant 0.9, with a kink at every multiple of 0.2."""
  offset = 3.0 * test_util.normal([16, 1])
  return offset + 0.9 * tf.abs(tf.math.floormod(x, 0.4) - 0.2)


def largest(x):
  return np.max(np.abs(x), axis=-1)


@pytest.mark.parametrize('memory', [0, 5])
@pytest.mark.parametrize('lipschitz', [0.3, 0.9, 0.99])
def test_known_solution(lipschitz, memory):
  fn, solution = linear(lipschitz, symmetric=True)
  solve = tf.function(lambda x: SOLVE(fn, x, 1, max_iterations=4000, memory=memory))
  result = solve(tf.zeros_like(solution))
  assert np.all(result.converged)
  np.testing.assert_allclose(result.x, solution, rtol=0, atol=1e-10)
  np.testing.assert_allclose(result.residual, largest(fn(result.x) - result.x))


@pytest.mark.parametrize('lipschitz', [0.3, 0.9, 0.99])
def test_plain_iteration_and_its_rate(lipschitz):
  fn, solution = linear(lipschitz)
  x = start = tf.zeros_like(solution)
  first = np.linalg.norm(fn(start), axis=-1)
  for n in range(6):
    result = SOLVE(fn, start, 1, max_iterations=n + 1, memory=0)
    np.testing.assert_allclose(result.x, x, rtol=1e-12)
    error = np.linalg.norm(result.x - solution, axis=-1)
    assert np.all(error <= lipschitz**n / (1 - lipschitz) * first)
    x = fn(x)


FUNCTIONS = {
  'network 0.9': lambda: network(0.9),
  'network 0.99': lambda: network(0.99),
  'linear 0.99': lambda: linear(0.99, symmetric=True)[0],
}


@pytest.mark.parametrize('name', FUNCTIONS)
def test_acceleration_takes_fewer_evaluations(name):
  fn = FUNCTIONS[name]()
  start = tf.zeros([6, 8], tf.float64)
  counts = {}
  for memory in (0, 1, 5):
    result = tf.function(SOLVE)(fn, start, 1, 1e-9, 3000, memory)
    assert np.all(result.converged)
    counts[memory] = int(result.iterations)
  assert counts[5] < counts[1] < counts[0]
  assert counts[5] < counts[0] / 2


def test_linear_problem_ends_after_as_many_secants_as_dimensions():
  fn, solution = linear(0.9)
  result = SOLVE(fn, tf.zeros_like(solution), 1, 1e-9, max_iterations=10, memory=8)
  assert np.all(result.converged)
  np.testing.assert_allclose(result.x, solution, rtol=0, atol=1e-8)


def test_translation_moves_every_point():
  fn, solution = linear(0.9)
  start = tf.zeros_like(solution)
  moved = SOLVE(lambda x: fn(x - 2.0) + 2.0, start + 2.0, 1, max_iterations=5)
  expected = SOLVE(fn, start, 1, max_iterations=5).x + 2.0
  np.testing.assert_allclose(moved.x, expected, rtol=1e-9)


def test_default_memory_accelerates():
  fn, solution = linear(0.9, symmetric=True)
  start = tf.zeros_like(solution)
  assert np.all(SOLVE(fn, start, 1, max_iterations=40).converged)
  assert not np.any(SOLVE(fn, start, 1, max_iterations=40, memory=0).converged)


@pytest.mark.parametrize('memory', [1, 2])
def test_two_evaluations_gain_at_least_one_plain_step(memory):
  start = tf.zeros([16, 1], tf.float64)
  residuals = []
  for n in range(1, 15):
    result = SOLVE(triangles, start, 1, max_iterations=n, memory=memory)
    residuals.append(result.residual.numpy())
  for before, now in zip(residuals, residuals[2:]):
    assert np.all(now <= np.maximum(0.9 * before, 1e-13) + 1e-15)


def test_kinks_do_not_hold_it_up():
  # Memory 2 without the safeguard goes in circles here.
  start = tf.zeros([16, 1], tf.float64)
  result = SOLVE(triangles, start, 1, max_iterations=40, memory=2)
  assert np.all(result.converged)


def test_float32_with_a_constant_close_to_one():
  # The plain iteration goes in circles of the size of rounding / (1 - 0.999).
  offset = test_util.normal([64, 1], 'float32')
  result = SOLVE(lambda x: offset - 0.999 * x, tf.zeros_like(offset), 1)
  assert np.all(result.converged)
  np.testing.assert_allclose(result.x, offset / 1.999, atol=2e-6)


@pytest.mark.parametrize('memory', [0, 5])
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_default_tolerance_is_above_rounding(dtype, memory):
  def g(x):
    return 0.35 * (tf.reduce_mean(x, 1, keepdims=True) + tf.roll(x, 1, 2))

  solution = 10.0 * test_util.normal([2, 16, 16, 12], dtype)
  offset = solution + g(solution)
  result = SOLVE(lambda x: offset - g(x), offset, 3, memory=memory)
  assert np.all(result.converged)
  atol = {'float32': 1e-3, 'float64': 1e-10}[dtype]
  np.testing.assert_allclose(result.x, solution, rtol=0, atol=atol)


def coupled(offset):
  """Of elementwise operations: rounded the same in every batch."""
  return lambda x: offset + 0.6 * tf.tanh(tf.roll(x, 1, -1))


def test_examples_are_independent():
  offset = test_util.normal([3, 8]) * [[0.01], [1.0], [5.0]]
  together = SOLVE(coupled(offset), tf.zeros_like(offset), 1)
  counts = []
  for i in range(3):
    one = offset[i : i + 1]
    alone = SOLVE(coupled(one), tf.zeros_like(one), 1)
    np.testing.assert_allclose(alone.x[0], together.x[i], rtol=0, atol=1e-15)
    counts.append(int(alone.iterations))
  assert len(set(counts)) > 1
  assert max(counts) == together.iterations


def test_converged_examples_are_frozen():
  fn, solution = linear(0.9)
  start = tf.concat([solution[:1], tf.zeros_like(solution[1:])], 0)
  result = SOLVE(fn, start, 1)
  assert np.all(result.converged)
  np.testing.assert_array_equal(result.x[0], start[0])


def test_too_few_iterations():
  fn, solution = linear(0.9)
  start = tf.concat([solution[:1], tf.zeros_like(solution[1:])], 0)
  result = SOLVE(fn, start, 1, max_iterations=3)
  assert result.iterations == 3
  np.testing.assert_array_equal(result.converged, [True] + 5 * [False])
  np.testing.assert_allclose(
    result.residual[1:], largest(fn(result.x) - result.x)[1:], rtol=1e-12
  )
  assert np.all(result.residual[1:] > 1e-3)


@pytest.mark.parametrize('memory', [0, 5])
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_examples_that_are_not_finite(value, memory):
  offset = test_util.normal([4, 8])
  spoils = tf.constant([[0.0], [value], [0.0], [0.0]], offset.dtype)
  start = tf.constant([[0.0], [0.0], [value], [0.0]], offset.dtype) + 0.0 * offset
  expected = SOLVE(coupled(offset), tf.zeros_like(offset), 1, memory=memory)
  result = SOLVE(coupled(offset + spoils), start, 1, memory=memory)
  finite = [True, False, False, True]
  np.testing.assert_array_equal(result.converged, finite)
  np.testing.assert_array_equal(np.isfinite(result.residual), finite)
  assert result.iterations <= expected.iterations
  for i in (0, 3):
    np.testing.assert_allclose(result.x[i], expected.x[i], rtol=0, atol=1e-15)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_an_accelerated_point_outside_the_domain_is_dropped(value):
  def fn(x):
    bent = tf.where(x < 1.0, 0.95 - 0.9 * x, 0.9 * x - 0.85)
    return tf.where(x < 0.0, value, bent)

  # The secant of the slope 0.9 leads to -8.5; the plain iteration takes 190.
  start = tf.constant([[3.0], [5.0]], tf.float64)
  result = SOLVE(fn, start, 1, 1e-9, max_iterations=16)
  assert np.all(result.converged)
  np.testing.assert_allclose(result.x, [[0.5], [0.5]], atol=1e-8)


def test_equal_residuals_are_no_secant():
  fn = lambda x: tf.where(x > 1.0, x - 1.0, 0.9 - 0.9 * x)  # noqa: E731
  start = tf.constant([[3.5], [2.75]], tf.float64)
  result = SOLVE(fn, start, 1, 1e-9, max_iterations=8, memory=2)
  assert np.all(result.converged)
  np.testing.assert_allclose(result.x, 2 * [[0.9 / 1.9]], atol=1e-8)


@pytest.mark.parametrize(
  'dtype, memory', [('float32', 5), ('float64', 5), ('float64', 0)]
)
def test_eager_graph_and_xla_agree(dtype, memory):
  fn, solution = linear(0.9, dtype)
  solve = lambda x: SOLVE(fn, x, 1, memory=memory)  # noqa: E731
  start = tf.zeros_like(solution)
  eager = solve(start)
  assert np.all(eager.converged)
  for jit_compile in (False, True):
    result = tf.function(solve, jit_compile=jit_compile)(start)
    assert np.all(result.converged)
    assert abs(result.iterations - eager.iterations) <= 1
    atol = {'float32': 1e-4, 'float64': 1e-11}[dtype]
    np.testing.assert_allclose(result.x, eager.x, rtol=0, atol=atol)


@pytest.mark.parametrize('memory', [0, 2])
@pytest.mark.parametrize(
  'shape, event_ndims',
  [([4], 1), ([3, 4], 1), ([2, 3, 4], 1), ([3, 2, 4], 3), ([2, 5, 3, 2, 4], 3)],
)
def test_shapes(shape, event_ndims, memory):
  offset = test_util.normal(shape, 'float32')
  result = SOLVE(coupled(offset), tf.zeros_like(offset), event_ndims, memory=memory)
  batch = shape[: len(shape) - event_ndims]
  assert result.x.shape == shape
  assert result.residual.shape == result.converged.shape == batch
  assert (result.x.dtype, result.residual.dtype) == (tf.float32, tf.float32)
  assert (result.converged.dtype, result.iterations.dtype) == (tf.bool, tf.int32)
  assert np.all(result.converged)
  np.testing.assert_allclose(result.x, coupled(offset)(result.x), atol=1e-5)


def test_unknown_and_empty_batches():
  fn = lambda x: 1.0 + 0.5 * tf.tanh(x)  # noqa: E731
  signature = [tf.TensorSpec([None, 3])]
  solve = tf.function(lambda x: SOLVE(fn, x, 1), input_signature=signature)
  for size in (0, 1, 4):
    result = solve(tf.zeros([size, 3]))
    assert result.x.shape == (size, 3)
    assert result.converged.shape == size
    assert np.all(result.converged)


def test_fn_is_traced_once():
  calls = []

  def fn(x):
    calls.append(x)
    return 1.0 + 0.5 * tf.tanh(x)

  tf.function(lambda x: SOLVE(fn, x, 1))(tf.zeros([2, 3]))
  assert len(calls) == 1


@pytest.mark.parametrize('wrap', [lambda f: f, tf.function])
def test_no_gradient(wrap):
  offset = test_util.normal([2, 3])
  with tf.GradientTape() as tape:
    tape.watch(offset)
    x = wrap(lambda c: SOLVE(coupled(c), tf.zeros_like(c), 1).x)(offset)
  assert tape.gradient(x, offset) is None


@pytest.mark.parametrize(
  'options, message',
  [
    ({'memory': -1}, 'memory >= 0; received -1'),
    ({'max_iterations': 0}, 'max_iterations >= 1; received 0'),
    ({'tolerance': 0.0}, 'tolerance > 0; received 0.0'),
    ({'tolerance': float('nan')}, 'tolerance > 0; received nan'),
    ({'event_ndims': 0}, 'event_ndims from 1 to the rank of start; received 0'),
    ({'event_ndims': 3}, 'received 3 and a start of shape'),
    ({'start': tf.zeros([2, 3], tf.float16)}, 'received float16'),
    ({'fn': lambda x: x[:, :2]}, r'received float32 of shape \(2, 2\)'),
    ({'fn': lambda x: tf.cast(x, tf.float64)}, 'received float64'),
  ],
)
def test_errors(options, message):
  arguments = {'fn': tf.tanh, 'start': tf.zeros([2, 3]), 'event_ndims': 1}
  with pytest.raises(ValueError, match=message):
    SOLVE(**(arguments | options))
