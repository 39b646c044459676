import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import test_util
from tfp_flows.math import operator_norms
from tfp_flows.networks import LipschitzConv2D
from tfp_flows.networks import LipschitzConvNet
from tfp_flows.networks import LipschitzDense
from tfp_flows.networks import LipschitzMLP
from tfp_flows.networks import lipschitz_activation
from tfp_flows.networks import lipschitz_layers

ACTIVATIONS = ['lip_swish', 'clip_swish', 'elu', 'softplus', 'tanh', 'relu']
SPACE = (5, 6)
LAYERS = {
  'dense': (lambda **o: LipschitzDense(5, 4, **o), (4,)),
  'conv': (lambda **o: LipschitzConv2D(3, 3, (*SPACE, 2), **o), (*SPACE, 2)),
  'oblong': (lambda **o: LipschitzConv2D(3, (1, 4), (*SPACE, 2), **o), (*SPACE, 2)),
  'conv1x1': (lambda **o: LipschitzConv2D(3, 1, (*SPACE, 2), **o), (*SPACE, 2)),
}
NETWORKS = {
  'mlp': (lambda **o: LipschitzMLP([3], hidden=(8, 8), **o), (3,)),
  'linear': (lambda **o: LipschitzMLP(3, hidden=(), **o), (3,)),
  'conv': (lambda **o: LipschitzConvNet([*SPACE, 2], width=4, **o), (*SPACE, 2)),
}
MIXED = [(1.5, 3.0), (3.0, 1.5), (1.0, 2.0), (2.0, math.inf)]
EXACT = {'tolerance': 1e-7, 'max_iterations': 1000}


def as_matrix(layer, event, kernel):
  """The layer's linear map as a matrix `[inputs, outputs]`."""
  size = math.prod(event)
  units = tf.reshape(tf.eye(size, dtype=kernel.dtype), [size, *event])
  return np.reshape(layer._linear(units, kernel), (size, -1))


def perturb(network, scale=1.0, seed=0):
  rng = np.random.default_rng(seed)
  for v in network.trainable_variables:
    v.assign_add(scale * rng.standard_normal(v.shape))


def flat_weights(layer):
  return np.concatenate([np.ravel(w) for w in layer.get_weights()])


# --- Activations.


@pytest.mark.parametrize('name', ACTIVATIONS)
@pytest.mark.parametrize('b', [-3.0, 0.5, 4.0])
def test_slopes_are_at_most_one(name, b):
  activation = lipschitz_activation(name, dtype='float64')
  for v in activation.trainable_variables:
    v.assign(b)
  # The steepest point of swish is at 2.4 / beta.
  x = tf.constant(np.linspace(-60.0, 60.0, 240_001)[:, np.newaxis])
  with tf.GradientTape(persistent=True) as tape:
    tape.watch(x)
    parts = tf.split(activation(x), activation.width_factor, axis=-1)
  slopes = np.concatenate([tape.gradient(part, x) for part in parts], -1)
  steepest = np.linalg.norm(slopes, axis=-1).max()
  assert 0.999 < steepest <= 1.0 + 1e-12


@pytest.mark.parametrize('order', [1.0, 1.5, 2.0, 4.0, math.inf])
def test_clip_swish_does_not_stretch_in_its_own_norm(order):
  activation = lipschitz_activation('clip_swish', order, dtype='float64')
  x = tf.constant(np.linspace(-9.0, 9.0, 90_001)[:, np.newaxis])
  with tf.GradientTape(persistent=True) as tape:
    tape.watch(x)
    parts = tf.split(activation(x), 2, axis=-1)
  slopes = np.concatenate([tape.gradient(part, x) for part in parts], -1)
  steepest = np.linalg.norm(slopes, order, axis=-1).max()
  assert 0.9999 < steepest <= 1.0


