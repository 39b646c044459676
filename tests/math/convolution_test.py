import numpy as np
import pytest
import tensorflow as tf

from tests import test_util
from tfp_flows.internal import tf_private
from tfp_flows.math import convolution

# Few to many, many to few, neither, and a matrix at each pixel.
all_channels = pytest.mark.parametrize(
  'channels', [(1, 40), (40, 1), (2, 60), (60, 2), (8, 8), (5, 9)]
)
all_sizes = pytest.mark.parametrize('size', [(3, 3), (5, 3), (2, 4), (1, 1), (4, 1)])


@pytest.fixture(autouse=True)
def as_under_xla(monkeypatch):
  # The paths for XLA, in eager mode: compiling each would take minutes.
  monkeypatch.setattr(tf_private, 'in_xla', lambda: True)


def native(x, kernel):
  return tf.nn.conv2d(x, kernel, strides=1, padding='SAME')


def inputs(size, channels):
  x = test_util.normal([2, 6, 5, channels[0]])
  return x, test_util.normal([*size, *channels], seed=1) / np.prod(size)


def derivatives(conv, x, kernel):
  """The value, first derivatives, and those of a product of the first ones."""
  with tf.GradientTape() as outer:
    outer.watch([x, kernel])
    with tf.GradientTape() as inner:
      inner.watch([x, kernel])
      y = conv(x, kernel)
      loss = tf.reduce_sum(tf.sin(y))
    first = inner.gradient(loss, [x, kernel])
    product = sum(tf.reduce_sum(tf.sin(g)) for g in first)
  return [y, *first, *outer.gradient(product, [x, kernel])]


def assert_close(found, expected):
  for f, e in zip(found, expected, strict=True):
    np.testing.assert_allclose(f, e, rtol=1e-10, atol=1e-9)


def op_types(fn, *args):
  graph = tf.function(fn).get_concrete_function(*args).graph
  return {op.type for op in graph.get_operations()}


@all_channels
@all_sizes
def test_equals_the_native_convolution(size, channels):
  x, kernel = inputs(size, channels)
  found = derivatives(convolution.conv2d, x, kernel)
  assert_close(found, derivatives(native, x, kernel))


@pytest.mark.parametrize('size', [(3, 3), (2, 4)])
def test_derivatives_are_those_of_finite_differences(size):
  x, kernel = inputs(size, (5, 9))
  u, v = test_util.normal(x.shape, seed=2), test_util.normal(kernel.shape, seed=3)

  def along(step):
    return derivatives(convolution.conv2d, x + step * u, kernel + step * v)

  def slope(of):
    return (of(along(1e-4)) - of(along(-1e-4))) / 2e-4

  def product(found):
    return sum(tf.reduce_sum(tf.sin(g)) for g in found[1:3])

  _, *first, second_x, second_kernel = along(0.0)
  expected = slope(lambda found: tf.reduce_sum(tf.sin(found[0])))
  np.testing.assert_allclose(
    tf.reduce_sum(first[0] * u) + tf.reduce_sum(first[1] * v), expected, rtol=1e-5
  )
  np.testing.assert_allclose(
    tf.reduce_sum(second_x * u) + tf.reduce_sum(second_kernel * v),
    slope(product),
    rtol=1e-5,
  )


@pytest.mark.parametrize('channels', [(2, 60), (60, 2), (5, 9)])
def test_is_the_same_in_a_loop_under_xla(channels):
  x, kernel = inputs((2, 3), channels)

  def step(*sums):
    found = derivatives(convolution.conv2d, x, kernel + 0.1 * sums[2])
    return [s + 0.01 * f for s, f in zip(sums, found)]

  start = [tf.zeros_like(d) for d in derivatives(convolution.conv2d, x, kernel)]

  @tf.function(jit_compile=True)
  def loop():
    return tf.while_loop(lambda *_: True, step, start, maximum_iterations=2)

  assert_close(loop(), step(*step(*start)))


@pytest.mark.parametrize('channels', [(2, 60), (60, 2), (5, 9)])
@pytest.mark.parametrize('size', [(3, 3), (2, 4)])
def test_no_derivative_is_a_native_one(size, channels):
  x, kernel = inputs(size, channels)
  types = op_types(lambda x, k: derivatives(convolution.conv2d, x, k), x, kernel)
  assert not [t for t in types if 'Backprop' in t]


def as_with_a_gpu(monkeypatch):
  monkeypatch.setattr(tf.config, 'list_logical_devices', lambda kind: [kind])


def as_without_xla(monkeypatch):
  monkeypatch.setattr(tf_private, 'in_xla', lambda: False)


@pytest.mark.parametrize('patch', [as_with_a_gpu, as_without_xla])
def test_all_is_native_elsewhere(monkeypatch, patch):
  patch(monkeypatch)
  for channels in ((2, 60), (5, 9)):
    x, kernel = inputs((3, 3), channels)
    types = op_types(lambda x, k: derivatives(convolution.conv2d, x, k), x, kernel)
    assert {'Conv2DBackpropInput', 'Conv2DBackpropFilter'} <= types


@pytest.mark.parametrize('jit', [False, True])
def test_a_batch_of_unknown_size_may_be_empty(jit):
  x, kernel = inputs((3, 3), (5, 9))

  spec = tf.TensorSpec([None, *x.shape[1:]], x.dtype)

  @tf.function(jit_compile=jit, input_signature=[spec, tf.type_spec_from_value(kernel)])
  def traced(x, kernel):
    return derivatives(convolution.conv2d, x, kernel)[:3]

  for images in (x, x[:0]):
    assert_close(traced(images, kernel), derivatives(native, images, kernel)[:3])


@pytest.mark.parametrize('jit_compile', [None, False, True])
def test_an_empty_batch_has_the_channels_of_the_kernel(jit_compile):
  x, kernel = tf.zeros([0, 4, 4, 2]), tf.Variable(tf.ones([3, 3, 2, 4]))

  def run(x):
    with tf.GradientTape() as tape:
      y = convolution.conv2d(x, kernel)
    return y, tape.gradient(y, kernel)

  if jit_compile is not None:
    run = tf.function(run, jit_compile=jit_compile)
  y, gradient = run(x)
  assert y.shape == (0, 4, 4, 4)
  np.testing.assert_array_equal(gradient, np.zeros([3, 3, 2, 4]))
