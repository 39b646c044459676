import concurrent.futures
import multiprocessing

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util

tfb, tfd = tfp.bijectors, tfp.distributions


def training():
  return tff.estimation(seed=0, training=True)


def build(event_shape=(1,), mean=0.0, variance=1.0, **options):
  """A layer whose statistics, shift and scale are given or not trivial."""
  layer = tff.MovingBatchNorm(event_shape, **({'dtype': 'float64'} | options))
  test_util.perturb(layer)
  layer.moving_mean.assign(mean + tf.zeros_like(layer.moving_mean))
  layer.moving_variance.assign(variance + tf.zeros_like(layer.moving_mean))
  return layer


def statistics(layer):
  return layer.moving_mean.numpy(), layer.moving_variance.numpy()


def assert_statistics(layer, mean, variance, rtol=1e-12):
  np.testing.assert_allclose(layer.moving_mean, mean, rtol=rtol)
  np.testing.assert_allclose(layer.moving_variance, variance, rtol=rtol)


def distribution(bijector, size=2):
  base = tfd.Sample(tfd.Normal(*np.array([0, 1], bijector.dtype.as_numpy_dtype)), size)
  return tfd.TransformedDistribution(base, tfb.Invert(bijector))


# --- Training.


@pytest.mark.parametrize('event_shape', [(3,), (2, 3, 2)])
def test_statistics_converge_to_those_of_the_data(event_shape):
  layer = build(event_shape, decay=0.5)
  axes = tuple(range(len(event_shape)))
  x = test_util.normal((20, *event_shape)) * np.arange(1, event_shape[-1] + 1) + 7
  with training():
    for _ in range(60):
      layer.forward(tf.identity(x))
  assert_statistics(layer, np.mean(x, axes), np.var(x, axes))


def test_training_uses_the_updated_statistics():
  layer = build(decay=0.75, epsilon=0.25, mean=2.0, variance=1.0, affine=False)
  x = tf.constant([[4.0], [8.0]], 'float64')  # Mean 6, variance 4.
  with training():
    y, log_det = layer.forward_and_log_det(x)
  # 0.75 * 2 + 0.25 * 6 = 3 and 0.75 * 1 + 0.25 * 4 = 1.75; 1.75 + 0.25 = 2.
  assert_statistics(layer, [3.0], [1.75])
  np.testing.assert_allclose(y, [[1 / 2**0.5], [5 / 2**0.5]])
  np.testing.assert_allclose(log_det, 2 * [-0.5 * np.log(2.0)])
  with training():
    layer.forward(tf.identity(x))
  assert_statistics(layer, [3.75], [2.3125])


def test_scale_and_shift_come_after_the_normalization():
  layer = build([2, 3, 1], mean=5.0, variance=3.75, epsilon=0.25)
  layer.log_scale.assign([np.log(6.0)])
  layer.shift.assign([-1.0])
  y, log_det = layer.forward_and_log_det(tf.fill([4, 2, 3, 1], np.float64(7.0)))
  np.testing.assert_allclose(y, np.full([4, 2, 3, 1], 5.0))
  np.testing.assert_allclose(log_det, np.full([4], 6 * np.log(3.0)))


def test_gradient_goes_through_the_share_of_the_batch():
  x, weights = test_util.normal([4, 2]), test_util.normal([4, 2], seed=1)

  def loss(x):
    layer = build([2], mean=0.3, variance=2.0, decay=0.4)
    with training():
      y, log_det = layer.forward_and_log_det(x)
    return tf.reduce_sum(weights * y**2) + tf.reduce_sum(log_det)

  with tf.GradientTape() as tape:
    tape.watch(x)
    value = loss(x)
  found = tape.gradient(value, x)
  step = 1e-5 * np.eye(8).reshape(8, 4, 2)
  expected = [(loss(x + h) - loss(x - h)) / 2e-5 for h in step]
  np.testing.assert_allclose(np.reshape(found, [-1]), expected, atol=1e-8)


@pytest.mark.parametrize('jit_compile', [None, False, True])
def test_log_prob_is_one_update(jit_compile):
  layer = build([2], decay=0.5)
  flow = distribution(tff.Sequential([layer]))
  x = test_util.normal([5, 2]) + 3

  def run(x):
    with training():
      z = flow.bijector.inverse(x)
      return flow.log_prob(x), z

  if jit_compile is not None:
    run = tf.function(run, jit_compile=jit_compile)
  log_prob, _ = run(x)
  assert_statistics(layer, np.mean(x, 0) / 2, 0.5 + np.var(x, 0) / 2)
  # Evaluation is what the step has just seen.
  np.testing.assert_allclose(flow.log_prob(tf.identity(x)), log_prob)


