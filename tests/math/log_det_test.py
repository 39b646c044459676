import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import tfp_flows as tff
from tests import test_util
from tfp_flows.math import log_det

GEOMETRIC = tff.geometric(0.5)
DRAWS = 20_000


def contraction(size=8, lipschitz=0.6, seed=0):
  """A matrix of that spectral norm."""
  a = np.random.default_rng(seed).standard_normal([size, size])
  return lipschitz * a / np.linalg.norm(a, 2)


def linear(matrix):
  """`x -> matrix x`; a matrix per sample has a leading axis `[num_probes]`."""
  return lambda x: tf.linalg.matvec(matrix, x)


def network(first, second):
  """`x -> second tanh(first x)`, of Lipschitz constant `|first| |second|`."""
  return lambda x: tf.linalg.matvec(second, tf.tanh(tf.linalg.matvec(first, x)))


def log_det_of(jacobian):
  return np.linalg.slogdet(np.eye(jacobian.shape[-1]) + jacobian)[1]


def partial_sum(jacobian, num_terms):
  powers = [np.linalg.matrix_power(jacobian, k) for k in range(1, num_terms + 1)]
  return sum((-1) ** k / (k + 1) * np.trace(p) for k, p in enumerate(powers))


def seed_of(seed):
  return tf.constant([0, seed])


def copies(x, count=DRAWS):
  """`[count, *shape]`: something for each sample to have a gradient of its own."""
  return tf.repeat(tf.constant(x)[tf.newaxis], count, axis=0)


def assert_mean(draws, expected, errors=4.0):
  """The mean over the first axis is `expected`, up to so many standard errors."""
  draws = np.asarray(draws)
  error = draws.std(0, ddof=1) / len(draws) ** 0.5
  assert np.max(error) < 0.1 * np.max(np.abs(expected))  # Or nothing is tested.
  assert np.all(np.abs(draws.mean(0) - expected) <= errors * error + 1e-12)


# --- The value of the roulette.


def exact_moments(jacobian, lengths, num_terms, noise):
  """Mean and variance of one estimate, by the law of total variance.

  For a given N the estimate is `v' A v`. Its mean is `tr A`, its variance
  `2 |S|^2` with the symmetric part `S`; for Rademacher `v` without the diagonal.
  """
  survival = lengths.survival
  probability = survival - np.append(survival[1:], 0.0)
  a, power = np.zeros_like(jacobian), np.eye(len(jacobian))
  means, variances = [], []
  for k in range(1, num_terms + len(survival)):
    power = power @ jacobian
    weight = 1.0 / survival[max(k - num_terms, 0)]
    a = a + (-1) ** (k + 1) * weight / k * power
    if k >= num_terms:
      symmetric = (a + a.T) / 2
      if noise == 'rademacher':
        symmetric = symmetric - np.diag(np.diag(symmetric))
      means.append(np.trace(a))
      variances.append(2 * np.sum(symmetric**2))
  means, variances = np.array(means), np.array(variances)
  mean = probability @ means
  return mean, probability @ variances + probability @ (means - mean) ** 2


@pytest.mark.parametrize(
  ('eigenvalue', 'expected'),
  [(-0.5, 0.00107), (0.5, 0.00019), (-0.6, 0.00865), (0.6, 0.00093)],
)
def test_variance_of_one_dimension(eigenvalue, expected):
  jacobian = np.array([[eigenvalue]])
  mean, variance = exact_moments(jacobian, GEOMETRIC, 2, 'rademacher')
  np.testing.assert_allclose(mean, np.log1p(eigenvalue), rtol=1e-12)
  np.testing.assert_allclose(variance, expected, atol=5e-6)


@tf.function(jit_compile=True)
def roulette(matrix, seed, lengths=GEOMETRIC, num_terms=2, noise='rademacher'):
  x = tf.zeros(matrix.shape[:1], matrix.dtype)
  return tff.series_log_det(
    linear(matrix), x, 1, seed, num_terms, lengths, noise, DRAWS
  )


CASES = {
  'half': (np.eye(3) / 2, GEOMETRIC, 2, 'rademacher'),
  'half_normal': (np.eye(3) / 2, GEOMETRIC, 2, 'normal'),
  'contraction': (contraction(), GEOMETRIC, 2, 'rademacher'),
  'contraction_normal': (contraction(), GEOMETRIC, 2, 'normal'),
  'ten_terms': (-contraction(), GEOMETRIC, 10, 'rademacher'),
  'other_p': (contraction(3), tff.geometric(0.3), 1, 'rademacher'),
  'poisson': (contraction(3, 0.4), tff.poisson(2.0), 3, 'rademacher'),
}


