"""Old names of arguments: errors tell the new ones, and files have them."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tfp_flows.internal import renaming
from tfp_flows.networks import lipschitz_networks

MASK = tff.ChannelMask([4])
CALLS = {
  ('input_size', 'input_shape'): lambda **k: tff.MLP(output_size=2, **k),
  ('size', 'input_shape'): lambda **k: tff.MADE(params_per_dim=2, **k),
  ('coeff', 'lipschitz'): lambda **k: tff.LipschitzMLP(2, **k),
  ('orders', 'norms'): lambda **k: tff.LipschitzConvNet([4, 4, 1], **k),
  ('blocks', 'num_blocks'): lambda **k: tff.ResNet([4, 4, 2], 4, **k),
  ('bijector_fn', 'transformer'): lambda **k: tff.Coupling(MASK, tff.MLP(2, 4), **k),
  ('order', 'pixel_order'): lambda **k: tff.Squeeze(**k),
  ('num_samples', 'num_probes'): lambda **k: tff.HutchinsonTrace(**k),
  ('training', 'estimator'): lambda **k: tff.LogDet(**k),
  ('evaluation', 'evaluation_estimator'): lambda **k: tff.Trace(**k),
  ('coupling', 'transformer'): lambda **k: tff.glow([4], **k),
  ('num_steps', 'solver_steps'): lambda **k: tff.ffjord([2], **k),
  ('evaluation', 'evaluation_log_det'): lambda **k: tff.residual_flow([2], **k),
}


@pytest.mark.parametrize('old, new', CALLS, ids=['-'.join(k) for k in CALLS])
def test_an_old_name_is_told_the_new_one(old, new):
  with pytest.raises(TypeError, match=rf"expects an argument '{new}'.*'{old}'"):
    CALLS[old, new](**{old: 1})


def test_every_new_name_is_one_of_an_argument():
  found = [getattr(tff, name) for name in dir(tff)]
  tables = [(named, renaming.table(named)) for named in found if callable(named)]
  tables = [(named, table) for named, table in tables if table]
  assert len(tables) > 12
  for named, table in tables:
    names = inspect.signature(named).parameters
    if any(p.kind is p.VAR_KEYWORD for p in names.values()):
      continue
    # Subclasses may fix what their base leaves open.
    assert not set(table) & set(names), named
    if '__init__' in vars(named) or not isinstance(named, type):
      assert set(table.values()) <= {*names, 'transformer'}, named


def test_configurations_of_then():
  layer = keras.saving.deserialize_keras_object(
    dict(
      module='tfp_flows',
      class_name='MLP',
      registered_name='tfp_flows>MLP',
      config=dict(input_size=3, output_size=2, hidden=[4]),
    )
  )
  assert layer.get_config() | dict(input_shape=3, hidden=[4]) == layer.get_config()
  squeeze = tff.Squeeze.from_config(dict(block_size=2, order='real_nvp', name='s'))
  assert squeeze.parameters['pixel_order'] == 'real_nvp'


@pytest.mark.parametrize('coeff', [0.97, 0.9, 0.31, 0.8123])
def test_bounds_of_then_are_the_same_bits(coeff):
  for hidden in ([4], [4, 4], [4, 4, 4]):
    config = dict(input_size=2, hidden=hidden, coeff=coeff)
    network = lipschitz_networks.LipschitzMLP.from_config(config)
    assert [layer.lipschitz for layer in network._linears] == [coeff] * len(
      network._linears
    )
  config = dict(input_shape=[4, 4, 1], width=2, coeff=coeff)
  network = lipschitz_networks.LipschitzConvNet.from_config(config)
  assert [layer.lipschitz for layer in network._linears] == [coeff] * 3


@pytest.mark.parametrize('size', [2, [2], (2,), np.int64(2), tf.TensorShape([2])])
def test_a_shape_of_one_axis_is_its_size_or_a_list(size):
  assert tff.MLP(size, 3, hidden=[4])(tf.zeros([5, 2])).shape == (5, 3)
  assert tff.MADE(size, 3, hidden=[4])(tf.zeros([5, 2])).shape == (5, 6)
  assert tff.LipschitzMLP(size, hidden=[4])(tf.zeros([5, 2])).shape == (5, 2)
