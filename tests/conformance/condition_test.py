"""A condition matters where it should, and never by way of the cache."""

import numpy as np
import pytest

from tests.conformance.specs import SPECS


@pytest.mark.parametrize(
  'spec', [s for s in SPECS if s.conditional], ids=lambda s: s.name
)
def test_condition_changes_value_and_log_det(spec):
  bijector = spec.make(scale=0.3)
  x, ndims = spec.data(), len(spec.event_shape)
  first, second = spec.condition(seed=2), spec.condition(seed=3)
  # The same tensor `x` twice: the cache must tell the conditions apart.
  y = [bijector.forward(x, **c) for c in (first, second, first)]
  log_det = [bijector.forward_log_det_jacobian(x, ndims, **c) for c in (first, second)]
  assert np.abs(y[0] - y[1]).max() > 1e-3
  np.testing.assert_array_equal(y[0], y[2])
  if 'additive' not in spec.name:
    assert np.abs(log_det[0] - log_det[1]).max() > 1e-4
  expected = bijector.forward_and_log_det(x, **second)
  np.testing.assert_allclose(y[1], expected[0])
  np.testing.assert_allclose(log_det[1], expected[1], atol=1e-12)