def test_lip_swish_is_its_formula():
  activation = lipschitz_activation('lip_swish', dtype='float64')
  x = np.linspace(-3, 3, 7)
  beta = np.log1p(np.exp(0.5))
  np.testing.assert_allclose(activation(x), x / (1 + np.exp(-beta * x)) / 1.1)
  clip = lipschitz_activation('clip_swish', dtype='float64')
  np.testing.assert_allclose(clip(x)[:7], activation(x) / 1.00399, rtol=1e-4)
  np.testing.assert_array_equal(clip(x)[7:], clip(-x)[:7])


@pytest.mark.parametrize('name', ACTIVATIONS)
def test_activations_have_second_derivatives(name):
  activation = lipschitz_activation(name, dtype='float64')
  x = tf.constant([[-1.5, -0.5, 0.0, 0.5, 2.5]], 'float64')
  with tf.GradientTape() as outer:
    outer.watch(x)
    with tf.GradientTape() as inner:
      inner.watch(x)
      y = activation(x)
    slope = inner.gradient(y, x)
  curvature = outer.gradient(slope, x)
  if name == 'relu':
    assert curvature is None or not np.any(curvature)
  else:
    assert np.isfinite(curvature).all() and np.any(curvature)


def test_unknown_activation():
  with pytest.raises(ValueError, match="'lip_swish', 'clip_swish', 'elu'.*'swish'"):
    lipschitz_activation('swish')


# --- Layers.


@pytest.mark.parametrize('name', LAYERS)
def test_norm_is_that_of_the_operator(name):
  build, event = LAYERS[name]
  layer = build(seed=0, dtype='float64')
  rough = 1e-9 if name in ('dense', 'conv1x1') else 0.05
  expected = np.linalg.norm(as_matrix(layer, event, layer.kernel.value), 2)
  np.testing.assert_allclose(layer.norm(), expected, rtol=rough)
  layer.kernel.assign_add(test_util.normal(layer.kernel.shape))
  layer.update_norm(**EXACT)
  expected = np.linalg.norm(as_matrix(layer, event, layer.kernel.value), 2)
  np.testing.assert_allclose(layer.norm(), expected, rtol=1e-8)
  np.testing.assert_allclose(np.linalg.norm(layer.v), 1.0)


def test_conv_norm_is_not_that_of_the_reshaped_kernel():
  layer = LipschitzConv2D(3, 3, (*SPACE, 2), seed=0)
  reshaped = np.linalg.norm(np.reshape(layer.kernel, (18, 3)), 2)
  assert abs(layer.norm() - reshaped) > 0.1 * reshaped


@pytest.mark.parametrize('name', LAYERS)
@pytest.mark.parametrize(
  'orders', [(1.5, 3.0), (3.0, 1.5), (1.0, 2.0), (2.0, math.inf)]
)
def test_mixed_norms(name, orders):
  build, event = LAYERS[name]
  layer = build(seed=0, dtype='float64', domain=orders[0], codomain=orders[1])
  layer.update_norm(**EXACT)
  matrix = as_matrix(layer, event, layer.kernel.value)
  if operator_norms.has_closed_form(*orders):
    expected = operator_norms.kernel_norm(tf.constant(matrix), *orders)
    np.testing.assert_allclose(layer.norm(), expected)
    return
  starts = [test_util.normal(matrix.shape[:1], seed=seed) for seed in range(8)]
  # A 1x1 convolution stretches most one pixel, or the same at all pixels.
  starts.append(tf.reshape(tf.broadcast_to(layer.v.value, (1, *event)), [-1]))
  expected = max(local_maximum(matrix, orders, start) for start in starts)
  # The layer's may be a lower maximum, but not a much lower one.
  exact = name in ('dense', 'conv1x1')
  np.testing.assert_allclose(layer.norm(), expected, rtol=1e-7 if exact else 0.1)


def local_maximum(matrix, orders, v):
  """The induced norm, as far as 500 steps of NumPy lead from `v`."""
  p, q = orders
  matrix, v = np.asarray(matrix), np.asarray(v)
  for _ in range(500):
    image = v @ matrix
    dual = matrix @ (np.sign(image) * np.abs(image / np.abs(image).max()) ** (q - 1))
    v = np.sign(dual) * np.abs(dual / np.abs(dual).max()) ** (1 / (p - 1))
  return np.linalg.norm(v @ matrix, q) / np.linalg.norm(v, p)


