"""The dtype that comes in goes out; another one is refused."""

import pytest
import tensorflow as tf

from tests.conformance.specs import SPECS


@pytest.mark.parametrize('spec', SPECS, ids=lambda s: s.name)
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_dtype_is_kept(spec, dtype):
  bijector = spec.shared(dtype)
  x, kwargs = spec.data(dtype=dtype), spec.condition(dtype=dtype)
  y = bijector.forward(x, **kwargs)
  log_det = bijector.forward_log_det_jacobian(x, len(spec.event_shape), **kwargs)
  assert y.dtype == log_det.dtype == bijector.inverse(y, **kwargs).dtype == dtype


@pytest.mark.parametrize(
  'spec', [s for s in SPECS if s.has_weights], ids=lambda s: s.name
)
def test_another_dtype_is_refused(spec):
  bijector = spec.shared('float32')
  with pytest.raises((TypeError, ValueError), match='float'):
    bijector.forward(tf.cast(spec.data(), 'float64'), **spec.condition())
