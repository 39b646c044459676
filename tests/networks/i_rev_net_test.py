import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests import test_util
from tfp_flows.networks import i_rev_net

SHAPE = (4, 4, 1)


def make(channels=None, dtype='float64', num_blocks=(2, 2), **options):
  """Two stages of blocks, with statistics that are not those of the start."""
  options = dict(momentum=0.5, seed=0, initial_squeeze=2) | options
  model = i_rev_net.IRevNet(
    SHAPE, 3, num_blocks, [1, 2], channels, hidden=[4, 5], dtype=dtype, **options
  )
  test_util.perturb(model, 0.1)
  if options.get('norm', 'batch') == 'batch':
    x = test_util.normal([8, *SHAPE], model.variable_dtype, seed=3)
    model(x, training=True)
  return model


def data(dtype='float64', count=6):
  return test_util.normal([count, *SHAPE], dtype)


def by_hand(model, x):
  """The code in inference, from the branches alone."""
  x = tf.nn.space_to_depth(x, 2)
  for plan, f in zip(model._plan, model._branches, strict=True):
    x = tf.pad(x, [[0, 0], [0, 0], [0, 0], [0, plan.padding]])
    x1, x2 = tf.split(x, 2, axis=-1)
    y1, y2 = x2, x1
    if plan.stride > 1:
      y1, y2 = (tf.nn.space_to_depth(t, plan.stride) for t in (x2, x1))
    x = tf.concat([y1, y2 + f(x2)], axis=-1)
  return x


@pytest.mark.parametrize(('channels', 'size'), [(None, 16), ([5, 20], 40)])
def test_equals_the_formulas_and_is_undone(channels, size):
  model, x = make(channels), data()
  z = by_hand(model, x)
  assert np.abs(z).max() > 1
  *_, code = model.features(x)
  np.testing.assert_allclose(code, z, atol=1e-12)
  assert code.shape[1:] == model.feature_shapes[-1] == (1, 1, size)
  norm, act, *_ = model._head
  pooled = np.mean(act(norm(z)), axis=(1, 2))
  kernel, bias = model._head[-1].get_weights()
  np.testing.assert_allclose(model(x), pooled @ kernel + bias, atol=1e-12)
  np.testing.assert_array_equal(model.logits(code), model(x))
  for each, count in (('stage', 2), ('block', 4)):
    features = model.features(x, each)
    assert len(features) == count
    for i, y in enumerate(features):
      np.testing.assert_allclose(model.invert(y, **{each: i}), x, atol=1e-13)
  np.testing.assert_allclose(model.invert(code), x, atol=1e-13)


def test_inverse_in_float32():
  """18 blocks, as large as those of the examples."""
  model = i_rev_net.IRevNet(
    [8, 8, 1], 10, [6, 6, 6], [1, 2, 2], None, [8, 8, 8], 2, seed=0
  )
  x = test_util.normal([64, 8, 8, 1], 'float32')
  model(x, training=True)
  for stage, z in enumerate(model.features(x)):
    error = np.abs(model.invert(z, stage) - x).max()
    assert 0 < error < 1e-4


def test_injective_codes_have_zeros():
  model, x = make([5, 20]), data()
  assert not model.is_bijective
  z = model.features(x)[-1]
  with pytest.raises(ValueError, match='6 channels .* tolerance=None'):
    model.invert(z + 0.1)
  assert np.isnan(tf.function(model.invert)(z + 0.1)).all()
  np.testing.assert_allclose(tf.function(model.invert)(z), x, atol=1e-13)
  changed = model.invert(z + 0.1, tolerance=None)
  assert np.abs(changed - x).max() > 1e-2
  # What was taken away is missing: the code of the image is another one.
  assert np.abs(model.features(changed)[-1] - (z + 0.1)).max() > 1e-2
  with pytest.raises(ValueError, match='append 6 channels.*log-det.*channels=None'):
    model.bijector  # noqa: B018


def test_any_code_of_the_bijective_variant_has_an_image():
  model = make()
  assert model.is_bijective
  z = test_util.normal([5, *model.feature_shapes[-1]])
  np.testing.assert_allclose(model.features(model.invert(z))[-1], z, atol=1e-13)


def test_bijector():
  model, x = make(), data(count=3)
  bijector = model.bijector
  np.testing.assert_array_equal(bijector.forward(x), model.features(x)[-1])
  assert len(bijector.trainable_variables) == sum(
    len(b.trainable_weights) for b in model._branches
  )
  np.testing.assert_array_equal(bijector.forward_log_det_jacobian(x), np.zeros(3))

  def flat(x):
    y = bijector.forward(tf.reshape(x, [-1, *SHAPE]))
    return tf.reshape(y, [-1, 3, 16])

  found = test_util.autodiff_log_det(flat, tf.reshape(x, [3, 16]))
  np.testing.assert_allclose(found, 0, atol=1e-10)
  base = tfp.distributions.Sample(
    tfp.distributions.Normal(np.float64(0), 1), model.feature_shapes[-1]
  )
  flow = tfp.distributions.TransformedDistribution(base, tfp.bijectors.Invert(bijector))
  z = model.features(x)[-1]
  np.testing.assert_allclose(flow.log_prob(x), base.log_prob(z), rtol=1e-12)


