"""Solvers against closed forms, counted evaluations, and their ways to fail."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tfp_flows.internal import tfp_private

START = (1.0, 0.5)
EQUATIONS = ('decay', 'oscillator', 'in_time', 'logistic', 'forced')


def rates(t, y):
  """Of all `EQUATIONS` at once, `[5, 2]`."""
  a, b = tf.unstack(y)
  logistic = 4 * y * (1 - y) * tf.constant([1.0, 0.5], y.dtype)
  return tf.stack(
    [
      tf.stack([-a, -3 * b]),
      tf.stack([2 * b, -2 * a]),
      tf.stack([tf.cos(3 * t) * a, 2 * t * b]),
      logistic,
      tf.stack([tf.sin(10 * t), a]),
    ]
  )


def exact(t):
  a, b = START
  sin, cos = np.sin(2 * t), np.cos(2 * t)
  return np.array(
    [
      [a * np.exp(-t), b * np.exp(-3 * t)],
      [a * cos + b * sin, b * cos - a * sin],
      [a * np.exp(np.sin(3 * t) / 3), b * np.exp(t * t)],
      [1.0, 1 / (1 + np.exp(-2 * t))],
      [a + (1 - np.cos(10 * t)) / 10, b + (a + 0.1) * t - np.sin(10 * t) / 100],
    ]
  )


class Counted:
  """Solves an equation that is chosen at run time, and counts evaluations there."""

  def __init__(self, solver, rates=rates, dtype='float64', **options):
    self._solver, self._rates, self._dtype = solver, rates, dtype
    self._count = tf.Variable(0, trainable=False)
    self._solve = tf.function(self.solve, autograph=False, **options)
    self.traced = 0

  def solve(self, index, initial_time, start, times):
    def field(t, y):
      self.traced += 1
      self._count.assign_add(1)
      return tf.gather(self._rates(t, y), index)

    self._count.assign(0)
    results = self._solver.solve(field, initial_time, start, times)
    return results.states, results.diagnostics, self._count.read_value()

  def __call__(self, equation, times, initial_time=0.0, start=START, solve=None):
    """States, reported evaluations, status and counted evaluations."""
    index = equation if isinstance(equation, int) else EQUATIONS.index(equation)
    states, diagnostics, count = (solve or self._solve)(
      tf.constant(index),
      *(tf.constant(v, self._dtype) for v in (initial_time, start, times)),
    )
    reported = int(diagnostics.num_ode_fn_evaluations)
    return states.numpy(), reported, int(diagnostics.status), int(count)


def worst_error(state, equation, time):
  return np.abs(state - exact(time)[EQUATIONS.index(equation)]).max()


# --- Accuracy.


@pytest.mark.parametrize(
  ('tolerance', 'dtype'),
  [(1e-3, 'float64'), (1e-6, 'float64'), (1e-12, 'float64'), (1e-5, 'float32')],
)
def test_error_is_near_the_tolerance(tolerance, dtype):
  solver = tff.DormandPrince(tolerance, tolerance, max_num_steps=2000)
  run = Counted(solver, dtype=dtype)
  total = 0
  for equation in EQUATIONS:
    states, reported, status, counted = run(equation, [1.5])
    assert (states.dtype, status) == (dtype, 0)
    assert reported == counted
    total += counted
    # 'in_time' multiplies earlier errors by e^(t^2).
    factor = 100 if equation == 'in_time' else 20
    assert worst_error(states[0], equation, 1.5) < factor * tolerance
  # An error far below the tolerance would be a waste.
  assert total < 150 * (1e-3 / tolerance) ** 0.2 + 100
  # The field is compiled for the first slope, the first step and one stage.
  assert run.traced == 3


def test_several_solution_times():
  times = [0.3, 0.3, 0.7, 1.5, 1.5]
  run = Counted(tff.DormandPrince(1e-6, 1e-6))
  for equation in EQUATIONS:
    states, reported, status, counted = run(equation, times)
    assert (reported, status) == (counted, 0)
    for state, time in zip(states, times):
      assert worst_error(state, equation, time) < 1e-4
    np.testing.assert_array_equal(states[0], states[1])
    # Times inside of a step cost nothing.
    assert counted == run(equation, times[-1:] * 5)[3]


def test_initial_and_equal_times():
  for solver in (tff.DormandPrince(1e-6, 1e-6), tff.RungeKutta4(20)):
    run = Counted(solver)
    states = run('in_time', [0.0, 0.0, 0.5])[0]
    np.testing.assert_array_equal(states[:2], [START, START])
    assert worst_error(states[2], 'in_time', 0.5) < 1e-5
    middle = exact(0.5)[EQUATIONS.index('in_time')]
    states = run('in_time', [0.5, 0.5, 1.0], 0.5, middle)[0]
    np.testing.assert_allclose(states[:2], [middle, middle], rtol=1e-14)
    assert worst_error(states[2], 'in_time', 1.0) < 1e-4


def test_runge_kutta_has_order_four_and_a_constant_cost():
  times = [0.4, 1.0]
  errors = []
  for num_steps in (20, 40):
    run = Counted(tff.RungeKutta4(num_steps))
    results = {e: run(e, times) for e in EQUATIONS}
    for _, reported, status, counted in results.values():
      assert (reported, status, counted) == (8 * num_steps, 0, 8 * num_steps)
    errors.append(
      [[worst_error(s, e, t) for s, t in zip(r[0], times)] for e, r in results.items()]
    )
    assert run.traced == len(times)
  orders = np.log2(np.max(errors[0], axis=0) / np.max(errors[1], axis=0))
  np.testing.assert_allclose(orders, 4.0, atol=0.35)
  assert np.max(errors[1]) < 2e-4


# --- The choice of steps.


def one_step(y, rates, step):
  """The end and the error of a step of Dormand and Prince, in NumPy."""
  tableau = tfp_private.DORMAND_PRINCE
  slopes = [rates(y)]
  for row in tableau.b:
    end = y + step * sum(w * k for w, k in zip(row, slopes))
    slopes.append(rates(end))
  return end, step * sum(w * k for w, k in zip(tableau.c_error, slopes))


def test_next_step_follows_the_part_of_the_largest_error():
  parts = [np.array([1.0, -2.0, 0.5]), np.array([[0.1, 0.3]])]
  fields = [lambda y: y * [-3.0, 3.0, 1.0], lambda y: y**2]
  first = 0.2
  for rtol, atol in ((1e-3, 1e-6), (1e-6, 1e-3)):
    ratios = []
    for y, field in zip(parts, fields):
      end, error = one_step(y, field, first)
      scale = atol + rtol * np.maximum(np.abs(y), np.abs(end))
      ratios.append(np.mean((error / scale) ** 2) ** 0.5)
    assert 0.01 < max(ratios) < 1.0
    for order in (slice(None), slice(None, None, -1)):
      solver = tff.DormandPrince(rtol, atol, first_step_size=first)
      results = solver.solve(
        lambda t, state, order=order: [f(y) for f, y in zip(fields[order], state)],
        tf.constant(0.0, tf.float64),
        [tf.constant(y) for y in parts[order]],
        tf.constant([1e-3], tf.float64),
      )
      assert results.diagnostics.num_ode_fn_evaluations == 7
      found = results.solver_internal_state.step_size / first
      np.testing.assert_allclose(found, 0.9 * max(ratios) ** -0.2, rtol=1e-6)


@pytest.mark.parametrize('first', [None, 1e-4, 1.0])
def test_first_step_may_be_chosen_or_given_or_too_large(first):
  solver = tff.DormandPrince(1e-6, 1e-6, first_step_size=first)
  run = Counted(solver)
  states, reported, status, counted = run('forced', [1.0])
  assert (reported, status) == (counted, 0)
  assert counted % 6 == (2 if first is None else 1)
  assert worst_error(states[0], 'forced', 1.0) < 2e-5
  if first == 1.0:
    # The first attempt is rejected, and costs its six evaluations.
    times = solver.solve(
      lambda t, y: tf.gather(rates(t, y), 4),
      tf.constant(0.0, tf.float64),
      tf.constant(START, tf.float64),
      tfp.math.ode.ChosenBySolver(tf.constant(0.01, tf.float64)),
    ).times.numpy()
    assert len(times) > len(np.unique(times))


def test_first_step_of_fields_without_a_scale():
  """Zero fields, zero states, and slopes of very different size."""
  solver = tff.DormandPrince(1e-6, 1e-6)
  fields = tf.constant([[0.0, 0.0], [1.0, 0.0], [1e8, 1.0], [1e-8, 0.0]], tf.float64)
  run = Counted(solver, lambda t, y: fields)
  for i, slope in enumerate(fields):
    states, reported, status, counted = run(i, [2.0], start=[0.0, 0.0])
    assert (reported, status) == (counted, 0)
    np.testing.assert_allclose(states[0], 2.0 * slope, rtol=1e-13)
    assert counted <= 60


def test_fewer_evaluations_than_tfp():
  totals, costs = [], []
  for module in (tff, tfp.math.ode):
    results = []
    for tolerance in (1e-4, 1e-6):
      run = Counted(module.DormandPrince(tolerance, tolerance))
      results += [(e, *run(e, [2.0])) for e in EQUATIONS]
    counts = np.array([r[-1] for r in results])
    errors = [worst_error(states[0], e, 2.0) for e, states, *_ in results]
    totals.append(counts.sum())
    # Evaluations for the same error, as it falls with their fifth power.
    costs.append(counts * np.array(errors) ** 0.2)
  assert totals[0] < 0.85 * totals[1]
  ratio = np.exp(np.mean(np.log(costs[0] / costs[1])))
  assert ratio < 1.0


# --- The end of hopeless solves.

FAILURES = ('nan', 'inf', 'pole', 'nan_later', 'nan_at_once', 'stiff')


def hopeless(t, y):
  nan = tf.constant(np.nan, y.dtype)
  return tf.stack(
    [
      y * nan,
      y / 0.0,
      y**2,
      tf.where(t > 0.5, nan, -y),
      tf.where(t > 0.0, nan, -y),
      -1e7 * y,
    ]
  )


@pytest.mark.parametrize('mode', ['graph', 'xla'])
def test_a_failure_ends_the_solve(mode):
  solver = tff.DormandPrince(1e-4, 1e-4, max_num_steps=300)
  options = dict(jit_compile=True) if mode == 'xla' else {}
  run = Counted(solver, hopeless, dtype='float32', **options)
  for i, name in enumerate(FAILURES):
    states, reported, status, counted = run(i, [0.25, 2.0, 3.0])
    assert status == -1, name
    assert reported == counted <= 2 + 6 * 301, name
    solved = name in ('pole', 'nan_later')
    assert np.isnan(states).all((1,)).tolist() == [not solved, True, True], name
    if name in ('nan', 'inf'):
      assert counted == 8
    assert name == 'stiff' or counted < 700
    if name == 'stiff':
      assert counted == 2 + 6 * 301


@pytest.mark.parametrize('name', ['nan', 'inf', 'stiff'])
def test_a_failure_in_eager_mode(name):
  solver = tff.DormandPrince(1e-4, 1e-4, max_num_steps=5)
  run = Counted(solver, hopeless)
  states, reported, status, counted = run(FAILURES.index(name), [2.0], solve=run.solve)
  assert np.isnan(states).all()
  assert status == -1
  assert reported == counted == (2 + 6 * 6 if name == 'stiff' else 8)


def test_as_many_steps_as_allowed_are_no_failure():
  needed = Counted(tff.DormandPrince(1e-6, 1e-6))('oscillator', [1.5])
  num_steps = (needed[1] - 2) // 6
  for allowed, status in ((num_steps, 0), (num_steps - 1, -1)):
    solver = tff.DormandPrince(1e-6, 1e-6, max_num_steps=allowed)
    states, reported, found, counted = Counted(solver)('oscillator', [1.5])
    assert found == status
    assert reported == counted == needed[1]
    assert np.isnan(states).all() == bool(status)


def test_an_empty_part_of_the_state():
  results = tff.DormandPrince(1e-4, 1e-4).solve(
    lambda t, state: [-s for s in state],
    tf.constant(0.0),
    [tf.ones([2]), tf.zeros([0, 3])],
    tf.constant([1.0]),
  )
  assert results.diagnostics.status == 0
  np.testing.assert_allclose(results.states[0], [[np.exp(-1)] * 2], rtol=1e-3)
  assert results.states[1].shape == (1, 0, 3)


def test_with_validated_arguments():
  calls = []
  solver = tff.DormandPrince(1e-4, 1e-4, validate_args=True)
  results = solver.solve(
    lambda t, y: calls.append(1) or -y, tf.constant(0.0), tf.ones([2]), [1.0]
  )
  assert results.diagnostics.num_ode_fn_evaluations == len(calls)


# --- Arguments.


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: tff.DormandPrince(rtol=0.0), 'rtol > 0; received 0.0'),
    (lambda: tff.DormandPrince(atol=-1.0), 'atol > 0; received -1.0'),
    (lambda: tff.DormandPrince(rtol=np.nan), 'rtol > 0; received nan'),
    (lambda: tff.DormandPrince(max_num_steps=0), 'max_num_steps > 0; received 0'),
    (lambda: tff.DormandPrince(max_num_steps=None), 'num_steps > 0; received None'),
    (lambda: tff.DormandPrince(first_step_size=0.0), 'first_step_size > 0; rec'),
    (lambda: tff.RungeKutta4(0), 'num_steps > 0; received 0'),
  ],
)
def test_bad_arguments(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_chosen_times_and_an_adjoint_solver():
  final = tfp.math.ode.ChosenBySolver(tf.constant(1.0))
  other = tff.RungeKutta4(2)
  solver = tff.RungeKutta4(10, make_adjoint_solver_fn=lambda: other)
  results = solver.solve(lambda t, y: -y, tf.constant(0.0), tf.ones([2]), final)
  np.testing.assert_allclose(results.states, [[np.exp(-1)] * 2], rtol=1e-4)
  assert solver._make_adjoint_solver_fn() is other
  assert results.diagnostics.success
