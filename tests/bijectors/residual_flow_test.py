import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tfp_flows.math import log_det

tfb, tfd = tfp.bijectors, tfp.distributions

EXACT = tff.LogDet(tff.ExactLogDet())
ROULETTE = tff.LogDet(tff.RouletteLogDet(), tff.RouletteLogDet())


def mlp(size=3, dtype='float64', lipschitz=0.88**3, scale=1.0, **options):
  network = tff.LipschitzMLP(
    size, hidden=(8, 8), lipschitz=lipschitz, seed=0, dtype=dtype, **options
  )
  return perturbed(network, scale)


def conv_net(dtype='float64', scale=1.0):
  network = tff.LipschitzConvNet(
    [4, 4, 2], width=6, lipschitz=0.88**3, seed=0, dtype=dtype
  )
  return perturbed(network, scale)


def perturbed(network, scale=1.0, seed=0):
  """Moves the weights; the norms of the linear layers reach their bounds."""
  rng = np.random.default_rng(seed)
  for v in network.trainable_variables:
    v.assign_add(scale * rng.standard_normal(v.shape))
  network.update_norms(1e-7, 2000)
  return network


def residual(branch=None, size=3, log_det=EXACT, dtype='float64', **options):
  branch = mlp(size, dtype) if branch is None else branch
  return tff.ResidualFlow(branch, [size], log_det, seed=1, dtype=dtype, **options)


def distribution(flow, size=3):
  base = tfd.Sample(tfd.Normal(np.float64(0), np.float64(1)), [size])
  return tfd.TransformedDistribution(
    base, tfb.Invert(flow), kwargs_split_fn=lambda kwargs: ({}, kwargs)
  )


def constant(value):
  """An estimator that always says `value`."""

  def estimator(g, x, event_ndims, seed):
    del seed
    batch = tf.zeros(x.shape[: x.shape.rank - event_ndims], x.dtype)
    return log_det.LogDetEstimate(g(x), batch + value, batch)

  return estimator


# --- The inverse.


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('kind', ['vector', 'image'])
def test_round_trip_of_many_points(kind, dtype):
  if kind == 'vector':
    branch, event = mlp(dtype=dtype), [3]
  else:
    branch, event = conv_net(dtype), [4, 4, 2]
  count = 10_000 if kind == 'vector' else 300
  flow = tff.ResidualFlow(branch, event, EXACT, dtype=dtype)
  atol = 1e-5 if dtype == 'float32' else 1e-10
  x = test_util.normal([count, *event], dtype)
  y = test_util.normal([count, *event], dtype, seed=1)
  forward = tf.function(flow.forward)
  back = flow.solve(y)
  assert np.all(back.converged)
  np.testing.assert_allclose(flow.inverse(y), back.x, rtol=0, atol=2 * atol)
  np.testing.assert_allclose(forward(flow.inverse(y)), y, rtol=0, atol=atol)
  there = tf.identity(forward(x))
  assert np.abs(there - x).max() > 0.1
  np.testing.assert_allclose(flow.inverse(there), x, rtol=0, atol=5 * atol)


def test_tolerance_is_that_of_the_residual():
  branch = mlp()
  y = test_util.normal([100, 3])
  counts = []
  for tolerance in (1e-2, 1e-5, 1e-8):
    found = residual(branch, tolerance=tolerance).solve(y)
    x = found.x.numpy()
    error = np.abs(y - branch(x) - x).max(1)
    np.testing.assert_allclose(found.residual, error, atol=1e-14)
    assert np.all(error <= tolerance * np.maximum(1.0, np.abs(x).max(1)))
    counts.append(int(found.iterations))
  assert sorted(set(counts)) == counts


def test_gradients_of_the_inverse_are_those_of_the_iteration():
  branch = mlp(condition_size=2)
  flow = residual(branch)
  y, condition = test_util.normal([5, 3]), test_util.normal([5, 2], seed=1)
  factors = test_util.normal([5, 3], seed=2)
  variables = flow.trainable_variables
  assert len(variables) > 6

  def by_iteration(y, condition):
    g, x = branch.normalized(), y
    for _ in range(60):
      x = y - g(x, condition)
    return x

  def gradients(inverse, y, condition):
    with tf.GradientTape() as tape:
      tape.watch([y, condition])
      loss = tf.reduce_sum(factors * inverse(y, condition) ** 2)
    return tape.gradient(loss, [y, condition, *variables])

  def implicit(y, condition):
    return flow.inverse(y, condition=condition)

  expected = gradients(by_iteration, y, condition)
  for fn in (gradients, tf.function(gradients, jit_compile=True)):
    found = fn(implicit, y, condition)
    for value, reference in zip(found, expected):
      assert np.abs(reference).max() > 1e-4
      np.testing.assert_allclose(value, reference, rtol=1e-6, atol=1e-10)


