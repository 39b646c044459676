import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tfp_flows.data import images

tfb, tfd = tfp.bijectors, tfp.distributions


@pytest.fixture(scope='module')
def digits():
  return images.digits()[0][:96]


def small_flow(seed=0, **options):
  options = dict(num_steps=1, width=4, num_bins=17, alpha=0.05) | options
  return tff.glow([8, 8, 1], num_levels=1, seed=seed, **options)


def small_model(seed=0, **options):
  return tff.FlowModel(small_flow(**options), seed=seed)


def vector_model(**options):
  return tff.FlowModel(
    tff.real_nvp([2], num_steps=2, width=8, seed=0, **options), seed=0
  )


def sgd(rate=1e-3):
  return keras.optimizers.SGD(rate)


# Variables.


def test_stock_distribution_is_trained():
  location = tf.Variable([5.0, -5.0])
  scale = tfp.util.TransformedVariable([2.0, 2.0], tfb.Softplus())
  model = tff.FlowModel(tfd.MultivariateNormalDiag(location, scale), seed=0)
  model.compile(keras.optimizers.Adam(0.1), jit_compile=False)
  x = np.random.default_rng(0).normal([1, -2], [0.5, 3], [2000, 2]).astype('f4')
  model.fit(x, batch_size=200, epochs=30, verbose=0)
  np.testing.assert_allclose(location, x.mean(0), atol=0.15)
  np.testing.assert_allclose(scale, x.std(0), rtol=0.1)


def test_nothing_to_train_raises():
  with pytest.raises(ValueError, match='trainable variables.*conditioner itself'):
    tff.FlowModel(tfd.Normal(0.0, 1.0))


def test_hidden_network_raises():
  hidden = tff.MLP([1], 2, hidden=(4,), seed=0)
  coupling = tff.AffineCoupling(tff.ChannelMask([2]), lambda x: hidden(x))
  flow = tff.Sequential([tff.ActNorm([2]), coupling])
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [2])
  model = tff.FlowModel(tfd.TransformedDistribution(base, tfb.Invert(flow)))
  model.compile(sgd(), jit_compile=False)
  with pytest.raises(ValueError, match='to be a weight of the model'):
    model.fit(np.ones([4, 2], 'f4'), verbose=0)


# Training.


def test_fit_lowers_the_loss_and_reports_bits(digits):
  model = small_model()
  model.compile(keras.optimizers.Adam(1e-2))
  model.adapt(digits)
  history = model.fit(digits, batch_size=32, epochs=4, verbose=0).history
  assert history['loss'][-1] < history['loss'][0] - 1
  expected = np.array(history['loss']) / (64 * np.log(2))
  np.testing.assert_allclose(history['bits_per_dim'], expected, rtol=1e-5)


def test_xla_equals_eager_on_three_steps(digits):
  weights, losses = [], []
  for run_eagerly in (False, True):
    model = small_model()
    model.compile(keras.optimizers.Adam(1e-3), run_eagerly=run_eagerly)
    assert model.jit_compile != run_eagerly
    model.adapt(digits)
    history = model.fit(digits, batch_size=32, shuffle=False, verbose=0)
    losses.append(history.history['loss'][0])
    weights.append([v.numpy() for v in model.trainable_variables])
    assert model.optimizer.iterations == 3
  np.testing.assert_allclose(*losses, rtol=1e-5)
  start = [v.numpy() for v in small_model().trainable_variables]
  assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(start, weights[0]))
  for compiled, eager in zip(*weights):
    np.testing.assert_allclose(compiled, eager, atol=1e-5)


@pytest.mark.parametrize(
  'build',
  [
    lambda: tff.residual_flow([2], num_blocks=1, width=4, num_hidden=1, seed=0),
    lambda: tff.ffjord(
      [2], hidden=[4], solver='rk4', solver_steps=2, kinetic=0.1, seed=0
    ),
  ],
  ids=['residual_flow', 'ffjord'],
)
def test_flows_with_loops_train_under_xla(build):
  model = tff.FlowModel(build(), seed=0)
  model.compile(sgd())
  assert model.jit_compile
  x = np.random.default_rng(0).standard_normal([16, 2]).astype('f4')
  history = model.fit(x, batch_size=8, validation_data=(x,), verbose=0).history
  assert {'loss', 'val_loss'} <= set(history)
  assert ('kinetic' in history) == ('nfe' in history)
  assert np.isfinite([v[-1] for v in history.values()]).all()
  assert np.isfinite(model.log_prob(model.sample(2, seed=0))).all()


