"""Continuous flows: exact log-dets, noise, penalties, failures, training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util

tfb, tfd = tfp.bijectors, tfp.distributions

EXACT = tff.Trace(tff.ExactTrace(), tff.ExactTrace())
TOLERANCE = 1e-9


def tight():
  return tff.DormandPrince(TOLERANCE, TOLERANCE)


def in_graph(fn):
  """Many steps of a solver one by one take long."""
  return tf.function(fn, autograph=False)


def matrix(trace):
  a = np.random.default_rng(0).standard_normal([3, 3])
  return tf.constant(a + (trace - np.trace(a)) / 3 * np.eye(3))


@pytest.mark.parametrize(
  ('trace', 'times'),
  [(1.5, (0.0, 1.0)), (1.5, (1.0, 0.0)), (-1.5, (0.5, 2.0)), (0.0, (0.0, 1.0))],
)
def test_log_det_of_a_linear_field(trace, times):
  a, (start, end) = matrix(trace), times
  layer = tff.FFJORD(
    lambda t, x: tf.linalg.matvec(a, x),
    [3],
    EXACT,
    tight(),
    initial_time=start,
    final_time=end,
    dtype='float64',
  )
  x = test_util.normal([4, 3])
  y, log_det = in_graph(layer.forward_and_log_det)(x)
  np.testing.assert_allclose(log_det, (end - start) * trace * np.ones(4), atol=1e-6)
  expected = tf.linalg.matvec(tf.linalg.expm((end - start) * a), x)
  np.testing.assert_allclose(y, expected, atol=1e-5)
  back, inverse_log_det = in_graph(layer.inverse_and_log_det)(y)
  np.testing.assert_allclose(back, x, atol=10 * TOLERANCE * np.abs(y).max())
  np.testing.assert_allclose(inverse_log_det, -log_det, atol=1e-7)


@pytest.mark.parametrize('times', [(0.0, 1.0), (1.0, 1.5)])
def test_log_det_of_a_field_that_depends_on_time(times):
  # tr A * int (1 + t^2) dt; TFP's own layer does not invert from t0 = 1.
  a, (start, end) = matrix(0.7), times
  layer = tff.FFJORD(
    lambda t, x: (1 + t**2) * tf.linalg.matvec(a, x),
    [3],
    EXACT,
    tight(),
    initial_time=start,
    final_time=end,
    dtype='float64',
  )
  x = 0.01 * test_util.normal([4, 3])
  y, log_det = in_graph(layer.forward_and_log_det)(x)
  integral = (end - start) + (end**3 - start**3) / 3
  np.testing.assert_allclose(log_det, 0.7 * integral * np.ones(4), rtol=1e-6)
  np.testing.assert_allclose(in_graph(layer.inverse)(y), x, atol=1e-7)


def perturbed(event_shape=(3,), trace=None, dtype='float64', **options):
  network = tff.FieldMLP if len(event_shape) == 1 else tff.FieldConvNet
  field = network(event_shape, [6], seed=0, dtype=dtype)
  options = dict(solver=tff.DormandPrince(1e-7, 1e-7), seed=3) | options
  layer = tff.FFJORD(field, event_shape, trace, dtype=dtype, **options)
  test_util.perturb(layer, 0.4)
  return layer


@pytest.mark.parametrize('noise', ['rademacher', 'normal'])
def test_the_mean_over_noise_is_the_exact_log_det(noise):
  estimator = tff.HutchinsonTrace(noise)
  layer = perturbed(trace=tff.Trace(estimator), solver=tff.RungeKutta4(8))
  point = test_util.normal([1, 3])
  x = tf.repeat(point, 20_000, axis=0)
  with tff.estimation(seed=1, training=True):
    _, log_det = layer.forward_and_log_det(x)
  exact = layer.forward_and_log_det(point)[1]
  error = np.std(log_det) / np.sqrt(len(x))
  assert error > 1e-4
  assert abs(np.mean(log_det) - exact) < 3 * error


def test_one_noise_for_forward_and_inverse():
  layer = perturbed(trace=tff.Trace(tff.HutchinsonTrace()))
  x = test_util.normal([5, 3])
  with tff.estimation(seed=1, training=True):
    y, log_det = layer.forward_and_log_det(x)
    _, inverse_log_det = layer.inverse_and_log_det(tf.identity(y))
    again = layer.forward_log_det_jacobian(tf.identity(x), 1)
  np.testing.assert_allclose(inverse_log_det, -log_det, atol=1e-5)
  np.testing.assert_array_equal(again, log_det)
  with tff.estimation(seed=2, training=True):
    other = layer.forward_and_log_det(x)[1]
  assert np.abs(other - log_det).max() > 1e-2
  exact = layer.forward_and_log_det(x)[1]
  assert np.abs(exact - log_det).max() > 1e-2


def test_layers_have_noise_of_their_own():
  layers = [perturbed(seed=i, trace=tff.Trace(tff.HutchinsonTrace())) for i in (1, 2)]
  x = test_util.normal([5, 3])
  with tff.estimation(seed=1, training=True):
    first, second = (layer.forward_and_log_det(x)[1] for layer in layers)
  assert np.abs(first - second).max() > 1e-2


def test_more_samples_have_less_variance():
  def deviation(count):
    estimator = tff.HutchinsonTrace(num_probes=count)
    layer = perturbed(trace=tff.Trace(estimator), solver=tff.RungeKutta4(4))
    x = tf.repeat(test_util.normal([1, 3]), 4000, axis=0)
    with tff.estimation(seed=1, training=True):
      return np.std(layer.forward_and_log_det(x)[1])

  np.testing.assert_allclose(deviation(4), deviation(1) / 2, rtol=0.1)


def test_evaluation_is_exact_up_to_64_dimensions():
  layer = perturbed()
  assert not layer.is_estimated
  assert perturbed([65], solver=tff.RungeKutta4(2)).is_estimated
  x = test_util.normal([4, 3])
  expected = test_util.autodiff_log_det(layer.forward, x)
  np.testing.assert_allclose(layer.forward_and_log_det(x)[1], expected, atol=1e-5)


@pytest.mark.parametrize('estimator', [tff.ExactTrace(), tff.ExactLogDet()])
def test_the_estimator_of_a_block(estimator):
  layer = perturbed(trace=tff.Trace(tff.HutchinsonTrace(), tff.HutchinsonTrace()))
  x = test_util.normal([4, 3])
  with tff.estimation(seed=1, estimator=estimator):
    log_det = layer.forward_and_log_det(x)[1]
  expected = test_util.autodiff_log_det(layer.forward, x)
  np.testing.assert_allclose(log_det, expected, atol=1e-5)


def test_an_estimator_of_residual_flows_is_refused():
  with tff.estimation(seed=1, estimator=tff.RouletteLogDet()):
    with pytest.raises(ValueError, match='ExactTrace or HutchinsonTrace'):
      perturbed().forward(test_util.normal([4, 3]))


def test_penalties_are_integrals_along_the_path():
  a = matrix(0.7)
  layer = tff.FFJORD(
    lambda t, x: tf.linalg.matvec(a, x),
    [3],
    EXACT,
    tight(),
    initial_time=1.0,
    final_time=0.5,
    penalties=tff.Penalties(kinetic=2.0, jacobian=3.0),
    dtype='float64',
  )
  x = test_util.normal([4, 3])
  with tff.flow_report() as report, tff.estimation(seed=0, training=True):
    layer.forward(x)
  (kinetic,), (jacobian,) = report.penalties['kinetic'], report.penalties['jacobian']
  times = np.linspace(0, 0.5, 2001)
  paths = a @ tf.linalg.expm(-times[:, None, None] * a) @ tf.transpose(x)
  expected = np.trapezoid(np.sum(paths**2, axis=1), times, axis=0)
  np.testing.assert_allclose(kinetic, 2 * expected, rtol=1e-5)
  np.testing.assert_allclose(jacobian, 1.5 * np.sum(a**2) * np.ones(4), rtol=1e-7)
  with tff.flow_report() as report:
    layer.forward(tf.identity(x))
  assert not report.penalties


def test_the_error_of_the_log_det_may_be_left_out():
  def evaluations(log_det_in_error):
    # The state moves slowly; its divergence oscillates.
    layer = tff.FFJORD(
      lambda t, x: 1e-6 * tf.sin(40 * t + 1e6 * x),
      [1],
      EXACT,
      tff.DormandPrince(1e-6, 1e-6),
      log_det_in_error=log_det_in_error,
      dtype='float64',
    )
    with tff.flow_report() as report:
      layer.forward(test_util.normal([4, 1]))
    return int(report.evaluations[0])

  assert evaluations(True) > 2 * evaluations(False)


def test_the_end_time_is_trained():
  time = tf.Variable(0.8, dtype=tf.float64)
  layer = perturbed(final_time=time)
  time.assign(0.8)
  assert any(v is time for v in layer.trainable_variables)
  x = test_util.normal([4, 3])

  @in_graph
  def loss():
    y, log_det = layer.forward_and_log_det(x)
    return tf.reduce_sum(y**3) + tf.reduce_sum(tf.sin(log_det))

  with tf.GradientTape() as tape:
    value = loss()
  gradient = tape.gradient(value, time)
  values = []
  for t in (0.8 + 1e-4, 0.8 - 1e-4):
    time.assign(t)
    values.append(loss())
  np.testing.assert_allclose(gradient, (values[0] - values[1]) / 2e-4, rtol=1e-5)


def test_gradient_of_the_condition():
  field = tff.FieldMLP([3], [6], condition_size=2, seed=0, dtype='float64')
  layer = tff.FFJORD(field, [3], EXACT, tight(), dtype='float64')
  test_util.perturb(layer, 0.4)
  x, condition = test_util.normal([4, 3]), test_util.normal([1, 2], seed=5)

  @in_graph
  def loss(condition):
    y, log_det = layer.forward_and_log_det(tf.identity(x), condition)
    return tf.reduce_sum(y**3) + tf.reduce_sum(tf.sin(log_det))

  with tf.GradientTape() as tape:
    tape.watch(condition)
    value = loss(condition)
  step = 1e-4 * test_util.normal([1, 2], seed=6)
  slope = tf.reduce_sum(tape.gradient(value, condition) * step)
  difference = (loss(condition + step) - loss(condition - step)) / 2
  np.testing.assert_allclose(slope, difference, rtol=1e-5)


@pytest.mark.parametrize('field', ['nan', 'blow-up'])
def test_a_solver_that_fails_says_so(field):
  fields = {
    'nan': lambda t, x: x * np.nan,
    'blow-up': lambda t, x: 1 + 100 * x**2,
  }
  layer = tff.FFJORD(fields[field], [2], solver=tff.DormandPrince(max_num_steps=50))
  x = test_util.normal([3, 2], 'float32')
  with pytest.raises(ValueError, match='ffjord expects a field .* raise the tol'):
    layer.forward(x)
  compiled = tf.function(layer.forward_and_log_det, jit_compile=True)
  y, log_det = compiled(x)
  assert np.isnan(y).all()
  assert np.isnan(log_det).all()


@pytest.mark.parametrize('solver', ['rk4', 'bdf'])
def test_other_solvers_that_fail_say_so(solver):
  solvers = dict(rk4=tff.RungeKutta4(4), bdf=tfp.math.ode.BDF(max_num_steps=5))
  layer = tff.FFJORD(lambda t, x: x * np.nan, [2], EXACT, solvers[solver])
  x = test_util.normal([1, 2], 'float32')
  with pytest.raises(ValueError, match='ffjord expects a field'):
    layer.forward(x)
  assert np.isnan(tf.function(layer.forward)(x)).all()


def test_bdf_follows_a_stiff_field():
  a = tf.constant([[-1000.0, 0.0], [1.0, -1.0]], tf.float64)
  x = tf.constant([[1.0, 2.0]], tf.float64)

  @tf.function
  def run(time):
    with tff.flow_report() as report, tf.GradientTape() as tape:
      tape.watch([x, report.probe])
      layer = tff.FFJORD(
        lambda t, x: tf.linalg.matvec(a, x),
        [2],
        EXACT,
        tfp.math.ode.BDF(1e-6, 1e-6, max_num_steps=2000),
        final_time=time,
        dtype='float64',
      )
      y = layer.forward(x)
      loss = tf.reduce_sum(y)
    return y, report.evaluations[0], *tape.gradient(loss, [x, report.probe])

  y, evaluations, _, _ = run(tf.constant(1.0, tf.float64))
  np.testing.assert_allclose(y, tf.linalg.matvec(tf.linalg.expm(a), x), atol=1e-4)
  # An explicit solver needs thousands, and so does Newton's method without Jacobians.
  assert evaluations < 600
  # Backward in time the fast part grows: e^4 times within this one.
  y, _, (gradient,), backward = run(tf.constant(0.004, tf.float64))
  expected = np.sum(tf.linalg.expm(0.004 * a), axis=0)
  np.testing.assert_allclose(gradient, expected, rtol=1e-3)
  assert backward < 600


def test_a_stack_is_a_density():
  flow = tff.ffjord(
    [2],
    num_blocks=2,
    hidden=[6],
    normalization='moving_batch_norm',
    trainable_time=True,
    tolerance=1e-7,
    seed=0,
    dtype='float64',
  )
  test_util.perturb(flow, 0.2)
  assert sum(isinstance(m, tff.FFJORD) for m in test_util.layers(flow)) == 2
  assert sum(isinstance(m, tff.MovingBatchNorm) for m in test_util.layers(flow)) == 3
  x, log_prob = flow.experimental_sample_and_log_prob(5, seed=1)
  np.testing.assert_allclose(flow.log_prob(tf.identity(x)), log_prob, atol=1e-5)
  axis = np.linspace(-9, 9, 121)
  grid = np.stack(np.meshgrid(axis, axis), axis=-1)
  total = np.sum(flow.prob(grid)) * (axis[1] - axis[0]) ** 2
  np.testing.assert_allclose(total, 1, atol=1e-3)


@pytest.mark.parametrize('solver', ['rk4', 'bdf'])
def test_other_solvers(solver):
  options = dict(hidden=[4], trace='exact', seed=0, dtype='float64')
  flow = tff.ffjord([2], solver=solver, tolerance=1e-8, solver_steps=40, **options)
  reference = tff.ffjord([2], tolerance=1e-10, **options)
  for model in (flow, reference):
    test_util.perturb(model, 0.3)
  x = test_util.normal([2, 2])
  run = tf.function(flow.log_prob)
  np.testing.assert_allclose(run(x), reference.log_prob(x), atol=1e-6)


def test_an_image_flow():
  flow = tff.ffjord(
    [4, 4, 1], hidden=[4], num_blocks=1, num_bins=16, alpha=0.05, tolerance=1e-4, seed=0
  )
  test_util.perturb(flow, 0.1)
  x = 16 * tf.sigmoid(test_util.normal([3, 4, 4, 1], 'float32'))
  z = flow.bijector.inverse(x)
  np.testing.assert_allclose(
    flow.bijector.forward(tf.nest.map_structure(tf.identity, z)), x, atol=1e-2
  )


@pytest.fixture(scope='module')
def fitted():
  """A model after three epochs with a partial batch, its history and its data."""
  keras.utils.set_random_seed(0)
  x = np.random.default_rng(0).standard_normal([90, 2]).astype('float32') @ [
    [2, 0],
    [1, 0.5],
  ]
  flow = tff.ffjord([2], hidden=[8], kinetic=0.1, jacobian=0.2, tolerance=1e-3, seed=0)
  model = tff.FlowModel(flow, seed=0)
  model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
  history = model.fit(x, batch_size=40, epochs=3, validation_data=x[:40], verbose=0)
  return model, history.history, x


def test_fit_counts_evaluations_and_penalties(fitted):
  model, history, x = fitted
  assert set(history) == {
    'loss',
    'nfe',
    'nfe_backward',
    'kinetic',
    'jacobian',
    'val_loss',
    'val_nfe',
  }
  assert min(history['nfe'] + history['nfe_backward'] + history['val_nfe']) >= 8
  assert min(history['kinetic'] + history['jacobian']) > 0
  assert history['loss'][-1] < history['loss'][0]
  assert set(model.evaluate(x, return_dict=True, verbose=0)) == {'loss', 'nfe'}


def test_penalties_are_in_the_gradient_and_not_in_the_loss():
  x = test_util.normal([40, 2], 'float32').numpy()

  def first_epoch(kinetic):
    flow = tff.ffjord([2], hidden=[8], kinetic=kinetic, trace='exact', seed=0)
    model = tff.FlowModel(flow, seed=0)
    model.compile(keras.optimizers.SGD(1e-2), run_eagerly=True)
    history = model.fit(x, batch_size=40, epochs=1, verbose=0).history
    return history['loss'][0], model.trainable_weights[0].numpy()

  (loss, weights), (penalized_loss, penalized) = first_epoch(0.0), first_epoch(1.0)
  np.testing.assert_allclose(loss, penalized_loss, rtol=1e-6)
  assert np.abs(weights - penalized).max() > 1e-5


def test_samples_and_log_prob_agree(fitted):
  model, _, _ = fitted
  x, log_prob = model.sample_and_log_prob(6, seed=1)
  np.testing.assert_allclose(model.log_prob(x), log_prob, atol=1e-2)


def test_fit_with_a_failing_solver_ends_in_an_error():
  flow = tff.ffjord([2], hidden=[4], tolerance=1e-4, seed=0)
  model = tff.FlowModel(flow)
  # One step of this length makes the field infinite.
  model.compile(keras.optimizers.SGD(1e38), jit_compile=False)
  x = test_util.normal([16, 2], 'float32').numpy()
  with pytest.raises(ValueError, match='fields that their solvers can follow'):
    model.fit(x, batch_size=8, epochs=2, verbose=0)
  with pytest.raises(ValueError, match='max_num_steps'):
    model.evaluate(x, verbose=0)


def test_the_way_from_the_base_to_the_data():
  from tfp_flows.model import paths

  flow = tff.ffjord(
    [2], num_blocks=2, hidden=[6], trace='exact', normalization='none', seed=0
  )
  test_util.perturb(flow, 0.3)
  x = test_util.normal([5, 2], 'float32')
  (repeated,) = flow.bijector.bijector.bijectors
  first, second = repeated.separate()
  np.testing.assert_allclose(
    paths.at_share(flow, 0.0).log_prob(x), flow.distribution.log_prob(x), atol=1e-5
  )
  half = paths.at_share(flow, 0.5)
  z, log_det = second.forward_and_log_det(x)
  expected = flow.distribution.log_prob(z) + log_det
  np.testing.assert_allclose(half.log_prob(x), expected, atol=1e-4)

  late = paths.at_share(flow, 0.75)
  z, log_det = first.copy(initial_time=0.5).forward_and_log_det(x)
  expected = half.log_prob(z) + log_det
  np.testing.assert_allclose(late.log_prob(x), expected, atol=1e-4)
  assert paths.at_share(flow, 1.0) is flow


def test_penalties_must_not_be_negative():
  with pytest.raises(ValueError, match='the penalty jacobian >= 0; received -1'):
    tff.Penalties(jacobian=-1.0)


@pytest.mark.parametrize('seed', [2**31, -1])
def test_seeds_of_any_size(seed):
  flow = tff.FFJORD(tff.FieldMLP(2, [4], seed=0), [2], seed=seed)
  assert flow.parameters['seed'] == seed
  assert np.isfinite(flow.forward(tf.ones([3, 2]))).all()