@pytest.mark.parametrize('name', LAYERS)
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_effective_kernel_is_bounded_and_the_kernel_stays(name, dtype):
  build, event = LAYERS[name]
  layer = build(seed=0, dtype=dtype, lipschitz=0.9)
  layer.kernel.assign(10.0 * layer.kernel)
  layer.update_norm(tolerance=1e-6, max_iterations=1000)
  kernel = layer.kernel.numpy()
  effective = layer.effective_kernel()
  assert effective.dtype == dtype
  norm = np.linalg.norm(as_matrix(layer, event, effective), 2)
  rounding = 1e-5 if dtype == 'float32' else 1e-9
  np.testing.assert_allclose(norm, 0.9, rtol=rounding)
  np.testing.assert_allclose(layer.lipschitz_bound(), 0.9, rtol=1e-6)
  x = test_util.normal((3, *event), dtype)
  np.testing.assert_allclose(layer(x), layer._linear(x, effective), atol=1e-6)
  np.testing.assert_array_equal(layer(x), layer(x, effective))
  np.testing.assert_array_equal(layer.kernel, kernel)


@pytest.mark.parametrize('name', LAYERS)
def test_small_kernels_are_left_as_they_are(name):
  layer = LAYERS[name][0](seed=0)
  layer.kernel.assign(0.01 * layer.kernel)
  np.testing.assert_array_equal(layer.effective_kernel(), layer.kernel)
  assert 0.0 < layer.norm() < 0.1
  np.testing.assert_array_equal(layer.lipschitz_bound(), layer.norm())


@pytest.mark.parametrize('name', LAYERS)
def test_conv_is_that_of_keras(name):
  build, event = LAYERS[name]
  layer = build(seed=0, lipschitz=100.0)
  layer.bias.assign(np.arange(layer.bias.shape[0]))
  if name == 'dense':
    reference = keras.layers.Dense(5)
  else:
    filters, size = layer.kernel.shape[-1], layer.kernel.shape[:2]
    reference = keras.layers.Conv2D(filters, size, padding='same')
  reference.build((None, *event))
  reference.set_weights(layer.get_weights()[:2])
  x = test_util.normal((3, *event), 'float32')
  np.testing.assert_allclose(layer(x), reference(x), atol=1e-5)


@pytest.mark.parametrize('name', LAYERS)
@pytest.mark.parametrize('orders', [(2.0, 2.0), (2.5, 1.5)])
def test_gradient_goes_through_the_norm(name, orders):
  build, event = LAYERS[name]
  layer = build(seed=0, dtype='float64', domain=orders[0], codomain=orders[1])
  layer.kernel.assign(tf.abs(5.0 * layer.kernel))
  x, start = test_util.normal((3, *event)), layer.kernel.numpy()
  layer.update_norm(**EXACT)
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(tf.sin(layer(x)))
  gradient = tape.gradient(loss, layer.kernel.value)
  direction = test_util.normal(start.shape, seed=1)

  def moved(step):
    layer.kernel.assign(start + step * direction)
    layer.update_norm(**EXACT)
    return tf.reduce_sum(tf.sin(layer(x)))

  difference = (moved(1e-5) - moved(-1e-5)) / 2e-5
  np.testing.assert_allclose(tf.reduce_sum(gradient * direction), difference, rtol=1e-5)


@pytest.mark.parametrize('name', LAYERS)
def test_a_zero_kernel_trains(name):
  build, event = LAYERS[name]
  layer = build(kernel_initializer='zeros', seed=0)
  np.testing.assert_allclose(np.linalg.norm(layer.v), 1.0, rtol=1e-5)
  assert layer.norm() == 0.0 and layer.lipschitz_bound() == 0.0
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(layer(test_util.normal((3, *event), 'float32')))
  gradient = tape.gradient(loss, layer.kernel.value)
  assert np.isfinite(gradient).all() and np.any(gradient)