def test_one_compilation_over_epochs_with_a_partial_batch(digits):
  model = small_model()
  model.compile(sgd())
  traces = []
  train_step, test_step = model.train_step, model.test_step

  def traced(name, step):
    def run(data):
      # Static shapes: XLA compiles one program for each trace.
      assert all(t.shape.is_fully_defined() for t in data if t is not None)
      traces.append(name)
      return step(data)

    return run

  model.train_step = traced('train', train_step)
  model.test_step = traced('test', test_step)
  model.fit(
    digits[:50], batch_size=16, epochs=3, verbose=0, validation_data=(digits[50:71],)
  )
  assert sorted(traces) == ['test', 'train']
  assert model.optimizer.iterations == 12


def test_same_seed_same_run(digits):
  def run(seed):
    # Whatever the global generators say, but for the order of the examples.
    keras.utils.set_random_seed(int(np.random.randint(1000)))
    model = tff.FlowModel(small_flow(seed=seed, dropout=0.2), seed=seed)
    model.compile(sgd(), jit_compile=False)
    model.fit(digits, batch_size=32, shuffle=False, verbose=0)
    return np.concatenate([v.numpy().ravel() for v in model.trainable_variables])

  np.testing.assert_array_equal(run(3), run(3))
  assert np.abs(run(3) - run(4)).max() > 1e-4


def test_each_fit_has_another_order():
  x = np.arange(8, dtype='f4')[:, np.newaxis] * np.ones([8, 2], 'f4')
  seen = []
  model = vector_model()
  model.compile(sgd(0.0), run_eagerly=True)
  step = model.train_step
  model.train_step = lambda data: seen.append(data[0][:, 0].numpy()) or step(data)
  for _ in range(2):
    model.fit(x, batch_size=8, epochs=2, verbose=0)
  assert len({tuple(s) for s in seen}) > 2
  assert all(sorted(s) == list(range(8)) for s in seen)


def test_sample_weight_is_a_weighted_mean():
  x = test_util.normal([8, 2], 'float32').numpy()
  weight = np.array([0, 1, 2, 0, 0, 3, 0.5, 0], 'f4')
  model = vector_model()
  test_util.perturb(model.distribution)
  log_prob = model.log_prob(x).numpy()
  model.compile(sgd(0.1), jit_compile=False)
  expected = -(weight * log_prob).sum() / weight.sum()
  np.testing.assert_allclose(
    model.evaluate(x, sample_weight=weight, verbose=0), expected, rtol=1e-5
  )

  column = model.evaluate(x, sample_weight=weight[:, np.newaxis], verbose=0)
  np.testing.assert_allclose(column, expected, rtol=1e-5)

  # An example of weight 0 does not move the weights.
  moved = []
  for last in (x[-1], x[-1] + 50):
    model = vector_model()
    test_util.perturb(model.distribution)
    model.compile(sgd(0.1), jit_compile=False)
    data = np.concatenate([x[:-1], last[np.newaxis]])
    model.fit(data, sample_weight=weight, batch_size=8, verbose=0, shuffle=False)
    moved.append(np.concatenate([v.numpy().ravel() for v in model.trainable_variables]))
  np.testing.assert_array_equal(*moved)


@pytest.mark.parametrize('shape', [(8,), (8, 1)])
def test_weights_of_a_dataset_train_as_those_of_an_array(shape):
  x = test_util.normal([8, 2], 'float32').numpy()
  weight = np.arange(8, dtype='f4')

  def run(*data, **kwargs):
    model = vector_model()
    test_util.perturb(model.distribution)
    model.compile(sgd(0.1), jit_compile=False)
    model.fit(*data, shuffle=False, verbose=0, **kwargs)
    return np.concatenate([v.numpy().ravel() for v in model.trainable_variables])

  parts = (x, np.zeros([8, 0], 'f4'), weight.reshape(shape))
  dataset = test_util.dataset(parts).map(lambda x, _, w: (x, None, w))
  expected = run(x, sample_weight=weight, batch_size=8)
  np.testing.assert_allclose(run(dataset.batch(8)), expected, atol=1e-6)