def training_call(memory, mode, training, **options):
  model, x = make(memory=memory, **options), data()

  def run(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      loss = tf.reduce_sum(tf.sin(3 * model(x, training=training)))
    return tape.gradient(loss, [x, *[w.value for w in model.trainable_weights]])

  if mode != 'eager':
    run = tf.function(run, jit_compile=mode == 'xla', autograph=False)
  gradients = [tf.convert_to_tensor(g) for g in run(x)]
  return gradients, [v.numpy() for v in model.non_trainable_variables]


CASES = {
  'bijective': (dict(), True),
  'inference': (dict(), False),
  'injective': (dict(channels=[5, 20], dropout=0.3), True),
  'layer': (dict(norm='layer', dropout=0.3), True),
  'none': (dict(norm=None), True),
}


@pytest.mark.parametrize(
  ('case', 'mode'),
  [*((c, 'eager') for c in CASES), ('injective', 'graph'), ('bijective', 'xla')],
)
def test_reversible_gradients_are_those_of_backpropagation(case, mode):
  """And statistics and seeds move as often."""
  options, training = CASES[case]
  stored, state = training_call('stored', 'eager', training, **options)
  found, moved = training_call('reversible', mode, training, **options)
  assert len(found) > 20
  for a, b in zip(found, stored, strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * max(1, np.abs(b).max()))
  assert np.abs(stored[0]).max() > 1e-2
  for a, b in zip(moved, state, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-12)


def test_statistics_move_once_and_only_in_training():
  model, x = make(), data()
  norm = next(v for v in model.non_trainable_variables if 'moving_mean' in v.path)
  before = norm.numpy()
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(model(x)) + tf.reduce_sum(model.features(x)[-1])
  tape.gradient(loss, [w.value for w in model.trainable_weights])
  np.testing.assert_array_equal(norm, before)
  mean = np.mean(by_hand_input_of(model, norm, x), axis=(0, 1, 2))
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(model(x, training=True))
  tape.gradient(loss, [w.value for w in model.trainable_weights])
  np.testing.assert_allclose(norm, 0.5 * before + 0.5 * mean, atol=1e-12)


def by_hand_input_of(model, norm, x):
  """The first normalization of all comes after the very first convolution."""
  convolution, first, *_ = model._branches[0]._layers_in_order
  assert norm is first.moving_mean
  return convolution(tf.nn.space_to_depth(x, 2)[..., 2:])


def test_fit_predict_and_files(tmp_path):
  x = np.random.default_rng(0).normal(size=[64, *SHAPE]).astype('float32')
  labels = (x.mean(axis=(1, 2, 3)) > 0).astype('int32')
  model = make(dtype='float32', num_blocks=[1, 1], dropout=0.1, momentum=0.9)
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile('adam', loss, metrics=['accuracy'], jit_compile=False)
  model.optimizer.learning_rate = 0.01
  before = [tf.identity(w) for w in model.trainable_weights]
  history = model.fit(x, labels, 64, 30, verbose=0).history
  assert history['accuracy'][-1] > 0.85
  for old, new in zip(before, model.trainable_weights, strict=True):
    assert np.abs(old - new).max() > 1e-3, new.path
  logits = model.predict(x, verbose=0)
  np.testing.assert_allclose(model(x), logits, atol=1e-5)
  model.save(tmp_path / 'model.keras')
  loaded = keras.models.load_model(tmp_path / 'model.keras')
  assert loaded.get_config() == model.get_config()
  np.testing.assert_array_equal(loaded(x), model(x))
  np.testing.assert_allclose(loaded.invert(model.features(x)[0], 0), x, atol=1e-5)


def test_is_a_layer_of_other_models():
  image = keras.Input(SHAPE)
  model = make()
  outer = keras.Model(image, keras.layers.Softmax()(model(image)))
  x = data('float32')
  np.testing.assert_allclose(outer(x), tf.nn.softmax(model(x)), atol=1e-6)
  assert len(outer.trainable_weights) == len(model.trainable_weights)


def test_the_seed_is_that_of_the_weights():
  first, second, third = make(), make(), make(seed=1)
  for a, b in zip(first.weights, second.weights, strict=True):
    np.testing.assert_array_equal(a, b)
  assert np.abs(first(data()) - third(data())).max() > 1e-2
  keras.utils.set_random_seed(0)
  open_seed = make(seed=None)
  again = i_rev_net.IRevNet.from_config(open_seed.get_config())
  kernels = [m._branches[0]._layers_in_order[0] for m in (open_seed, again)]
  assert kernels[0].kernel.shape == kernels[1].kernel.shape
  assert again.get_config()['seed'] == open_seed.get_config()['seed'] is not None


def test_state_is_in_float32_under_a_lower_precision():
  model = make(dtype='mixed_bfloat16')
  x = data('float32')
  z = model.features(x)[-1]
  assert (z.dtype, model(x).dtype) == ('float32', 'bfloat16')
  np.testing.assert_allclose(model.invert(z), x, atol=1e-5)


def test_number_of_weights_is_that_of_the_paper_s_code():
  """Their example on CIFAR-10 has 6 274 826."""
  model = i_rev_net.IRevNet([32, 32, 3], 10, [18] * 3, [1, 2, 2], [16, 64, 256])
  assert sum(w.numpy().size for w in model.trainable_weights) == 6_274_826
  assert model._plan[0].padding == 29
  assert model.feature_shapes == [(32, 32, 32), (16, 16, 128), (8, 8, 512)]


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(input_shape=[16]), r'input_shape \[H, W, C\]; received \[16\]'),
    (dict(strides=[1]), 'as many strides as stages, the 2'),
    (dict(hidden=4), 'hidden to be a list .* received 4'),
    (dict(num_blocks=[1, 0]), 'num_blocks >= 1; received 0'),
    (dict(initial_squeeze=3), 'initial_squeeze to divide .* 3 for 4x4'),
    (dict(strides=[2, 2]), 'stride of stage 1 to divide .* 2 for 1x1'),
    (dict(initial_squeeze=1), 'even number .* stage 0 received 1. Use initial_squeeze'),
    (dict(channels=[1, 4]), r'channels\[0\].* at least 2.* 4 channels; received 1'),
    (dict(channels=[2, 9]), r'channels\[1\].* 8 after a stride of 2.* received 9'),
    (dict(norm='group'), "norm to be one of .* received 'group'"),
    (dict(momentum=1.0), r'momentum in \[0, 1\); received 1.0'),
    (dict(dropout=-0.1), r'dropout in \[0, 1\); received -0.1'),
    (dict(memory='none'), "received 'none'"),
    (dict(num_classes=0), 'num_classes >= 1; received 0'),
  ],
)
def test_errors_of_construction(options, message):
  given = dict(
    input_shape=SHAPE, num_classes=3, num_blocks=[1, 1], strides=[1, 2],
    initial_squeeze=2,
  )  # fmt: skip
  with pytest.raises(ValueError, match=message):
    i_rev_net.IRevNet(**given | options)


