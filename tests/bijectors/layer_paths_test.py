import tensorflow_probability as tfp

import tfp_flows as tff
from tfp_flows.bijectors import layer_paths

tfb = tfp.bijectors


def test_places_in_a_glow():
  flow = tff.glow([4, 4, 1], num_levels=2, num_steps=2, width=4, num_bins=9, seed=0)
  bijector = flow.bijector
  places = layer_paths.places(bijector)
  assert set(places) == {id(v) for v in bijector.variables}
  found = {(p.path, p.name) for p in places.values()}
  assert ('level 1 / step {} / act_norm', 'log_scale') in found
  assert ('level 2 / step {} / invertible_1x1_conv', 'lu') in found
  assert {path for path, _ in found if 'prior' in path} == {
    'level 1 / split_prior',
    'level 2 / prior',
  }
  scale = next(
    p for p in places.values() if p.path.endswith('act_norm') and '1 /' in p.path
  )
  assert scale.layer([1, 3]) == 'level 1 / step 2 / act_norm'


def test_labels_of_equal_parts():
  def step():
    return tff.Sequential([tff.ActNorm([2]), tff.ActNorm([2])], name='pair')

  def labels(bijector):
    return [label for label, _ in layer_paths.parts(bijector)]

  assert labels(tff.Sequential([step(), tfb.Exp(), step()])) == [
    'pair 1',
    'exp',
    'pair 2',
  ]
  assert labels(tff.Sequential([tff.Repeated([step()]), tfb.Exp()])) == ['', 'exp']
  twice = tff.Sequential([tff.Repeated([step()]), tff.Repeated([step()])])
  assert labels(twice) == ['repeated 1', 'repeated 2']
  assert labels(tfb.Invert(tff.Sequential([tfb.Invert(tff.ActNorm([2]))]))) == [
    'act_norm'
  ]
  assert labels(
    tfb.Chain([tff.ActNorm([2], name='b'), tff.ActNorm([2], name='a')])
  ) == [
    'a',
    'b',
  ]
  assert labels(tff.ActNorm([2])) == []


def test_steps_in_steps():
  inner = [tff.Repeated([tff.ActNorm([2]), tff.ActNorm([2])]) for _ in range(3)]
  flow = tff.Sequential([tff.Repeated(inner)])
  places = layer_paths.places(flow)
  log_scale = next(v for v in flow.trainable_variables if 'log_scale' in v.name)
  assert log_scale.shape == [3, 2, 2]
  place = places[id(log_scale)]
  assert place.layer([2, 0, 1]) == 'step 3 / step 1 / act_norm'
  assert place.num_steps == 2


def test_a_single_layer_has_its_name():
  layer = tff.ActNorm([2], name='alone')
  assert {p.path for p in layer_paths.places(layer).values()} == {'alone'}