@pytest.mark.parametrize('case', CASES)
def test_roulette_mean_and_variance(case):
  jacobian, lengths, num_terms, noise = CASES[case]
  estimate = roulette(tf.constant(jacobian), seed_of(1), lengths, num_terms, noise)
  mean, variance = exact_moments(jacobian, lengths, num_terms, noise)
  expected = log_det_of(jacobian)
  np.testing.assert_allclose(mean, expected, rtol=1e-9)
  error = float(estimate.standard_error)
  assert abs(estimate.log_det - expected) <= 3 * error
  np.testing.assert_allclose(error**2 * DRAWS, variance, rtol=0.1)


def test_half_of_the_identity():
  np.testing.assert_allclose(log_det_of(np.eye(3) / 2), 1.216395, atol=1e-6)
  exact = tff.exact_log_det(lambda x: x / 2, tf.zeros([3], tf.float64), 1)
  np.testing.assert_allclose(exact.log_det, 1.216395, atol=1e-6)


def test_each_example_has_its_own_noise_and_its_own_log_det():
  jacobians = np.stack([contraction(3, 0.5, seed=s) for s in range(4)])
  x = tf.zeros([4, 3], tf.float64)
  g = linear(tf.constant(jacobians))
  run = tf.function(tff.series_log_det, jit_compile=True)
  many = run(g, x, 1, seed_of(0), 2, GEOMETRIC, 'rademacher', DRAWS)
  deviation = np.abs(many.log_det - log_det_of(jacobians))
  assert np.all(deviation <= 4 * many.standard_error)
  same = tff.series_log_det(linear(jacobians[0]), x, 1, seed_of(0), 2, GEOMETRIC)
  assert len(set(same.log_det.numpy())) > 1


def test_no_term_but_the_random_ones():
  jacobian = tf.constant(contraction(3, 0.5))
  estimate = roulette(jacobian, seed_of(0), num_terms=0)
  deviation = abs(estimate.log_det - log_det_of(jacobian))
  assert deviation <= 4 * estimate.standard_error


# --- The gradient of the roulette.


@pytest.mark.parametrize('noise', ['rademacher', 'normal'])
@pytest.mark.parametrize('num_terms', [0, 2])
def test_gradient_with_respect_to_a_matrix(num_terms, noise):
  jacobian = contraction(4, 0.6)
  matrices = copies(jacobian)

  @tf.function(jit_compile=True)
  def gradient(matrices, seed):
    x = tf.zeros([4], matrices.dtype)
    with tf.GradientTape() as tape:
      tape.watch(matrices)
      g = linear(matrices)
      estimate = tff.series_log_det(g, x, 1, seed, num_terms, GEOMETRIC, noise, DRAWS)
    return DRAWS * tape.gradient(estimate.log_det, matrices)

  exact = np.linalg.inv(np.eye(4) + jacobian).T
  assert_mean(gradient(matrices, seed_of(2)), exact)


@pytest.mark.parametrize('num_terms', [0, 2])
def test_value_and_gradient_of_single_samples(num_terms):
  # In one dimension the noise is v^2 = 1, and all depends on N alone.
  jacobian = -0.5
  seeds = tf.stack([tf.range(3000), tf.ones(3000, tf.int32)], axis=1)

  def draw(seed):
    factor = tf.constant([[jacobian]], tf.float64)
    with tf.GradientTape() as tape:
      tape.watch(factor)
      value = tff.series_log_det(
        lambda x: x @ factor,
        tf.zeros([1, 1], tf.float64),
        1,
        seed,
        num_terms,
        GEOMETRIC,
      ).log_det
    return value[0], tape.gradient(value, factor)[0, 0]

  run = tf.function(
    lambda: tf.map_fn(draw, seeds, (tf.float64, tf.float64)), jit_compile=True
  )
  values, gradients = (t.numpy() for t in run())
  k = np.arange(1, num_terms + len(GEOMETRIC.survival))
  weights = 1.0 / GEOMETRIC.survival[np.maximum(k - num_terms, 0)]
  possible_values = np.cumsum(-weights / k * (-jacobian) ** k)
  possible_gradients = 1.0 + np.cumsum(weights * (-jacobian) ** k)
  last = np.argmin(np.abs(values[:, np.newaxis] - possible_values), axis=1)
  np.testing.assert_allclose(values, possible_values[last], rtol=1e-12)
  np.testing.assert_allclose(gradients, possible_gradients[last], rtol=1e-12)
  assert last.min() == num_terms
  assert last.max() > num_terms + 6
  assert_mean(values, np.log1p(jacobian))
  assert_mean(gradients, 1.0 / (1.0 + jacobian))


