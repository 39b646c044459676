"""What is noted of a constructor, and by which names files know it."""

import gc
import json
import pickle
import weakref

import keras
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
  assert layer.parameters == dict(size=3, factor=2.0, more=4)


def test_the_arguments_are_those_of_the_class_itself():
  assert Child('a').parameters == dict(name_of_child='a')
  mask = tff.ChannelMask([4])
  layer = tff.AffineCoupling(mask, lambda x: x, scale='tanh')
  assert layer.parameters['scale'] == 'tanh'
  assert 'transformer' not in layer.parameters


def test_seeds_that_are_chosen_are_recorded():
  flow = tff.FFJORD(lambda t, x: x, [2])
  assert isinstance(flow.parameters['seed'], int)


def test_arrays_are_those_of_the_call():
  mask = np.array([True, False])
  layer = tff.IndexMask(mask)
  mask[:] = False
  np.testing.assert_array_equal(layer.parameters['mask'], [True, False])


def test_a_wrong_argument_is_an_error_of_the_constructor():
  with pytest.raises(TypeError, match='Layer.__init__.* missing 1 required'):
    Layer()


def test_records_hide_no_variables_and_can_be_pickled():
  inner = tff.ActNorm([2])
  outer = tff.Sequential([inner])
  assert {id(v) for v in outer.variables} == {id(v) for v in inner.variables}
  mask = pickle.loads(pickle.dumps(tff.ChannelMask([4], invert=True)))
  assert mask.parameters == dict(event_shape=[4], invert=True)


@pytest.mark.parametrize('make', [tff.Repeated, lambda steps: Made(steps)])
def test_a_repeated_forgets_the_steps_that_it_was_made_of(make):
  steps = [tff.ActNorm([2]) for _ in range(3)]
  last = weakref.ref(steps[-1])
  repeated = make(steps)
  del steps
  gc.collect()
  assert last() is None
  assert 'steps' not in repeated.parameters


class Made(tff.Repeated):
  """Has another constructor."""

  def __init__(self, blocks):
    super().__init__(blocks)


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


def rebuilt(layer):
  """What a file has of `layer`."""
  config = json.loads(json.dumps(layer.get_config()))
  return type(layer).from_config(config)


class OfASeed(tff.FFJORD):
  """Gives its base another seed than it has."""

  def __init__(self, size, seed):
    super().__init__(lambda t, x: 0.0 * x, [size], seed=seed + 1)


class WithoutSeed(tff.FFJORD):
  """Leaves the seed to its base."""

  def __init__(self, size):
    super().__init__(lambda t, x: 0.0 * x, [size])


def test_a_seed_is_noted_for_the_class_that_takes_it():
  layer = OfASeed(2, 5)
  assert layer.parameters == dict(size=2, seed=5)
  copy = rebuilt(rebuilt(layer))
  assert copy._salt.numbers == layer._salt.numbers == 6
  layer = WithoutSeed(2)
  assert layer.parameters == dict(size=2)
  assert rebuilt(layer)._salt.numbers == layer._salt.numbers
  assert WithoutSeed(2)._salt.numbers != layer._salt.numbers
  assert layer.copy().parameters == dict(size=2)


class Draws(tff.FlowBijector):
  """Says what it has chosen, as layers of TensorFlow Probability do."""

  def __init__(self, seed=None):
    parameters = dict(locals())
    self.seed = parameters['seed'] = 364 if seed is None else seed
    super().__init__(1, parameters=parameters)


def test_parameters_that_a_layer_gives_are_saved():
  assert Draws().get_config() == dict(seed=364)


class Sized:
  """A constructor that is none of ours."""

  def __init__(self, size):
    tff.FlowBijector.__init__(self, 1, parameters=dict(size=size))


class Mixed(Sized, tff.FlowBijector):
  """Has that of another base."""


class Silent(tff.FlowBijector):
  """Has nothing recorded."""

  _is_recorded = False

  def __init__(self, size):
    super().__init__(1)


def test_constructors_that_are_not_recorded():
  assert Mixed(4).get_config() == dict(size=4)
  with pytest.raises(ValueError, match="Silent to know the argument 'size'"):
    Silent(3).get_config()


