"""Inverses, both ways, in both precisions."""

import pytest

from tests.conformance import checks
from tests.conformance.specs import SPECS


@pytest.mark.parametrize('spec', SPECS, ids=lambda s: s.name)
@pytest.mark.parametrize(('dtype', 'atol'), [('float64', 1e-9), ('float32', 1e-4)])
def test_inverse_undoes_forward(spec, dtype, atol):
  checks.check_round_trip(spec, spec.shared(dtype), dtype, atol)
