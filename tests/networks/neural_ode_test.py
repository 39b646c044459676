import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util

EXACT = tff.DormandPrince(rtol=1e-10, atol=1e-10)


@keras.saving.register_keras_serializable('tests')
class Swirl(keras.layers.Layer):
  """`dx/dt = 2 t A x`: from t0 to t1 a product with `expm(A (t1^2 - t0^2))`."""

  def __init__(self, size, dropout=0.0, **options):
    super().__init__(**options)
    self._size = size
    self._dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
    initializer = keras.initializers.RandomNormal(stddev=0.5, seed=0)
    self.matrix = self.add_weight(shape=(size, size), initializer=initializer)
    self.num_calls = 0
    self.built = True

  def call(self, t, x):
    self.num_calls += 1
    return 2 * t * self._dropout(x @ tf.convert_to_tensor(self.matrix))

  def get_config(self):
    return {**super().get_config(), 'size': self._size}


def expected(layer, x, square):
  matrix = tf.convert_to_tensor(layer.field.matrix)
  return tf.tensordot(x, tf.linalg.expm(square * matrix), 1)


@pytest.mark.parametrize('times', [(0.0, 1.0), (0.3, -1.2), (0.5, 0.5)])
@pytest.mark.parametrize(
  'dtype,shape', [('float64', (4, 3)), ('float32', (2, 2, 2, 3))]
)
def test_equals_the_matrix_exponential(times, dtype, shape):
  solver = EXACT if dtype == 'float64' else None
  layer = tff.NeuralODE(
    Swirl(3, dtype=dtype),
    solver,
    initial_time=times[0],
    final_time=times[1],
    dtype=dtype,
  )
  y = layer(test_util.normal(shape))
  assert y.dtype == dtype
  x = test_util.normal(shape, dtype)
  reference = expected(layer, x, times[1] ** 2 - times[0] ** 2)
  atol = 1e-8 if dtype == 'float64' else 1e-3
  np.testing.assert_allclose(y, reference, atol=atol)
  np.testing.assert_allclose(tf.function(layer)(x), y, atol=atol)


def test_augments_with_zeros():
  layer = tff.NeuralODE(Swirl(5, dtype='float64'), EXACT, augment=2, dtype='float64')
  x = test_util.normal((4, 3))
  y = layer(x)
  reference = expected(layer, tf.pad(x, [[0, 0], [0, 2]]), 1.0)
  np.testing.assert_allclose(y, reference, atol=1e-8)
  assert layer.compute_output_shape((None, 7, 3)) == (None, 7, 5)


def test_gradients_equal_finite_differences():
  field = tff.FieldMLP(3, [8], dtype='float64')
  test_util.perturb(field)
  layer = tff.NeuralODE(
    field, EXACT, trainable_time=True, final_time=0.7, augment=1, dtype='float64'
  )
  assert len(layer.trainable_weights) == 1 + len(field.trainable_weights)
  x, h = tf.Variable(test_util.normal((4, 2))), 1e-5
  upstream = test_util.normal((4, 3), seed=1)

  @tf.function
  def loss():
    return tf.reduce_sum(layer(tf.identity(x)) * upstream)

  final_time, *weights = [w.value for w in layer.trainable_weights]
  with tf.GradientTape() as tape:
    value = loss()
  gradients = tape.gradient(value, [[x], [final_time], weights])
  for part, gradient in zip([[x], [final_time], weights], gradients):
    direction = [test_util.normal(v.shape, seed=2 + i) for i, v in enumerate(part)]

    def moved(step, part=part, direction=direction):
      for v, d in zip(part, direction):
        v.assign_add(step * d)
      return loss()

    slope = (moved(h) - moved(-2 * h)) / (2 * h)
    moved(h)
    ours = sum(tf.reduce_sum(g * d) for g, d in zip(gradient, direction))
    assert np.abs(ours) > 1e-3
    np.testing.assert_allclose(ours, slope, rtol=1e-6)


def rings(count=256):
  x = np.random.default_rng(0).normal(size=[count, 2]).astype('float32')
  return x, np.linalg.norm(x, axis=-1) < 1.18


