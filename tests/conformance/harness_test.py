"""The suite bites: broken layers fail it, and no layer escapes it."""

import inspect

import pytest
import tensorflow as tf

import tfp_flows as tff
from tests.conformance import checks
from tests.conformance.specs import SPECS
from tests.conformance.specs import Spec


class WrongLogDet(tff.ActNorm):
  """Its log-dets have the wrong sign, in both directions."""

  def _forward_and_log_det(self, x, condition=None):
    y, log_det = super()._forward_and_log_det(x, condition)
    return y, -log_det

  def _inverse_and_log_det(self, y, condition=None):
    x, log_det = super()._inverse_and_log_det(y, condition)
    return x, -log_det


class WrongInverse(tff.ActNorm):
  """Its inverse undoes scale and shift in the wrong order."""

  def _inverse_and_log_det(self, y, condition=None):
    x, log_det = super()._inverse_and_log_det(y, condition)
    return x + self.shift - self.shift * tf.exp(-self.log_scale), log_det


@pytest.mark.parametrize(
  ('broken', 'check'),
  [(WrongLogDet, checks.check_log_det), (WrongInverse, checks.check_round_trip)],
)
def test_broken_layer_fails(broken, check):
  spec = Spec('broken', lambda t: broken([5], dtype=t), (5,))
  with pytest.raises(AssertionError):
    check(spec, spec.make())
  sound = Spec('sound', lambda t: tff.ActNorm([5], dtype=t), (5,))
  check(sound, sound.make())


def test_every_public_bijector_has_a_spec():
  def inside(bijector):
    return {type(bijector), *(type(m) for m in bijector.submodules)}

  covered = set().union(*(inside(s.build('float64')) for s in SPECS))
  public = [getattr(tff, name) for name in tff.__all__]
  layers = {c for c in public if inspect.isclass(c) and issubclass(c, tff.FlowBijector)}
  assert layers - covered == {tff.FlowBijector}
