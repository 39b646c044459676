"""Several replicas: each scenario in processes of its own, as TensorFlow wants it."""

import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tfp_flows.training import strategies

tfb, tfd = tfp.bijectors, tfp.distributions

# --- What several replicas compute, beside what one does.


def images_and_weights():
  rng = np.random.default_rng(0)
  return rng.integers(0, 17, (44, 4, 4, 1)).astype(np.uint8), rng.uniform(0, 2, 44)


def glow():
  return tff.glow(
    [4, 4, 1], num_levels=1, num_steps=2, width=4, num_bins=17, dtype='float64', seed=0
  )


def residual_flow():
  return tff.residual_flow(
    [16], num_blocks=1, width=4, num_terms=2, dtype='float64', seed=0
  )


def normalized():
  layers = tff.Sequential([tff.MovingBatchNorm([16], dtype='float64')])
  base = tfd.Sample(tfd.Normal(np.float64(0.0), 1.0), [16])
  return tfd.TransformedDistribution(base, tfb.Invert(layers))


MODELS = dict(glow=glow, residual_flow=residual_flow, normalized=normalized)


def trained(build, strategy=None, jit_compile=False):
  """What a user gets from a model trained on the images."""
  x, weight = images_and_weights()
  with strategy.scope() if strategy else contextlib.nullcontext():
    flow = build()
    model = tff.FlowModel(flow, seed=3)
    optimizer = keras.optimizers.Adam(1e-2, global_clipnorm=1.0, use_ema=True)
    model.compile(optimizer, jit_compile=jit_compile)
  if model.dequantization is None:
    x = x.reshape([-1, 16]) / 8.0
  model.adapt(x, num_examples=30)
  # The last of the three batches is filled up, and all weights differ.
  history = model.fit(
    x,
    batch_size=16,
    epochs=2,
    sample_weight=weight,
    validation_data=(x[:10],),
    callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
    verbose=0,
  ).history
  data = tf.data.Dataset.from_tensor_slices(x).batch(13)
  return dict(
    history,
    evaluated=list(model.evaluate(data, return_dict=True, verbose=0).values()),
    predicted=model.predict(data, verbose=0),
    log_prob=model.log_prob(x[:4], seed=1).numpy(),
    sample=model.sample(3, seed=1).numpy(),
    **{f'variable_{i}': v.numpy() for i, v in enumerate(model.variables)},
  ), model


def by_two_replicas():
  """Results of `trained` for each model, and the variables whose copies differ."""
  cpu = tf.config.list_physical_devices('CPU')[0]
  options = [tf.config.LogicalDeviceConfiguration()] * 2
  tf.config.set_logical_device_configuration(cpu, options)
  strategy = tf.distribute.MirroredStrategy(['cpu:0', 'cpu:1'])
  found, differing = {}, []
  for name, build in MODELS.items():
    found[name], model = trained(build, strategy)
    for variable in model.variables:
      first, second = strategy.experimental_local_results(variable.value)
      if 'metric' not in variable.path and (first.numpy() != second.numpy()).any():
        differing.append(variable.path)
  return found, differing


@pytest.fixture(scope='module')
def two_replicas():
  context = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
    yield pool.submit(by_two_replicas)


@pytest.mark.parametrize('name', MODELS)
def test_two_replicas_train_as_one(name, two_replicas):
  expected, _ = trained(MODELS[name])
  found = two_replicas.result()[0][name]
  assert found.keys() == expected.keys()
  for key, value in expected.items():
    np.testing.assert_allclose(found[key], value, rtol=1e-8, atol=1e-9, err_msg=key)


def test_copies_of_variables_agree(two_replicas):
  assert not two_replicas.result()[1]