@pytest.mark.parametrize('name', ['dense', 'conv', 'conv1x1'])
def test_update_in_a_compiled_step(name):
  build, event = LAYERS[name]
  layer, twin = build(seed=0), build(seed=0)
  x = test_util.normal((3, *event), 'float32')

  def step(layer):
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(layer(x) ** 2) - tf.reduce_sum(layer.kernel.value)
    gradient = tape.gradient(loss, layer.kernel.value)
    layer.kernel.assign_sub(0.3 * gradient)
    layer.update_norm()

  compiled = tf.function(step, jit_compile=True)
  for _ in range(2):
    step(layer)
    compiled(twin)
  assert np.abs(layer.v - build(seed=0).v).max() > 1e-3
  np.testing.assert_allclose(twin.v, layer.v, atol=1e-5)
  np.testing.assert_allclose(twin.kernel, layer.kernel, atol=1e-5)


def test_layer_errors():
  with pytest.raises(ValueError, match='float64.*mixed_bfloat16'):
    LipschitzDense(2, 3, dtype='mixed_bfloat16')
  with pytest.raises(ValueError, match='lipschitz > 0'):
    LipschitzDense(2, 3, lipschitz=0.0)
  with pytest.raises(ValueError, match='Choose orders in'):
    LipschitzConv2D(2, 3, (4, 4, 1), domain=math.inf, codomain=2.0)


# --- Networks.

ORDERS = {
  '2': 2.0,
  '3': 3.0,
  '1': 1.0,
  'inf': math.inf,
  'chain': (1.5, 3.0, 2.0, 1.5),
  'learned': 'learned',
}


def jacobian(network, x):
  """Matrix `[inputs, outputs]` of the derivatives at one example."""
  size = math.prod(x.shape)
  repeated = tf.stack([x] * size)
  with tf.GradientTape() as tape:
    tape.watch(repeated)
    y = network(repeated)
  each_output = tf.reshape(tf.eye(size, dtype=x.dtype), repeated.shape)
  return tf.transpose(tf.reshape(tape.gradient(y, repeated, each_output), [size, size]))


def norm_of_matrix(matrix, order):
  if operator_norms.has_closed_form(order, order):
    return operator_norms.kernel_norm(matrix, order, order)
  if order == 2.0:
    return np.linalg.norm(matrix, 2)
  return local_maximum(matrix, (order, order), test_util.normal(matrix.shape[:1]))


@pytest.mark.parametrize(
  'name, orders, activation',
  [
    *((name, orders, 'lip_swish') for name in ('mlp', 'conv') for orders in ORDERS),
    *(('mlp', orders, 'clip_swish') for orders in ORDERS),
    ('conv', '2', 'clip_swish'),
    ('mlp', '2', 'elu'),
  ],
)
def test_lipschitz_constant_is_below_the_bound(name, orders, activation):
  build, event = NETWORKS[name]
  network = build(norms=ORDERS[orders], activation=activation, seed=0, dtype='float64')
  perturb(network, scale=2.0)
  network.update_norms(max_iterations=1000)
  bound = network.lipschitz_bound()
  np.testing.assert_allclose(bound, np.prod(network.norm_bounds()))
  assert 0.5 < bound <= 0.97**3 * (1 + 1e-12)
  order = float(lipschitz_layers.order_value(network._linears[0]._domain))
  ends = [3.0 * test_util.normal((300, *event), seed=seed) for seed in (1, 2)]
  ends[1] = tf.concat([ends[1][:150], ends[0][150:] + 0.01 * ends[1][150:]], 0)
  images = [np.reshape(network(x), (300, -1)) for x in ends]
  points = [np.reshape(x, (300, -1)) for x in ends]
  rise = np.linalg.norm(images[0] - images[1], order, -1)
  run = np.linalg.norm(points[0] - points[1], order, -1)
  assert 0.0 < np.max(rise / run) <= bound
  for x in ends[0][:4]:
    assert norm_of_matrix(jacobian(network, 2.0 * x), order) <= bound


