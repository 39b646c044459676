"""Tests of the defaults of `flows/residual_flow.py`."""

import tfp_flows as tff


def _training(size, **options):
  flow = tff.residual_flow([size], num_blocks=1, width=4, num_hidden=1, **options)
  (block,) = (m for m in flow.submodules if isinstance(m, tff.ResidualFlow))
  return block.log_det.estimator


def test_one_column_trains_with_exact_log_dets():
  assert isinstance(_training(1), tff.ExactLogDet)
  assert isinstance(_training(2), tff.RouletteLogDet)
  assert isinstance(_training(1, log_det='roulette'), tff.RouletteLogDet)
  assert _training(1, num_terms=3).num_terms == 3