def tanh_weights(size=3, hidden=5, condition_size=2):
  rng = np.random.default_rng(3)
  shapes = [(hidden, size), (size, hidden), (hidden, condition_size)]
  first, second, third = (rng.standard_normal(s) for s in shapes)
  first *= 0.8 / np.linalg.norm(first, 2)
  second *= 0.75 / np.linalg.norm(second, 2)
  return [tf.constant(w) for w in (first, second, third)]


def conditional(weights, condition):
  first, second, third = weights

  def g(x):
    h = tf.linalg.matvec(first, x) + tf.linalg.matvec(third, condition)
    return tf.linalg.matvec(second, tf.tanh(h))

  return g


def test_gradient_with_respect_to_weights_x_and_condition():
  weights = tanh_weights()
  x, condition = test_util.normal([3]), test_util.normal([2], seed=1)

  with tf.GradientTape() as tape:
    tape.watch([x, condition, weights])
    exact = tff.exact_log_det(conditional(weights, condition), x, 1).log_det
  *expected, of_x = tape.gradient(exact, [*weights, condition, x])

  @tf.function(jit_compile=True)
  def gradients(captured, shift, x, seed):
    with tf.GradientTape() as tape:
      tape.watch([captured, shift, x])
      g = conditional(captured[:3], captured[3])
      estimate = tff.series_log_det(
        # What is added to x for each sample has the gradient of x for each sample.
        lambda s: g(s + shift),
        x,
        1,
        seed,
        2,
        GEOMETRIC,
        num_probes=DRAWS,
      )
    return tape.gradient(estimate.log_det, [captured, shift, x])

  captured = [copies(t) for t in (*weights, condition)]
  found, shift, found_x = gradients(captured, copies(0 * x), x, seed_of(4))
  for draws, reference in zip(found, expected):
    assert_mean(DRAWS * draws, reference)
  assert_mean(DRAWS * shift, of_x)
  np.testing.assert_allclose(tf.reduce_sum(shift, 0), found_x, rtol=1e-9)


def test_the_value_has_its_gradient_too():
  weights = tanh_weights()[:2]
  x = test_util.normal([4, 3])
  for num_probes in (1, 3):
    with tf.GradientTape(persistent=True) as tape:
      tape.watch([x, weights])
      expected = network(*weights)(x)
      g = network(*weights)
      found = tff.series_log_det(
        g, x, 1, seed_of(0), 2, GEOMETRIC, num_probes=num_probes
      ).value
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    for source in (x, *weights):
      reference = tape.gradient(expected, source)
      np.testing.assert_allclose(tape.gradient(found, source), reference, atol=1e-12)


# --- Weights of examples.


class Weighted:
  """Gradients of `sum_i w_i log det_i` over two examples."""

  x = test_util.normal([2, 3], seed=5)
  weights = tuple(tanh_weights()[:2])

  def exact(self, w):
    with tf.GradientTape() as tape:
      tape.watch([self.weights])
      value = tff.exact_log_det(network(*self.weights), self.x, 1).log_det
      loss = tf.reduce_sum(w * value)
    return tape.gradient(loss, self.weights)

  @tf.function(jit_compile=True)
  def draws(self, x, w):
    # [samples, 1, rows, columns]: one matrix for both examples of a sample.
    matrices = [copies(t)[:, tf.newaxis] for t in self.weights]
    with tf.GradientTape() as tape:
      tape.watch([matrices, x])
      value = tff.series_log_det(
        network(*matrices), x, 1, seed_of(6), 2, GEOMETRIC, num_probes=DRAWS
      ).log_det
      loss = tf.reduce_sum(w * value)
    of_weights, of_x = tape.gradient(loss, [matrices, x])
    return [DRAWS * t[:, 0] for t in of_weights], of_x


