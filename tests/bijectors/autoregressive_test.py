import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tfp_flows import MADE
from tfp_flows import Autoregressive

tfb, tfd = tfp.bijectors, tfp.distributions

TRANSFORMERS = {
  'sigmoid': lambda size: tff.Affine(size, 'sigmoid', 'float64'),
  'tanh': lambda size: tff.Affine(size, 'tanh', 'float64'),
  'clamp': lambda size: tff.Affine(size, 'clamp', 'float64'),
  'additive': lambda size: tff.Additive(),
  'spline': lambda size: tff.RationalQuadratic(num_bins=4, bound=3.0),
}


def autoregressive(size=4, transformer='clamp', scale=0.3, **options):
  fn = TRANSFORMERS[transformer](size)
  made = MADE(
    size,
    fn.params_per_dim,
    hidden=(12, 10),
    activation='tanh',
    params_first=transformer != 'spline',
    seed=0,
    dtype='float64',
    **options,
  )
  layer = Autoregressive(made, fn, [size], dtype='float64')
  test_util.perturb(layer, scale)
  return layer


VARIANTS = {
  **{name: dict(transformer=name) for name in TRANSFORMERS},
  'reversed': dict(order='reversed'),
  'random': dict(size=6, order='random'),
  'spline_permuted': dict(transformer='spline', order=[2, 0, 3, 1]),
  'one_dimension': dict(size=1),
  'two_dimensions': dict(size=2),
}


def data(layer, batch=(3,), seed=1):
  return test_util.normal((*batch, *layer._event_shape_or_none()), seed=seed)


@pytest.mark.parametrize('name', VARIANTS)
def test_log_det_equals_autodiff(name):
  layer = autoregressive(**VARIANTS[name])
  x = data(layer)
  expected = test_util.autodiff_log_det(layer.forward, x)
  found = layer.forward_log_det_jacobian(tf.identity(x), 1)
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
  y = tf.identity(layer.forward(x))
  expected = test_util.autodiff_log_det(layer.inverse, y)
  found = layer.inverse_log_det_jacobian(tf.identity(y), 1)
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
  if name != 'additive':
    assert np.abs(found).min() > 1e-3


@pytest.mark.parametrize('name', VARIANTS)
def test_round_trips(name):
  layer = autoregressive(**VARIANTS[name])
  x, y = data(layer), data(layer, seed=2)
  there, log_det = layer.forward_and_log_det(x)
  back, inverse_log_det = layer.inverse_and_log_det(tf.identity(there))
  assert np.abs(there - x).max() > 0.01
  np.testing.assert_allclose(back, x, rtol=0, atol=1e-9)
  np.testing.assert_allclose(inverse_log_det, -log_det, rtol=0, atol=1e-9)
  forth = layer.forward(tf.identity(layer.inverse(y)))
  np.testing.assert_allclose(forth, y, rtol=0, atol=1e-9)


@pytest.mark.parametrize('order', [None, 'reversed', [2, 0, 3, 1]])
def test_jacobian_is_triangular_in_the_order(order):
  layer = autoregressive(order=order)
  x = data(layer, ())
  with tf.GradientTape(persistent=True) as tape:
    tape.watch(x)
    y = layer.forward(x)
  jacobian = tape.jacobian(y, x, experimental_use_pfor=False).numpy()
  order = (
    order if isinstance(order, list) else {None: range(4)}.get(order, range(4)[::-1])
  )
  jacobian = jacobian[np.ix_(order, order)]
  np.testing.assert_array_equal(np.triu(jacobian, 1), 0.0)
  assert np.abs(jacobian[np.tril_indices(4)]).min() > 1e-4


def test_equations_of_the_paper():
  """The density is the product of normal conditionals, x drawn one by one."""
  layer = autoregressive(3)
  made = layer._conditioner
  y, x = data(layer, (), seed=3).numpy(), np.zeros(3)
  log_prob = 0.0
  for i in range(3):
    params = made(tf.constant(x)).numpy()
    mean, alpha = -params[i], -2.0 * np.tanh(params[3 + i] / 2.0)
    x[i] = y[i] * np.exp(alpha) + mean
    log_prob += tfd.Normal(mean, np.exp(alpha)).log_prob(x[i])
  np.testing.assert_allclose(layer.inverse(y), x, atol=1e-12)
  base = tfd.Sample(tfd.Normal(np.float64(0), np.float64(1)), [3])
  d = tfd.TransformedDistribution(base, tfb.Invert(layer))
  np.testing.assert_allclose(d.log_prob(x), log_prob, atol=1e-12)


