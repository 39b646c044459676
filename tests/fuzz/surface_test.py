"""A few of the cases of `surface`, and that it can tell."""

import numpy as np
import pytest

import tfp_flows as tff
from tests.fuzz import surface


def case_of(builder, folder):
  """The first case of that builder, as a graph."""
  for i in range(100):
    case = surface.Case(f'suite-{i}', folder, jit=False, builders=[builder])
    if case.has_eager_values:
      return case
  raise AssertionError(builder)


@pytest.mark.parametrize('builder', ['glow', 'maf'])
def test_a_model_does_what_it_should(builder, tmp_path):
  found = surface.run(case_of(builder, tmp_path), 4)
  kinds = {outcome.kind for _, outcome in found}
  assert kinds <= {surface.OK, surface.REFUSED}, found


def test_unequal_numbers_are_told(tmp_path, monkeypatch):
  case = case_of('real_nvp', tmp_path)
  log_prob = tff.FlowModel.log_prob
  monkeypatch.setattr(
    tff.FlowModel, 'log_prob', lambda *a, **k: log_prob(*a, **k) + 0.1
  )
  with pytest.raises(AssertionError, match='log_prob: .* is not'):
    for _ in range(5):
      case.log_prob()


def test_bad_input_that_is_taken_is_told(tmp_path, monkeypatch):
  case = case_of('real_nvp', tmp_path)
  for name in ('log_prob', 'encode', 'fit'):
    monkeypatch.setattr(case.model, name, lambda *a, **k: np.zeros([5]))
  with pytest.raises(AssertionError, match='was taken'):
    case.bad()
