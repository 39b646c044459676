import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tests import test_util

EVENTS = {'mlp': (5,), 'conv': (4, 6, 2)}
TIMES = ['concat', 'concatsquash']
ALL = [(kind, time) for kind in EVENTS for time in TIMES]
PER_LAYER = {'concat': 2, 'concatsquash': 5}


def build(kind, time, widths=(30, 30), **options):
  """A field; images go through each way of computing a convolution."""
  make = {'mlp': tff.FieldMLP, 'conv': tff.FieldConvNet}[kind]
  return make(EVENTS[kind], widths, time=time, seed=0, **options)


def perturbed(*args, **options):
  field = build(*args, **options)
  test_util.perturb(field)
  return field


def inputs(kind, dtype='float64', batch=(3,)):
  return test_util.normal((*batch, *EVENTS[kind]), dtype)


def linear(x, kernel):
  if len(kernel.shape) == 2:
    return x @ kernel
  return tf.nn.conv2d(x, kernel, strides=1, padding='SAME')


def reference(field, kind, time, t, x, condition):
  """The field from its weights in the order of their creation."""
  activation = {'mlp': tf.tanh, 'conv': tf.nn.softplus}[kind]
  *weights, embedding = [tf.constant(v.numpy()) for v in field.trainable_variables]
  added = condition @ embedding
  added = tf.reshape(added, [len(x), *[1] * (len(EVENTS[kind]) - 1), -1])
  count = PER_LAYER[time]
  depth = len(weights) // count
  for i in range(depth):
    kernel, bias, *rest = weights[count * i : count * (i + 1)]
    if time == 'concat':
      channel = t * tf.ones_like(x[..., :1])
      x = linear(tf.concat([x, channel], axis=-1), kernel) + bias
    else:
      gate_kernel, gate_bias, shift = rest
      x = (linear(x, kernel) + bias) / (1 + tf.exp(-(gate_kernel * t + gate_bias)))
      x += shift * t
    if i == 0:
      x += added
    if i < depth - 1:
      x = activation(x)
  return x


@pytest.mark.parametrize('t', [0.0, 0.7])
@pytest.mark.parametrize(
  'kind,time,options',
  [
    ('mlp', 'concat', {}),
    ('mlp', 'concatsquash', {}),
    ('mlp', 'concat', dict(widths=())),
    ('conv', 'concat', {}),
    ('conv', 'concatsquash', {}),
    ('conv', 'concat', dict(widths=(), kernel_size=1)),
    ('conv', 'concat', dict(widths=(3,), kernel_size=2)),
    ('conv', 'concat', dict(widths=(3,), kernel_size=5)),
  ],
)
def test_equals_its_formula(kind, time, options, t):
  field = perturbed(kind, time, condition_size=2, dtype='float64', **options)
  t = tf.constant(t, tf.float64)
  x, condition = inputs(kind), test_util.normal((3, 2), seed=1)
  expected = reference(field, kind, time, t, x, condition)
  np.testing.assert_allclose(field(t, x, condition), expected, atol=1e-12)


@pytest.mark.parametrize('kind,time', ALL)
def test_depends_on_the_time(kind, time):
  field, x = build(kind, time), inputs(kind, 'float32')
  y = field(tf.constant(1.0), x)
  assert np.abs(y - field(tf.constant(0.5), x)).max() > 1e-2
  for dtype in ('float64', 'float16', 'int32'):
    np.testing.assert_array_equal(field(tf.constant(1, dtype), x), y)
  np.testing.assert_array_equal(field(t=1.0, x=x), y)


@pytest.mark.parametrize('kind,time', ALL)
def test_takes_any_batch_shape_and_a_condition(kind, time):
  field, t = perturbed(kind, time, condition_size=3), tf.constant(0.3)
  assert field.condition_size == 3
  x, condition = inputs(kind, 'float32', (2, 4)), test_util.normal((4, 3), 'float32')
  y = field(t, x, condition)
  assert y.shape == x.shape
  np.testing.assert_allclose(field(t, x[1, 2], condition[2]), y[1, 2], atol=1e-5)
  np.testing.assert_allclose(field(t, x[1], condition), y[1], atol=1e-5)
  wide = field(t, x[:, :1], condition)
  assert wide.shape == x.shape
  np.testing.assert_allclose(wide[:, 0], y[:, 0], atol=1e-5)
  difference = field(t, x, condition + tf.one_hot([1], 4, axis=0)) - y
  assert np.abs(difference[:, 1]).max() > 1e-2
  np.testing.assert_array_equal(difference[:, 2:], 0 * difference[:, 2:])