WEIGHTED = Weighted()


@pytest.mark.parametrize('w', [(0.0, 1.0), (1.0, 0.0), (0.3, 0.7), (-2.0, 1.0)])
def test_each_example_has_its_own_weight(w):
  draws, _ = WEIGHTED.draws(WEIGHTED.x, tf.constant(w, tf.float64))
  for found, expected in zip(draws, WEIGHTED.exact(w)):
    assert_mean(found, expected)


def test_an_example_of_weight_zero_contributes_nothing():
  x, (zero, one) = WEIGHTED.x, np.eye(2)[::-1]
  first, of_x = WEIGHTED.draws(x, one)
  moved = tf.concat([x[:1], x[1:] + 3.0], axis=0)
  second, _ = WEIGHTED.draws(moved, one)
  np.testing.assert_array_equal(of_x[1], np.zeros(3))
  assert np.abs(of_x[0]).min() > 1e-4
  other, _ = WEIGHTED.draws(x, zero)
  both, _ = WEIGHTED.draws(x, 0.3 * one + 0.7 * zero)
  for a, b, c, d in zip(first, second, other, both):
    np.testing.assert_array_equal(a, b)
    assert np.abs(np.mean(a, 0) - np.mean(c, 0)).max() > 1e-3
    np.testing.assert_allclose(d, 0.3 * a + 0.7 * c, rtol=1e-6, atol=1e-10)


# --- The truncated series.


def test_truncated_value_of_half_of_the_identity():
  # v' v = D for Rademacher noise: no variance.
  for num_terms in (1, 2, 5, 12):
    found = tff.series_log_det(
      lambda x: x / 2, tf.zeros([4, 3], tf.float64), 1, seed_of(0), num_terms
    )
    expected = partial_sum(np.eye(3) / 2, num_terms)
    np.testing.assert_allclose(found.log_det, np.full(4, expected), rtol=1e-12)


@pytest.mark.parametrize('num_terms', [1, 2, 5])
def test_truncated_value_and_gradient_are_those_of_the_partial_sum(num_terms):
  jacobian = contraction(4, 0.8)

  @tf.function(jit_compile=True)
  def run(matrices, seed):
    x = tf.zeros([4], tf.float64)
    with tf.GradientTape() as tape:
      tape.watch(matrices)
      estimate = tff.series_log_det(
        linear(matrices), x, 1, seed, num_terms, num_probes=DRAWS
      )
    return estimate, tape.gradient(estimate.log_det, matrices)

  estimate, gradient = run(copies(jacobian), seed_of(7))
  deviation = abs(estimate.log_det - partial_sum(jacobian, num_terms))
  assert deviation <= 4 * estimate.standard_error + 1e-12
  powers = [np.linalg.matrix_power(-jacobian, k) for k in range(num_terms)]
  if num_terms > 1:
    assert_mean(DRAWS * gradient, sum(powers).T)
  else:
    # E[v v'] = I, and the diagonal has no variance.
    deviation = np.mean(DRAWS * gradient, 0) - np.eye(4)
    assert np.abs(deviation).max() < 4 / DRAWS**0.5


def test_truncation_error_shrinks_and_is_bounded():
  rng = np.random.default_rng(0)
  lipschitz, size = 0.7, 6
  counts = [1, 2, 3, 5, 8, 12, 20]
  cases = [
    np.full(size, -lipschitz),
    np.full(size, lipschitz),
    *rng.uniform(-lipschitz, lipschitz, [5, size]),
  ]
  # The products with a diagonal Jacobian have no variance.
  x = tf.zeros([len(cases), size], tf.float64)
  found = [
    tff.series_log_det(lambda x: x * cases, x, 1, seed_of(0), n).log_det for n in counts
  ]
  errors = np.abs(found - np.log1p(cases).sum(-1))
  bounds = [tff.truncation_error_bound(lipschitz, n, size) for n in counts]
  # All eigenvalues -L are the worst case.
  np.testing.assert_allclose(errors[:, 0], bounds, rtol=1e-9)
  assert np.all(errors <= np.array(bounds)[:, np.newaxis] + 1e-12)
  assert np.all(np.diff(errors[:, :2], axis=0) < 0)
  ratios = errors[1:, 1] / errors[:-1, 1] * np.divide(bounds[:-1], bounds[1:])
  assert np.all((ratios > 0.5) & (ratios < 1.5))


