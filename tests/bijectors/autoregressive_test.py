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
  'mixture': lambda size: tff.MixtureCDF(3),
}


def autoregressive(
  size=4,
  transformer='clamp',
  scale=0.3,
  hidden=(12, 10),
  activation='tanh',
  **options,
):
  fn = TRANSFORMERS[transformer](size)
  made = MADE(
    size,
    fn.params_per_dim,
    hidden=hidden,
    activation=activation,
    params_first=transformer not in ('spline', 'mixture'),
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


def test_the_network_runs_once_forward_and_at_most_once_per_dimension_back():
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


class Counting:
  """A conditioner that counts its evaluations, also those of a compiled loop."""

  def __init__(self, network, condition_size=None):
    self.network, self.condition_size = network, condition_size
    self.count = tf.Variable(0, trainable=False)

  def __call__(self, x, condition=None):
    self.count.assign_add(1)
    return self.network(x, condition)

  def taken(self, fn):
    self.count.assign(0)
    result = fn()
    return int(self.count), result


def by_passes(layer, condition_size=None):
  """`layer` with a conditioner of which nothing is known."""
  network = Counting(layer._conditioner, condition_size)
  size = layer._event_shape_or_none()
  return Autoregressive(network, layer._bijector_fn, size, layer.dtype), network


def all_passes(layer, y, condition=None):
  """The inverse by D passes."""
  x = tf.zeros_like(y)
  for _ in range(y.shape[-1]):
    inner = layer._inner(x, condition)
    x, log_det = inner.inverse(y), inner.inverse_log_det_jacobian(y, 1)
  return x, log_det


IN_TURN = {
  **VARIANTS,
  'conditional': dict(condition_size=2, order=[2, 0, 3, 1]),
  'conditional_one': dict(size=1, condition_size=2, transformer='spline'),
  'linear': dict(hidden=(), order='reversed'),
  'linear_conditional': dict(hidden=(), condition_size=2, transformer='spline'),
  'narrow': dict(size=7, hidden=(3, 2), order='random'),
  'narrow_conditional': dict(size=7, hidden=(3,), condition_size=2, transformer='tanh'),
  'scaled_output': dict(depth=300, scale=1.0),
  'deep': dict(size=5, hidden=(9, 4, 17), activation='sigmoid', order='random'),
}


@pytest.mark.parametrize('name', IN_TURN)
def test_in_turn_equals_all_passes(name):
  layer = autoregressive(**IN_TURN[name])
  assert layer._finds_in_turn()
  y = data(layer, (2, 3), seed=2)
  condition = test_util.normal([3, 2]) if 'conditional' in name else None
  expected = all_passes(layer, y, condition)
  x, log_det = layer.inverse_and_log_det(tf.identity(y), condition)
  np.testing.assert_allclose(x, expected[0], rtol=0, atol=1e-12)
  np.testing.assert_allclose(log_det, expected[1], rtol=0, atol=1e-11)
  assert np.abs(x - y).max() > 0.01


def of_all_passes(layer, y, condition):
  with tf.GradientTape() as tape:
    tape.watch([y, condition])
    x, log_det = all_passes(layer, y, condition)
    total = tf.reduce_sum(tf.sin(x)) + tf.reduce_sum(log_det**2)
  return tape.gradient(total, [y, condition, *layer.trainable_variables])


@pytest.mark.parametrize('name', ['tanh', 'spline_permuted', 'linear', 'narrow'])
def test_gradients_in_turn_equal_those_of_all_passes(name):
  layer = autoregressive(**IN_TURN[name], condition_size=2)
  y, condition = data(layer, seed=2), test_util.normal([3, 2])
  found = gradients(layer, 'inverse', y, condition)
  for value, reference in zip(found, of_all_passes(layer, y, condition), strict=True):
    assert np.abs(tf.convert_to_tensor(reference)).max() > 1e-4
    np.testing.assert_allclose(value, reference, rtol=0, atol=1e-10)


def test_second_derivatives_in_turn():
  layer = autoregressive(3, 'tanh')
  y = data(layer, (1,))

  def second(inverse):
    with tf.GradientTape() as outer:
      outer.watch(y)
      with tf.GradientTape() as tape:
        tape.watch(y)
        total = tf.reduce_sum(tf.sin(inverse(tf.identity(y))))
      squares = tf.reduce_sum(tape.gradient(total, y) ** 2)
    return outer.gradient(squares, y)

  expected = second(lambda y: all_passes(layer, y)[0])
  assert np.abs(expected).min() > 1e-4
  for run in (second, tf.function(second)):
    np.testing.assert_allclose(run(layer.inverse), expected, rtol=0, atol=1e-10)


def test_the_network_is_not_called_where_numbers_are_found_in_turn():
  layer = autoregressive(6)
  calls, call = [], layer._conditioner.call
  layer._conditioner.call = lambda *args, **kwargs: calls.append(1) or call(*args)
  layer.inverse(data(layer))
  assert not calls
  layer.forward(data(layer))
  assert len(calls) == 1


class Shifted(MADE):
  """Another function than that of its weights."""

  def call(self, x, condition=None):
    return super().call(x, condition) + 1.0


def test_other_networks_are_inverted_by_passes():
  made = Shifted(3, 2, hidden=(5,), seed=0, dtype='float64')
  layer = Autoregressive(made, tff.Affine(3, 'clamp', 'float64'), [3], 'float64')
  test_util.perturb(layer, 0.3)
  x = data(layer)
  np.testing.assert_allclose(
    layer.inverse(tf.identity(layer.forward(x))), x, rtol=0, atol=1e-12
  )
  mixed = MADE(3, 2, hidden=(5,), seed=0, dtype='mixed_bfloat16')
  layer = Autoregressive(mixed, tff.Affine(3, 'clamp'), [3])
  test_util.perturb(layer, 0.3)
  x = data(layer).numpy().astype('float32')
  y = layer.forward(x)
  assert np.abs(y - x).max() > 0.05
  # In bfloat16 too, a sample is inverted by the network that its density has.
  np.testing.assert_allclose(layer.inverse(tf.identity(y)), x, rtol=0, atol=1e-5)


def pairwise(x, _):
  """Each number by the one before it in its pair: two passes find all."""
  first = tf.reshape(x, [-1, 4, 2])[..., :1]
  return tf.reshape(tf.concat([tf.zeros_like(first), tf.sin(first)], -1), [-1, 8])


NETWORKS = {
  # The passes until two are equal, and the last one for the log-det.
  'identity': (lambda x, _: tf.zeros_like(x), 2 + 1),
  'pairwise': (pairwise, 3 + 1),
  'chain': (lambda x, _: tf.concat([0 * x[:, :1], tf.sin(x[:, :-1])], -1), 8),
}


@pytest.mark.parametrize('jit_compile', [None, False, True])
@pytest.mark.parametrize('name', NETWORKS)
def test_passes_end_when_nothing_changes(name, jit_compile):
  network, expected = NETWORKS[name]
  counting = Counting(network)
  layer = Autoregressive(counting, tff.Additive(), [8], 'float64')
  y = data(layer)
  reference = all_passes(layer, y)[0]
  run = layer.inverse
  if jit_compile is not None:
    run = tf.function(layer.inverse, jit_compile=jit_compile)
  count, x = counting.taken(lambda: run(tf.identity(y)))
  np.testing.assert_array_equal(x, reference)
  if jit_compile is None:
    assert count == expected
  else:
    # In graphs there is one more, for gradients of what is traced without a tape.
    assert count <= expected + 1


def test_passes_end_at_nan():
  counting = Counting(lambda x, _: tf.zeros_like(x))
  layer = Autoregressive(counting, tff.Additive(), [8], 'float64')
  y = tf.tensor_scatter_nd_update(data(layer), [[1, 2]], [np.float64('nan')])
  count, x = counting.taken(lambda: layer.inverse(y))
  np.testing.assert_array_equal(x, y)
  assert count == 3


@pytest.mark.parametrize('name', ['tanh', 'spline_permuted'])
@pytest.mark.parametrize('traced', ['eager', 'inside', 'before'])
def test_gradients_of_any_network(name, traced):
  """Also where the passes settle before the derivatives do."""
  layer = autoregressive(**VARIANTS[name], condition_size=2)
  general, _ = by_passes(layer, 2)
  assert not general._finds_in_turn()
  condition = test_util.normal([3, 2])
  zeros = tf.zeros([3, layer._event_shape_or_none()[0]], tf.float64)
  y = tf.identity(
    layer.forward(zeros, condition=condition)
  )  # The first guess is right.
  expected = of_all_passes(layer, y, condition)
  total = lambda y, c: loss(general, 'inverse', y, c)  # noqa: E731
  if traced != 'eager':
    total = tf.function(total, autograph=False)
  if traced == 'before':
    total(y, condition)
  with tf.GradientTape() as tape:
    tape.watch([y, condition])
    value = total(y, condition)
  found = tape.gradient(value, [y, condition, *layer.trainable_variables])
  for value, reference in zip(found, expected, strict=True):
    np.testing.assert_allclose(
      tf.convert_to_tensor(value), reference, rtol=0, atol=1e-10
    )
  assert np.abs(expected[0]).max() > 1e-4


def test_second_derivatives_of_what_was_traced_without_a_tape_are_refused():
  general, _ = by_passes(autoregressive(3))
  y = data(general)
  inverse = tf.function(general.inverse, autograph=False)
  inverse(y)
  with pytest.raises(LookupError, match='traced without a tape.*inside of the'):
    with tf.GradientTape() as outer:
      outer.watch(y)
      with tf.GradientTape() as tape:
        tape.watch(y)
        total = tf.reduce_sum(tf.sin(inverse(y)))
      first = tape.gradient(total, y)
    outer.gradient(first, y)


def test_gradients_of_inverses_of_any_number_of_rows_compile():
  layer = autoregressive(size=3, transformer='spline')

  @tf.function(
    input_signature=[tf.TensorSpec([None, 3], tf.float64)],
    jit_compile=True,
    autograph=False,
  )
  def gradients(y):
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(layer.inverse(y) ** 2)
    return tape.gradient(loss, layer.trainable_variables)

  y = test_util.normal([5, 3])
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(layer.inverse(tf.identity(y)) ** 2)
  expected = tape.gradient(loss, layer.trainable_variables)
  for found, value in zip(gradients(y), expected, strict=True):
    np.testing.assert_allclose(found, value, atol=1e-8)
