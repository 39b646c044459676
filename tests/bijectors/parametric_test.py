"""Planar, radial and Sylvester layers: what is their own."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tests import test_util

ONE = np.log(np.e - 1.0)  # Of softplus 1.
LAYERS = {
  'planar': lambda n, **o: tff.Planar([n], seed=2, **o),
  'leaky': lambda n, **o: tff.Planar([n], 'leaky_relu', 0.3, seed=2, **o),
  'radial': lambda n, **o: tff.Radial([n], seed=2, **o),
  'orthogonal': lambda n, **o: tff.Sylvester([n], min(n, 4), seed=2, **o),
  'householder': lambda n, **o: tff.Sylvester(
    [n], min(n, 4), 'householder', 3, seed=2, **o
  ),
  'triangular': lambda n, **o: tff.Sylvester([n], n, 'triangular', seed=2, **o),
}
EACH = pytest.mark.parametrize('name', LAYERS)


def moved(name, size=6, scale=1.0, seed=0, dtype='float64', **options):
  layer = LAYERS[name](size, dtype=dtype, **options)
  test_util.perturb(layer, scale, seed)
  return layer


@EACH
def test_starts_near_the_identity_with_gradients(name):
  layer = LAYERS[name](6, dtype='float64')
  x = test_util.normal([20, 6])
  with tf.GradientTape() as tape:
    y, log_det = layer.forward_and_log_det(x)
    loss = tf.reduce_sum(y**2) - tf.reduce_sum(log_det)
  assert 1e-5 < np.abs(y - x).max() < 0.1
  assert np.abs(log_det).max() < 0.1
  for variable, gradient in zip(
    layer.trainable_variables, tape.gradient(loss, layer.trainable_variables)
  ):
    assert np.abs(gradient).max() > 1e-4, variable.name


@EACH
def test_log_det_and_round_trip_far_from_the_start(name):
  layer = moved(name)
  direction = test_util.normal([64, 6])
  x = tf.concat([direction, 8.0 * direction, -8.0 * direction], axis=0)
  y, log_det = layer.forward_and_log_det(x)
  expected = test_util.autodiff_log_det(layer.forward, tf.identity(x))
  np.testing.assert_allclose(log_det, expected, rtol=0, atol=1e-12)
  assert np.abs(log_det).max() > 0.1
  back, of_inverse = layer.inverse_and_log_det(tf.identity(y))
  np.testing.assert_allclose(back, x, rtol=0, atol=1e-10)
  np.testing.assert_allclose(of_inverse, -log_det, rtol=0, atol=1e-10)
  # What has no inverse image known.
  forth = layer.forward(layer.inverse(tf.identity(x)) + 0.0)
  np.testing.assert_allclose(forth, x, rtol=0, atol=1e-10)


@EACH
def test_density_integrates_to_one(name):
  layer = moved(name, 2)
  axis = np.linspace(-24, 24, 401)
  z = tf.constant(np.stack(np.meshgrid(axis, axis), axis=-1))
  for run in (layer.forward_and_log_det, layer.inverse_and_log_det):
    y, log_det = run(z)
    density = tf.exp(-0.5 * tf.reduce_sum(y**2, -1) + log_det) / (2 * np.pi)
    total = np.sum(density) * (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(total, 1, atol=1e-4)


@EACH
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_extreme_weights_stay_finite(name, dtype):
  x = test_util.normal([16, 6], dtype)
  for seed in range(4):
    layer = moved(name, 6, 1.0, seed, dtype)
    for v in layer.trainable_variables:
      v.assign(50.0 * v)
    for run in (layer.forward_and_log_det, layer.inverse_and_log_det):
      at = tf.identity(x)
      with tf.GradientTape() as tape:
        tape.watch(at)
        y, log_det = run(at)
        loss = tf.reduce_sum(y) + tf.reduce_sum(log_det)
      gradients = tape.gradient(loss, [at, *layer.trainable_variables])
      for value in (y, log_det, *gradients):
        assert np.isfinite(value).all()


def by_dense_solve(layer, y):
  """The inverse, whose derivatives are those of a step with the whole Jacobian."""
  x = tf.stop_gradient(layer.inverse(tf.identity(y)))
  with tf.GradientTape() as tape:
    tape.watch(x)
    value = layer.forward(x)
  jacobian = tf.stop_gradient(tape.batch_jacobian(value, x))
  error = layer.forward(tf.identity(x)) - y
  return x - tf.linalg.solve(jacobian, error[..., tf.newaxis])[..., 0]


@EACH
def test_gradients_of_the_inverse_are_those_of_a_dense_solve(name):
  layer = moved(name, 6, 0.5)
  y = 2.0 * test_util.normal([8, 6], seed=3)
  found = []
  for fn in (layer.inverse, lambda y: by_dense_solve(layer, y)):
    at = tf.identity(y)
    with tf.GradientTape() as tape:
      tape.watch(at)
      loss = tf.reduce_sum(tf.sin(fn(at)))
    found.append(tape.gradient(loss, [at, *layer.trainable_variables]))
  for a, b in zip(*found, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    assert np.abs(b).max() > 1e-3


@EACH
def test_amortized_layer_is_one_for_each_condition(name):
  layer = moved(name)
  # In the order of the constructor.
  weights = [getattr(layer, n) for n in layer._names]
  size = sum(int(np.prod(v.shape)) for v in weights)
  network = tff.MLP(2, size, hidden=(), seed=0, dtype='float64')
  test_util.perturb(network, 0.3)
  amortized = moved(name, conditioner=network)
  for n, w in zip(layer._names, weights):
    getattr(amortized, n).assign(w)
  x, condition = test_util.normal([4, 3, 6]), test_util.normal([3, 2], seed=1)
  y, log_det = amortized.forward_and_log_det(x, condition)
  back = amortized.inverse(tf.identity(y), condition=condition)
  np.testing.assert_allclose(back, x, rtol=0, atol=1e-10)
  offsets = network(condition)
  start = [v.numpy() for v in weights]
  for i in range(3):
    parts = np.split(offsets[i], np.cumsum([v.size for v in start])[:-1])
    for v, w, part in zip(weights, start, parts):
      v.assign(w + part.reshape(w.shape))
    expected = layer.forward_and_log_det(tf.identity(x[:, i]))
    np.testing.assert_allclose(y[:, i], expected[0], atol=1e-12)
    np.testing.assert_allclose(log_det[:, i], expected[1], atol=1e-12)


def planar(w, u, b, *options):
  layer = tff.Planar([len(w)], *options, dtype='float64')
  for v, value in zip((layer.w, layer.u, layer.b), (w, u, b)):
    v.assign(value)
  return layer


def test_the_identity_is_not_u_of_zero():
  x, w = test_util.normal([9, 4]), np.array([0.3, -2.0, 0.0, 1.0])
  y, log_det = planar(w, ONE * w / (w @ w), 0.7).forward_and_log_det(x)
  np.testing.assert_allclose(y, x, atol=1e-12)
  np.testing.assert_allclose(log_det, 0, atol=1e-12)
  # With u = 0 the layer contracts along w, by c = log(2) - 1 at the plane.
  y, log_det = planar(w, 0 * w, 0.0).forward_and_log_det(tf.zeros([1, 4], tf.float64))
  np.testing.assert_allclose(log_det, np.log(np.log(2)))


def test_planar_is_that_of_the_paper():
  w, u, b = np.array([1.0, -0.5]), np.array([-3.0, 0.2]), 0.3
  x = test_util.normal([50, 2]).numpy()
  y, log_det = planar(w, u, b).forward_and_log_det(tf.constant(x))
  c = np.log1p(np.exp(w @ u)) - 1
  v = u + (c - w @ u) * w / (w @ w)
  a = x @ w + b
  np.testing.assert_allclose(y, x + v * np.tanh(a)[:, None], atol=1e-14)
  np.testing.assert_allclose(log_det, np.log(1 + c / np.cosh(a) ** 2), atol=1e-13)


@pytest.mark.parametrize('sign', [-1.0, 1.0])
def test_leaky_relu_has_two_slopes(sign):
  w, u, slope = np.array([1.0, 2.0, -1.0]), np.array([0.5, 1.0, 0.3]), 0.2
  layer = planar(w, u, 0.1, 'leaky_relu', slope)
  x = test_util.normal([40, 3])
  x *= sign * tf.sign(tf.linalg.matvec(x, w) + 0.1)[:, tf.newaxis]
  x = tf.boolean_mask(x, sign * (tf.linalg.matvec(x, w) + 0.1) > 0)
  assert len(x) > 20
  c = np.log1p(np.exp(w @ u)) - 1
  expected = np.log(1 + c * (slope if sign < 0 else 1.0))
  y, log_det = layer.forward_and_log_det(x)
  np.testing.assert_allclose(log_det, np.full(len(x), expected), rtol=1e-14)
  np.testing.assert_allclose(layer.inverse(tf.identity(y)), x, atol=1e-14)


def test_without_a_direction_planar_shifts():
  layer = planar(np.zeros(3), np.array([1.0, 2.0, 3.0]), 0.5)
  x = test_util.normal([5, 3])
  y, log_det = layer.forward_and_log_det(x)
  shift = np.tanh(0.5) * np.array([1.0, 2.0, 3.0])
  np.testing.assert_allclose(y - x, np.tile(shift, [5, 1]))
  np.testing.assert_allclose(log_det, 0, atol=1e-15)
  np.testing.assert_allclose(layer.inverse(tf.identity(y)), x, atol=1e-15)


def test_radial_at_its_bounds_and_its_centre():
  layer = tff.Radial([3], seed=0, dtype='float64')
  x0 = layer.x0.numpy()
  x = np.concatenate([[x0], x0 + test_util.normal([20, 3], seed=1)])
  r = np.linalg.norm(x - x0, axis=-1)

  @tf.function(jit_compile=True)
  def inverse(y):
    with tf.GradientTape() as tape:
      tape.watch(y)
      back, log_det = layer.inverse_and_log_det(y)
      loss = tf.reduce_sum(back) + tf.reduce_sum(log_det)
    return back, log_det, tape.gradient(loss, [y, *layer.trainable_variables])

  for raw_beta in (-60.0, -20.0, ONE, 30.0):
    layer.raw_beta.assign(raw_beta)
    y, log_det = layer.forward_and_log_det(tf.constant(x))
    np.testing.assert_array_equal(y[0], x0)
    beta = np.log1p(np.exp(raw_beta)) - 1
    np.testing.assert_allclose(y, x + (beta / (1 + r))[:, None] * (x - x0), atol=1e-13)
    back, of_inverse, gradients = inverse(tf.identity(y))
    np.testing.assert_allclose(back, x, atol=1e-9)
    np.testing.assert_allclose(of_inverse, -log_det, rtol=1e-9, atol=1e-14)
    assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize('name', ['orthogonal', 'householder', 'triangular'])
def test_sylvester_is_that_of_the_paper(name):
  layer = moved(name)
  rank = layer.b.shape[0]
  matrix, diagonal, b = layer.matrix.numpy(), layer.diagonal.numpy(), layer.b.numpy()
  r1 = np.triu(matrix, 1) + np.diag(np.tanh(np.diag(matrix)))
  r2 = np.triu(matrix.T, 1) + np.diag(np.tanh(diagonal))
  if name == 'orthogonal':
    q, r = np.linalg.qr(layer.basis.numpy())
    q *= np.sign(np.diag(r))
  elif name == 'householder':
    q = np.eye(6)
    for v in layer.basis.numpy():
      q = q @ (np.eye(6) - 2 * np.outer(v, v) / (v @ v))
    q = q[:, :rank]
  else:
    q = np.eye(6)
  np.testing.assert_allclose(q.T @ q, np.eye(rank), atol=1e-14)
  x = test_util.normal([7, 6]).numpy()
  expected = x + np.tanh(x @ q @ r2.T + b) @ r1.T @ q.T
  y = layer.forward(tf.constant(x))
  np.testing.assert_allclose(y, expected, atol=1e-13)
  # Another inverse: the Jacobian of the iteration is triangular, of small diagonal.
  z, target = np.zeros([7, rank]), y.numpy() @ q
  for _ in range(300):
    z = target - np.tanh(z @ r2.T + b) @ r1.T
  np.testing.assert_allclose(layer.inverse(tf.identity(y)), x, atol=1e-10)
  np.testing.assert_allclose(z, x @ q, atol=1e-10)


def test_opposite_saturated_diagonals_have_a_log_det():
  layer = tff.Sylvester([2], basis='triangular', seed=0, dtype='float64')
  layer.matrix.assign(tf.linalg.diag(tf.constant([30.0, -25.0], tf.float64)))
  layer.diagonal.assign([-28.0, 30.0])
  layer.b.assign([0.0, 0.0])
  _, log_det = layer.forward_and_log_det(tf.zeros([2], tf.float64))
  # 1 + tanh(k) tanh(l) is 2 exp(-2 k) + 2 exp(2 l), less than the rounding of 1.
  np.testing.assert_allclose(
    log_det,
    np.log(2 * np.exp(-60) + 2 * np.exp(-56))
    + np.log(2 * np.exp(-50) + 2 * np.exp(-60)),
    rtol=1e-14,
  )


def test_a_reversed_order():
  plain, flipped = (
    tff.Sylvester([5], 3, 'triangular', flip=f, seed=0, dtype='float64')
    for f in (False, True)
  )
  x = test_util.normal([4, 5])
  expected = tf.reverse(plain.forward(tf.reverse(x, [-1])), [-1])
  np.testing.assert_array_equal(flipped.forward(x), expected)
  assert np.abs(flipped.forward(x) - plain.forward(x)).max() > 1e-3
  np.testing.assert_array_equal(plain.forward(x)[:, 3:], x[:, 3:])


def test_a_reflection_of_nothing_is_the_identity():
  layer = tff.Sylvester([3], 3, 'householder', 2, seed=0, dtype='float64')
  layer.basis.assign(tf.zeros_like(layer.basis))
  plain = tff.Sylvester([3], 3, 'triangular', seed=0, dtype='float64')
  x = test_util.normal([4, 3])
  np.testing.assert_array_equal(layer.forward(x), plain.forward(x))


@pytest.mark.parametrize(
  ('build', 'message'),
  [
    (lambda: tff.Planar([4, 4, 1]), r'\[D\]; received \[4, 4, 1\]. Flatten'),
    (lambda: tff.Planar([3], 'relu'), "'leaky_relu'.*received 'relu'"),
    (lambda: tff.Planar([3], negative_slope=0.0), r'\(0, 1\], .*received 0.0'),
    (lambda: tff.Planar([3], negative_slope=2.0), 'invertible; received 2.0'),
    (lambda: tff.Radial([2, 2]), r'\[D\] or \[H, W, C\]'),
    (lambda: tff.Sylvester([3], 4), 'rank >= 1 and <= 3; received 4'),
    (lambda: tff.Sylvester([3], basis='qr'), "received 'qr'"),
    (lambda: tff.Sylvester([3], num_reflections=0), 'num_reflections >= 1'),
    (
      lambda: tff.Planar([3], conditioner=tff.MLP(2, 6)).forward(
        tf.zeros([1, 3]), condition=tf.zeros([1, 2])
      ),
      r'return \[..., 7\], the offsets of w \[3\], u \[3\], b \[\]; received \(1, 6\)',
    ),
  ],
)
def test_bad_options(build, message):
  with pytest.raises(ValueError, match=message):
    build()