def test_truncation_error_bound_at_its_ends():
  assert tff.truncation_error_bound(0.0, 3, 10) == 0.0
  one = tff.truncation_error_bound(0.5, 1, 1)
  np.testing.assert_allclose(one, np.log(2) - 0.5)
  for lipschitz in (1.0, -0.1):
    with pytest.raises(ValueError, match='0 <= lipschitz < 1; received'):
      tff.truncation_error_bound(lipschitz, 3, 10)


# --- Seeds, samples and compilers.


@pytest.mark.parametrize(
  ('lengths', 'num_probes', 'seed'),
  [(None, 3, [3, 2**31 - 1]), (GEOMETRIC, 1, [-5, 7])],
)
def test_eager_graph_and_xla_are_the_same(lengths, num_probes, seed):
  weights = tanh_weights()[:2]

  def run(x, seed):
    with tf.GradientTape() as tape:
      tape.watch([x, weights])
      estimate = tff.series_log_det(
        network(*weights), x, 1, seed, 2, lengths, 'normal', num_probes
      )
    return [*estimate, *tape.gradient(estimate.log_det, [x, *weights])]

  x = test_util.normal([4, 3])
  seed = tf.constant(seed)
  expected = run(x, seed)
  assert np.isnan(expected[2]).all() == (num_probes == 1)
  for jit_compile in (False, True):
    found = tf.function(run, jit_compile=jit_compile)(x, seed)
    for value, reference in zip(found, expected):
      np.testing.assert_allclose(value, reference, rtol=1e-10, atol=1e-13)


def test_unknown_batch_size():
  weights = tanh_weights()[:2]
  x = test_util.normal([4, 3])
  signature = [tf.TensorSpec([None, 3], tf.float64)]

  def run(x):
    g = network(*weights)
    one = tff.series_log_det(g, x, 1, seed_of(0), 2, GEOMETRIC)
    two = tff.series_log_det(g, x, 1, seed_of(0), 2, GEOMETRIC, num_probes=2)
    return one.log_det, two.log_det, tff.exact_log_det(g, x, 1).log_det

  found = tf.function(run, input_signature=signature)(x)
  np.testing.assert_allclose(found, run(x), rtol=1e-12)


def test_seeds():
  x = test_util.normal([4, 3], 'float32')
  g = linear(tf.constant(contraction(3), tf.float32))

  def run(seed):
    return tff.series_log_det(g, x, 1, seed_of(seed), 2, GEOMETRIC).log_det

  first = run(0)
  assert first.dtype == tf.float32
  np.testing.assert_array_equal(first, run(0))
  assert np.all(first.numpy() != run(1).numpy())


def test_standard_error_is_the_spread_over_seeds():
  matrix = tf.constant(contraction(4, 0.5))
  x = tf.zeros([4], tf.float64)
  seeds = tf.stack([tf.zeros(400, tf.int32), tf.range(400)], axis=1)
  spreads = []
  for num_probes in (16, 64):

    def draw(seed, num_probes=num_probes):
      return tff.series_log_det(
        linear(matrix), x, 1, seed, 2, GEOMETRIC, num_probes=num_probes
      )[1:]

    run = tf.function(
      lambda: tf.map_fn(draw, seeds, (tf.float64, tf.float64)), jit_compile=True
    )
    values, errors = run()
    spreads.append(np.std(values))
    reported = np.mean(errors**2) ** 0.5
    np.testing.assert_allclose(reported, spreads[-1], rtol=0.15)
  np.testing.assert_allclose(spreads[0] / spreads[1], 2.0, rtol=0.15)


def test_standard_error_of_one_sample_and_of_none():
  x = tf.zeros([4, 3], tf.float64)
  g = linear(contraction(3))
  one = tff.series_log_det(g, x, 1, seed_of(0), 2, GEOMETRIC)
  assert np.isnan(one.standard_error).all()
  assert one.standard_error.shape == (4,)
  exact = tff.exact_log_det(g, x, 1).standard_error
  np.testing.assert_array_equal(exact, np.zeros(4))


# --- The exact log-det.


def explicit(first, second, x):
  """`log|det(I + J)|` of `network`, with the Jacobian written out."""
  slope = 1.0 - tf.tanh(tf.linalg.matvec(first, x)) ** 2
  jacobian = second @ (slope[..., tf.newaxis] * first)
  return tf.linalg.slogdet(tf.eye(len(second), dtype=x.dtype) + jacobian)[1]


