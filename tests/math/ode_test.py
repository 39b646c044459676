"""Solutions, integrals and adjoint gradients of `integrate`."""

import functools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff

SOLVERS = {
  'dormand_prince': tff.DormandPrince(1e-9, 1e-9),
  'runge_kutta': tff.RungeKutta4(50),
  'tfp_dormand_prince': tfp.math.ode.DormandPrince(1e-9, 1e-9),
  'tfp_bdf': tfp.math.ode.BDF(1e-9, 1e-9),
}
FEW_STEPS = tff.RungeKutta4(3)


def zeros(*shape):
  return tf.zeros(shape, tf.float64)


# --- Values.


def oscillator(t, x, *_):
  """With the integrals of `x_0`, of `t` and of `(x_0 - x_1)^2`; the last by batch."""
  a, b = x[..., 0], x[..., 1]
  value = 2.0 * tf.stack([b, -a], axis=-1)
  return value, (a, t * tf.ones([1, 2], x.dtype), (a - b) ** 2)


def test_closed_forms_in_both_directions():
  x = np.array([[1.0, 0.5], [-2.0, 1.0], [0.0, 0.0]])

  @tf.function(autograph=False)
  def run(start, end):
    return tff.integrate(
      oscillator,
      x,
      start,
      end,
      tff.DormandPrince(1e-8, 1e-8),
      integrals=[zeros(3), tf.constant([[7.0, 0.0]], tf.float64), zeros(3)],
    )

  for start, end in ((0.5, 2.0), (2.0, 0.5), (-1.0, 1.0), (0.3, 0.3)):
    solution = run(*(tf.constant(t, tf.float64) for t in (start, end)))
    length = end - start
    a, b = x.T
    cos, sin = np.cos(2 * length), np.sin(2 * length)
    expected = np.stack([a * cos + b * sin, b * cos - a * sin], axis=-1)
    np.testing.assert_allclose(solution.x, expected, atol=1e-6)
    first, second, third = solution.integrals
    np.testing.assert_allclose(first, (a * sin + b * (1 - cos)) / 2, atol=1e-6)
    time = (end**2 - start**2) / 2
    np.testing.assert_allclose(second, [[7.0 + time, time]], atol=1e-6)
    # (x_0 - x_1)^2 = |x|^2 - 2 x_0 x_1, and x_0 x_1 turns with twice the frequency.
    sin, cos = np.sin(4 * length) / 4, (1 - np.cos(4 * length)) / 4
    product = a * b * sin - (a**2 - b**2) * cos / 2
    squares = (a**2 + b**2) * length
    np.testing.assert_allclose(third, squares - 2 * product, atol=1e-6)
    assert solution.status == 0
    assert solution.num_evaluations.dtype == solution.status.dtype == tf.int32
    if start == end:
      np.testing.assert_array_equal(solution.x, x)


def fast_integrand(t, x):
  return -x, (tf.cos(40 * t), tf.exp(-t))


@pytest.mark.parametrize(
  ('controlled', 'precise'),
  [(True, True), ((True, False), True), ((False, True), False)],
)
def test_controlled_integrals(controlled, precise):
  @tf.function(autograph=False)
  def run():
    return tff.integrate(
      fast_integrand,
      tf.ones([2], tf.float64),
      0.0,
      1.0,
      tff.DormandPrince(1e-6, 1e-6),
      integrals=[zeros(), zeros()],
      controlled=controlled,
    )

  solution = run()
  # An integral out of control has no precision, but the x below it has.
  np.testing.assert_allclose(solution.x, [np.exp(-1)] * 2, rtol=1e-5)
  np.testing.assert_allclose(solution.integrals[1], 1 - np.exp(-1), rtol=1e-5)
  error = abs(solution.integrals[0] - np.sin(40) / 40)
  assert (error < 1e-5) == precise
  assert (solution.num_evaluations > 200) == precise


def test_dtypes():
  for dtype in ('float32', 'float64'):
    x = tf.ones([2], dtype)
    # Times of another dtype are cast, Python's to full precision.
    for time in (0.1, np.float32(0.25), tf.constant(0.5, tf.float64), 1):
      solution = tff.integrate(
        lambda t, x: (tf.ones_like(x) + 0 * t, ()), x, 0, time, FEW_STEPS
      )
      assert solution.x.dtype == dtype
      rtol = 1e-6 if dtype == 'float32' else 1e-14
      np.testing.assert_allclose(solution.x, [1.0 + float(time)] * 2, rtol=rtol)