@pytest.mark.parametrize('kind,time', ALL)
def test_batch_size_may_be_unknown(kind, time):
  field, t, x = build(kind, time), tf.constant(0.3), inputs(kind, 'float32', (2, 3))
  spec = [tf.TensorSpec([]), tf.TensorSpec([None, None, *EVENTS[kind]])]
  compiled = tf.function(lambda t, x: field(t, x), input_signature=spec)
  np.testing.assert_allclose(compiled(t, x), field(t, x), atol=1e-5)


def divergence(field, t, x, noise):
  """Sum of `noise * (df/dx noise)`, whose mean is that of the divergence."""
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = field(t, x)
  return tf.reduce_sum(tape.gradient(y, x, noise) * noise)


def divergence_and_gradient(field, t, x, noise):
  at = [t, x, *(v.value for v in field.trainable_variables)]
  with tf.GradientTape() as tape:
    tape.watch(at)
    value = divergence(field, t, x, noise)
  zero = tf.UnconnectedGradients.ZERO
  return value, tape.gradient(value, at, unconnected_gradients=zero)


@pytest.mark.parametrize('kind,time', ALL)
def test_xla_equals_eager_up_to_the_second_derivative(kind, time):
  field, t, x = perturbed(kind, time), tf.constant(0.3), inputs(kind, 'float32')
  noise = test_util.normal(x.shape, 'float32', seed=1)

  def everything(t, x):
    value, gradient = divergence_and_gradient(field, t, x, noise)
    return [field(t, x), value, *gradient]

  compiled = tf.function(everything, jit_compile=True)(t, x)
  for ours, eager in zip(compiled, everything(t, x)):
    scale = np.abs(eager).max() + 1e-3
    np.testing.assert_allclose(ours / scale, eager / scale, atol=1e-4)


@pytest.mark.parametrize('kind,time', ALL)
def test_derivatives_equal_finite_differences(kind, time):
  field, t = perturbed(kind, time, dtype='float64'), tf.constant(0.3, tf.float64)
  x, h = inputs(kind), 2e-6
  noise = test_util.normal(x.shape, seed=1)
  weights = [v.value for v in field.trainable_variables]
  start = [t, x, *(tf.constant(w) for w in weights)]
  directions = [test_util.normal(v.shape, seed=2 + i) for i, v in enumerate(start)]
  value, gradient = divergence_and_gradient(field, t, x, noise)

  slope = (field(t, x + h * noise) - field(t, x - h * noise)) / (2 * h)
  np.testing.assert_allclose(value, tf.reduce_sum(slope * noise), rtol=1e-7)

  def moved(step, parts):
    """Divergence with some of time, input and weights moved."""
    now = [
      v + step * d if i in parts else v
      for i, (v, d) in enumerate(zip(start, directions))
    ]
    for w, v in zip(weights, now[2:]):
      w.assign(v)
    return divergence(field, *now[:2], noise)

  # The time, the input, and all weights at once.
  for parts in ([0], [1], range(2, len(start))):
    slope = (moved(h, parts) - moved(-h, parts)) / (2 * h)
    ours = sum(tf.reduce_sum(gradient[i] * directions[i]) for i in parts)
    assert np.abs(ours) > 1e-3
    np.testing.assert_allclose(ours, slope, rtol=1e-6)


@pytest.mark.parametrize('widths', [(), (7,)])
@pytest.mark.parametrize('kind,time', ALL)
def test_zero_last(kind, time, widths):
  x, condition = inputs(kind, 'float32'), tf.ones([2])
  options = dict(widths=widths, condition_size=2)
  t = tf.constant(0.7)
  assert np.abs(build(kind, time, **options)(t, x, condition)).max() > 1e-2
  field = build(kind, time, zero_last=True, **options)
  y = field(t, x, condition)
  np.testing.assert_array_equal(y, np.zeros_like(y))
  if widths:
    assert np.abs(field.trainable_variables[0]).min() > 0
  test_util.perturb(field)
  assert np.abs(field(t, tf.identity(x), condition)).max() > 1e-2


def weights(make, **options):
  return np.concatenate([np.ravel(v) for v in make(**options).get_weights()])


@pytest.mark.parametrize('time', TIMES)
@pytest.mark.parametrize('kind', EVENTS)
def test_seeds(kind, time):
  def make(**options):
    network = {'mlp': tff.FieldMLP, 'conv': tff.FieldConvNet}[kind]
    return network(EVENTS[kind], (6,), time=time, condition_size=2, **options)

  np.testing.assert_array_equal(weights(make, seed=1), weights(make, seed=1))
  assert np.abs(weights(make, seed=1) - weights(make, seed=2)).max() > 0.01
  first = weights(make)
  assert np.abs(first - weights(make)).max() > 0.01
  keras.utils.set_random_seed(0)
  np.testing.assert_array_equal(first, weights(make))
  nonzero = [v for v in make(seed=1).get_weights() if v.ndim > 1]
  values = np.concatenate([np.ravel(v) for v in nonzero])
  assert len(np.unique(values)) == len(values)