EVENTS = [(1,), (2,), (3,), (8,), (12,), (2, 2, 3)]


@pytest.mark.parametrize(
  ('event', 'batch'),
  [*((event, (4,)) for event in EVENTS), ((2,), ()), ((2,), (2, 3)), ((12,), ())]
  + [((12,), (2, 3)), ((2, 2, 3), ()), ((2, 2, 3), (2, 3))],
)
def test_exact_equals_slogdet(event, batch):
  size = int(np.prod(event))
  # Larger than a contraction: determinants of both signs.
  weights = [test_util.normal([size, size], seed=s) for s in (1, 2)]
  x = test_util.normal([*batch, *event], seed=3)
  flat = [*batch, size]

  def run(x, *weights):
    def g(x):
      return tf.reshape(network(*weights)(tf.reshape(x, flat)), x.shape)

    with tf.GradientTape() as tape:
      tape.watch([x, weights])
      estimate = tff.exact_log_det(g, x, len(event))
      loss = tf.reduce_sum(tf.sin(estimate.log_det))
    return estimate, tape.gradient(loss, [x, *weights])

  with tf.GradientTape() as tape:
    tape.watch([x, weights])
    expected = explicit(*weights, tf.reshape(x, flat))
    loss = tf.reduce_sum(tf.sin(expected))
  gradients = tape.gradient(loss, [x, *weights])

  compile_too = batch == (4,) and event in ((3,), (12,))
  for fn in [run, tf.function(run, jit_compile=True)][: 1 + compile_too]:
    estimate, found = fn(x, *weights)
    assert estimate.log_det.shape == batch
    assert estimate.value.shape == x.shape
    np.testing.assert_allclose(estimate.log_det, expected, atol=1e-10)
    for value, reference in zip(found, gradients):
      np.testing.assert_allclose(value, reference, rtol=1e-8, atol=1e-10)


def test_exact_of_a_constant():
  x = test_util.normal([2, 3])
  estimate = tff.exact_log_det(lambda x: tf.ones([2, 3], tf.float64), x, 1)
  np.testing.assert_array_equal(estimate.log_det, np.zeros(2))


# --- The number of terms.


def test_geometric_survival():
  for p in (0.1, 0.5, 0.9):
    lengths = tff.geometric(p)
    survival = lengths.survival
    k = np.arange(len(survival))
    expected = scipy.stats.geom(p).sf(k - 1)
    np.testing.assert_allclose(survival, expected, rtol=1e-9)
    assert survival[1] == 1.0
    np.testing.assert_allclose(survival[1:].sum(), 1 / p, rtol=1e-12)
    assert 2.0**-54 < survival[-1] <= 2.0**-52
    np.testing.assert_allclose(lengths.largest_lipschitz, (1 - p) ** 0.5)


def test_poisson_survival():
  for rate in (0.1, 2.0, 30.0):
    lengths = tff.poisson(rate)
    survival = lengths.survival
    k = np.arange(len(survival))
    expected = scipy.stats.poisson(rate).sf(k - 1)
    np.testing.assert_allclose(survival, expected, rtol=1e-9)
    assert survival[0] == 1.0
    np.testing.assert_allclose(survival[1:].sum(), rate, rtol=1e-12)
    assert survival[-1] > 2.0**-53
    assert lengths.largest_lipschitz == 0.0


def test_largest_lipschitz_is_where_the_variance_becomes_infinite():
  largest = GEOMETRIC.largest_lipschitz
  near, beyond = (np.array([[-largest * f]]) for f in (0.9, 1.1))

  def growth(jacobian):
    """Of the variance as the tail of the lengths is followed further."""
    short = log_det.Lengths('short', GEOMETRIC.survival[:27], largest)
    few, many = (
      exact_moments(jacobian, s, 2, 'rademacher')[1] for s in (short, GEOMETRIC)
    )
    return many / few

  assert growth(near) < 1.001 < 2.0 < growth(beyond)


