"""Eager, graph and XLA agree."""

import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.specs import SPECS


@pytest.mark.parametrize('spec', SPECS, ids=lambda s: s.name)
def test_graph_and_xla_equal_eager(spec):
  bijector = spec.shared()
  ndims = len(spec.event_shape)
  x, kwargs = spec.data(), spec.condition()

  def run(x, kwargs):
    y = bijector.forward(x, **kwargs)
    log_det = bijector.forward_log_det_jacobian(x, ndims, **kwargs)
    return y, log_det, bijector.inverse(tf.identity(y), **kwargs)

  expected = run(x, kwargs)
  for jit_compile in (False, True):
    compiled = tf.function(run, jit_compile=jit_compile)
    for value, reference in zip(compiled(x, kwargs), expected):
      np.testing.assert_allclose(value, reference, rtol=0, atol=1e-10)
