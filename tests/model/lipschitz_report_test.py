import json

import numpy as np
import pytest

import tfp_flows as tff
from tests import test_util


def model(**options):
  flow = tff.residual_flow([2], num_blocks=2, width=8, zero_last=False, seed=0)
  test_util.perturb(flow, 0.5)
  tff.update_norms(flow)
  return tff.FlowModel(flow, seed=0)


def test_measured_constants_are_below_the_bounds():
  x = np.random.default_rng(0).normal(size=[50, 2]).astype('float32')
  blocks = tff.lipschitz_report(model(), x)
  assert len(blocks) == 2
  for block in blocks:
    assert len(block['bounds']) == 4
    np.testing.assert_allclose(block['product'], np.prod(block['bounds']), rtol=1e-5)
    assert 0.01 < block['measured'] <= block['product'] * (1 + 1e-4) < 0.71


def test_callback_adds_to_logs_and_file(tmp_path):
  x = np.random.default_rng(0).normal(size=[50, 2]).astype('float32')
  path = tmp_path / 'lipschitz.jsonl'
  flow = model()
  flow.compile(run_eagerly=True)
  # Of a run that goes on after one epoch, and was killed while it wrote the next.
  path.write_bytes(b'{"epoch": 1, "blocks": []}\n{"epoch": 2, "bl\xff')
  report = tff.LipschitzReport(x[:20], path=str(path), first_epoch=2)
  history = flow.fit(x, epochs=2, initial_epoch=1, verbose=0, callbacks=[report])
  history = history.history
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert [line['epoch'] for line in lines] == [1, 2]
  last = lines[-1]['blocks']
  assert history['lipschitz_bound'][-1] == max(b['product'] for b in last)
  assert history['lipschitz_measured'][-1] == max(b['measured'] for b in last)


def test_model_without_blocks_is_refused():
  with pytest.raises(ValueError, match='Expected a model with residual blocks'):
    tff.lipschitz_report(tff.FlowModel(tff.real_nvp([2])), np.zeros([3, 2], 'float32'))