# --- Gradients.


class Problem:
  """A field of weights, condition and time, and a loss of all that is returned.

    dx/dt = u tanh(w x + sin(t) c)

  with two integrals. Every number of the results has its own weight in the loss.
  """

  shapes = dict(w=(4, 3), u=(3, 4), x=(2, 3), c=(2, 4), start=(), end=())

  def __init__(self):
    rng = np.random.default_rng(5)
    self.values = {k: 0.7 * rng.standard_normal(s) for k, s in self.shapes.items()}
    self.upstream = [rng.standard_normal(s) for s in ((2, 3), (2,), (2, 3))]
    self.w, self.u = (tf.Variable(self.values[k]) for k in 'wu')

  def rates(self, t, x, c):
    h = tf.tanh(tf.linalg.matvec(self.w, x) + tf.sin(t) * c)
    return tf.linalg.matvec(self.u, h), (tf.reduce_sum(h**2, -1), tf.cos(t) * x**2)

  def loss(self, parts):
    return tf.add_n(
      [tf.reduce_sum(w * tf.sin(p)) for w, p in zip(self.upstream, parts)]
    )

  def run(self, solver, x, c, start, end, adjoint_solver=None):
    """Loss, gradients in the order of `shapes`, and evaluations in both directions."""
    x, c, start, end = (tf.convert_to_tensor(v) for v in (x, c, start, end))
    probe = tf.zeros([])
    with tf.GradientTape() as tape:
      tape.watch([x, c, start, end, probe])
      solution = tff.integrate(
        self.rates,
        x,
        start,
        end,
        solver,
        adjoint_solver,
        [zeros(2), zeros(2, 3)],
        [c],
        [True, False],
        probe,
      )
      loss = self.loss([solution.x, *solution.integrals])
    sources = [self.w, self.u, x, c, start, end, probe]
    *gradients, backward = tape.gradient(loss, sources)
    return loss, gradients, solution.num_evaluations, backward

  def inputs(self, start, end):
    times = (tf.constant(t, tf.float64) for t in (start, end))
    return [tf.constant(self.values[k]) for k in 'xc'] + list(times)

  def reference(self, **values):
    """The loss in NumPy; each value has a leading axis, of which all are solved."""
    values = {k: values[k].reshape(-1, *s) for k, s in self.shapes.items()}
    w, u, x, c, start, end = values.values()
    column = np.s_[:, None, None]
    step = ((end - start) / 200)[column]

    def rates(t, x):
      h = np.tanh(x @ np.swapaxes(w, 1, 2) + np.sin(t) * c)
      return h @ np.swapaxes(u, 1, 2), np.sum(h**2, -1), np.cos(t) * x**2

    def moved(state, slopes, step):
      return [
        v + step.reshape(-1, *[1] * (v.ndim - 1)) * k for v, k in zip(state, slopes)
      ]

    state = [x, np.zeros(x.shape[:2]), np.zeros(x.shape)]
    for i in range(200):
      t = start[column] + i * step
      k1 = rates(t, state[0])
      k2 = rates(t + step / 2, moved(state, k1, step / 2)[0])
      k3 = rates(t + step / 2, moved(state, k2, step / 2)[0])
      k4 = rates(t + step, moved(state, k3, step)[0])
      slopes = [(a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(k1, k2, k3, k4)]
      state = moved(state, slopes, step)
    return sum(
      (w * np.sin(s)).reshape(len(x), -1).sum(1) for w, s in zip(self.upstream, state)
    )

  def central_differences(self, start, end, step=1e-4):
    """The loss and its gradients, as `run` returns them."""
    values = dict(self.values, start=np.array(start), end=np.array(end))
    flat = np.concatenate([v.ravel() for v in values.values()])
    shifts = step * np.eye(len(flat))
    moved = np.concatenate([flat[None], flat + shifts, flat - shifts])
    sizes = np.cumsum([v.size for v in values.values()])[:-1]
    parts = dict(zip(values, np.split(moved, sizes, axis=1)))
    loss, *others = self.reference(**parts)
    gradient = np.subtract(*np.split(np.array(others), 2)) / (2 * step)
    parts = zip(np.split(gradient, sizes), values.values())
    return loss, [g.reshape(v.shape) for g, v in parts]


PROBLEM = Problem()
TIMES = (0.2, 1.3)


@functools.cache
def compiled(solver, jit_compile):
  return tf.function(
    lambda *args: PROBLEM.run(solver, *args),
    jit_compile=jit_compile,
    autograph=False,
  )


def assert_gradients(found, times, rtol=1e-5):
  loss, gradients, *_ = found
  expected_loss, expected = PROBLEM.central_differences(*times)
  np.testing.assert_allclose(loss, expected_loss, rtol=rtol)
  for name, a, b in zip(PROBLEM.shapes, gradients, expected):
    assert np.abs(b).min() > 1e-4, name  # Or nothing is tested.
    assert np.abs(a - b).max() < rtol * np.abs(b).max(), name


@pytest.mark.parametrize(
  ('solver', 'mode'),
  [
    ('dormand_prince', 'xla'),
    ('runge_kutta', 'graph'),
    ('runge_kutta', 'xla'),
    ('tfp_dormand_prince', 'graph'),
    ('tfp_bdf', 'graph'),
  ],
)
def test_gradients_are_central_differences(solver, mode):
  run = compiled(SOLVERS[solver], mode == 'xla')
  for times in (TIMES, TIMES[::-1]):
    found = run(*PROBLEM.inputs(*times))
    assert_gradients(found, times)
  if solver == 'dormand_prince':
    # Nothing moves.
    loss, gradients, *_ = run(*PROBLEM.inputs(0.4, 0.4))
    at_start, expected = PROBLEM.central_differences(0.4, 0.4)
    np.testing.assert_allclose(loss, at_start, rtol=1e-12)
    for a, b in zip(gradients, expected):
      np.testing.assert_allclose(a, b, atol=1e-7)


def test_gradients_in_eager_mode():
  found = PROBLEM.run(tff.DormandPrince(1e-3, 1e-3), *PROBLEM.inputs(*TIMES))
  assert_gradients(found, TIMES, rtol=1e-2)
  eager = PROBLEM.run(FEW_STEPS, *PROBLEM.inputs(*TIMES))
  run = tf.function(lambda *args: PROBLEM.run(FEW_STEPS, *args), autograph=False)
  tf.nest.map_structure(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12),
    eager,
    run(*PROBLEM.inputs(*TIMES)),
  )


