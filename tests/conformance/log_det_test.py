"""Log-dets against autodiff."""

import pytest

from tests.conformance import checks
from tests.conformance.specs import SPECS


@pytest.mark.parametrize('spec', SPECS, ids=lambda s: s.name)
def test_log_det_equals_autodiff(spec):
  checks.check_log_det(spec, spec.shared())