@pytest.mark.parametrize('name', ['clamp', 'spline_permuted', 'one_dimension'])
@pytest.mark.parametrize('jit_compile', [False, True])
def test_graph_and_xla_equal_eager(name, jit_compile):
  layer = autoregressive(**VARIANTS[name], condition_size=2)
  x, condition = data(layer), test_util.normal([3, 2])

  def run(x, condition):
    y, log_det = layer.forward_and_log_det(x, condition)
    back = layer.inverse_and_log_det(tf.identity(y), condition)
    return y, log_det, *back

  found = tf.function(run, jit_compile=jit_compile)(x, condition)
  for value, reference in zip(found, run(x, condition)):
    np.testing.assert_allclose(value, reference, rtol=0, atol=1e-10)


def test_unknown_batch_size():
  layer = autoregressive()
  x = data(layer)
  inverse = tf.function(
    layer.inverse, input_signature=[tf.TensorSpec([None, 4], tf.float64)]
  )
  np.testing.assert_allclose(inverse(x), layer.inverse(x), atol=1e-12)


def loss(layer, direction, x, condition):
  """With a part of the value and one of the log-det."""
  y, log_det = getattr(layer, f'{direction}_and_log_det')(x, condition)
  return tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(log_det**2)


def gradients(layer, direction, x, condition):
  with tf.GradientTape() as tape:
    tape.watch([x, condition])
    value = loss(layer, direction, x, condition)
  return tape.gradient(value, [x, condition, *layer.trainable_variables])


@pytest.mark.parametrize(
  ('name', 'jit_compile'), [('tanh', True), ('tanh', False), ('spline_permuted', False)]
)
@pytest.mark.parametrize('direction', ['forward', 'inverse'])
def test_gradients_in_graphs(direction, name, jit_compile):
  layer = autoregressive(**VARIANTS[name], condition_size=2)
  x, condition = data(layer), test_util.normal([3, 2])
  compiled = tf.function(gradients, jit_compile=jit_compile)
  found = compiled(layer, direction, x, condition)
  for value, reference in zip(found, gradients(layer, direction, x, condition)):
    assert np.abs(tf.convert_to_tensor(reference)).max() > 1e-4
    np.testing.assert_allclose(value, reference, rtol=0, atol=1e-10)


@pytest.mark.parametrize('name', ['tanh', 'spline_permuted'])
@pytest.mark.parametrize('direction', ['forward', 'inverse'])
def test_gradients_equal_differences(direction, name):
  layer = autoregressive(**VARIANTS[name], condition_size=2)
  x, condition = data(layer), test_util.normal([3, 2])
  found = gradients(layer, direction, x, condition)
  sources = [tf.Variable(x), tf.Variable(condition), *layer.trainable_variables]
  assert len(found) == len(sources) >= 9
  rng, step = np.random.default_rng(5), 1e-5

  def value():
    return loss(layer, direction, *map(tf.identity, sources[:2]))

  for source, gradient in zip(sources, found):
    unit = rng.standard_normal(source.shape)
    source.assign_add(step * unit)
    above = value()
    source.assign_sub(2 * step * unit)
    difference = (above - value()) / (2 * step)
    source.assign_add(step * unit)
    assert abs(difference) > 1e-4
    np.testing.assert_allclose(np.sum(gradient * unit), difference, rtol=1e-5)


@pytest.mark.parametrize('size', [1, 3])
def test_condition(size):
  layer = autoregressive(size, condition_size=2)
  assert layer.takes_condition
  x, condition = data(layer, (5,)), test_util.normal([5, 2], seed=2)
  y, log_det = layer.forward_and_log_det(x, condition)
  other, other_log_det = layer.forward_and_log_det(x, condition + 1.0)
  assert np.abs(y - other).min() > 1e-4
  assert np.abs(log_det - other_log_det).min() > 1e-4
  back = layer.inverse(tf.identity(y), condition=condition)
  np.testing.assert_allclose(back, x, atol=1e-9)
  with pytest.raises(ValueError, match=r'`condition` of shape \[..., 2\]; .* none'):
    layer.forward(tf.identity(x))


