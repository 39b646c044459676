import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tfp_flows.internal import keras_parameters

tfb = tfp.bijectors


def step(seed=0, size=4, dtype='float64', **options):
  mask = tff.ChannelMask([size])
  network = tff.MLP(
    mask.kept_shape,
    2 * mask.changed_shape[-1],
    hidden=(5,),
    seed=seed,
    dtype=dtype,
    **options,
  )
  return tff.Sequential(
    [
      tff.ActNorm([size], dtype=dtype),
      tff.Invertible1x1ConvLU([size], seed=seed, dtype=dtype),
      tff.AffineCoupling(mask, network, 'tanh', dtype=dtype),
    ]
  )


def perturbed_steps(count, **options):
  steps = [step(i, **options) for i in range(count)]
  for i, one in enumerate(steps):
    test_util.perturb(one, 0.2, seed=i)
  return steps


def run_in(mode, fn):
  if mode == 'eager':
    return fn
  return tf.function(fn, jit_compile=mode == 'xla', autograph=False)


@pytest.mark.parametrize('mode', ['eager', 'graph', 'xla'])
@pytest.mark.parametrize('loop', [False, True])
def test_equals_its_steps_one_after_the_other(mode, loop):
  steps = perturbed_steps(4)
  x = test_util.normal([3, 4])
  expected, log_det = tff.Sequential(steps).forward_and_log_det(x)
  repeated = tff.Repeated(steps, loop=loop)
  y, found = run_in(mode, repeated.forward_and_log_det)(x)
  np.testing.assert_allclose(y, expected, atol=1e-12)
  np.testing.assert_allclose(found, log_det, atol=1e-12)
  back, found = run_in(mode, repeated.inverse_and_log_det)(tf.identity(y))
  np.testing.assert_allclose(back, x, atol=1e-10)
  np.testing.assert_allclose(found, -log_det, atol=1e-10)


def test_weights_are_copied_into_one_variable_for_all_steps():
  steps = perturbed_steps(3)
  repeated = tff.Repeated(steps)
  assert len(repeated) == 3
  assert len(repeated.trainable_variables) == len(steps[0].trainable_variables)
  for i, one in enumerate(steps):
    for stacked, own in zip(repeated.variables, one.variables):
      np.testing.assert_array_equal(stacked[i], own)
  # The steps are no part of it any more.
  x = test_util.normal([2, 4])
  before = repeated.forward(x)
  test_util.perturb(steps[0])
  np.testing.assert_array_equal(repeated.forward(tf.identity(x)), before)


def test_adapt_goes_from_step_to_step():
  steps = perturbed_steps(3)
  x = 3.0 * test_util.normal([50, 4]) + 1.0
  repeated = tff.Repeated(steps)
  y = repeated.adapt(x)
  np.testing.assert_allclose(repeated.forward(tf.identity(x)), y, atol=1e-12)
  steps = perturbed_steps(3)
  np.testing.assert_allclose(tff.Sequential(steps).adapt(x), y, atol=1e-12)
  flags = [v for v in repeated.variables if 'adapted' in v.name]
  assert all(np.all(v) for v in flags)
  for stacked, *own in zip(repeated.variables, *(s.variables for s in steps)):
    np.testing.assert_allclose(
      tf.cast(stacked, 'float64'), np.stack(own).astype('float64'), atol=1e-12
    )


def test_a_graph_does_not_grow_with_the_number_of_steps():
  def size(count):
    repeated = tff.Repeated(perturbed_steps(count))

    @tf.function(autograph=False)
    def gradients(x):
      with tf.GradientTape() as tape:
        loss = tf.reduce_sum(repeated.forward_and_log_det(x)[1])
      return tape.gradient(loss, repeated.trainable_variables)

    graph = gradients.get_concrete_function(test_util.normal([3, 4])).graph
    functions = graph.as_graph_def().library.function
    return len(graph.get_operations()) + sum(len(f.node_def) for f in functions)

  assert size(2) == size(7)