@pytest.mark.parametrize('lengths', [GEOMETRIC, tff.geometric(0.2), tff.poisson(2.0)])
def test_drawn_lengths(lengths):
  # At J = -1 the gradient is the sum of the weights of all terms that were drawn.
  @tf.function(jit_compile=True)
  def weight_sums(seed):
    factors = -tf.ones([DRAWS, 1], tf.float64)
    with tf.GradientTape() as tape:
      tape.watch(factors)
      value = tff.series_log_det(
        lambda x: factors * x,
        tf.zeros([1], tf.float64),
        1,
        seed,
        0,
        lengths,
        num_probes=DRAWS,
      ).log_det
    return DRAWS * tape.gradient(value, factors)[:, 0]

  sums = np.cumsum(1.0 / lengths.survival)
  found = weight_sums(seed_of(8)).numpy()
  drawn = np.argmin(np.abs(found[:, np.newaxis] / sums - 1), axis=1)
  np.testing.assert_allclose(found, sums[drawn], rtol=1e-9)
  for k, expected in enumerate(lengths.survival[:12]):
    error = (expected * (1 - expected) / DRAWS) ** 0.5
    assert abs(np.mean(drawn >= k) - expected) <= 4 * error + 1e-12


def test_bad_parameters():
  for p in (0.0, 1.0, -0.1, np.nan):
    with pytest.raises(ValueError, match='0 < p < 1'):
      tff.geometric(p)
  for rate in (0.0, -1.0, np.nan):
    with pytest.raises(ValueError, match='a rate > 0'):
      tff.poisson(rate)
  x = tf.zeros([2, 3])
  for message, options in {
    'num_terms >= 1, or 0 with a roulette; received 0': dict(num_terms=0),
    'received -1': dict(num_terms=-1, lengths=GEOMETRIC),
    "'rademacher' or 'normal'; received 'uniform'": dict(num_terms=1, noise='uniform'),
    'num_probes >= 1; received 0': dict(num_terms=1, num_probes=0),
  }.items():
    with pytest.raises(ValueError, match=message):
      tff.series_log_det(lambda x: x / 2, x, 1, seed_of(0), **options)


def test_g_that_changes_shape_or_dtype():
  x = tf.zeros([2, 3])
  for g in (lambda x: x[:, :2], lambda x: tf.cast(x, tf.float64)):
    for run in (
      lambda g: tff.series_log_det(g, x, 1, seed_of(0), 2),
      lambda g: tff.exact_log_det(g, x, 1),
    ):
      with pytest.raises(ValueError, match='keeps shape and dtype'):
        run(g)


def test_lengths_compare_by_name():
  assert tff.geometric(0.5) == GEOMETRIC
  assert tff.geometric(0.4) != GEOMETRIC
  assert hash(tff.poisson(2.0)) == hash(tff.poisson(2.0))
  assert repr(GEOMETRIC).startswith("Lengths(name='geometric(0.5)'")


# --- Memory.


def all_ops(fn, *args):
  """The types of all ops of a traced function and of those that it calls."""
  graph = tf.function(fn).get_concrete_function(*args).graph
  definition = graph.as_graph_def()
  nodes = [*definition.node]
  for function in definition.library.function:
    nodes += function.node_def
  return [node.op for node in nodes]


@pytest.mark.parametrize('lengths', [None, GEOMETRIC])
def test_the_loop_is_not_differentiated(lengths):
  x, weights = test_util.normal([4, 3]), tanh_weights()[:2]

  def value(x):
    g = network(*weights)
    return tff.series_log_det(g, x, 1, seed_of(0), 20, lengths, num_probes=2).log_det

  def gradient(x):
    with tf.GradientTape() as tape:
      tape.watch([x, weights])
      result = value(x)
    return result, tape.gradient(result, [x, *weights])

  def num_loops(ops):
    return sum(op in ('While', 'StatelessWhile') for op in ops)

  plain, differentiated = all_ops(value, x), all_ops(gradient, x)
  assert num_loops(plain) == num_loops(differentiated) == 1
  assert not [op for op in differentiated if op.startswith('TensorList')]


def test_g_is_evaluated_once():
  calls = []

  def g(x):
    calls.append(x.shape)
    return x / 2

  x = tf.zeros([4, 3], tf.float64)
  tff.series_log_det(g, x, 1, seed_of(0), 9, GEOMETRIC)
  tff.series_log_det(g, x, 1, seed_of(0), 9, GEOMETRIC, num_probes=2)
  tff.exact_log_det(g, x, 1)
  assert calls == [(4, 3), (2, 4, 3), (4, 3)]