def test_batch_shapes_broadcast():
  layer = autoregressive(condition_size=2)
  x, condition = data(layer, (3, 1)), test_util.normal([5, 2], seed=2)
  for direction in ('forward', 'inverse'):
    run = getattr(layer, f'{direction}_and_log_det')
    y, log_det = run(x, condition)
    assert y.shape == (3, 5, 4)
    assert log_det.shape == (3, 5)
    one, one_log_det = run(x[2, 0], condition[4])
    np.testing.assert_allclose(one, y[2, 4], atol=1e-12)
    np.testing.assert_allclose(one_log_det, log_det[2, 4], atol=1e-12)


def test_any_conditioner_and_transformer():
  """Neither Keras nor transformers of this library, and an order of its own."""

  def conditioner(x):
    before = tf.concat([x[..., 1:], tf.zeros_like(x[..., :1])], -1)
    return tf.sin(before)

  layer = Autoregressive(conditioner, lambda p: tfb.Scale(log_scale=p), [3], 'float64')
  assert not layer.takes_condition
  x = data(layer)
  y, log_det = layer.forward_and_log_det(x)
  np.testing.assert_allclose(log_det, tf.reduce_sum(tf.sin(x[:, 1:]), -1))
  np.testing.assert_allclose(layer.inverse(tf.identity(y)), x, atol=1e-12)


def test_the_network_runs_once_forward_and_once_per_dimension_back():
  calls = []

  def conditioner(x):
    calls.append(x)
    return tf.concat([tf.zeros_like(x[..., :1]), x[..., :-1]], -1)

  layer = Autoregressive(conditioner, tff.Additive(), [7], 'float64')
  x = data(layer)
  y, _ = layer.forward_and_log_det(x)
  assert len(calls) == 1
  np.testing.assert_allclose(layer.inverse(tf.identity(y)), x, atol=1e-12)
  assert len(calls) == 1 + 7


def test_inverse_autoregressive_flow():
  layer = autoregressive()
  flow = tff.Sequential([tff.ActNorm([4], dtype='float64'), tfb.Invert(layer)])
  base = tfd.Sample(tfd.Normal(np.float64(0), np.float64(1)), [4])
  d = tfd.TransformedDistribution(base, tfb.Invert(flow))
  x, log_prob = d.experimental_sample_and_log_prob(3, seed=[0, 1])
  np.testing.assert_allclose(d.log_prob(tf.identity(x)), log_prob, atol=1e-9)
  z = base.sample(3, seed=[0, 1])
  np.testing.assert_allclose(x, layer.forward(z), atol=1e-12)


def test_no_reversible_memory():
  layer = autoregressive()
  with pytest.raises(ValueError, match="use memory='stored'"):
    tff.Sequential([layer], memory='reversible')


class FirstAffine(tff.Affine):
  params_first = True


def test_bad_options():
  affine = FirstAffine(3, 'clamp')
  with pytest.raises(ValueError, match=r'\[D\]; received \[2, 2, 1\].*tfb.Reshape'):
    Autoregressive(MADE(4, 2), tff.Affine(4), [2, 2, 1])
  with pytest.raises(ValueError, match='conditioner with params_first=True.*False'):
    Autoregressive(MADE(3, 2, params_first=False), affine, [3])
  Autoregressive(MADE(3, 2), affine, [3])
  Autoregressive(lambda x: tf.zeros([6]), affine, [3])


def test_conditioner_of_another_size():
  layer = Autoregressive(MADE(3, 3), tff.Affine(3), [3])
  message = r'return \[..., 6\]: 2 numbers for each changed one; received \(1, 9\)'
  with pytest.raises(ValueError, match=message):
    layer.forward(tf.zeros([1, 3]))
  with pytest.raises(ValueError, match=message):
    layer.inverse(tf.zeros([1, 3]))


def test_event_of_another_shape():
  layer = autoregressive(3)
  with pytest.raises(ValueError, match=r'events of shape \[3\]; received \(4,\)'):
    layer.forward(tf.zeros([1, 4], tf.float64))