def test_gradients_of_very_small_and_very_large_losses():
  flow = residual()
  y = test_util.normal([4, 3])

  def gradient(scale):
    with tf.GradientTape() as tape:
      tape.watch(y)
      loss = scale * tf.reduce_sum(flow.inverse(tf.identity(y)) ** 2)
    return tape.gradient(loss, y) / scale

  for scale in (1e-30, 1e30):
    np.testing.assert_allclose(gradient(scale), gradient(1.0), rtol=1e-9)
  np.testing.assert_array_equal(gradient(1e-300) * 0.0, np.zeros([4, 3]))


def test_gradient_of_the_reverse_divergence():
  flow = residual()
  d = distribution(flow)

  def loss():
    with tff.estimation(0):
      x, log_prob = d.experimental_sample_and_log_prob(6, seed=[1, 2])
    target = tf.reduce_sum((x - 0.5) ** 2 + tf.sin(2.0 * x), -1)
    return tf.reduce_mean(log_prob + target)

  with tf.GradientTape() as tape:
    value = loss()
  kernels = [v for v in flow.trainable_variables if v.shape.rank == 2]
  gradients = tape.gradient(value, kernels)
  step = 1e-5
  for kernel, gradient in zip(kernels, gradients):
    unit = np.zeros(kernel.shape)
    unit[0, 1] = step
    kernel.assign_add(unit)
    above = loss()
    kernel.assign_sub(2 * unit)
    difference = (above - loss()) / (2 * step)
    kernel.assign_add(unit)
    assert abs(difference) > 1e-4
    np.testing.assert_allclose(gradient[0, 1], difference, rtol=1e-5)


# --- Branches that are no contractions.


def folding(x):
  """`x + g(x)` is `min(x, 0)`: only negative numbers have an inverse."""
  return -tf.nn.relu(x)


def test_what_has_no_inverse_raises():
  flow = residual(folding, size=2, max_iterations=30)
  y = tf.constant([[-1.0, -2.0], [1.0, -2.0], [0.5, 3.0]], tf.float64)
  message = (
    r'expects g to be a contraction; after 30 iterations 2 examples have residuals '
    r'up to 3.*`tff.update_norms`.*`lipschitz`.*max_iterations.*; `solve`'
  )
  with pytest.raises(ValueError, match=message):
    flow.inverse(y)
  np.testing.assert_array_equal(flow.inverse(y[:1]), y[:1])
  found = flow.solve(y)
  np.testing.assert_array_equal(found.converged, [True, False, False])
  np.testing.assert_allclose(found.residual, [0.0, 1.0, 3.0])
  assert found.iterations == 30


@pytest.mark.parametrize('jit_compile', [False, True])
def test_what_has_no_inverse_is_nan_in_graphs(jit_compile):
  flow = residual(folding, size=2, max_iterations=30)
  y = tf.constant([[-1.0, -2.0], [1.0, -2.0]], tf.float64)
  x = tf.function(flow.inverse, jit_compile=jit_compile)(y).numpy()
  np.testing.assert_array_equal(x[0], y[0])
  assert np.isnan(x[1]).all()


def test_iteration_that_explodes():
  flow = residual(lambda x: -3.0 * tf.exp(x), size=1)
  y = tf.constant([[40.0]], tf.float64)
  found = flow.solve(y)
  assert not found.converged[0]
  assert found.iterations < 20
  with pytest.raises(ValueError, match='to be a contraction'):
    flow.inverse(y)
  assert np.isnan(tf.function(flow.inverse)(y)).all()


def test_nan_in_nan_out():
  flow = residual(lambda x: x / 2, size=1)
  y = tf.constant([[1.0], [np.nan]], tf.float64)
  x = tf.function(flow.inverse)(y)
  np.testing.assert_allclose(x[0], [2 / 3])
  assert np.isnan(x[1])
  with pytest.raises(ValueError, match='1 examples'):
    flow.inverse(y)