def test_evaluate_counts_every_example_once():
  x = test_util.normal([21, 2], 'float32').numpy()
  model = vector_model()
  test_util.perturb(model.distribution)
  model.compile(jit_compile=False)
  loss = model.evaluate(x, batch_size=8, verbose=0)
  np.testing.assert_allclose(loss, -np.mean(model.log_prob(x)), rtol=1e-5)


def test_evaluation_repeats_itself(digits):
  model = small_model()
  model.compile(jit_compile=False)
  first = model.evaluate(digits, verbose=0)
  assert first == model.evaluate(digits, verbose=0)


def test_callbacks_ema_and_clipping(digits, tmp_path):
  model = small_model()
  optimizer = keras.optimizers.Adam(
    1e-2, global_clipnorm=1.0, use_ema=True, ema_momentum=0.9
  )
  model.compile(optimizer, jit_compile=False)
  path = str(tmp_path / 'best.weights.h5')
  history = model.fit(
    digits,
    batch_size=32,
    epochs=3,
    verbose=0,
    validation_split=0.25,
    callbacks=[
      keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
      keras.callbacks.ModelCheckpoint(
        path, monitor='val_loss', save_best_only=True, save_weights_only=True
      ),
      keras.callbacks.EarlyStopping(patience=5),
    ],
  )
  fresh = small_model()
  fresh.load_weights(path)
  fresh.compile(jit_compile=False)
  loss = fresh.evaluate(digits[72:], verbose=0)[0]
  np.testing.assert_allclose(loss, min(history.history['val_loss']), rtol=1e-4)


def test_gradient_clipping_bounds_the_step():
  x = 100 * test_util.normal([8, 2], 'float32').numpy()
  model = vector_model()
  model.compile(keras.optimizers.SGD(1.0, global_clipnorm=1e-3), jit_compile=False)
  before = np.concatenate([v.numpy().ravel() for v in model.trainable_variables])
  model.fit(x, batch_size=8, verbose=0)
  after = np.concatenate([v.numpy().ravel() for v in model.trainable_variables])
  np.testing.assert_allclose(np.linalg.norm(after - before), 1e-3, rtol=1e-2)


def test_loss_is_given():
  for option in ({'loss': 'mse'}, {'metrics': ['mae']}):
    with pytest.raises(ValueError, match='FlowModel has its loss and its metrics'):
      vector_model().compile(**option)


def test_predict_returns_log_prob():
  x = test_util.normal([10, 2], 'float32').numpy()
  model = vector_model()
  model.compile(jit_compile=False)
  np.testing.assert_allclose(
    model.predict(x, batch_size=10, verbose=0), model.log_prob(x), rtol=1e-5
  )


# Adapt.


def test_adapt_normalises_the_latents(digits):
  model = vector_model()
  x = (4 * test_util.normal([500, 2], 'float32') + 9).numpy()
  model.adapt(x)
  layer = next(m for m in model.distribution.submodules if isinstance(m, tff.ActNorm))
  y = layer.forward(x)
  np.testing.assert_allclose(np.mean(y, 0), 0, atol=1e-4)
  np.testing.assert_allclose(np.var(y, 0), 1, atol=1e-4)


def adapted(model):
  """Of each `ActNorm`, in the order of the variables."""
  flags = [v for v in model.distribution.variables if 'adapted' in v.name]
  return [bool(flag) for v in flags for flag in np.ravel(v)]


def test_adapt_takes_a_dataset_and_is_saved(digits, tmp_path):
  model = small_model()
  model.adapt(test_util.dataset(digits).batch(10), num_examples=50)
  assert adapted(model) == [True, True]
  model.save_weights(tmp_path / 'w.weights.h5')
  other = small_model(seed=7)
  assert adapted(other) == [False, False]
  other.load_weights(tmp_path / 'w.weights.h5')
  assert adapted(other) == [True, True]


def test_adapt_initialises_networks_too(digits):
  model = small_model(act_norm_in_networks=True)
  before = [v.numpy() for v in model.trainable_variables]
  model.adapt(digits)
  changed = [
    v.name
    for v, old in zip(model.trainable_variables, before)
    if np.abs(v.numpy() - old).max() > 1e-3 and 'scale_and_shift' in v.name
  ]
  assert len(changed) == 4
  assert sum('log_scale' in name for name in changed) == 2


def test_sampling_initialises_nothing(digits):
  model = small_model()
  model.sample(2)
  model.log_prob(digits[:2])
  assert adapted(model) == [False, False]


