"""What is noted of a constructor, and by which names files know it."""

import json
import pickle

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tfp_flows.internal import serialization

tfb = tfp.bijectors


class Layer(tff.FlowBijector):
  """Says nothing of its parameters."""

  def __init__(self, size, *, factor=2.0, **others):
    self.others = others
    super().__init__(1, dtype=tf.float32)


class Child(Layer):
  """Has other arguments than its base."""

  def __init__(self, name_of_child):
    super().__init__(3, factor=1.0)


def test_defaults_and_keywords_are_recorded():
  layer = Layer(3, more=4)
  assert layer.recorded_arguments == dict(size=3, factor=2.0, more=4)
  assert layer.parameters == layer.recorded_arguments


def test_the_arguments_are_those_of_the_class_itself():
  assert Child('a').recorded_arguments == dict(name_of_child='a')
  mask = tff.ChannelMask([4])
  layer = tff.AffineCoupling(mask, lambda x: x, scale='tanh')
  assert layer.recorded_arguments['scale'] == 'tanh'
  assert 'bijector_fn' not in layer.recorded_arguments


def test_seeds_that_are_chosen_are_recorded():
  flow = tff.FFJORD(lambda t, x: x, [2])
  assert isinstance(flow.recorded_arguments['seed'], int)


def test_arrays_are_those_of_the_call():
  mask = np.array([True, False])
  layer = tff.IndexMask(mask)
  mask[:] = False
  np.testing.assert_array_equal(layer.recorded_arguments['mask'], [True, False])


def test_a_wrong_argument_is_an_error_of_the_constructor():
  with pytest.raises(TypeError, match='Layer.__init__.* missing 1 required'):
    Layer()


def test_records_hide_no_variables_and_can_be_pickled():
  inner = tff.ActNorm([2])
  outer = tff.Sequential([inner])
  assert {id(v) for v in outer.variables} == {id(v) for v in inner.variables}
  mask = pickle.loads(pickle.dumps(tff.ChannelMask([4], invert=True)))
  assert mask.recorded_arguments == dict(event_shape=[4], invert=True)


def test_a_repeated_forgets_the_steps_that_it_was_made_of():
  repeated = tff.Repeated([tff.ActNorm([2]) for _ in range(3)])
  assert repeated.recorded_arguments['steps'] is None


def nodes(config):
  """All dictionaries inside of a configuration."""
  if isinstance(config, dict):
    yield config
    config = list(config.values())
  if isinstance(config, list):
    for value in config:
      yield from nodes(value)


@pytest.mark.parametrize(
  'flow',
  [
    lambda: tff.residual_flow([2], num_blocks=1, width=4),
    lambda: tff.ffjord([2], hidden=[4]),
    lambda: tff.glow([4, 4, 1], num_levels=1, num_steps=2, width=4),
  ],
)
def test_files_name_no_module_of_ours(flow):
  config = json.loads(json.dumps(serialization.serialize(flow())))
  modules = {node.get('module') for node in nodes(config)} - {None}
  assert not [m for m in modules if m.startswith('tfp_flows.')]
  kinds = {node['type'] for node in nodes(config) if isinstance(node.get('type'), str)}
  assert 'public' in kinds or 'keras' in kinds


def test_names_of_version_0_1_are_found_where_they_are_now():
  node = dict(type='named', module='tfp_flows.math.log_det', name='Lengths')
  lengths = serialization.deserialize(node)
  assert lengths.__name__ == 'Lengths'
  node = dict(type='named', module='tfp_flows.models.building', name='_all_to_bijector')
  assert callable(serialization.deserialize(node))
  node = dict(type='named', module='tfp_flows.bijectors.masks', name='ChannelMask')
  assert serialization.deserialize(node) is tff.ChannelMask


@pytest.mark.parametrize(
  'node',
  [
    dict(type='named', module='os', name='system'),
    dict(type='named', module='os', name='ChannelMask'),
    dict(type='named', module='tfp_flows.bijectors.masks', name='np'),
    dict(type='public', name='__version__x'),
    dict(type='public', name='importlib'),
    dict(type='registered', name='tfp_flows>Nothing'),
  ],
)
def test_other_names_are_refused(node):
  with pytest.raises(ValueError, match='Expected'):
    serialization.deserialize(node)


def test_objects_without_a_constructor_have_no_arguments():
  assert tff.Additive().recorded_arguments == {}
  assert tff.Additive().get_config() == {}