class PassesOn(tff.ActNorm):
  """Takes what its base takes."""

  def __init__(self, *args, **kwargs):
    super().__init__(*args, **kwargs)


class WithOthers(tff.FlowBijector):
  """Has arguments without a name."""

  def __init__(self, size, *others):
    super().__init__(1)


def test_arguments_without_names():
  layer = PassesOn([2])
  assert layer.parameters['event_shape'] == [2]
  assert layer.copy(name='other').name == 'other'
  assert WithOthers(3).get_config() == dict(size=3)
  with pytest.raises(ValueError, match='Expected arguments with names; WithOthers'):
    WithOthers(3, 4).get_config()


class Steps(tff.Repeated):
  """Makes its steps itself."""

  def __init__(self, count):
    super().__init__([tff.ActNorm([2]) for _ in range(count)], name='mine')


class Scaled(tff.Sequential):
  """Has a condition, and no argument for it."""

  def __init__(self, size):
    super().__init__([tff.ActNorm([2])], condition_size=size)


def test_subclasses_of_compositions():
  assert Steps(2).get_config()['name'] == 'mine'
  assert Scaled(3).condition_size == 3
  assert Scaled(3).get_config() == dict(size=3)


def test_a_constructor_that_is_called_again():
  layer = tff.ChannelMask([4])
  layer.__init__([6])
  assert layer.parameters['event_shape'] == [6]


@pytest.mark.parametrize(
  ('make', 'expected'),
  [
    (lambda: tff.ChannelMask(iter([4])), dict(event_shape=[4], invert=False)),
    (lambda: tff.Affine(2, dtype=np.float32), tf.float32),
    (lambda: tff.ActNorm([2], dtype=np.float64), tf.float64),
  ],
)
def test_arguments_are_saved_in_whatever_form_they_came(make, expected):
  copy = rebuilt(make())
  found = copy.parameters
  assert expected in (found, found.get('dtype'))


def test_lists_are_those_of_the_call():
  shape = [4]
  layer = tff.ActNorm(shape)
  shape[0] = 9
  assert layer.parameters['event_shape'] == [4]


def test_objects_without_a_constructor_have_no_arguments():
  assert tff.Additive().parameters == {}
  assert tff.Additive().get_config() == {}


class OfASize(tff.MLP):
  """Has but one argument."""

  def __init__(self, size):
    super().__init__(size, 2 * size, hidden=[3])


class WithKeywords(tff.MLP):
  """Passes on the keywords of Keras."""

  def __init__(self, size, **kwargs):
    super().__init__(size, 2 * size, hidden=[3], **kwargs)


def test_networks_have_what_keras_has_of_layers():
  network = OfASize(2)
  network.trainable = False
  assert network.get_config() == dict(size=2, trainable=False)
  copy = rebuilt(network)
  assert not copy.trainable and copy(tf.ones([1, 2])).shape == (1, 4)
  config = WithKeywords(2, name='mine', dtype='float64').get_config()
  assert config.pop('dtype')['config'] == dict(name='float64')
  assert config == dict(size=2, name='mine', trainable=True)
  copy = rebuilt(WithKeywords(2, dtype='float64'))
  assert copy.dtype == 'float64'


class Half(keras.layers.Layer):
  """Of a class that nobody has registered."""

  def call(self, x):
    return 0.5 * x


def test_layers_of_unknown_classes_are_given_by_custom_objects(tmp_path):
  half = Half()
  half.build((None, 2))
  model = keras.Sequential([keras.Input([4]), tff.RevNet([(half, half)])])
  model.save(tmp_path / 'm.keras')
  loaded = keras.saving.load_model(tmp_path / 'm.keras', {'Half': Half})
  x = np.arange(8.0, dtype='float32').reshape(2, 4)
  np.testing.assert_array_equal(loaded(x), model(x))


class Fitted(tff.FlowModel):
  """Makes its distribution itself."""

  def __init__(self, size, name=None):
    super().__init__(tff.maf([size], num_layers=1, hidden=[4], seed=0), name=name)


def test_models_are_saved_by_arguments_of_their_own():
  model = Fitted(2, 'mine')
  model.trainable = False
  assert model.get_config() == dict(size=2, name='mine', trainable=False)
  copy = rebuilt(model)
  assert isinstance(copy, Fitted) and not copy.trainable_variables
