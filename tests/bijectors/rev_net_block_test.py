import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tests import test_util
from tfp_flows.bijectors import rev_net_block

RTOL = {'float64': 1e-9, 'float32': 1e-4}
SHAPES = [(4,), (5,), (4, 2, 4), (2, 4, 3)]


def networks(event_shape, dtype='float64', seed=0, scale=0.3, **options):
  """`f` and `g` for the halves, perturbed."""
  *space, channels = event_shape
  first, second = channels // 2, channels - channels // 2
  network = tff.ConvNet if space else tff.MLP
  options |= dict(width=6) if space else dict(hidden=(8,))
  options |= dict(activation='tanh', dtype=dtype)
  pair = (
    network([*space, second], first, seed=2 * seed, **options),
    network([*space, first], second, seed=2 * seed + 1, **options),
  )
  for i, net in enumerate(pair):
    test_util.perturb(net, scale, seed=2 * seed + i)
  return pair


def block(event_shape, dtype='float64', memory='reversible', seed=0, **options):
  f, g = networks(event_shape, dtype, seed, **options)
  return rev_net_block.RevNetBlock(f, g, event_shape, memory, dtype)


def by_hand(f, g, x):
  first = x.shape[-1] // 2
  x1, x2 = x[..., :first], x[..., first:]
  y1 = x1 + f(x2)
  y2 = x2 + g(y1)
  return np.concatenate([y1, y2], axis=-1)


@pytest.mark.parametrize('memory', ['stored', 'reversible'])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_equals_the_formulas(shape, memory):
  f, g = networks(shape)
  layer = rev_net_block.RevNetBlock(f, g, shape, memory, 'float64')
  x = test_util.normal([3, *shape])
  y = layer.forward(x)
  np.testing.assert_allclose(y, by_hand(f, g, x.numpy()), atol=1e-12)
  assert np.abs(y - x).min() > 1e-6
  np.testing.assert_allclose(layer.inverse(tf.identity(y)), x, atol=1e-12)


def test_equals_the_formulas_for_plain_functions():
  """Numbers without any network of ours: y1 = 1 + 3 * 2, y2 = 2 + 7 ** 2."""
  layer = rev_net_block.RevNetBlock(lambda x: 3 * x, tf.square, [2])
  np.testing.assert_array_equal(layer.forward([[1.0, 2.0]]), [[7.0, 51.0]])
  np.testing.assert_array_equal(layer.inverse([[7.0, 51.0]]), [[1.0, 2.0]])


@pytest.mark.parametrize('shape', [(5,), (2, 2, 2)], ids=str)
def test_preserves_volume(shape):
  layer, x = block(shape), test_util.normal([3, *shape])
  np.testing.assert_allclose(
    test_util.autodiff_log_det(layer.forward, x), np.zeros(3), atol=1e-10
  )
  ndims = len(shape)
  for log_det in (
    layer.forward_log_det_jacobian(x, ndims),
    layer.inverse_log_det_jacobian(x, ndims),
  ):
    np.testing.assert_array_equal(log_det, np.zeros(3))


def gradients(layer, x, condition, direction, mode):
  kwargs = {} if condition is None else {'condition': condition}
  weights = list(layer.trainable_variables)

  def run(x, kwargs):
    with tf.GradientTape() as tape:
      tape.watch([x, kwargs])
      y = getattr(layer, direction)(tf.identity(x), **kwargs)
      loss = tf.reduce_sum(tf.sin(3 * y))
    return tape.gradient(loss, [x, *kwargs.values(), *weights])

  if mode != 'eager':
    run = tf.function(run, jit_compile=mode == 'xla', autograph=False)
  return [tf.convert_to_tensor(g) for g in run(x, kwargs)]


@pytest.mark.parametrize('mode', ['eager', 'graph', 'xla'])
@pytest.mark.parametrize('dtype', ['float64', 'float32'])
@pytest.mark.parametrize('direction', ['forward', 'inverse'])
@pytest.mark.parametrize('conditional', [False, True])
def test_gradients_are_those_of_backpropagation(conditional, direction, dtype, mode):
  shape = (2, 4, 3) if conditional else (5,)
  options = dict(condition_size=3) if conditional else {}
  condition = test_util.normal([4, 3], dtype, seed=1) if conditional else None
  x = test_util.normal([4, *shape], dtype)
  stored, found = (
    gradients(block(shape, dtype, memory, **options), x, condition, direction, how)
    for memory, how in (('stored', 'eager'), ('reversible', mode))
  )
  # Two weights per layer of each network, and one of the condition.
  assert len(found) == (2 + 2 * 7 if conditional else 1 + 2 * 4)
  for a, b in zip(found, stored, strict=True):
    scale = np.abs(b).max()
    assert scale > 1e-2
    np.testing.assert_allclose(a, b, rtol=0, atol=RTOL[dtype] * scale)