# Inference.


def test_decode_undoes_encode(digits):
  model = small_model()
  model.adapt(digits)
  z = model.encode(digits, seed=0)
  assert z.shape == (96, 64)
  np.testing.assert_array_equal(model.decode(z), digits)


def test_samples_are_pixels_and_follow_the_seed(digits):
  model = small_model()
  model.adapt(digits)
  first = model.sample(5, seed=1)
  assert first.dtype == tf.uint8
  assert first.shape == (5, 8, 8, 1)
  assert first.numpy().max() <= 16
  np.testing.assert_array_equal(first, model.sample(5, seed=1))
  assert (first.numpy() != model.sample(5, seed=2).numpy()).any()
  assert (model.sample(5).numpy() != model.sample(5).numpy()).any()


def test_temperature_scales_the_latents():
  model = vector_model()
  test_util.perturb(model.distribution)
  cold = model.encode(model.sample(500, temperature=0.5, seed=0))
  warm = model.encode(model.sample(500, temperature=1.0, seed=0))
  np.testing.assert_allclose(cold, 0.5 * warm, atol=1e-4)
  still = model.sample(4, temperature=0.0, seed=0)
  np.testing.assert_allclose(still, np.repeat(still[:1], 4, 0), atol=1e-5)


def test_sample_and_log_prob_agree():
  model = vector_model()
  test_util.perturb(model.distribution)
  x, log_prob = model.sample_and_log_prob(7, seed=0)
  np.testing.assert_allclose(log_prob, model.log_prob(x), atol=1e-4)


def test_log_prob_is_a_bound_that_more_samples_tighten(digits):
  model = small_model()
  model.adapt(digits)
  one = model.log_prob(digits, seed=0)
  np.testing.assert_array_equal(one, model.log_prob(digits, seed=0))
  many = model.log_prob(digits, seed=0, num_samples=16)
  assert np.mean(many) > np.mean(one)


def test_condition_reaches_everything(digits):
  model = small_model(condition_size=3)
  test_util.perturb(model.distribution, 0.05)
  condition = np.eye(3, dtype='f4')[np.arange(96) % 3]
  other = np.roll(condition, 1, axis=0)
  model.compile(sgd(), jit_compile=False)
  model.adapt(digits, condition)
  model.fit(digits, condition, batch_size=32, verbose=0)
  rows = [model.predict(digits, c, verbose=0) for c in (condition, other)]
  # The noise of an image is the same.
  assert np.abs(rows[0] - rows[1]).max() > 1e-3
  loss = model.evaluate(digits, other, verbose=0)[0]
  np.testing.assert_allclose(loss, -rows[1].mean(), rtol=1e-5)
  z = model.encode(digits, condition, seed=0)
  np.testing.assert_array_equal(model.decode(z, condition), digits)
  assert (model.decode(z, other).numpy() != digits).any()
  samples = [model.sample(condition=c, seed=0).numpy() for c in (condition, other)]
  assert (samples[0] != samples[1]).any()
  assert samples[0].shape == digits.shape
  x, log_prob = model.sample_and_log_prob(condition=condition, seed=0)
  found = model.distribution.log_prob(x, condition=condition)
  np.testing.assert_allclose(log_prob, found, rtol=1e-3)


def test_mixed_precision_leaves_the_flow_in_float32(digits):
  keras.config.set_dtype_policy('mixed_bfloat16')
  try:
    mixed = small_model(num_steps=2)
  finally:
    keras.config.set_dtype_policy('float32')
  full = small_model(num_steps=2)
  for model in (mixed, full):
    test_util.perturb(model.distribution, 0.05)
    assert {v.dtype for v in model.trainable_variables} == {'float32'}
  x = [m.log_prob(digits, seed=0) for m in (mixed, full)]
  assert x[0].dtype == tf.float32
  assert 1e-6 < np.abs(x[0] - x[1]).max() < 3
  # With networks that return zero, their precision does not matter at all.
  for model in (mixed, full):
    *_, kernel, bias = [v for v in model.distribution.variables if 'conv2d' in v.name]
    for v in (kernel, bias):
      v.assign(tf.zeros_like(v))
  x = [m.log_prob(digits, seed=0) for m in (mixed, full)]
  np.testing.assert_allclose(*x, rtol=1e-6)
  mixed.compile(sgd())
  assert np.isfinite(mixed.fit(digits, verbose=0).history['loss'][0])