def test_any_batch_shape_and_one_example():
  x = test_util.normal([2, 3, 4])
  layers = [build([4]) for _ in range(4)]
  shapes = [[2, 3, 4], [6, 4], [1, 4], [4]]
  with training():
    y = [
      layer.forward(tf.reshape(tf.reshape(x, [-1])[: np.prod(s)], s))
      for layer, s in zip(layers, shapes)
    ]
  np.testing.assert_allclose(np.reshape(y[0], [6, 4]), y[1])
  assert_statistics(layers[0], *statistics(layers[1]))
  for layer in layers[2:]:
    assert_statistics(layer, 0.01 * x[0, 0], 0.99)
  np.testing.assert_allclose(y[2][0], y[3])


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('jit_compile', [False, True])
def test_statistics_survive_a_batch_that_is_not_finite(bad, jit_compile):
  layer = build([2], mean=1.0, variance=4.0, decay=0.5)

  @tf.function(jit_compile=jit_compile)
  def forward(x):
    with training():
      return layer.forward(x)

  y = forward(tf.constant([[bad, 3.0], [1.0, 5.0]], 'float64'))
  assert_statistics(layer, [1.0, 2.5], [4.0, 2.5])
  assert np.isfinite(y[1]).all()


def test_statistics_survive_overflow_and_an_empty_batch():
  layer = build([1], mean=1.0, variance=4.0, dtype='float32')
  with training():
    layer.forward(tf.constant([[-1e30], [1e30]]))  # The variance is infinite.
    layer.forward(tf.zeros([0, 1]))
  assert_statistics(layer, [1.0], [4.0])


# --- Evaluation and inverse.


def test_nothing_but_forward_in_training_updates():
  layer = build([2], mean=3.0, variance=4.0)
  flow = distribution(layer)
  x = test_util.normal([5, 2])
  layer.forward(x)
  with tff.estimation(seed=0):
    layer.forward(x)
    flow.log_prob(x)
  with training():
    layer.inverse(x)
    flow.sample(3, seed=1)
    flow.experimental_sample_and_log_prob(3, seed=1)
  layer.forward(tf.identity(x))
  assert_statistics(layer, 3.0, 4.0)


def test_inverse_undoes_the_forward_of_the_step():
  layer = build([2], decay=0.2)
  x = test_util.normal([5, 2]) + 4
  with training():
    y, log_det = layer.forward_and_log_det(x)
    for inside in (True, False):
      with tff.estimation(seed=1, training=inside):
        back, inverse_log_det = layer.inverse_and_log_det(tf.identity(y))
      np.testing.assert_allclose(back, x)
      np.testing.assert_allclose(inverse_log_det, -log_det)


# --- Adaptation.


@pytest.mark.parametrize('event_shape', [(5,), (4, 3, 2)])
def test_adapt_takes_the_statistics_of_the_batch(event_shape):
  layer = tff.MovingBatchNorm(event_shape, dtype='float64')
  assert not layer.adapted
  x = 3 * test_util.normal((64, *event_shape)) + 7
  with training():
    y = layer.adapt(x)
  axes = tuple(range(len(event_shape)))
  assert_statistics(layer, np.mean(x, axes), np.var(x, axes))
  np.testing.assert_allclose(np.mean(y, axes), 0, atol=1e-12)
  np.testing.assert_allclose(np.var(y, axes), 1, atol=1e-5)
  np.testing.assert_array_equal(layer.forward(tf.identity(x)), y)
  assert layer.adapted


def test_variance_far_from_zero_keeps_its_digits():
  layer = tff.MovingBatchNorm([1])
  x = tf.constant(1e4 + np.random.default_rng(0).normal(size=[500, 1]), 'float32')
  layer.adapt(x)
  np.testing.assert_allclose(
    layer.moving_variance, np.var(x, 0, dtype='float64'), rtol=1e-5
  )


def test_adapt_refuses_what_is_not_finite():
  layer = build([2], mean=1.0, variance=4.0)
  with pytest.raises(ValueError, match=r'finite mean and variance.*\[nan +0'):
    layer.adapt(tf.constant([[np.nan, 0.0]], 'float64'))
  assert_statistics(layer, 1.0, 4.0)
  assert not layer.adapted


# --- In a model.