def test_an_adjoint_solver_of_its_own():
  args = PROBLEM.inputs(*TIMES)
  found = PROBLEM.run(FEW_STEPS, *args, adjoint_solver=tff.RungeKutta4(5))
  assert (found[2], found[3]) == (12, 20)
  first, second = (PROBLEM.run(FEW_STEPS, *args)[1][0] for _ in range(2))
  np.testing.assert_array_equal(first, second)
  assert np.abs(first - found[1][0]).max() > 1e-6


class Simple:
  """`x' = -v x`, with a count of evaluations; eager unless it is compiled."""

  def __init__(self, value=0.5):
    self.v = tf.Variable(value, dtype=tf.float64)
    self.calls = 0

  def rates(self, t, x):
    self.calls += 1
    return -self.v * x, ()

  def solve(self, x=(1.0, -2.0), start=0.0, end=2.0, solver=FEW_STEPS, **options):
    x = tf.constant(x, tf.float64)
    return tff.integrate(self.rates, x, start, end, solver, **options)


@pytest.mark.parametrize('solver', [tff.RungeKutta4(2), tff.DormandPrince(1e-3, 1e-3)])
def test_probe_is_the_number_of_evaluations_of_the_backward_solve(solver):
  simple, probe = Simple(), tf.zeros([])
  with tf.GradientTape() as tape:
    tape.watch(probe)
    solution = simple.solve(adjoint_solver=solver, probe=probe)
    assert simple.calls == solution.num_evaluations
  backward = tape.gradient(solution.x, probe)
  assert simple.calls == solution.num_evaluations + int(backward)


@pytest.mark.parametrize(
  'make',
  [
    lambda: tf.Variable(1.5, dtype=tf.float64),
    lambda: tf.Variable(1.5),
    lambda: tfp.util.TransformedVariable(1.5, tfp.bijectors.Softplus()),
    lambda: keras.Variable(1.5, dtype='float64'),
  ],
)
def test_times_that_are_variables(make):
  # y = (1, -2) e^(-v (end - start)), and the loss is its sum.
  expected = 0.5 * np.exp(-0.5 * 1.5)
  for other, name, sign in ((0.0, 'end', 1), (3.0, 'start', -1)):
    time = make()
    times = {'start': other, 'end': other, name: time}
    with tf.GradientTape() as tape:
      x = Simple().solve(solver=tff.RungeKutta4(6), **times).x
    if isinstance(time, tfp.util.TransformedVariable):
      (raw,) = time.trainable_variables
      found = tape.gradient(x, raw) / tf.sigmoid(raw)
    else:
      source = time.value if isinstance(time, keras.Variable) else time
      found = tape.gradient(x, source)
    np.testing.assert_allclose(found, sign * expected, rtol=1e-4)


