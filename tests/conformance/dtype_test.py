"""Another dtype is refused; that the same goes out is in `check_round_trip`."""

import pytest
import tensorflow as tf

from tests.conformance.specs import SPECS


@pytest.mark.parametrize(
  'spec', [s for s in SPECS if s.has_weights], ids=lambda s: s.name
)
def test_another_dtype_is_refused(spec):
  bijector = spec.shared('float32')
  with pytest.raises((TypeError, ValueError), match='float'):
    bijector.forward(tf.cast(spec.data(), 'float64'), **spec.condition())