def test_errors_of_calls():
  model = make()
  with pytest.raises(ValueError, match=r'images of shape \(None, 4, 4, 1\)'):
    model.features(tf.zeros([2, 8, 8, 1]))
  with pytest.raises(ValueError, match="'stage' or 'block'; received 'layer'"):
    model.features(data(), 'layer')
  z = model.features(data())[0]
  with pytest.raises(ValueError, match=r'shape \(None, 1, 1, 16\) here.*same stage'):
    model.invert(z)
  with pytest.raises(ValueError, match='stage from 0 to 1; received 2'):
    model.invert(z, stage=2)
  with pytest.raises(ValueError, match='block from 0 to 3; received 4'):
    model.invert(z, block=4)
  with pytest.raises(ValueError, match='a stage or a block'):
    model.invert(z, stage=0, block=0)


STEP = """
import tensorflow as tf
from tfp_flows.networks import i_rev_net

def compile_step(blocks):
  model = i_rev_net.IRevNet([8, 8, 2], 3, [blocks], [1], hidden=[4], seed=0)
  def step(x):
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(tf.square(model(x, training=True)))
    return tape.gradient(loss, [w.value for w in model.trainable_weights])
  step.__name__ = f'step_of_{blocks}_blocks'
  tf.function(step, jit_compile=True, autograph=False)(tf.zeros([512, 8, 8, 2]))

compile_step(2)
compile_step(4)
"""


def test_memory_does_not_grow_with_depth(tmp_path):
  # What is kept is decided before the code is optimized, which takes long.
  options = f'--xla_dump_to={tmp_path} --xla_backend_optimization_level=0'
  root = pathlib.Path(__file__).parents[2]
  environment = os.environ | {'XLA_FLAGS': options}
  subprocess.run([sys.executable, '-c', STEP], env=environment, cwd=root, check=True)

  def size(blocks):
    (path,) = tmp_path.glob(f'*step_of_{blocks}_blocks*buffer-assignment.txt')
    return int(re.search(r'Total bytes used: (\d+)', path.read_text())[1])

  assert size(4) < 1.25 * size(2)