def test_gradient_is_nan_where_it_does_not_converge():
  flow = residual(lambda x: 0.5 * tf.sin(x), size=1, max_iterations=1)
  y = tf.zeros([1, 1], tf.float64)
  with tf.GradientTape() as tape:
    tape.watch(y)
    x = flow.inverse(y)
  assert x == 0.0
  assert np.isnan(tape.gradient(x, y))


# --- The warning.


def test_infinite_variance_warns():
  branch = tff.LipschitzMLP(3, hidden=(4,), lipschitz=0.99**2, seed=0)
  message = (
    r'finite only for Lipschitz constants below 0.7071; that of the branch may be '
    r'0.9801. Pass geometric\(p\) with p < 0.0394'
  )
  with pytest.warns(UserWarning, match=message) as record:
    tff.ResidualFlow(branch, [3])
  assert 1 - branch.lipschitz**2 == pytest.approx(0.0394, abs=1e-4)
  assert len(record) == 1
  assert record[0].filename == __file__


def test_finite_variance_does_not_warn():
  # Warnings are errors.
  branch = tff.LipschitzMLP(3, hidden=(4,), lipschitz=0.99**2, seed=0)
  for training in (
    tff.ExactLogDet(),
    tff.TruncatedLogDet(),
    tff.RouletteLogDet(tff.geometric(0.039)),
    tff.RouletteLogDet(tff.poisson(2.0)),
    constant(0.0),
  ):
    tff.ResidualFlow(branch, [3], tff.LogDet(training))
  tff.ResidualFlow(tff.LipschitzMLP(3, hidden=(4,), lipschitz=0.84**2, seed=0), [3])
  tff.ResidualFlow(lambda x: 0.99 * x, [3])


# --- Estimators and noise.


def fldj(flow, x):
  """Of a fresh tensor: nothing is remembered."""
  return flow.forward_log_det_jacobian(tf.identity(x), 1).numpy()


def test_estimators_of_training_and_evaluation():
  flow = residual(log_det=tff.LogDet(constant(1.0), constant(2.0)))
  x = test_util.normal([2, 3])
  np.testing.assert_array_equal(fldj(flow, x), [2.0, 2.0])
  with tff.estimation(0):
    np.testing.assert_array_equal(fldj(flow, x), [2.0, 2.0])
    with tff.estimation(0, training=True):
      np.testing.assert_array_equal(fldj(flow, x), [1.0, 1.0])
      with tff.estimation(0, estimator=constant(3.0)):
        np.testing.assert_array_equal(fldj(flow, x), [3.0, 3.0])
      np.testing.assert_array_equal(fldj(flow, x), [1.0, 1.0])
    np.testing.assert_array_equal(fldj(flow, x), [2.0, 2.0])
  with tff.estimation(0, training=True, estimator=constant(3.0)):
    np.testing.assert_array_equal(fldj(flow, x), [3.0, 3.0])


def test_evaluation_is_exact_for_few_dimensions():
  assert tff.LogDet().evaluation_of(64) == tff.ExactLogDet()
  assert tff.LogDet().evaluation_of(65) == tff.RouletteLogDet(tff.geometric(0.1), 20)
  other = tff.TruncatedLogDet(7)
  assert tff.LogDet(evaluation_estimator=other).evaluation_of(65) == other
  branch, x = mlp(), test_util.normal([2, 3])
  found = fldj(residual(branch, log_det=tff.LogDet()), x)
  np.testing.assert_array_equal(found, fldj(residual(branch, log_det=EXACT), x))


def test_the_noise_is_that_of_the_block():
  flow = residual(log_det=ROULETTE)
  x = test_util.normal([4, 3])

  def at(seed, **options):
    with tff.estimation(seed, **options):
      return fldj(flow, x)

  first = at(3)
  np.testing.assert_array_equal(first, at(3))
  np.testing.assert_array_equal(first, at([0, 3]))
  np.testing.assert_array_equal(first, at(tf.constant(3)))
  assert np.any(first != at(4))
  np.testing.assert_array_equal(fldj(flow, x), fldj(flow, x))
  np.testing.assert_array_equal(fldj(flow, x), at(0))


def test_blocks_end_where_they_end():
  flow = residual(log_det=ROULETTE)
  x = test_util.normal([4, 3])
  outside = fldj(flow, x)
  with tff.estimation(1):
    one = fldj(flow, x)
    with tff.estimation(2):
      two = fldj(flow, x)
    np.testing.assert_array_equal(fldj(flow, x), one)
  with pytest.raises(KeyError), tff.estimation(5):
    raise KeyError
  np.testing.assert_array_equal(fldj(flow, x), outside)
  assert len({outside[0], one[0], two[0]}) == 3