def test_fit_under_xla_trains_and_traces_once():
  class Counted(tff.FieldMLP):
    num_calls = 0

    def call(self, t, x):
      Counted.num_calls += 1
      return super().call(t, x)

  field = Counted(3, [16], seed=0)
  layer = tff.NeuralODE(
    field, tff.DormandPrince(1e-3, 1e-3), tff.RungeKutta4(3), tff.RungeKutta4(2),
    augment=1, trainable_time=True, name='ode',
  )  # fmt: skip
  model = keras.Sequential([keras.Input([2]), layer, keras.layers.Dense(1)])
  loss = keras.losses.BinaryCrossentropy(from_logits=True)
  model.compile(keras.optimizers.Adam(0.05), loss, jit_compile=True)
  assert Counted.num_calls == 0
  before = [tf.identity(w) for w in model.trainable_weights]
  calls = keras.callbacks.LambdaCallback(
    on_epoch_end=lambda epoch, logs: logs.update(calls=Counted.num_calls)
  )
  logs = model.fit(
    *rings(), 64, 15, verbose=0, callbacks=[calls], validation_data=rings()
  ).history
  assert logs['calls'][0] > 0
  assert set(logs['calls']) == {logs['calls'][0]}
  assert logs['loss'][-1] < 0.7 * logs['loss'][0]
  for old, new in zip(before, model.trainable_weights):
    assert np.abs(old - new).max() > 1e-3, new.path
  # Means over batches: two evaluations at the start and six per step.
  assert all(8 <= count < 100 for count in logs['ode_nfe'])
  assert set(logs['ode_nfe_backward']) == {8.0}
  assert set(logs['val_ode_nfe']) == {12.0}
  assert set(logs['val_ode_nfe_backward']) == {0.0}
  forward, backward = layer.count_evaluations(rings()[0])
  assert forward >= 8 and backward == 8
  assert layer.count_evaluations(rings()[0], training=False) == (12, 8)


def test_backward_evaluations_are_counted_once_and_only_if_there_are_any():
  layer = tff.NeuralODE(Swirl(2), tff.RungeKutta4(1), None, tff.RungeKutta4(2))
  x = tf.Variable(test_util.normal((3, 2), 'float32'))
  forward, backward = layer.metrics
  for source in (x, layer.field.matrix.value):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(source)
      y = layer(tf.identity(x), training=True)
    assert backward.result() == 0
    assert tape.gradient(y, source) is not None
    assert (forward.result(), backward.result()) == (4, 8)
    assert (forward.count, backward.count) == (1, 1)
    assert layer.count_evaluations(x) == (4, 8)
    assert (forward.count, backward.count) == (1, 1)
    forward.reset_state()
    backward.reset_state()


def test_symbolic_calls_do_not_solve():
  field = Swirl(5)
  layer = tff.NeuralODE(field, augment=2)
  image = keras.Input([7, 4, 3])
  y = layer(image)
  assert (y.shape, y.dtype) == ((None, 7, 4, 5), 'float32')
  assert field.num_calls == 0
  inner = keras.Model(image, y)
  assert {v.path for v in inner.trainable_variables} == {field.matrix.path}
  x = test_util.normal((2, 7, 4, 3), 'float32')
  outer = keras.Sequential([inner])
  np.testing.assert_allclose(outer(x), layer(x), atol=1e-6)
  np.testing.assert_allclose(outer.predict(x, verbose=0), layer(x), atol=1e-5)
  spec = [tf.TensorSpec([None, 7, 4, 3])]
  compiled = tf.function(lambda x: layer(x), input_signature=spec)
  np.testing.assert_allclose(compiled(x), layer(x), atol=1e-5)


@pytest.mark.parametrize('policy', ['mixed_bfloat16', 'bfloat16'])
def test_state_is_in_float32_under_a_lower_precision(policy):
  field = Swirl(3, dtype='float32')
  # Steps so small that they would vanish beside a state in bfloat16.
  layer = tff.NeuralODE(field, tff.RungeKutta4(100), dtype=policy)
  x = tf.cast(test_util.normal((8, 3), 'float32'), 'bfloat16')
  y = layer(x)
  assert y.dtype == layer(keras.Input([3])).dtype == 'bfloat16'
  reference = expected(layer, tf.cast(x, 'float32'), 1.0)
  assert np.abs(reference - tf.cast(x, 'float32')).max() > 0.5
  np.testing.assert_allclose(tf.cast(y, 'float32'), reference, rtol=2**-8, atol=1e-5)


def test_field_may_be_of_another_precision():
  x, layers = test_util.normal((8, 3), 'float32'), []
  for dtype in ('float32', 'mixed_bfloat16', 'float64'):
    field = tff.FieldMLP(3, [8], dtype=dtype)
    layers.append(tff.NeuralODE(field, tff.RungeKutta4(4), dtype='float32'))
    field.set_weights(layers[0].field.get_weights())
  y, rough, double = (layer(x) for layer in layers)
  assert y.dtype == rough.dtype == double.dtype == 'float32'
  assert 1e-4 < np.abs(rough - y).max() < 0.05
  np.testing.assert_allclose(double, y, atol=1e-5)
  one = tf.ones([2, 3])
  np.testing.assert_array_equal(layers[0](tf.cast(one, 'int32')), layers[0](one))