def test_fields_that_do_not_depend_on_all():
  x, v = tf.constant([1.0, -2.0], tf.float64), tf.Variable(0.5, dtype=tf.float64)
  unused, hidden = (tf.Variable(3.0, dtype=tf.float64) for _ in range(2))
  end = tf.constant(2.0, tf.float64)
  upstream = tf.constant([0.3, 0.7], tf.float64)

  def gradients(rates, integrals=()):
    with tf.GradientTape() as tape:
      tape.watch([x, end])
      solution = tff.integrate(rates, x, 0.0, end, FEW_STEPS, integrals=integrals)
      loss = tf.reduce_sum(upstream * solution.x) + sum(solution.integrals)
    return tape.gradient(loss, [x, v, unused, hidden, end])

  # On x: 1 has reached it as it was, v all along.
  of_x, of_v, *of_others, of_end = gradients(
    lambda t, x: (tf.fill([2], v) + 0 * tf.stop_gradient(hidden), ())
  )
  np.testing.assert_allclose(of_x, upstream)
  np.testing.assert_allclose([of_v, of_end], [2.0, 0.5])
  assert of_others[0] is None
  assert of_others[1] == 0.0
  # On nothing at all.
  constant = tf.ones([2], tf.float64)
  of_x, *of_others, of_end = gradients(lambda t, x: (constant, ()))
  np.testing.assert_allclose(of_x, upstream)
  assert of_others == [None] * 3
  np.testing.assert_allclose(of_end, 1.0)
  # On time alone, which is not kept from the end: d/dt of int t^2 v dt = t^2 v.
  of_x, of_v, *_, of_end = gradients(lambda t, x: (0 * x, (t**2 * v,)), [zeros()])
  np.testing.assert_allclose(of_x, upstream)
  np.testing.assert_allclose([of_v, of_end], [8 / 3, 2.0])


def test_each_example_has_its_own_weight():
  args = PROBLEM.inputs(*TIMES)[:2]
  x, c = args
  found = []
  for weights in ([1.0, 0.0], [0.0, 1.0], [0.3, -0.7]):
    with tf.GradientTape() as tape:
      tape.watch(args)
      solution = tff.integrate(
        PROBLEM.rates, x, 0.0, 1.0, FEW_STEPS, None, [zeros(2), zeros(2, 3)], [c]
      )
      examples = tf.reduce_sum(solution.x, -1) + solution.integrals[0]
      loss = tf.reduce_sum(weights * examples)
    found.append(tape.gradient(loss, [PROBLEM.w, x, c]))
  first, second, both = found
  for a, b, mix in zip(*found):
    np.testing.assert_allclose(0.3 * a - 0.7 * b, mix, rtol=1e-12, atol=1e-15)
  for i in (1, 2):
    np.testing.assert_array_equal(first[i][1], np.zeros(first[i][1].shape))
    np.testing.assert_array_equal(second[i][0], np.zeros(first[i][1].shape))
    assert np.abs(first[i][0]).min() > 1e-4


def test_no_gradient_of_what_is_closed_over():
  captured = tf.constant(0.5, tf.float64)
  frozen = tf.Variable(0.5, dtype=tf.float64, trainable=False)
  x = tf.ones([2], tf.float64)

  def run():
    with tf.GradientTape() as tape:
      tape.watch([captured, frozen, x])
      y = tff.integrate(
        lambda t, x: (-captured * frozen * x, ()), x, 0.0, 1.0, FEW_STEPS
      ).x
    return tape.gradient(y, [captured, frozen, x])

  of_captured, of_frozen, of_x = run()
  assert of_captured is None
  assert of_frozen is None
  np.testing.assert_allclose(of_x, np.exp([-0.25] * 2), rtol=1e-5)