def test_layers_have_their_own_noise():
  branch, x = mlp(), test_util.normal([4, 3])
  flows = [tff.ResidualFlow(branch, [3], ROULETTE, dtype='float64') for _ in range(2)]
  assert np.any(fldj(flows[0], x) != fldj(flows[1], x))
  np.testing.assert_array_equal(
    fldj(residual(branch, log_det=ROULETTE), x),
    fldj(residual(branch, log_det=ROULETTE), x),
  )


def test_forward_and_inverse_agree_inside_a_block():
  flow = residual(log_det=ROULETTE)
  x = test_util.normal([4, 3])
  with tff.estimation(7):
    y = tf.identity(flow.forward(x))
    inverse = flow.inverse_log_det_jacobian(y, 1)
    np.testing.assert_allclose(fldj(flow, x), -inverse, rtol=1e-9)


def test_the_cache_knows_the_block():
  flow = residual(log_det=ROULETTE)
  x = test_util.normal([4, 3])
  values = []
  for seed in (1, 2):
    with tff.estimation(seed):
      values.append(flow.forward_log_det_jacobian(x, 1).numpy())
      np.testing.assert_array_equal(flow.forward_log_det_jacobian(x, 1), values[-1])
  values.append(flow.forward_log_det_jacobian(x, 1).numpy())
  y = tf.identity(flow.forward(x))
  for seed in (1, 2):
    with tff.estimation(seed):
      values.append(flow.inverse_log_det_jacobian(y, 1).numpy())
  assert len({tuple(np.abs(v)) for v in np.round(values, 9)}) == 3
  np.testing.assert_allclose(values[3:], np.negative(values[:2]), rtol=1e-9)


def test_the_branch_runs_once_inside_a_block():
  calls = []

  def branch(x):
    calls.append(x.shape)
    return 0.5 * tf.sin(x)

  flow = residual(branch, log_det=ROULETTE)
  with tff.estimation(0, training=True):
    distribution(flow).log_prob(test_util.normal([4, 3]))
  assert calls == [(4, 3)]


def test_the_mean_over_blocks_is_the_log_det():
  branch, x = mlp(), test_util.normal([2, 3])
  flow = residual(branch, log_det=ROULETTE)

  @tf.function(jit_compile=True)
  def draw(seed):
    with tff.estimation(seed):
      return flow.forward_log_det_jacobian(tf.identity(x), 1)

  draws = np.array([draw(tf.constant(s)) for s in range(500)])
  error = draws.std(0) / 500**0.5
  expected = fldj(residual(branch), x)
  np.testing.assert_allclose(expected, test_util.autodiff_log_det(flow.forward, x))
  assert np.all(np.abs(draws.mean(0) - expected) < 4 * error)


# --- Among other bijectors and distributions.


def test_compositions_under_xla():
  flows = [residual(perturbed(mlp(), seed=s), log_det=ROULETTE) for s in (1, 2)]
  chain = tfb.Chain([tfb.Invert(flows[1]), tfb.Scale(np.float64(2)), flows[0]])
  base = tfd.Sample(tfd.Normal(np.float64(0), np.float64(1)), [3])
  d = tfd.TransformedDistribution(base, tfb.Invert(chain))

  def at_x(x):
    with tff.estimation(3, training=True):
      y = chain.forward(x)
      there = tf.identity(y)
      log_dets = [
        chain.forward_log_det_jacobian(x, 1),
        -chain.inverse_log_det_jacobian(there, 1),
      ]
      return y, chain.inverse(there), *log_dets, d.log_prob(x)

  x = test_util.normal([4, 3])
  found = tf.function(at_x, jit_compile=True)(x)
  y, back, forward, inverse, log_prob = found
  np.testing.assert_allclose(back, x, atol=1e-10)
  np.testing.assert_allclose(forward, inverse, rtol=1e-9, atol=1e-10)
  np.testing.assert_allclose(log_prob, base.log_prob(y) + forward, rtol=1e-9)
  for value, reference in zip(found, at_x(x)):
    np.testing.assert_allclose(value, reference, rtol=1e-9, atol=1e-10)


