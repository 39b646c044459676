"""Gradients through a trained model."""

import numpy as np
import tensorflow as tf

import tfp_flows as tff
from tests import test_util


def test_move_an_example_to_where_it_is_likely():
  flow = tff.glow([2], num_steps=2, width=4, seed=0)
  test_util.perturb(flow)
  model = tff.FlowModel(flow, seed=0)
  x = tf.Variable([[1.0, -2.0]])
  weights = [v.value for v in model.trainable_variables]
  gradients = []
  for log_prob in (model.log_prob, flow.log_prob):
    with tf.GradientTape() as tape:
      nll = -tf.reduce_sum(log_prob(tf.identity(x)))
    gradients.append(tape.gradient(nll, [x, *weights]))
  for found, expected in zip(*gradients, strict=True):
    np.testing.assert_allclose(found, expected, atol=1e-4)
