"""Weights survive Keras's file, into a model with other seeds."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tests.conformance.specs import SPECS
from tests.conformance.tracking_test import distribution_of


@pytest.mark.parametrize(
  'spec', [s for s in SPECS if s.has_weights], ids=lambda s: s.name
)
def test_weights_round_trip(spec, tmp_path):
  bijectors = spec.shared(), spec.build('float64')
  for v in bijectors[1].variables:
    if v.dtype.is_floating:
      v.assign(0.5 * tf.ones_like(v))
  first, second = (tff.FlowModel(distribution_of(b, spec)) for b in bijectors)
  first.save_weights(tmp_path / 'w.weights.h5')
  second.load_weights(tmp_path / 'w.weights.h5')
  x, kwargs = spec.data(), spec.condition()
  np.testing.assert_array_equal(
    *(b.forward(tf.identity(x), **kwargs) for b in bijectors)
  )