@pytest.mark.parametrize(
  ('source', 'options'),
  [('x', None), ('x', {}), ('x', dict(jit_compile=True)), ('variable', {})]
  + [(name, None) for name in ('variable', 'input', 'end', 'upstream')],
)
def test_second_derivatives_raise(source, options):
  v = tf.Variable(0.5, dtype=tf.float64)

  def run(x, shift, end, upstream):
    sources = dict(x=x, variable=v, input=shift, end=end, upstream=upstream)
    with tf.GradientTape(watch_accessed_variables=False) as outer:
      outer.watch(sources[source])
      with tf.GradientTape() as inner:
        inner.watch(x)
        y = tff.integrate(
          lambda t, x, shift: (-v * x**2 + shift, ()),
          x,
          0.0,
          end,
          FEW_STEPS,
          inputs=[shift],
        ).x
      gradient = inner.gradient(y, x, upstream)
    return outer.gradient(gradient, sources[source])

  if options is not None:
    run = tf.function(run, autograph=False, **options)
  # Tensors of their own, for tapes tell them apart by identity.
  args = [tf.ones(shape, tf.float64) for shape in ([2], [2], [], [2])]
  with pytest.raises(LookupError, match='no second derivatives'):
    run(*args)


def test_gradients_of_weights_have_no_part_in_the_choice_of_steps():
  weights = tf.Variable([0.0, 0.0], dtype=tf.float64)

  def rates(t, x, weights):
    # Weights of zero do not disturb x, but their gradient oscillates.
    fast = 100 * tf.stack([tf.cos(50 * t), tf.sin(50 * t)])
    return -x + tf.reduce_sum(weights * fast), ()

  def backward(weights, **options):
    probe = tf.zeros([])
    with tf.GradientTape() as tape:
      tape.watch([probe, weights])
      solution = tff.integrate(
        lambda t, x, *inputs: rates(t, x, *(inputs or [weights])),
        tf.ones([2], tf.float64),
        0.0,
        1.0,
        tff.DormandPrince(1e-3, 1e-3),
        probe=probe,
        **options,
      )
    return tape.gradient(solution.x, [probe, weights])

  as_variable, of_variable = backward(weights)
  value = tf.convert_to_tensor(weights)
  as_input, of_input = backward(value, inputs=[value])
  without, _ = backward(tf.zeros_like(weights))
  assert as_variable == as_input == without
  assert np.abs(of_variable).max() > 0
  np.testing.assert_allclose(of_variable, of_input)


def test_inputs_and_weights_of_other_dtypes():
  """A float64 state under a float32 network that looks up a table."""
  table = tf.Variable(tf.reshape(tf.range(6, dtype=tf.float32), [3, 2]) / 10)
  x, label = tf.ones([2, 2], tf.float64), tf.constant([2, 0])
  scale, shift = tf.constant([0.5], tf.float32), tf.constant([[0.1, 0.2]])

  def rates(t, x, scale, shift):
    rate = tf.gather(table, label) * scale + shift
    return tf.cast(rate, x.dtype) * x, ()

  for solver in (FEW_STEPS, tff.DormandPrince(1e-3, 1e-3)):
    with tf.GradientTape() as tape:
      tape.watch([scale, shift])
      solution = tff.integrate(rates, x, 0.0, 1.0, solver, inputs=[scale, shift])
      loss = tf.reduce_sum(solution.x)
    of_table, of_scale, of_shift = tape.gradient(loss, [table, scale, shift])
    rate = np.array([[0.4, 0.5], [0.0, 0.1]])
    end = np.exp(rate / 2 + [0.1, 0.2])
    np.testing.assert_allclose(solution.x, end, rtol=1e-3)
    of_table = tf.convert_to_tensor(of_table)
    assert of_table.dtype == of_scale.dtype == of_shift.dtype == tf.float32
    expected = [end[1] / 2, [0.0, 0.0], end[0] / 2]
    np.testing.assert_allclose(of_table, expected, rtol=1e-3)
    np.testing.assert_allclose(of_scale, [np.sum(rate * end)], rtol=1e-3)
    np.testing.assert_allclose(of_shift, [np.sum(end, 0)], rtol=1e-3)


# --- Failures and arguments.