def test_float64(digits):
  model = small_model(dtype='float64')
  test_util.perturb(model.distribution)
  model.compile(sgd(), jit_compile=False)
  model.fit(digits, batch_size=32, verbose=0)
  assert model.log_prob(digits).dtype == tf.float64
  np.testing.assert_array_equal(model.decode(model.encode(digits)), digits)


# Bad input.

PIXELS = np.zeros([4, 8, 8, 1], 'f4')


@pytest.mark.parametrize(
  ('x', 'message'),
  [
    (PIXELS + 17, r'in \[0, 16\]; received values in \[17, 17\]'),
    (PIXELS - 1, r'in \[0, 16\]; received values in \[-1, -1\]'),
    (PIXELS + 0.5, r'integer pixel values in \[0, 16\]; received fractions'),
    (PIXELS + np.nan, r'\d+ NaN or infinite'),
    (PIXELS[:0], 'empty data set'),
    (PIXELS[..., 0], r'shape \[None, 8, 8, 1\]; received \[.*, 8, 8\]'),
    (np.full([4, 8, 8, 1], 'a'), 'numbers; received dtype str'),
    (PIXELS.astype(tf.bfloat16.as_numpy_dtype), 'dtype bfloat16. Cast'),
  ],
)
@pytest.mark.parametrize('method', ['fit', 'evaluate', 'adapt', 'dataset'])
def test_bad_pixels(x, message, method):
  model = small_model()
  model.compile(sgd(), jit_compile=False)
  before = [v.numpy() for v in model.trainable_variables]
  with pytest.raises(ValueError, match=message):
    if method == 'adapt':
      model.adapt(x)
    elif method == 'dataset':
      model.fit(test_util.dataset(x).batch(4), verbose=0)
    else:
      getattr(model, method)(x, verbose=0)
  for v, old in zip(model.trainable_variables, before):
    np.testing.assert_array_equal(v.numpy(), old)


def test_integers_without_dequantization():
  model = vector_model()
  model.compile(sgd(), jit_compile=False)
  with pytest.raises(ValueError, match='Integers have no density: pass'):
    model.fit(np.ones([4, 2], int), verbose=0)
  counts = tff.FlowModel(
    tff.real_nvp([2], num_steps=2, width=4), tff.UniformDequantization(9), seed=0
  )
  counts.compile(sgd(), jit_compile=False)
  assert 'bits_per_dim' in counts.fit(np.ones([4, 2], int), verbose=0).history


def test_labels_for_a_model_without_condition(digits):
  model = small_model()
  model.compile(sgd(), jit_compile=False)
  labels = np.zeros(len(digits), int)
  dataset = test_util.dataset((digits, labels)).batch(8)
  for call in (
    lambda: model.fit(digits, labels, verbose=0),
    lambda: model.fit(dataset, verbose=0),
    lambda: model.log_prob(digits, labels),
    lambda: model.sample(2, np.ones([2, 3])),
  ):
    with pytest.raises(ValueError, match='Expected no condition'):
      call()


def test_conditions_of_any_dtype_and_more_than_examples():
  model = vector_model(condition_size=3)
  test_util.perturb(model.distribution)
  model.compile(sgd(), jit_compile=False)
  x = test_util.normal([6, 2], 'float32').numpy()
  onehot = np.eye(3, dtype=int)[np.arange(6) % 3]
  expected = model.log_prob(x, onehot.astype('f4'))
  for dtype in ('int64', 'float64'):
    np.testing.assert_array_equal(model.log_prob(x, onehot.astype(dtype)), expected)
  for dtype in ('int64', 'float64'):
    model.sample(condition=onehot.astype(dtype))
    model.fit(x, onehot.astype(dtype), verbose=0)
    model.adapt(x, onehot.astype(dtype))
  assert model.log_prob(x[0], onehot).shape == (6,)
  assert model.decode(np.zeros([6, 2]), onehot).shape == (6, 2)


