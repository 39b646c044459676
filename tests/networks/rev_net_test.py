import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import test_util
from tfp_flows.networks import rev_net

layers = keras.layers
RTOL = {'float64': 1e-9, 'float32': 1e-4}


def dense(inputs, outputs, *others, dtype='float32'):
  policy = keras.DTypePolicy(dtype)
  return keras.Sequential(
    [
      keras.Input([inputs], dtype=policy.variable_dtype),
      layers.Dense(8, 'tanh', dtype=policy),
      *others,
      layers.Dense(outputs, dtype=policy),
    ]
  )


def conv(inputs, outputs, dtype='float32'):
  """For images of any size."""
  options = dict(padding='same', dtype=dtype)
  return keras.Sequential(
    [
      keras.Input([None, None, inputs], dtype=dtype),
      layers.Conv2D(6, 3, activation='tanh', **options),
      layers.Conv2D(outputs, 3, **options),
    ]
  )


def pairs(channels, blocks=2, network=dense, dtype='float32', scale=0.3):
  first, second = channels // 2, channels - channels // 2
  found = [
    (network(second, first, dtype=dtype), network(first, second, dtype=dtype))
    for _ in range(blocks)
  ]
  for i, net in enumerate(n for pair in found for n in pair):
    test_util.perturb(net, scale, seed=i)
  return found


def by_hand(networks, x):
  first = x.shape[-1] // 2
  x1, x2 = x[..., :first], x[..., first:]
  for f, g in networks:
    x1 = x1 + f(x2)
    x2 = x2 + g(x1)
  return np.concatenate([x1, x2], axis=-1)


CASES = {
  'vector': (dense, (5,)),
  'image': (conv, (4, 3, 4)),
}


@pytest.mark.parametrize('memory', ['stored', 'reversible'])
@pytest.mark.parametrize('case', CASES)
def test_equals_the_formulas(case, memory):
  network, shape = CASES[case]
  networks = pairs(shape[-1], 3, network, 'float64')
  layer = rev_net.RevNet(networks, memory, dtype='float64')
  x = test_util.normal([3, *shape])
  y = layer(x)
  np.testing.assert_allclose(y, by_hand(networks, x.numpy()), atol=1e-12)
  assert np.abs(y - x).max() > 0.1
  np.testing.assert_allclose(layer.inverse(y), x, atol=1e-12)
  assert layer.networks == networks
  assert layer.compute_output_shape((None, *shape)) == (None, *shape)