def test_condition_goes_to_the_network_that_takes_it():
  def f(x, condition):
    return x + condition

  layer = rev_net_block.RevNetBlock(f, tf.square, [2])
  y = layer.forward([[1.0, 2.0]], condition=[[3.0]])
  np.testing.assert_array_equal(y, [[6.0, 38.0]])
  assert layer.takes_condition
  assert not rev_net_block.RevNetBlock(tf.sin, tf.square, [2]).takes_condition


def test_many_blocks_do_not_drift():
  shape, x = (6,), test_util.normal([16, 6], 'float32')
  found = []
  for memory in ('stored', 'reversible'):
    layers = [block(shape, 'float32', seed=i) for i in range(16)]
    flow = tff.Sequential(layers, memory)
    y = flow.forward(x)
    assert np.abs(y - x).max() > 1
    np.testing.assert_allclose(flow.inverse(tf.identity(y)), x, atol=2e-5)
    found.append(gradients(flow, x, None, 'forward', 'eager'))
  for a, b in zip(*found, strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())


class Watched:
  """A network whose outputs are known by weak references."""

  def __init__(self, network):
    self.network, self.outputs = network, []

  def __call__(self, x):
    y = self.network(x)
    self.outputs.append(weakref.ref(y))
    return y


@pytest.mark.parametrize('memory', ['stored', 'reversible'])
def test_activations_are_kept_only_if_asked(memory):
  f, g = Watched(tf.sin), Watched(tf.sin)
  layer = rev_net_block.RevNetBlock(f, g, [2], memory)
  x = tf.Variable(test_util.normal([3, 2], 'float32'))
  with tf.GradientTape() as tape:
    y = tf.square(layer.forward(tf.identity(x)))
  alive = [r() is not None for net in (f, g) for r in net.outputs]
  assert alive == [memory == 'stored'] * 2
  assert tape.gradient(y, x) is not None
  assert len(f.outputs) == len(g.outputs) == (2 if memory == 'reversible' else 1)


def test_second_derivatives_need_what_is_stored():
  x = tf.Variable(test_util.normal([3, 5]))
  for memory in ('stored', 'reversible'):
    layer = block((5,), memory=memory)
    with tf.GradientTape() as outer:
      with tf.GradientTape() as inner:
        loss = tf.reduce_sum(tf.sin(layer.forward(tf.identity(x))))
      gradient = inner.gradient(loss, x)
    if memory == 'stored':
      assert outer.gradient(gradient, x) is not None
    else:
      with pytest.raises(LookupError, match="memory='stored'"):
        outer.gradient(gradient, x)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (
      lambda f, g: rev_net_block.RevNetBlock(f, keras.layers.Dense(2), [4]),
      'Expected a built Keras layer.*dense',
    ),
    (lambda f, g: rev_net_block.RevNetBlock(f, g, [1]), 'at least 2 channels'),
    (lambda f, g: rev_net_block.RevNetBlock(f, g, [4], 'none'), "received 'none'"),
    (
      lambda f, g: rev_net_block.RevNetBlock(tff.MLP(2, 2, dropout=0.1), g, [4]),
      "draws noise.*memory='stored'",
    ),
  ],
)
def test_errors_of_construction(make, message):
  with pytest.raises(ValueError, match=message):
    make(*networks((4,), 'float32'))


def test_dropout_is_allowed_where_activations_are_stored():
  noisy = tff.MLP(2, 2, dropout=0.1)
  layer = rev_net_block.RevNetBlock(noisy, noisy, [4], 'stored')
  assert layer.forward(tf.zeros([3, 4])).shape == (3, 4)


@pytest.mark.parametrize(('wrong', 'size'), [('f', 2), ('g', 3)])
def test_error_of_a_network_of_another_shape(wrong, size):
  pair = dict(zip('fg', networks((5,), 'float32'))) | {wrong: lambda x: x}
  layer = rev_net_block.RevNetBlock(**pair, event_shape=[5])
  with pytest.raises(ValueError, match=rf'{wrong} expects .* \[..., {size}\]'):
    layer.forward(tf.zeros([3, 5]))