def test_a_repeated_inside_of_a_repeated():
  x = test_util.normal([3, 4])
  groups = [perturbed_steps(2) for _ in range(3)]
  for i, group in enumerate(groups):
    for one in group:
      test_util.perturb(one, 0.1, seed=10 + i)
  flat = tff.Sequential([one for group in groups for one in group])
  expected, log_det = flat.forward_and_log_det(x)
  nested = tff.Repeated([tff.Repeated(group) for group in groups], 'reversible')

  @tf.function(autograph=False)
  def run(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y, log_det = nested.forward_and_log_det(x)
      loss = tf.reduce_sum(y**2) + tf.reduce_sum(log_det)
    return y, log_det, tape.gradient(loss, [x, *nested.trainable_variables])

  y, found, (of_x, *of_weights) = run(x)
  np.testing.assert_allclose(y, expected, atol=1e-12)
  np.testing.assert_allclose(found, log_det, atol=1e-12)
  with tf.GradientTape() as tape:
    tape.watch(x)
    y, log_det = flat.forward_and_log_det(tf.identity(x))
    loss = tf.reduce_sum(y**2) + tf.reduce_sum(log_det)
  expected_x, *expected_weights = tape.gradient(loss, [x, *flat.trainable_variables])
  np.testing.assert_allclose(of_x, expected_x, rtol=1e-9)
  # Rows are steps: those of the first group, then those of the second.
  count = len(of_weights)
  for i, stacked in enumerate(of_weights):
    own = np.stack(expected_weights[i::count])
    np.testing.assert_allclose(np.reshape(stacked, own.shape), own, atol=1e-9)


def test_keras_trains_it_and_saves_it(tmp_path):
  def model(loop):
    flow = tff.Repeated(perturbed_steps(3, dtype='float32'), loop=loop)
    base = tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), 4)
    distribution = tfp.distributions.TransformedDistribution(base, tfb.Invert(flow))
    return tff.FlowModel(distribution, seed=0)

  first = model(True)
  first.compile('adam')
  x = 2.0 * np.random.default_rng(0).standard_normal([256, 4]).astype('f4') + 1.0
  first.adapt(x)
  losses = first.fit(x, epochs=3, batch_size=64, verbose=0).history['loss']
  assert losses[-1] < losses[0]
  first.save_weights(tmp_path / 'w.weights.h5')
  second = model(False)
  second.load_weights(tmp_path / 'w.weights.h5')
  np.testing.assert_allclose(second.log_prob(x), first.log_prob(x), rtol=1e-4)


class DirectlyRead(tff.FlowBijector):
  """A layer that reads its variable as any TensorFlow code would."""

  def __init__(self):
    super().__init__(forward_min_event_ndims=1, dtype=tf.float64)
    self.shift = tf.Variable(tf.ones([4], tf.float64))

  def _forward_and_log_det(self, x, condition=None):
    return x + self.shift, tf.zeros([], x.dtype)


@pytest.mark.parametrize('mode', ['eager', 'graph'])
def test_variables_that_cannot_be_replaced_are_found(mode):
  repeated = tff.Repeated([DirectlyRead(), DirectlyRead()])
  with pytest.raises(ValueError, match='was read directly. Read it by `self._weight'):
    run_in(mode, repeated.forward_and_log_det)(test_util.normal([3, 4]))


