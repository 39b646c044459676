"""Drawing from a trained flow."""

import numpy as np
import tensorflow as tf

import tfp_flows as tff
from tests import test_util


def conditional():
  flow = tff.real_nvp([2], num_steps=1, width=4, condition_size=3, seed=0)
  test_util.perturb(flow)
  return tff.FlowModel(flow, seed=0)


def test_draw_an_example_for_each_label():
  model = conditional()
  labels = tf.one_hot([0, 1, 2, 0, 0], 3)
  x = model.sample(condition=labels, seed=1)
  assert x.shape == (5, 2)
  # Rows of one label are draws of their own.
  assert len(np.unique(x, axis=0)) == 5
  assert model.sample(4, labels, temperature=0.5).shape == (4, 5, 2)
  assert model.sample(4, labels[0]).shape == (4, 2)
  x, log_prob = model.sample_and_log_prob(condition=labels, seed=1)
  assert len(np.unique(x, axis=0)) == 5
  np.testing.assert_allclose(log_prob, model.log_prob(x, labels), atol=1e-5)


def test_draw_whatever_number_at_whatever_temperature(caplog):
  model = tff.FlowModel(tff.glow([2], num_steps=2, width=4, seed=0), seed=0)
  shapes = [model.sample(n, temperature=n / 10).shape for n in range(1, 15)]
  assert shapes == [(n, 2) for n in range(1, 15)]
  assert model.sample([2, 5]).shape == (2, 5, 2)
  assert model.sample(tf.constant(5), temperature=tf.constant(0.5)).shape == (5, 2)
  assert model.sample(0).shape == (0, 2)
  assert 'retracing' not in caplog.text