def test_field_is_called_as_in_inference():
  layer = tff.NeuralODE(Swirl(3, dropout=0.5))
  x = tf.Variable(test_util.normal((8, 3), 'float32'))
  gradients = []
  for training in (False, True):
    with tf.GradientTape() as tape:
      y = layer(tf.identity(x), training=training)
    gradients.append(tape.gradient(y, x))
    np.testing.assert_allclose(y, expected(layer, x, 1.0), atol=1e-3)
  np.testing.assert_array_equal(*gradients)


def saved_model(**options):
  layer = tff.NeuralODE(
    Swirl(5), tff.DormandPrince(1e-4, 1e-3, 0.1, 50, safety_factor=0.8),
    tff.RungeKutta4(3), initial_time=0.1, final_time=0.8, augment=2, name='ode',
    **options,
  )  # fmt: skip
  return keras.Sequential([keras.Input([3]), layer, keras.layers.Dense(1)])


@pytest.mark.parametrize('trainable_time', [True, False])
def test_models_are_saved(tmp_path, trainable_time):
  model = saved_model(trainable_time=trainable_time)
  test_util.perturb(model)
  model.layers[0].trainable = False
  x = test_util.normal((4, 3), 'float32')
  y = model(x)
  model.save_weights(tmp_path / 'model.weights.h5')
  other = saved_model(trainable_time=trainable_time)
  assert np.abs(other(x) - y).max() > 1e-2
  other.load_weights(tmp_path / 'model.weights.h5')
  np.testing.assert_array_equal(other(x), y)

  model.save(tmp_path / 'model.keras')
  loaded = keras.models.load_model(tmp_path / 'model.keras')
  np.testing.assert_array_equal(loaded(x), y)
  layer, before = loaded.layers[0], model.layers[0]
  assert layer.get_config() == before.get_config()
  assert layer.solver.get_config() == before.solver.get_config()
  assert isinstance(layer.evaluation_solver, tff.RungeKutta4)
  assert layer.adjoint_solver is None
  assert not layer.trainable
  assert tf.is_tensor(layer.final_time) == trainable_time


class Halved(tfp.math.ode.DormandPrince):
  """A solver of a class that nobody has registered."""


def test_solvers_of_tfp_are_saved_and_unknown_ones_are_not():
  layer = tff.NeuralODE(Swirl(3), tfp.math.ode.BDF(rtol=1e-2), final_time=np.float32(2))
  config = json.loads(json.dumps(layer.get_config()))
  copy = tff.NeuralODE.from_config(config)
  assert isinstance(copy.solver, tfp.math.ode.BDF)
  assert copy.get_config() == config
  assert config['solver']['arguments']['rtol'] == 1e-2 and config['final_time'] == 2.0
  with pytest.raises(ValueError, match='Expected arguments that can be saved.*Halved'):
    tff.NeuralODE(Swirl(3), Halved()).get_config()


def test_solvers_in_files_of_earlier_versions():
  """Which have their class without its place."""
  layer = tff.NeuralODE(Swirl(3), tff.RungeKutta4(3))
  solver = dict(class_name='DormandPrince', config=dict(rtol=1e-3, name='mine'))
  config = dict(layer.get_config(), solver=solver)
  del config['trainable'], config['evaluation_solver']
  copy = tff.NeuralODE.from_config(config)
  expected = tff.DormandPrince(1e-3, name='mine').get_config()
  assert copy.solver.get_config() == expected
  assert copy.trainable


@pytest.mark.parametrize(
  'make,message',
  [
    (lambda: tff.NeuralODE(lambda t, x: x), 'a Keras layer, called as field'),
    (lambda: tff.NeuralODE(keras.layers.Dense(3)), 'a built field; dense'),
    (lambda: tff.NeuralODE(Swirl(3), augment=-1), 'augment >= 0; received -1'),
  ],
)
def test_errors_of_construction(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_error_of_a_field_of_another_shape():
  class Narrow(Swirl):
    def call(self, t, x):
      return super().call(t, x)[..., 1:]

  layer = tff.NeuralODE(Narrow(3), name='ode')
  with pytest.raises(ValueError, match=r'field of ode.*\(4, 3\); received \(4, 2\)'):
    layer(tf.zeros([4, 3]))


def test_failing_solvers():
  layer = tff.NeuralODE(Swirl(3), tff.DormandPrince(max_num_steps=1))
  x = test_util.normal((4, 3), 'float32')
  with pytest.raises(
    ValueError, match='neural_ode.* failed after .* largest number of steps'
  ):
    layer(x)
  assert np.isnan(tf.function(layer)(x)).all()