def test_a_failed_solve_has_nan_values_and_gradients():
  v = tf.Variable(0.5, dtype=tf.float64)
  x = tf.ones([2], tf.float64)
  solver = tff.DormandPrince(1e-6, 1e-6, max_num_steps=3)
  probe = tf.zeros([])
  with tf.GradientTape() as tape:
    tape.watch([x, probe])
    solution = tff.integrate(
      lambda t, x: (tf.cos(9 * t) * v * x, (t,)),
      x,
      0.0,
      9.0,
      solver,
      integrals=[zeros()],
      probe=probe,
    )
  assert solution.status == -1
  assert np.isnan(solution.x).all()
  assert np.isnan(solution.integrals[0])
  of_x, of_v, evaluations = tape.gradient(solution.x, [x, v, probe])
  assert np.isnan(of_x).all()
  assert np.isnan(of_v)
  assert np.isnan(evaluations)


def test_an_empty_batch():
  simple = Simple()
  with tf.GradientTape() as tape:
    solution = simple.solve(np.zeros([0, 3]), solver=tff.DormandPrince(1e-3, 1e-3))
  assert solution.status == 0
  assert solution.x.shape == (0, 3)
  assert tape.gradient(solution.x, simple.v) == 0.0


def test_numbers_of_integrals_that_do_not_fit():
  x = tf.ones([2], tf.float64)
  for options, message in (
    (dict(integrals=[zeros()]), 'each of the 2 integrals; received 1'),
    (dict(integrals=[zeros()] * 3), 'each of the 2 integrals; received 3'),
    (dict(integrals=[zeros()] * 2, controlled=[True]), '2 integrals; received 1'),
    (dict(integrals=[zeros()] * 2, controlled=[True] * 3), '2 integrals; received 3'),
  ):
    with pytest.raises(ValueError, match=message):
      tff.integrate(fast_integrand, x, 0.0, 1.0, FEW_STEPS, **options)


def test_inputs_of_unknown_rank():
  @tf.function(input_signature=[tf.TensorSpec(None, tf.float64)])
  def gradients(c):
    x = tf.constant([[1.0, 2.0]], tf.float64)
    with tf.GradientTape() as tape:
      tape.watch([x, c])
      rates = lambda t, x, c: (-x * tf.reduce_sum(c), ())  # noqa: E731
      y = tff.integrate(rates, x, 0.0, 1.0, tff.DormandPrince(1e-9, 1e-9), inputs=[c]).x
    return tape.gradient(y, [x, c])

  for c in ([0.5], [[0.2], [0.3]]):
    of_x, of_c = gradients(tf.constant(c, tf.float64))
    np.testing.assert_allclose(of_x, np.full([1, 2], np.exp(-0.5)), rtol=1e-6)
    np.testing.assert_allclose(of_c, np.full(np.shape(c), -3 * np.exp(-0.5)), rtol=1e-6)


# --- Compilation.


def compiler_text(run, times=TIMES):
  return run.experimental_get_compiler_ir(*PROBLEM.inputs(*times))(stage='hlo')


def test_weights_are_no_constants_of_the_compiled_program():
  run = compiled(SOLVERS['dormand_prince'], True)
  before = compiler_text(run)
  count = run.experimental_get_tracing_count()
  weights = PROBLEM.w.numpy()
  # Other weights, and other times, in the other direction.
  PROBLEM.w.assign(weights + 0.5)
  after = compiler_text(run, (3.0, 1.0))
  PROBLEM.w.assign(weights)
  assert run.experimental_get_tracing_count() == count == 1
  assert before == after
  header = before.split('->')[0]
  for shape in PROBLEM.shapes.values():
    assert f'f64[{",".join(map(str, shape))}]' in header
  # 1000 steps are allowed, but nothing is kept but the seven slopes of one, of which
  # the gradients of weights and inputs are the largest part.
  shapes = re.findall(r'[fsu]\d+\[([\d,]+)\]', before)
  sizes = [np.prod([int(n) for n in s.split(',')]) for s in shapes]
  assert max(sizes) == 7 * sum(PROBLEM.values[k].size for k in 'wuc')


@pytest.mark.parametrize(
  'solvers',
  [
    [tff.RungeKutta4(n) for n in (3, 300)],
    [tff.DormandPrince(tolerance, tolerance) for tolerance in (1e-3, 1e-7)],
  ],
  ids=['runge_kutta', 'dormand_prince'],
)
def test_memory_does_not_depend_on_the_number_of_steps(solvers):
  runs = [compiled(solver, True) for solver in solvers]
  texts = [compiler_text(run) for run in runs]
  first, second = (re.findall(r'\w+\[[\d,]*\]', text) for text in texts)
  assert first == second
