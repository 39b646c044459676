"""Keras habits, as their users write them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff

tfb, tfd = tfp.bijectors, tfp.distributions


def points(count=200, size=2):
  return np.random.default_rng(0).normal(1.0, 0.5, [count, size]).astype('f4')


def fast(flow, **options):
  model = tff.FlowModel(flow, seed=0)
  model.compile(keras.optimizers.Adam(1e-3), jit_compile=False, **options)
  return model


def test_the_plainest_keras_habit():
  x = points()
  model = tff.FlowModel(tff.glow([2], num_steps=2, width=8))
  dataset = tf.data.Dataset.from_tensor_slices(x).batch(64)
  history = model.fit(dataset, epochs=2, verbose=0).history
  assert np.isfinite(history['loss']).all()
  model.fit(x[:40], batch_size=1000, verbose=0)  # More than there are.
  model.fit(x, batch_size=32, steps_per_epoch=3, epochs=2, verbose=0)
  model.fit(x[:1], batch_size=1, verbose=0)
  model.train_on_batch(x[:7])
  expected = model.log_prob(x)
  np.testing.assert_allclose(model.predict(dataset, verbose=0), expected, atol=1e-4)
  loss = model.evaluate(dataset, verbose=0)
  np.testing.assert_allclose(loss, -np.mean(expected), rtol=1e-4)


def test_generator_and_py_dataset_train_as_arrays_do():
  x = points(48)
  condition = x[:, :1] ** 2

  class Batches(keras.utils.PyDataset):
    def __len__(self):
      return 3

    def __getitem__(self, i):
      return x[16 * i : 16 * i + 16], condition[16 * i : 16 * i + 16]

  def generator():
    while True:
      yield from (Batches()[i] for i in range(3))

  losses = []
  for data in (
    dict(x=Batches()),
    dict(x=generator(), steps_per_epoch=3),
    dict(x=x, y=condition, batch_size=16, shuffle=False),
  ):
    model = fast(tff.real_nvp([2], num_steps=1, width=4, condition_size=1, seed=0))
    losses.append(model.fit(**data, verbose=0).history['loss'])
  np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=1e-5)


def test_an_empty_batch_in_the_middle():
  x = points(12)
  batches = [x[:5], x[:0], x[5:]]
  dataset = tf.data.Dataset.from_generator(
    lambda: iter(batches), output_signature=tf.TensorSpec([None, 2])
  ).apply(tf.data.experimental.assert_cardinality(3))
  model = fast(tff.real_nvp([2], num_steps=1, width=4))
  model.fit(dataset, verbose=0)
  found = model.predict(dataset, verbose=0)
  np.testing.assert_allclose(found, model.log_prob(x), atol=1e-5)


def test_a_data_set_of_dictionaries():
  data = {'image': points(8), 'label': np.arange(8)}
  dataset = tf.data.Dataset.from_tensor_slices(data).batch(4)
  model = fast(tff.real_nvp([2], num_steps=1, width=4))
  with pytest.raises(ValueError, match=r"with \['image', 'label'\].*dataset.map"):
    model.fit(dataset, verbose=0)


def test_labels_are_no_condition():
  x, labels = points(3), np.array([0, 2, 1])
  model = fast(tff.real_nvp([2], num_steps=1, width=4, condition_size=3))
  for call in (model.fit, model.evaluate, model.predict, model.adapt, model.log_prob):
    with pytest.raises(ValueError, match=r'shape \[N, 3\]; received \[3\].*one_hot'):
      call(x, labels)


def test_a_nan_in_the_condition_is_refused():
  x, condition = points(4), np.ones([4, 1], 'f4')
  condition[2] = np.nan
  model = fast(tff.glow([2], num_steps=1, width=4, condition_size=1))
  for call in (model.fit, model.evaluate, model.predict, model.adapt, model.log_prob):
    with pytest.raises(ValueError, match='condition of finite numbers; received 1 NaN'):
      call(x, condition)
  with pytest.raises(ValueError, match='condition of finite numbers; received 1 NaN'):
    model.sample(condition=condition)


def test_a_train_step_of_my_own():
  class Mine(tff.FlowModel):
    def train_step(self, data):
      x = data[0]
      with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(self(x, training=True))
      weights = self.trainable_weights
      self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
      return {'loss': loss, 'rows': tf.shape(x)[0]}

  x = points(20)
  model = Mine(tff.real_nvp([2], num_steps=1, width=4, seed=0))
  model.compile('sgd', jit_compile=False)
  before = -np.mean(model.log_prob(x))
  history = model.fit(x, batch_size=20, verbose=0).history
  np.testing.assert_allclose(history['loss'], [before], rtol=1e-5)
  history = model.fit(x, batch_size=16, verbose=0).history
  assert history['rows'] == [4]  # No row that is not there.


def test_frozen_model():
  model = fast(tff.real_nvp([2], num_steps=1, width=4))
  model.trainable = False
  for call in (model.fit, model.train_on_batch):
    with pytest.raises(ValueError, match='weights to train.*trainable = True'):
      call(points(8))


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_seconds_since_1970(dtype):
  x = 1.6e9 + np.random.default_rng(0).uniform(0, 600, [100, 2])
  model = fast(tff.real_nvp([2], num_steps=1, width=4))
  x = x.astype(dtype)
  for call in (model.fit, model.adapt):
    with pytest.raises(ValueError, match=r'digits float32.*steps of 191.*Subtract'):
      call(x)
  conditional = fast(tff.real_nvp([2], num_steps=1, width=4, condition_size=2))
  with pytest.raises(ValueError, match=r'columns of the condition whose digits'):
    conditional.fit(points(100), x)
  own = tff.FlowModel(tff.real_nvp([2], num_steps=1, width=4, dtype=tf.float64))
  own.adapt(x.astype('float64'))
  # One batch of a sorted data set does not tell the spread of the whole.
  years = np.concatenate([x[:32], x[:32] + 3e8])
  model.predict(tf.data.Dataset.from_tensor_slices(years).batch(32), verbose=0)


def test_float64_tensors():
  x = points(6).astype('float64')
  condition = x[:, :1]
  model = fast(tff.real_nvp([2], num_steps=1, width=4, condition_size=1))
  expected = model.log_prob(x, condition)
  found = model.log_prob(tf.constant(x), tf.constant(condition))
  np.testing.assert_array_equal(found, expected)
  dataset = tf.data.Dataset.from_tensor_slices((x, condition)).batch(4)
  model.fit(dataset, verbose=0)
  expected = model.log_prob(x, condition)
  np.testing.assert_allclose(model.predict(dataset, verbose=0), expected, atol=1e-5)


def test_adapt_to_an_exact_zero_under_a_logit():
  layers = tff.Sequential([tfb.Invert(tfb.Sigmoid()), tff.ActNorm([2])])
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [2])
  model = fast(tfd.TransformedDistribution(base, tfb.Invert(layers)))
  x = np.random.default_rng(0).uniform(size=[50, 2]).astype('f4')
  model.adapt(x)
  before = [v.numpy() for v in model.distribution.variables]
  x[3, 0] = 0.0
  with pytest.raises(ValueError, match='latents are finite.*exact 0 or 1'):
    model.adapt(x)
  for variable, value in zip(model.distribution.variables, before):
    np.testing.assert_array_equal(variable, value)


def test_another_condition_at_the_second_fit():
  x = points(4)
  model = fast(tff.real_nvp([2], num_steps=1, width=4, condition_size=2))
  model.fit(x, np.ones([4, 2], 'f4'), verbose=0)
  with pytest.raises(ValueError, match=r'shape \[N, 2\]; received \[4, 3\]'):
    model.fit(x, np.ones([4, 3], 'f4'), verbose=0)
  with pytest.raises(ValueError, match=r'condition of shape \[N, 2\].*received none'):
    model.fit(x, verbose=0)


@pytest.mark.parametrize('when', ['before', 'after'])
def test_frozen_network(when):
  mask = tff.ChannelMask([2])
  networks = [tff.MLP(mask.kept_shape, 2, hidden=[4], seed=i) for i in range(2)]
  networks[0].trainable = when != 'before'
  layers = [tff.AffineCoupling(mask, network) for network in networks]
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [2])
  flow = tfb.Invert(tff.Sequential(layers))
  model = fast(tfd.TransformedDistribution(base, flow))
  x = points(10)
  if when == 'after':
    model.fit(x, verbose=0)
    networks[0].trainable = False
    model.compile('sgd', jit_compile=False)
  before = [[v.numpy() for v in n.variables] for n in networks]
  assert len(model.trainable_variables) == len(networks[1].trainable_variables)
  model.fit(x, verbose=0)
  for variable, value in zip(networks[0].variables, before[0]):
    np.testing.assert_array_equal(variable, value)
  moved = [np.ptp(v - w) for v, w in zip(networks[1].variables, before[1])]
  assert max(moved) > 0
