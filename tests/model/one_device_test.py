"""Strategies of one device, as models of one process."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff


def points(count, size=2):
  return np.random.default_rng(0).normal(1.0, 0.5, [count, size]).astype('f4')


def fast(flow):
  model = tff.FlowModel(flow, seed=0)
  model.compile(keras.optimizers.Adam(1e-3), jit_compile=False)
  return model


@pytest.mark.parametrize('kind', ['OneDevice', 'CentralStorage'])
def test_strategies_of_one_device(kind):
  x = points(10)
  generator = (x[5 * i : 5 * i + 5] for i in range(10))
  make = dict(
    OneDevice=lambda: tf.distribute.OneDeviceStrategy('/cpu:0'),
    CentralStorage=lambda: tf.distribute.experimental.CentralStorageStrategy(),
  )
  flow = dict(num_steps=1, width=4, seed=0)
  with make[kind]().scope():
    model = fast(tff.real_nvp([2], **flow))
  plain = fast(tff.real_nvp([2], **flow))
  dataset = tf.data.Dataset.from_tensor_slices(x).batch(4)
  losses = [m.fit(dataset, verbose=0).history['loss'] for m in (model, plain)]
  np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
  found = model.predict(dataset, verbose=0)
  np.testing.assert_allclose(found, plain.log_prob(x), atol=1e-4)
  loss = model.evaluate(x, batch_size=7, verbose=0)
  np.testing.assert_allclose(loss, -np.mean(found), rtol=1e-4)
  model.fit(generator, steps_per_epoch=2, verbose=0)


def test_an_empty_batch_under_a_strategy():
  x = points(8)
  batches = [x[:5], x[:0], x[5:]]
  dataset = tf.data.Dataset.from_generator(
    lambda: iter(batches), output_signature=tf.TensorSpec([None, 2])
  )
  with tf.distribute.OneDeviceStrategy('/cpu:0').scope():
    model = fast(tff.glow([2], num_steps=2, width=4))
  model.fit(dataset.repeat(), steps_per_epoch=2, verbose=0)
  found = model.predict(dataset.repeat(), steps=2, verbose=0)
  np.testing.assert_allclose(found, model.log_prob(x), atol=1e-4)