def test_the_bound_is_close_where_nothing_bends():
  network = LipschitzMLP(3, hidden=(), activation='elu', seed=0)
  network._linears[0].kernel.assign(5.0 * np.eye(3))
  network.update_norms()
  matrix = jacobian(network, tf.ones([3]))
  np.testing.assert_allclose(np.linalg.norm(matrix, 2), 0.97, rtol=1e-6)


@pytest.mark.parametrize('name', NETWORKS)
@pytest.mark.parametrize('activation', ['lip_swish', 'clip_swish'])
def test_starts_at_zero_and_takes_any_batch_shape(name, activation):
  build, event = NETWORKS[name]
  network = build(seed=0, condition_size=3, activation=activation)
  x = test_util.normal((2, 3, *event), 'float32')
  condition = test_util.normal((3, 3), 'float32')
  y = network(x, condition)
  assert y.shape == x.shape
  np.testing.assert_array_equal(y, np.zeros_like(y))
  perturb(network)
  network.update_norms()
  y = network(x, condition)
  assert np.abs(y).max() > 1e-3
  np.testing.assert_allclose(network(x[1, 2], condition[2]), y[1, 2], atol=1e-5)
  assert np.abs(network(x, condition + 1) - y).max() > 1e-3
  np.testing.assert_array_equal(network.normalized()(x, condition), y)
  compiled = tf.function(network, jit_compile=True)
  np.testing.assert_allclose(compiled(x, condition), y, atol=1e-5)


@pytest.mark.parametrize('name', NETWORKS)
def test_input_activation_is_optional(name):
  build, event = NETWORKS[name]
  x = test_util.normal((3, *event), 'float32')
  with_it, without = (
    build(seed=0, activation='tanh', zero_last=False, input_activation=b)
    for b in (True, False)
  )
  assert np.abs(with_it(x)).max() > 1e-3
  np.testing.assert_allclose(with_it(x), without(tf.tanh(x)), atol=1e-6)


@pytest.mark.parametrize('name', NETWORKS)
def test_seed_and_dtype(name):
  build, event = NETWORKS[name]

  def weights(**options):
    return flat_weights(build(**options))

  np.testing.assert_array_equal(weights(seed=1), weights(seed=1))
  assert np.abs(weights(seed=1) - weights(seed=2)).max() > 0.01
  network = build(seed=1, dtype='float64', norms='learned', zero_last=False)
  assert {v.dtype for v in network.variables} == {'float64'}
  assert network(test_util.normal((2, *event))).dtype == 'float64'
  assert network.lipschitz_bound().dtype == 'float64'


@pytest.mark.parametrize('name', NETWORKS)
def test_v_is_saved_and_not_trained(name, tmp_path):
  build, event = NETWORKS[name]
  network, other = build(seed=0), build(seed=1)
  perturb(network)
  network.update_norms()
  vectors = [layer.v for layer in network._linears]
  assert not {v.path for v in vectors} & {v.path for v in network.trainable_variables}
  assert sum(len(np.ravel(v)) for v in network.non_trainable_variables) == sum(
    len(np.ravel(v)) for v in vectors
  )
  x = test_util.normal((3, *event), 'float32')
  models = [keras.Sequential([keras.Input(event), n]) for n in (network, other)]
  models[0].save_weights(tmp_path / 'network.weights.h5')
  models[1].load_weights(tmp_path / 'network.weights.h5')
  np.testing.assert_array_equal(other(x), network(x))
  for ours, theirs in zip(network._linears, other._linears):
    np.testing.assert_array_equal(ours.v, theirs.v)
  third = build(seed=2)
  third.set_weights(network.get_weights())
  np.testing.assert_array_equal(third.norm_bounds(), network.norm_bounds())