def test_a_batch_of_unknown_size():
  repeated = tff.Repeated(perturbed_steps(3), memory='reversible')

  @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, 4], tf.float64)])
  def gradient(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y, log_det = repeated.forward_and_log_det(x)
      loss = tf.reduce_sum(y**2) + tf.reduce_sum(log_det)
    return tape.gradient(loss, x)

  x = test_util.normal([5, 4])
  np.testing.assert_allclose(gradient(x)[:2], gradient(x[:2]), rtol=1e-9)


@pytest.mark.parametrize('mode', ['eager', 'graph'])
def test_steps_without_weights(mode):
  repeated = tff.Repeated([tfb.Scale(2.0)] * 3)
  y, log_det = run_in(mode, repeated.forward_and_log_det)(tf.ones([2]))
  np.testing.assert_allclose(y, [8.0, 8.0])
  np.testing.assert_allclose(log_det, np.log([8.0, 8.0]), rtol=1e-6)
  np.testing.assert_allclose(repeated.adapt(tf.ones([2])), [8.0, 8.0])


def test_frozen_weights_stay_frozen():
  steps = perturbed_steps(2)
  for one in steps:
    (layer,) = keras_parameters.keras_layers(one)
    layer.trainable = False
  names = [v.name for v in tff.Repeated(steps).trainable_variables]
  assert len(names) == 4  # Of the normalization, the rotation and the scale.


def test_knows_whether_it_is_adapted():
  repeated = tff.Repeated(perturbed_steps(2))
  assert not repeated.adapted
  repeated.adapt(test_util.normal([9, 4]))
  assert repeated.adapted


def test_inside_of_a_mixed_precision_layer():
  repeated = tff.Repeated(perturbed_steps(2, dtype='float32'))

  class Layer(keras.layers.Layer):
    def call(self, x):
      return repeated.forward(tf.cast(x, 'float32'))

  x = test_util.normal([3, 4], 'float32')
  found = Layer(dtype='mixed_bfloat16')(x)
  np.testing.assert_allclose(found, repeated.forward(tf.identity(x)), atol=0.1)


def test_weights_of_others_are_refused():
  scale = tf.Variable(tf.ones([2]), name='shared')

  def make():
    return tff.Coupling(
      tff.ChannelMask([4]), lambda kept: kept, lambda p: tfb.Scale(scale)
    )

  repeated = tff.Repeated([make(), make()], memory='reversible')
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(repeated.forward(test_util.normal([3, 4], 'float32')))
  with pytest.raises(ValueError, match='own the variables.*received some.*shared'):
    tape.gradient(loss, scale)


def of_mask(mask, **options):
  network = tff.MLP(mask.kept_shape, 4, hidden=(3,), seed=0, **options)
  return tff.AffineCoupling(mask, network)


MASK = tff.ChannelMask([4])
REGULARIZED = keras.Sequential(
  [keras.Input([2]), keras.layers.Dense(4, kernel_regularizer='l2')]
)


@pytest.mark.parametrize(
  ('steps', 'memory', 'message'),
  [
    (
      lambda: [of_mask(tff.ChannelMask([4], invert)) for invert in (False, True)],
      'stored',
      'step 1 differs from step 0',
    ),
    (
      lambda: [of_mask(MASK, activation=name) for name in ('relu', 'tanh')],
      'stored',
      'step 1 differs from step 0',
    ),
    (
      lambda: [tfb.Permute(order) for order in ([0, 1, 2], [2, 1, 0])],
      'stored',
      'step 1 differs from step 0',
    ),
    (
      lambda: [tff.Sequential([step()], memory='reversible') for _ in range(2)],
      'stored',
      "sequential is reversible. Give memory='reversible' to Repeated",
    ),
    (
      lambda: [tff.AffineCoupling(MASK, REGULARIZED)] * 2,
      'stored',
      'without regularizers.*kernel has one. Use Sequential',
    ),
  ],
)
def test_steps_that_would_be_wrong_are_refused(steps, memory, message):
  with pytest.raises(ValueError, match=message):
    tff.Repeated(steps(), memory)


@pytest.mark.parametrize(
  ('steps', 'message'),
  [
    (lambda: [], 'at least one step; received none'),
    (lambda: [step(), step(size=6)], 'step 1 differs from step 0. Use Sequential'),
    (lambda: [step(), tff.ActNorm([4])], 'step 1 differs from step 0'),
    (
      lambda: [residual(0), residual(1, lipschitz=0.5**2)],
      'step 1 differs from step 0',
    ),
  ],
)
def test_steps_that_cannot_be_repeated_are_refused(steps, message):
  with pytest.raises(ValueError, match=message):
    tff.Repeated(steps())


@pytest.mark.parametrize(
  ('steps', 'message'),
  [
    (lambda: [step(dropout=0.1)] * 2, 'draws noise or keeps statistics'),
    (lambda: [tff.MovingBatchNorm([4])] * 2, 'moving_batch_norm does not allow'),
    (lambda: [residual(0), residual(1)], 'residual_flow does not allow'),
  ],
)
def test_steps_that_need_their_activations_are_refused(steps, message):
  with pytest.raises(ValueError, match=message):
    tff.Repeated(steps(), memory='reversible')
  with pytest.raises(ValueError, match='repeated does not allow|draws noise'):
    tff.Sequential([tff.Repeated(steps())], memory='reversible')


# Steps with noise, iterations, norms and statistics.


def residual(seed, log_det=None, **options):
  options = dict(lipschitz=0.8**2) | options
  branch = tff.LipschitzMLP([3], [6], zero_last=False, seed=seed, **options)
  return tff.ResidualFlow(branch, [3], log_det, seed=100 + seed)


def residual_steps():
  steps = [residual(i) for i in range(3)]
  for i, one in enumerate(steps):
    test_util.perturb(one, 0.5, seed=i)
    tff.update_norms(one)
  return steps


def in_training(bijector):
  @tf.function(autograph=False)
  def run(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      with tff.estimation(seed=5, training=True):
        y, log_det = bijector.forward_and_log_det(x)
      loss = tf.reduce_sum(y**2) + tf.reduce_sum(log_det)
    return y, log_det, tape.gradient(loss, [x, *bijector.trainable_variables])

  return run


@pytest.mark.parametrize('loop', [False, True])
def test_each_step_has_the_noise_that_it_has_alone(loop):
  steps = residual_steps()
  x = test_util.normal([4, 3], 'float32')
  y, log_det, (of_x, *of_weights) = in_training(tff.Sequential(steps))(x)
  repeated = tff.Repeated(steps, loop=loop)
  found_y, found, (found_of_x, *found_of_weights) = in_training(repeated)(x)
  np.testing.assert_allclose(found_y, y, rtol=1e-5)
  np.testing.assert_allclose(found, log_det, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(found_of_x, of_x, rtol=1e-4, atol=1e-6)
  for i, stacked in enumerate(found_of_weights):
    own = np.stack(of_weights[i :: len(found_of_weights)])
    np.testing.assert_allclose(stacked, own, rtol=1e-3, atol=1e-5)
  copy = tff.Repeated.from_config(repeated.get_config())
  for v, value in zip(copy.variables, repeated.variables):
    v.assign(value)
  np.testing.assert_array_equal(in_training(copy)(x)[1], found)
  # With equal noise in all steps the estimates would be others.
  repeated._salt.numbers[:] = 7
  assert np.abs(in_training(repeated)(x)[1] - log_det).max() > 1e-3


@pytest.mark.parametrize('mode', ['eager', 'graph', 'xla'])
def test_norms_of_all_steps_are_those_of_separate_layers(mode):
  steps = residual_steps()
  repeated = tff.Repeated(steps)
  before = [v.numpy() for v in repeated.non_trainable_variables]

  def move(bijector):
    for variable in bijector.trainable_variables:
      variable.assign(variable**2 + 0.1)
    run_in(mode, lambda: tff.update_norms(bijector, 1e-4, 20))()

  for bijector in (*steps, repeated):
    move(bijector)
  assert len(tff.bijectors.networks_with_norms(repeated)) == 1
  for stacked, *own in zip(repeated.variables, *(s.variables for s in steps)):
    np.testing.assert_allclose(stacked, np.stack(own), atol=1e-5)
  after = [v.numpy() for v in repeated.non_trainable_variables]
  assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(before, after))
  bounds = tff.bijectors.at_networks_with_norms(repeated, lambda n: n.lipschitz_bound())
  expected = [one.branch.lipschitz_bound() for one in steps]
  np.testing.assert_allclose(bounds, expected, rtol=1e-5)


@pytest.mark.parametrize('loop', [False, True])
def test_the_inverse_is_iterated_and_differentiated(loop):
  steps = residual_steps()
  y = test_util.normal([4, 3], 'float32')

  def gradients(bijector):
    @tf.function(autograph=False)
    def run(y):
      with tf.GradientTape() as tape:
        tape.watch(y)
        x = bijector.inverse(y)
        loss = tf.reduce_sum(x**3)
      return x, tape.gradient(loss, [y, *bijector.trainable_variables])

    return run(y)

  x, (of_y, *of_weights) = gradients(tff.Sequential(steps))
  repeated = tff.Repeated(steps, loop=loop)
  found, (found_of_y, *found_of_weights) = gradients(repeated)
  np.testing.assert_allclose(found, x, atol=1e-5)
  np.testing.assert_allclose(found_of_y, of_y, rtol=1e-3, atol=1e-5)
  for i, stacked in enumerate(found_of_weights):
    own = np.stack(of_weights[i :: len(found_of_weights)])
    np.testing.assert_allclose(stacked, own, rtol=1e-2, atol=1e-4)
  np.testing.assert_allclose(repeated.forward(found), y, atol=1e-5)


@pytest.mark.parametrize('loop', [False, True])
def test_dropout_of_each_step_moves_on_in_training_only(loop):
  steps = perturbed_steps(3, dropout=0.5, dtype='float32')
  repeated = tff.Repeated(steps, loop=loop)
  flow = tfp.distributions.TransformedDistribution(
    tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), 4),
    tfb.Invert(repeated),
  )
  model, x = tff.FlowModel(flow, seed=0), test_util.normal([6, 4], 'float32')
  (seeds,) = [v for v in repeated.variables if 'seed_generator' in v.name]
  start = seeds.numpy()
  call = tf.function(model.call, autograph=False)
  evaluated = call(x, training=False)
  np.testing.assert_array_equal(call(x, training=False), evaluated)
  np.testing.assert_array_equal(seeds, start)

  class Training(keras.layers.Layer):
    def __init__(self):
      super().__init__()
      self.model = model

    def call(self, x, training=False):
      return self.model(x, training=training)

  layer = Training()
  first = layer(x, training=True)
  assert np.abs(first - evaluated).max() > 1e-3
  moved = seeds.numpy()
  assert (moved != start).any(axis=1).all()
  assert len(np.unique(moved, axis=0)) == 3
  assert np.abs(layer(x, training=True) - first).max() > 1e-3
