"""What surrounds a call."""

import threading

import pytest
import tensorflow as tf

import tfp_flows as tff
from tfp_flows.internal import call
from tfp_flows.internal import estimation
from tfp_flows.internal import inspection
from tfp_flows.internal import reports
from tfp_flows.internal import weight_values


def test_blocks_of_all_kinds_nest_in_any_order():
  observer = object()
  with tff.estimation(seed=1, training=True) as outer:
    with inspection.observed_by(observer), tff.flow_report() as report:
      assert estimation.current() is outer
      with tff.estimation(seed=2) as inner:
        assert estimation.current() is inner
        assert inspection.innermost() is observer
        assert reports.innermost() is report
      assert estimation.current() is outer
    assert inspection.innermost() is None
    assert reports.innermost() is not report
  assert estimation.innermost() is None
  assert call.current() == call._current.get()


def test_errors_leave_a_block():
  with pytest.raises(KeyError), tff.estimation(seed=1), tff.flow_report():
    raise KeyError
  assert estimation.innermost() is None
  assert call.current().report is None


def test_threads_have_their_own():
  found = []
  with tff.estimation(seed=1):
    thread = threading.Thread(target=lambda: found.append(estimation.innermost()))
    thread.start()
    thread.join()
  assert found == [None]


def test_substitutes_reach_what_layers_read():
  layer = tff.ActNorm([2])
  values = [tf.constant([1.0, 2.0]), tf.constant([0.0, 0.0])]
  order = [values[0] if v is layer.shift else values[1] for v in layer.variables]
  with weight_values.substituted(layer, order):
    assert layer._weight(layer.shift) is values[0]
    with tff.estimation(seed=1):
      assert layer._weight(layer.shift) is values[0]
  assert layer._weight(layer.shift) is not values[0]


def test_blocks_are_left_in_any_order():
  report, noise = tff.flow_report(), tff.estimation(seed=1)
  report.__enter__()
  found = noise.__enter__()
  report.__exit__(None, None, None)
  assert estimation.innermost() is found
  noise.__exit__(None, None, None)
  assert estimation.innermost() is None