def model_of(layer):
  flow = tff.Sequential([tff.ActNorm([2]), layer])
  model = tff.FlowModel(distribution(flow), seed=0)
  model.compile(keras.optimizers.SGD(1e-2), jit_compile=True)
  return model


def test_fit_under_xla_updates_and_weights_hold_the_statistics(tmp_path):
  layer = build([2], decay=0.9, dtype='float32')
  model = model_of(layer)
  x = test_util.normal([24, 2], 'float32') * 3 + 5
  model.adapt(x)
  assert layer.adapted
  adapted = statistics(layer)
  model.fit(x.numpy() + 10, batch_size=12, epochs=3, verbose=0)
  moved = statistics(layer)
  assert np.abs(moved[0] - adapted[0]).min() > 0.5
  assert np.abs(moved[1] - adapted[1]).min() > 1e-3

  expected = model.evaluate(x.numpy(), verbose=0)
  assert model.evaluate(x.numpy(), verbose=0) == expected
  np.testing.assert_array_equal(statistics(layer), moved)
  model.save_weights(tmp_path / 'w.weights.h5')
  other_layer = tff.MovingBatchNorm([2])
  other = model_of(other_layer)
  other.load_weights(tmp_path / 'w.weights.h5')
  np.testing.assert_array_equal(statistics(other_layer), moved)
  assert other_layer.adapted
  assert other.evaluate(x.numpy(), verbose=0) == expected


def test_fit_makes_one_update_per_batch():
  layer = build([2], decay=0.5, dtype='float32')
  model = tff.FlowModel(distribution(layer), seed=0)
  model.compile(keras.optimizers.SGD(1e-2), jit_compile=False)
  x = test_util.normal([8, 2], 'float32').numpy()
  model.fit(x, batch_size=4, verbose=0, shuffle=False)
  mean, variance = 0.0, 1.0
  for batch in (x[:4], x[4:]):
    mean = (mean + batch.mean(0)) / 2
    variance = (variance + batch.var(0)) / 2
  assert_statistics(layer, mean, variance, rtol=1e-5)


def step(replicas):
  """Statistics and gradients of one step; of a new process if there are replicas."""
  strategy = tf.distribute.get_strategy()
  if replicas:
    tf.config.set_logical_device_configuration(
      tf.config.list_physical_devices('CPU')[0],
      [tf.config.LogicalDeviceConfiguration()] * replicas,
    )
    strategy = tf.distribute.MirroredStrategy([f'cpu:{i}' for i in range(replicas)])
  with strategy.scope():
    first = tff.ActNorm([2], dtype='float64')
    second = build([2], mean=1e6, decay=0.25)
  # From replica to replica the means differ more than within one.
  x = test_util.normal([8, 2]) + 9 * np.repeat([0, 1], 4)[:, np.newaxis] + 1e6

  def gradients(x):
    with tf.GradientTape() as tape, training():
      y, log_det = tff.Sequential([first, second]).forward_and_log_det(x)
      loss = (tf.reduce_sum(tf.sin(y)) - tf.reduce_sum(log_det)) / 8
    found = tape.gradient(loss, first.trainable_variables)
    return tf.distribute.get_replica_context().all_reduce('sum', found)

  data = tf.data.Dataset.from_tensor_slices(x).batch(8)
  (batch,) = strategy.experimental_distribute_dataset(data)
  found = tf.function(lambda x: strategy.run(gradients, [x]))(batch)
  found = strategy.experimental_local_results(found)[0]
  return [*statistics(second), *(g.numpy() for g in found)]


def test_replicas_make_the_step_of_the_global_batch():
  context = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
    found = pool.submit(step, 2).result()
  expected = step(0)
  assert (expected[1] > 4).all()  # Within a replica the variance is about 1.
  for value, reference in zip(found, expected, strict=True):
    np.testing.assert_allclose(value, reference, rtol=1e-7)


# --- Construction.


def test_without_affine_nothing_is_trained():
  assert not tff.MovingBatchNorm([2], affine=False).trainable_variables
  assert len(tff.MovingBatchNorm([2]).trainable_variables) == 2


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(decay=1.0), r'decay in \[0, 1\).*received 1.0'),
    (dict(decay=-0.1), r'decay in \[0, 1\).*received -0.1'),
    (dict(epsilon=0.0), 'positive epsilon.*received 0.0'),
    (dict(event_shape=[4, 4]), 'MovingBatchNorm expects a static event shape'),
  ],
)
def test_options_out_of_range_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    tff.MovingBatchNorm(**({'event_shape': [2]} | options))
