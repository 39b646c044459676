"""Eager, graph and XLA agree."""

import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.specs import SPECS


@pytest.mark.parametrize('spec', SPECS, ids=lambda s: s.name)
def test_graph_of_unknown_batch_size_and_xla_equal_eager(spec):
  bijector = spec.shared()
  ndims = len(spec.event_shape)
  x, kwargs = spec.data((4,)), spec.condition((4,))

  def run(x, kwargs):
    y = bijector.forward(x, **kwargs)
    log_det = bijector.forward_log_det_jacobian(x, ndims, **kwargs)
    return y, log_det, bijector.inverse(tf.identity(y), **kwargs)

  def unknown(value):
    return tf.TensorSpec([None, *value.shape[1:]], value.dtype)

  signature = [unknown(x), {name: unknown(value) for name, value in kwargs.items()}]
  graph = tf.function(run, input_signature=signature)
  expected = run(x, kwargs)
  for compiled in (graph, tf.function(run, jit_compile=True)):
    for value, reference in zip(compiled(x, kwargs), expected):
      np.testing.assert_allclose(value, reference, rtol=0, atol=1e-10)