@pytest.mark.parametrize('name', NETWORKS)
def test_learned_orders_are_shared_start_at_two_and_train(name):
  build, event = NETWORKS[name]
  options = {'seed': 0, 'dtype': 'float64', 'zero_last': False}
  network, plain = build(norms='learned', **options), build(**options)
  x = test_util.normal((4, *event))
  np.testing.assert_allclose(network(x), plain(x), atol=1e-12)
  joints = [(layer._domain, layer._codomain) for layer in network._linears]
  for (_, end), (start, _) in zip(joints, joints[1:] + joints[:1]):
    assert end is start
  thetas = [v for v in network.trainable_variables if 'theta' in v.path]
  assert len(thetas) == len(joints)
  perturb(network)
  network.update_norms(**EXACT)
  orders = [float(end.value()) for _, end in joints]
  assert all(1.0 < p < 5.0 and p != 2.0 for p in orders)
  if name != 'mlp':
    return
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(network(x))
  for theta, gradient in zip(thetas, tape.gradient(loss, [t.value for t in thetas])):
    start = theta.numpy()
    ends = []
    for step in (1e-5, -1e-5):
      theta.assign(start + step)
      network.update_norms(**EXACT)
      ends.append(tf.reduce_sum(network(x)))
    theta.assign(start)
    np.testing.assert_allclose(gradient, (ends[0] - ends[1]) / 2e-5, rtol=1e-4)


@pytest.mark.parametrize('name, orders', [('mlp', '2'), ('conv', 'learned')])
def test_gradient_of_a_log_det_term_under_xla(name, orders):
  build, event = NETWORKS[name]
  network = build(seed=0, norms=ORDERS[orders], dtype='float64')
  perturb(network)
  network.update_norms()
  x, noise = (test_util.normal((3, *event), seed=seed) for seed in (1, 2))
  variables = [v.value for v in network.trainable_variables]

  def gradients():
    with tf.GradientTape() as outer:
      with tf.GradientTape() as inner:
        inner.watch(x)
        y = network(x)
      term = tf.reduce_sum(inner.gradient(y, x, noise) * noise)
    return term, outer.gradient(
      term, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )

  term, eager = gradients()
  assert abs(term) > 1e-3
  assert sum(np.any(g) for g in eager) >= len(variables) - 1
  compiled = tf.function(gradients, jit_compile=True)()[1]
  for expected, actual in zip(eager, compiled):
    assert np.isfinite(actual).all()
    np.testing.assert_allclose(actual, expected, atol=1e-9)


def test_v_follows_the_weights_only_at_updates():
  network = LipschitzMLP(3, seed=0, zero_last=False)
  before = [layer.v.numpy() for layer in network._linears]
  perturb(network)
  network(tf.zeros([2, 3]), training=True)
  network.norm_bounds()
  for layer, v in zip(network._linears, before):
    np.testing.assert_array_equal(layer.v, v)
  network.update_norms()
  for layer, v in zip(network._linears, before):
    assert np.abs(layer.v - v).max() > 1e-3


def test_network_errors():
  for lipschitz in (0.0, 1.0, -1.0):
    with pytest.raises(ValueError, match=r'lipschitz in \(0, 1\)'):
      LipschitzMLP(3, lipschitz=lipschitz)
  with pytest.raises(ValueError, match='Close the chain'):
    LipschitzMLP(3, hidden=(4,), norms=(2.0, 3.0, 4.0))
  with pytest.raises(ValueError, match='Expected 3 norms for 2'):
    LipschitzMLP(3, hidden=(4,), norms=(2.0, 2.0))
  with pytest.raises(ValueError, match="'learned'; received 'learn'"):
    LipschitzMLP(3, norms='learn')
  with pytest.raises(ValueError, match='Choose orders in'):
    LipschitzMLP(3, hidden=(4,), norms=(2.0, 1.0, 2.0))
  with pytest.raises(ValueError, match='activation among'):
    LipschitzMLP(3, activation='swish')
  with pytest.raises(ValueError, match='float64'):
    LipschitzConvNet([4, 4, 1], width=2, dtype='float16')