def gradients(layer, x, mode='eager'):
  weights = [w.value for w in layer.trainable_weights]

  def run(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = layer(x, training=True)
      loss = tf.reduce_sum(tf.sin(3 * y))
    return tape.gradient(loss, [x, *weights])

  if mode != 'eager':
    run = tf.function(run, jit_compile=mode == 'xla', autograph=False)
  return [tf.convert_to_tensor(g) for g in run(x)]


def assert_close(found, expected, rtol):
  for a, b in zip(found, expected, strict=True):
    scale = np.abs(b).max()
    assert scale > 1e-2
    np.testing.assert_allclose(a, b, rtol=0, atol=rtol * scale)


@pytest.mark.parametrize('mode', ['eager', 'graph', 'xla'])
@pytest.mark.parametrize('dtype', ['float64', 'float32'])
@pytest.mark.parametrize('case', CASES)
def test_gradients_are_those_of_backpropagation(case, dtype, mode):
  network, shape = CASES[case]
  networks = pairs(shape[-1], 2, network, dtype)
  x = test_util.normal([3, *shape], dtype)
  stored, found = (
    gradients(rev_net.RevNet(networks, memory, dtype=dtype), x, how)
    for memory, how in (('stored', 'eager'), ('reversible', mode))
  )
  assert len(found) == 1 + 4 * 4
  assert_close(found, stored, RTOL[dtype])


def test_many_blocks_do_not_drift():
  networks = pairs(6, 16)
  x = test_util.normal([16, 6], 'float32')
  stored, layer = (rev_net.RevNet(networks, m) for m in ('stored', 'reversible'))
  y = layer(x)
  assert np.abs(y - x).max() > 1
  np.testing.assert_allclose(layer.inverse(y), x, atol=5e-5)
  assert_close(gradients(layer, x), gradients(stored, x), 1e-4)


def test_weights_are_tracked_once():
  shared = dense(2, 2)
  layer = rev_net.RevNet([(shared, dense(2, 2)), (dense(2, 2), shared)])
  model = keras.Sequential([keras.Input([4]), layer, layers.Dense(1)])
  expected = [w for n in {id(m): m for p in layer.networks for m in p}.values()
              for w in n.trainable_weights]  # fmt: skip
  assert len(expected) == 12
  assert {id(w) for w in layer.trainable_weights} == {id(w) for w in expected}
  assert len(layer.weights) == 12
  assert len(model.trainable_weights) == 14
  stored = rev_net.RevNet(layer.networks, 'stored')
  test_util.perturb(model, 0.3)
  x = test_util.normal([3, 4], 'float32')
  assert_close(gradients(layer, x), gradients(stored, x), 1e-4)


def test_new_weights_are_seen_at_once():
  """The same tensor again, which TFP's cache would know."""
  layer = rev_net.RevNet(pairs(4))
  x = test_util.normal([3, 4], 'float32')
  before = layer(x)
  test_util.perturb(layer.networks[0][0], 0.3, seed=9)
  assert np.abs(layer(x) - before).max() > 1e-2


def test_frozen_networks_get_no_gradient():
  networks = [layers.Dense(2, 'tanh') for _ in range(2)]
  for network in networks:
    network.build((None, 2))
  layer = rev_net.RevNet([networks])
  networks[0].trainable = False
  x = test_util.normal([3, 4], 'float32')
  assert len(layer.trainable_weights) == 2
  found = gradients(layer, x)
  stored = rev_net.RevNet(layer.networks, 'stored')
  assert_close(found, gradients(stored, x), 1e-4)
  restored = rev_net.RevNet.from_config(layer.get_config())
  assert [n.trainable for n in restored.networks[0]] == [False, True]


def test_is_a_layer_of_functional_models_of_unknown_size():
  image = keras.Input([None, None, 5])
  layer = rev_net.RevNet(pairs(5, 2, conv))
  y = layer(image)
  assert (y.shape, y.dtype) == ((None, None, None, 5), 'float32')
  model = keras.Model(image, [y, layer.inverse(y)])
  for size in ([4, 3], [2, 6]):
    x = test_util.normal([2, *size, 5], 'float32')
    value, undone = model.predict(x, verbose=0)
    np.testing.assert_allclose(value, by_hand(layer.networks, x), atol=1e-5)
    np.testing.assert_allclose(undone, x, atol=1e-5)


def blobs(count=128):
  rng = np.random.default_rng(0)
  x = rng.normal(size=[count, 2]).astype('float32')
  return x, (x[:, 0] * x[:, 1] > 0).astype('float32')


@pytest.mark.parametrize('options', [dict(jit_compile=True), dict(run_eagerly=True)])
def test_fit_trains_every_weight(options):
  keras.utils.set_random_seed(1)
  networks = pairs(4, 3)
  model = keras.Sequential(
    [keras.Input([2]), layers.Dense(4), rev_net.RevNet(networks), layers.Dense(1)]
  )
  loss = keras.losses.BinaryCrossentropy(from_logits=True)
  model.compile(keras.optimizers.Adam(0.02), loss, **options)
  before = [tf.identity(w) for w in model.trainable_weights]
  epochs = 3 if 'run_eagerly' in options else 15
  history = model.fit(*blobs(), 32, epochs, verbose=0).history['loss']
  assert history[-1] < (1 if epochs == 3 else 0.6) * history[0]
  for old, new in zip(before, model.trainable_weights, strict=True):
    assert np.abs(old - new).max() > 1e-3, new.path


@pytest.mark.parametrize('memory', ['stored', 'reversible'])
def test_models_are_saved(tmp_path, memory):
  shared = dense(2, 2)
  networks = [(shared, dense(2, 2)), (dense(2, 2), shared)]
  layer = rev_net.RevNet(networks, memory, name='blocks')
  model = keras.Sequential([keras.Input([4]), layer, layers.Dense(3)])
  test_util.perturb(model)
  layer.trainable = False
  x = test_util.normal([3, 4], 'float32')
  y = model(x)
  model.save(tmp_path / 'model.keras')
  loaded = keras.models.load_model(tmp_path / 'model.keras')
  np.testing.assert_array_equal(loaded(x), y)
  restored = loaded.layers[0]
  assert (restored.name, restored.memory, restored.trainable) == (
    'blocks', memory, False,
  )  # fmt: skip
  assert restored.networks[0][0] is restored.networks[1][1]
  assert len(restored.weights) == 12

  model.save_weights(tmp_path / 'model.weights.h5')
  test_util.perturb(loaded.layers[1], seed=3)
  for w in restored.weights:
    w.assign(tf.zeros_like(w))
  assert np.abs(loaded(x) - y).max() > 1e-2
  loaded.load_weights(tmp_path / 'model.weights.h5')
  np.testing.assert_array_equal(loaded(x), y)


def test_state_is_in_float32_under_a_lower_precision():
  networks = pairs(4, 8)
  layer = rev_net.RevNet(networks, dtype='mixed_bfloat16')
  x = tf.cast(test_util.normal([8, 4], 'float32'), 'bfloat16')
  y = layer(x)
  assert y.dtype == layer(keras.Input([4])).dtype == 'bfloat16'
  reference = by_hand(networks, tf.cast(x, 'float32').numpy())
  np.testing.assert_allclose(tf.cast(y, 'float32'), reference, rtol=2**-8)


def test_networks_may_be_of_a_lower_precision():
  """They are far from the exact ones, and yet undone as well as others."""
  rough = rev_net.RevNet(pairs(4, 4, dtype='mixed_bfloat16'), dtype='float32')
  exact = rev_net.RevNet(pairs(4, 4), dtype='float32')
  for a, b in zip(rough.weights, exact.weights, strict=True):
    b.assign(a)
  x = test_util.normal([8, 4], 'float32')
  y = rough(x)
  assert y.dtype == 'float32'
  assert np.abs(y - exact(x)).max() > 1e-4
  np.testing.assert_allclose(rough.inverse(y), x, atol=1e-5)
  one = tf.ones([2, 4], 'int32')
  np.testing.assert_array_equal(exact(one), exact(tf.cast(one, 'float32')))


class Mode(layers.Layer):
  """Twice its input in training: Keras knows `training` only in a call."""

  def call(self, x, training=None):
    return 2 * x if training else x


@pytest.mark.parametrize('training', [False, True])
def test_gradients_are_those_of_the_mode_of_the_call(training):
  class Outer(layers.Layer):
    def __init__(self, layer):
      super().__init__()
      self.layer = layer

    def call(self, x):
      return self.layer(x)

  networks = [(dense(2, 2, Mode()), dense(2, 2, Mode()))]
  x, found = tf.Variable(test_util.normal([3, 4], 'float32')), []
  for memory in ('stored', 'reversible'):
    outer = Outer(rev_net.RevNet(networks, memory))
    with tf.GradientTape() as tape:
      y = outer(x, training=training)
      loss = tf.reduce_sum(tf.sin(3 * y))
    found.append([y, tape.gradient(loss, x)])
  assert_close(*found, 1e-5)
  assert np.abs(outer(x, training=not training) - y).max() > 1e-2


def test_building_does_not_change_the_mode_of_later_layers():
  class Model(keras.Model):
    def __init__(self):
      super().__init__()
      self.first, self.second = rev_net.RevNet(pairs(4, 1)), layers.Dropout(0.9)
      self.built = True  # Its layers are built when it is called.

    def call(self, x):
      return self.second(self.first(x))

  model = Model()
  y = model(tf.ones([64, 4]))
  np.testing.assert_array_equal(y, model.first(tf.ones([64, 4])))


def test_second_derivatives_need_what_is_stored():
  layer = rev_net.RevNet(pairs(4, 1))
  x = tf.Variable(test_util.normal([3, 4], 'float32'))
  with tf.GradientTape() as outer:
    with tf.GradientTape() as inner:
      loss = tf.reduce_sum(tf.sin(layer(x)))
    gradient = inner.gradient(loss, x)
  with pytest.raises(LookupError, match="memory='stored'"):
    outer.gradient(gradient, x)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: rev_net.RevNet([]), 'at least one pair'),
    (lambda: rev_net.RevNet([dense(2, 2)]), 'pairs .* received <Sequential'),
    (lambda: rev_net.RevNet([(dense(2, 2),)]), r'pairs .* received \(<Sequential'),
    (lambda: rev_net.RevNet([(dense(2, 2), tf.sin)]), 'pairs .* keras.layers.Lambda'),
    (lambda: rev_net.RevNet([(dense(2, 2), layers.Dense(2))]), 'a built Keras layer'),
    (lambda: rev_net.RevNet(pairs(4), 'none'), "received 'none'"),
    (
      lambda: rev_net.RevNet([(dense(2, 2), dense(2, 2, layers.Dropout(0.1)))]),
      "draws noise.*memory='stored'",
    ),
  ],
)
def test_errors_of_construction(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize(
  ('networks', 'shape', 'message'),
  [
    (lambda: pairs(4), (3, 1), 'at least 2 channels'),
    (lambda: pairs(4), (3, None), 'known number of channels.*last axis'),
    (
      lambda: [*pairs(4), (dense(2, 3), dense(2, 2))],
      (None, 4),
      r'f of block 2 to map \(None, 2\) to \(None, 2\); received \(None, 3\)',
    ),
    (
      lambda: [(dense(3, 2), dense(2, 2))],
      (None, 5),
      r'g of block 0 to map \(None, 2\) to \(None, 3\); received \(None, 2\)',
    ),
    (
      lambda: [(dense(4, 4), dense(4, 4))],
      (None, 4),
      'f of block 0 .* does not take this input. A network takes one half',
    ),
    (
      lambda: [(dense(2, 2, layers.BatchNormalization()), dense(2, 2))],
      (None, 4),
      "draws noise or keeps statistics.*memory='stored'",
    ),
    (
      lambda: [(dense(2, 2), dense(2, 2, layers.ActivityRegularization(0.1)))],
      (None, 4),
      'g of block 0 .* has a loss from activations',
    ),
  ],
)
def test_errors_of_building(networks, shape, message):
  with pytest.raises(ValueError, match=message):
    rev_net.RevNet(networks()).build(shape)


def test_error_of_another_number_of_channels():
  layer = rev_net.RevNet(pairs(4))
  layer.build((None, 4))
  with pytest.raises(ValueError, match='axis -1 .* value 4'):
    layer(tf.zeros([3, 6]))


@pytest.mark.parametrize(
  'other',
  [layers.LayerNormalization, layers.GroupNormalization],
)
def test_networks_may_normalize_examples(other):
  options = dict(groups=2) if other is layers.GroupNormalization else {}
  networks = [(dense(2, 2, other(**options)), dense(2, 2)) for _ in range(2)]
  x = test_util.normal([3, 4], 'float32')
  stored, found = (
    gradients(rev_net.RevNet(networks, m), x) for m in ('stored', 'reversible')
  )
  for a, b in zip(found, stored, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())


def test_anything_is_allowed_where_activations_are_stored():
  noisy = dense(2, 2, layers.BatchNormalization(), layers.Dropout(0.5))
  layer = rev_net.RevNet([(noisy, dense(2, 2))], 'stored')
  x = test_util.normal([8, 4], 'float32')
  assert np.abs(layer(x, training=True) - layer(x, training=True)).max() > 1e-2
  np.testing.assert_array_equal(layer(x), layer(x))


STEP = """
import keras
import tensorflow as tf
from tfp_flows.networks import rev_net

def network():
  hidden = keras.layers.Dense(32, 'tanh')
  return keras.Sequential([keras.Input([4]), hidden, keras.layers.Dense(4)])

def compile_step(blocks):
  layer = rev_net.RevNet([(network(), network()) for _ in range(blocks)])
  layer.build((None, 8))
  def step(x):
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(tf.square(layer(x)))
    return tape.gradient(loss, [w.value for w in layer.trainable_weights])
  step.__name__ = f'step_of_{blocks}_blocks'
  tf.function(step, jit_compile=True, autograph=False)(tf.zeros([1024, 8]))

compile_step(2)
compile_step(6)
"""


def test_memory_does_not_grow_with_depth(tmp_path):
  environment = os.environ | {'XLA_FLAGS': f'--xla_dump_to={tmp_path}'}
  root = pathlib.Path(__file__).parents[2]
  subprocess.run([sys.executable, '-c', STEP], env=environment, cwd=root, check=True)

  def size(blocks):
    (path,) = tmp_path.glob(f'*step_of_{blocks}_blocks*buffer-assignment.txt')
    return int(re.search(r'Total bytes used: (\d+)', path.read_text())[1])

  assert size(6) < 1.2 * size(2)
