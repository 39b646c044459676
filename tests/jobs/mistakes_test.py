"""What people pass first, and what they are told."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff


def points(*shape):
  return np.random.default_rng(0).normal(size=shape).astype('f4')


@pytest.fixture(scope='module')
def model():
  model = tff.FlowModel(tff.real_nvp([2], num_steps=1, width=4, condition_size=3))
  model.compile(jit_compile=False)
  return model


@pytest.mark.parametrize('method', ['log_prob', 'encode'])
def test_a_data_set_where_a_batch_goes(model, method):
  dataset = tf.data.Dataset.from_tensor_slices(points(8, 2)).batch(4)
  for batches in (dataset, iter(dataset), (x for x in dataset)):
    with pytest.raises(ValueError, match='Pass its batches one by one'):
      getattr(model, method)(batches)


@pytest.mark.parametrize('method', ['fit', 'evaluate', 'adapt'])
def test_a_data_set_without_batches(model, method):
  dataset = tf.data.Dataset.from_tensor_slices((points(8, 2), points(8, 3)))
  with pytest.raises(ValueError, match=r'received \[2\].*one example: pass batches'):
    getattr(model, method)(dataset)


def test_no_condition(model):
  for call in (
    lambda: model.log_prob(points(8, 2)),
    lambda: model.encode(points(8, 2)),
    lambda: model.sample(5),
    lambda: model.sample_and_log_prob(5),
  ):
    with pytest.raises(ValueError, match=r'or \[N, 3\]; received none. Pass it as `co'):
      call()


def test_examples_and_condition_in_one(model):
  with pytest.raises(ValueError, match=r'received a tuple of 2 .* fit\(x, condition\)'):
    model.fit((points(8, 2), points(8, 3)))


def test_a_model_where_a_distribution_goes(model):
  with pytest.raises(ValueError, match='received a FlowModel. Pass the `distribution`'):
    tff.given(model, points(8, 3))


def test_many_models_are_no_mistake(caplog):
  x = points(8, 2)
  for seed in range(7):
    model = tff.FlowModel(tff.real_nvp([2], num_steps=1, width=4, seed=seed))
    model.compile(jit_compile=False)
    model.log_prob(x)
    model.evaluate(x, verbose=0)
    model.predict(x, verbose=0)
  assert 'retracing' not in caplog.text