def test_weights_start_glorot_uniform():
  field = tff.FieldMLP(30, (40,), time='concat', seed=0)
  kernel, bias = (v.numpy() for v in field.trainable_variables[:2])
  limit = np.sqrt(6 / (31 + 40))
  assert 0.95 * limit < np.abs(kernel).max() <= limit
  np.testing.assert_allclose(np.std(kernel), limit / np.sqrt(3), rtol=0.05)
  np.testing.assert_array_equal(bias, np.zeros(40))


@pytest.mark.parametrize('kind,time', ALL)
def test_dtypes(kind, time):
  t = tf.constant(0.5)
  y = build(kind, time)(t, inputs(kind))
  assert y.dtype == 'float32'
  double = build(kind, time, dtype='float64')
  assert {v.dtype for v in double.variables} == {'float64'}
  assert double(t, inputs(kind)).dtype == 'float64'
  mixed = build(kind, time, dtype='mixed_bfloat16')
  assert {v.dtype for v in mixed.variables} == {'float32'}
  rough = mixed(t, inputs(kind))
  assert rough.dtype == 'bfloat16'
  assert 0 < np.abs(tf.cast(rough, 'float32') - y).max() < 0.1


@pytest.mark.parametrize('kind,time', ALL)
def test_weights_are_saved(kind, time, tmp_path):
  field, t, x = perturbed(kind, time), tf.constant(0.5), inputs(kind, 'float32')
  y = field(t, x)
  model = keras.Model()
  model.field, model.built = field, True
  model.save_weights(tmp_path / 'field.weights.h5')
  test_util.perturb(field)
  assert np.abs(field(t, x) - y).max() > 1e-2
  model.load_weights(tmp_path / 'field.weights.h5')
  np.testing.assert_array_equal(field(t, x), y)


@pytest.mark.parametrize(
  'make,message',
  [
    (lambda: tff.FieldMLP(0), r'at least 1 in input_shape; received \[0\]'),
    (lambda: tff.FieldMLP([4, 4, 1]), r'\[D\]; received \[4, 4, 1\].*FieldConvNet'),
    (lambda: tff.FieldMLP(3, (4, 0)), r'at least 1 in hidden; received \[4, 0\]'),
    (lambda: tff.FieldMLP(3, condition_size=0), r'in condition_size; received \[0\]'),
    (lambda: tff.FieldMLP(3, time='none'), "'concat' or 'concatsquash'.*'none'"),
    (lambda: tff.FieldConvNet([3]), r'\[H, W, C\]; received \[3\].*FieldMLP'),
    (lambda: tff.FieldConvNet([4, 0, 1]), r'in input_shape; received \[4, 0, 1\]'),
    (lambda: tff.FieldConvNet([4, 4, 1], (0,)), r'in widths; received \[0\]'),
    (lambda: tff.FieldConvNet([4, 4, 1], kernel_size=0), r'in kernel_size; .*\[0\]'),
    (lambda: tff.FieldConvNet([4, 4, 1], time=1), "'concat' or 'concatsquash'.* 1"),
  ],
)
def test_errors_of_construction(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize('kind', EVENTS)
def test_errors_of_calls(kind):
  field, x = build(kind, 'concat'), inputs(kind, 'float32')
  with pytest.raises(ValueError, match=r'Expected a scalar t.*received shape \(3,\)'):
    field(tf.zeros([3]), x)
  with pytest.raises(ValueError, match=r'Expected a scalar t.*order'):
    field(x, tf.constant(0.5))
  size = EVENTS[kind][-1]
  with pytest.raises(ValueError, match=rf'\b{size}\]; received \(.*{size - 1}\)'):
    field(tf.constant(0.5), x[..., 1:])
  if kind == 'conv':
    with pytest.raises(ValueError, match=r'\[..., 4, 6, 2\]; received \(3, 1, 6, 2\)'):
      field(tf.constant(0.5), x[:, :1])


@pytest.mark.parametrize('time', ['concat', 'concatsquash'])
@pytest.mark.parametrize('shape', [[3], [2, 4, 3]])
def test_a_network_is_made_again_from_its_config(shape, time):
  make = tff.FieldMLP if len(shape) == 1 else tff.FieldConvNet
  network = make(shape, [4], time=time, condition_size=2, seed=1, dtype='float64')
  network.trainable = False
  other = keras.saving.deserialize_keras_object(
    keras.saving.serialize_keras_object(network)
  )
  assert type(other) is type(network)
  assert not other.trainable
  other.set_weights([w + 0.1 for w in network.get_weights()])
  network.set_weights(other.get_weights())
  t, x = tf.constant(0.3, tf.float64), test_util.normal([2, *shape])
  condition = test_util.normal([2, 2])
  np.testing.assert_array_equal(network(t, x, condition), other(t, x, condition))