def test_samples_under_xla():
  d = distribution(residual(log_det=ROULETTE))

  @tf.function(jit_compile=True)
  def run(seed):
    with tff.estimation(seed, training=True):
      x = d.sample(4, seed=[0, 5])
      # The first is remembered from sampling.
      return x, d.log_prob(x), d.log_prob(tf.identity(x))

  x, log_prob, again = run(tf.constant(3))
  assert x.shape == (4, 3)
  assert np.std(x) > 0.5
  np.testing.assert_allclose(log_prob, again, rtol=1e-9)


def test_density_integrates_to_one():
  flows = [
    residual(perturbed(mlp(2), seed=s), size=2, log_det=tff.LogDet()) for s in (1, 2)
  ]
  d = distribution(tff.Sequential(flows), 2)
  axis = np.arange(-15.0, 15.0, 0.125)
  grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
  log_prob = tf.function(d.log_prob, jit_compile=True)(grid).numpy()
  np.testing.assert_allclose(np.exp(log_prob).sum() * 0.125**2, 1.0, atol=1e-3)
  normal = -0.5 * (grid**2).sum(1) - np.log(2 * np.pi)
  assert np.abs(np.exp(log_prob) - np.exp(normal)).max() > 0.03


# --- Branches and conditions.


def test_any_callable_is_a_branch():
  a = np.array([[0.3, -0.4], [0.2, 0.5]])
  flow = residual(lambda x: x @ a + 1.0, size=2)
  x = test_util.normal([4, 2])
  y = flow.forward(x)
  np.testing.assert_allclose(y, x @ (np.eye(2) + a) + 1.0)
  np.testing.assert_allclose(flow.inverse(tf.identity(y)), x, atol=1e-10)
  expected = np.log(np.linalg.det(np.eye(2) + a))
  np.testing.assert_allclose(fldj(flow, x), np.full(4, expected))
  assert not flow.takes_condition
  assert not flow.trainable_variables


def test_starts_as_the_identity():
  flow = tff.ResidualFlow(tff.LipschitzMLP(3, hidden=(4, 4, 4), lipschitz=0.9**4), [3])
  x = test_util.normal([4, 3], 'float32')
  np.testing.assert_array_equal(flow.forward(x), x)
  np.testing.assert_array_equal(fldj(flow, x), np.zeros(4))


def test_condition():
  branch = mlp(condition_size=2)
  flow = residual(branch)
  assert flow.takes_condition
  x, condition = test_util.normal([4, 3]), test_util.normal([4, 2], seed=1)
  y = flow.forward(x, condition=condition)
  np.testing.assert_allclose(y, x + branch(x, condition))
  back = flow.inverse(tf.identity(y), condition=condition)
  np.testing.assert_allclose(back, x, atol=1e-10)
  log_dets = [
    flow.forward_log_det_jacobian(x, 1, condition=c) for c in (condition, condition + 1)
  ]
  assert np.abs(log_dets[0] - log_dets[1]).min() > 1e-5
  expected = test_util.autodiff_log_det(
    lambda x: flow.forward(tf.identity(x), condition=condition), x
  )
  np.testing.assert_allclose(log_dets[0], expected, atol=1e-10)
  np.testing.assert_array_equal(flow.solve(y, condition).converged, [True] * 4)
  with tff.estimation(0, estimator=tff.RouletteLogDet(num_probes=3)):
    several = flow.forward_log_det_jacobian(tf.identity(x), 1, condition=condition)
  assert several.shape == (4,)
  with pytest.raises(ValueError, match=r'`condition` of shape \[..., 2\]'):
    flow.forward(x)


def test_batch_shapes():
  flow = residual(log_det=tff.LogDet(tff.RouletteLogDet(num_probes=2)))
  x = test_util.normal([2, 4, 3])
  for part in (x[0, 0], x[0], x):
    for training in (False, True):
      with tff.estimation(0, training):
        y = flow.forward(part)
        assert y.shape == part.shape
        log_det = flow.forward_log_det_jacobian(part, 1)
        assert log_det.shape == part.shape[:-1]
    np.testing.assert_allclose(flow.inverse(tf.identity(y)), part, atol=1e-10)


def test_bad_events():
  with pytest.raises(ValueError, match=r'ResidualFlow expects a static event shape'):
    tff.ResidualFlow(lambda x: x / 2, [3, 4])
  with pytest.raises(ValueError, match=r'events of shape \[3\]; received'):
    residual().forward(tf.zeros([2, 4], tf.float64))


def test_bad_seeds():
  for seed in (0.5, [1, 2, 3]):
    with pytest.raises(ValueError, match='an int or a stateless seed of two ints'):
      with tff.estimation(seed):
        pass