def test_condition_through_the_default_keywords_of_tfp():
  mask = tff.ChannelMask([2])
  network = tff.MLP([1], 2, condition_size=3, seed=0)
  flow = tff.Sequential([tff.ActNorm([2]), tff.AffineCoupling(mask, network)])
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [2])
  model = tff.FlowModel(tfd.TransformedDistribution(base, tfb.Invert(flow)), seed=0)
  test_util.perturb(model.distribution)
  x, c = (test_util.normal([5, n], 'float32').numpy() for n in (2, 3))
  model.compile(sgd(), jit_compile=False)
  model.adapt(x, c)
  model.fit(x, c, verbose=0)
  assert np.abs(model.log_prob(x, c) - model.log_prob(x, c + 1)).max() > 1e-3
  assert model.sample(2, c, temperature=0.5).shape == (2, 5, 2)
  assert model.sample_and_log_prob(condition=c)[1].shape == (5,)


def test_empty_data_of_unknown_size():
  x = np.ones([4, 2], 'f4')
  empty = test_util.dataset(x).filter(lambda x: x[0] > 2).batch(2)
  model = vector_model()
  model.compile(sgd(), jit_compile=False)
  for method in (model.fit, model.evaluate):
    with pytest.raises(ValueError, match='empty data set'), warnings.catch_warnings():
      warnings.simplefilter('ignore')
      method(empty, verbose=0)


def test_predict_and_log_prob_check_pixels(digits):
  model = small_model()
  model.compile(sgd(), jit_compile=False)
  for method in (lambda x: model.predict(x, verbose=0), model.log_prob, model.encode):
    with pytest.raises(ValueError, match='received fractions'):
      method(digits / 16.0)
  first = model.predict(digits, batch_size=50, verbose=0)
  assert first.shape == (96,)
  np.testing.assert_array_equal(first, model.predict(digits, batch_size=50, verbose=0))


def test_compile_takes_effect_on_inference(digits):
  model = small_model()
  model.log_prob(digits)
  model.compile(sgd(), jit_compile=False)
  model.log_prob(digits)
  (function,) = model._compiled.values()
  assert not function._jit_compile


def test_adapt_reaches_a_flow_as_base_and_blockwise():
  x = 3 * test_util.normal([200, 4], 'float32') + 2
  parts = [tff.ActNorm([2]) for _ in range(3)]
  inner = tfd.TransformedDistribution(
    tfd.Sample(tfd.Normal(0.0, 1.0), [4]),
    tfb.Invert(tfb.Blockwise([tff.Sequential([parts[2]]), tfb.Exp()], [2, 2])),
  )
  outer = tfb.Invert(tfb.Blockwise(parts[:2], [2, 2]))
  model = tff.FlowModel(tfd.TransformedDistribution(inner, outer))
  model.adapt(x.numpy())
  assert all(p.adapted for p in parts)
  np.testing.assert_allclose(np.var(parts[1].forward(x[:, 2:]), 0), 1, atol=1e-4)


def test_adapt_says_what_it_cannot_reach():
  flow = tff.Sequential([tfb.Invert(tff.ActNorm([2], name='backwards'))])
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [2])
  model = tff.FlowModel(tfd.TransformedDistribution(base, tfb.Invert(flow)))
  with pytest.raises(ValueError, match="'backwards.*passed through their inverse"):
    model.adapt(np.random.default_rng(0).normal(size=[9, 2]).astype('f4'))


def test_other_bad_input():
  model = vector_model()
  model.compile(sgd(), jit_compile=False)
  dataset = test_util.dataset(np.ones([4, 2], 'f4')).batch(2)
  with pytest.raises(ValueError, match='split the tf.data.Dataset'):
    model.fit(dataset, validation_split=0.5, verbose=0)
  with pytest.raises(ValueError, match='one weight per example'):
    model.fit(np.ones([4, 2], 'f4'), sample_weight=np.ones([4, 2]), verbose=0)
  with pytest.raises(ValueError, match='as many weights as examples, 4; received 3'):
    model.fit(np.ones([4, 2], 'f4'), sample_weight=np.ones(3), verbose=0)
  with pytest.raises(ValueError, match='tf.data.Dataset, a generator .*; received str'):
    model.fit('x', verbose=0)
  joint = tfd.JointDistributionSequential([tff.real_nvp([2], num_steps=1, width=4)])
  with pytest.raises(ValueError, match='a distribution of one tensor'):
    tff.FlowModel(joint)
  scale = tfp.util.TransformedVariable(1.0, tfb.Softplus())
  with pytest.raises(ValueError, match='TransformedDistribution, which has latents'):
    tff.FlowModel(tfd.Sample(tfd.Normal(0.0, scale), 2)).encode(np.ones([1, 2], 'f4'))
