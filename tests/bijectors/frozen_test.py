"""What is frozen is not trained, whoever trains."""

import copy

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util


def names(module):
  return [v.name for v in module.trainable_variables]


def values(variables):
  return [np.array(tf.convert_to_tensor(v)) for v in variables]


def coupling():
  network = tff.MLP(2, 4, hidden=[3], seed=0)
  return network, tff.AffineCoupling(tff.ChannelMask([4]), network, 'tanh')


def flow_of(*layers):
  base = tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), [4])
  bijector = tfp.bijectors.Invert(tff.Sequential(layers))
  return tfp.distributions.TransformedDistribution(base, bijector)


def test_flags_of_networks_are_followed():
  network, layer = coupling()
  flow = flow_of(tff.ActNorm([4]), layer)
  everything = len(flow.variables)
  assert len(flow.trainable_variables) == 7
  network.trainable = False
  assert len(flow.trainable_variables) == 3  # ActNorm's and the bound of the scale.
  assert len(layer.trainable_variables) == 1
  assert len(flow.variables) == everything
  network.trainable = True
  assert len(flow.trainable_variables) == 7
  network._hidden[0].trainable = False
  assert len(flow.trainable_variables) == 5


def test_layers_are_frozen_and_thawed():
  network, layer = coupling()
  norm = tff.ActNorm([4])
  flow = flow_of(norm, layer)
  layers = flow.bijector.bijector
  model = tff.FlowModel(flow)
  norm.trainable = False
  assert not norm.trainable and len(flow.trainable_variables) == 5
  assert len(model.trainable_variables) == 5
  layers.trainable = False
  assert not network.trainable and not flow.trainable_variables
  layer.trainable = True
  assert len(flow.trainable_variables) == len(model.trainable_variables) == 5
  layers.trainable = True
  assert len(flow.trainable_variables) == len(model.trainable_variables) == 7


def test_steps_of_a_loop_are_frozen_by_their_template():
  steps = [tff.Sequential([tff.ActNorm([4]), coupling()[1]]) for _ in range(2)]
  loop = tff.Repeated(steps)
  model = tff.FlowModel(flow_of(loop))
  norm, affine = loop.template.bijectors
  affine._conditioner.trainable = False
  assert len(loop.trainable_variables) == len(model.trainable_variables) == 3
  norm.trainable = False
  assert len(loop.trainable_variables) == len(model.trainable_variables) == 1
  assert len(copy.deepcopy(loop).trainable_variables) == 1
  loop.trainable = False
  assert not loop.trainable and not loop.trainable_variables
  assert not copy.deepcopy(loop).trainable_variables
  loop.trainable = True
  assert len(loop.trainable_variables) == len(model.trainable_variables) == 7


def test_frozen_layers_are_saved_so(tmp_path):
  norm, (_, layer) = tff.ActNorm([4]), coupling()
  norm.trainable = False
  model = tff.FlowModel(flow_of(norm, layer))
  model.save(tmp_path / 'm.keras')
  loaded = keras.saving.load_model(tmp_path / 'm.keras')
  assert len(loaded.trainable_variables) == 5
  loaded.distribution.bijector.bijector.trainable = True
  assert len(loaded.trainable_variables) == 7


def test_fit_and_minimize_leave_what_is_frozen():
  steps = [tff.Sequential([tff.ActNorm([4]), coupling()[1]]) for _ in range(2)]
  loop = tff.Repeated(steps)
  flow, x = flow_of(loop), test_util.normal([8, 4], 'float32')
  loop.template.bijectors[1].trainable = False
  model = tff.FlowModel(flow)
  model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
  trained = {id(v) for v in flow.trainable_variables}
  others = [v for v in flow.variables if id(v) not in trained]
  before, start = values(others), values(flow.trainable_variables)
  model.fit(x.numpy(), batch_size=8, epochs=1, verbose=0)
  tfp.math.minimize(
    lambda: -tf.reduce_mean(flow.log_prob(x)),
    num_steps=1,
    optimizer=keras.optimizers.SGD(0.1),
    trainable_variables=flow.trainable_variables,
  )
  for a, b in zip(values(others), before):
    np.testing.assert_array_equal(a, b)
  assert len(start) == 2
  for a, b in zip(values(flow.trainable_variables), start):
    assert np.abs(a - b).max() > 1e-4


def test_what_is_thawed_is_trained():
  x = np.random.default_rng(0).normal(size=[32, 2]).astype('f4')
  model = tff.FlowModel(tff.real_nvp([2], num_steps=1, width=4, seed=0), seed=0)
  (network,) = [n for n in model.layers if isinstance(n, tff.MLP)]
  for trainable in (False, True):
    network.trainable = trainable
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    before = [v.numpy() for v in network.variables]
    model.fit(x, epochs=2, verbose=0)
    moved = max(np.abs(v - w).max() for v, w in zip(network.variables, before))
    assert (moved > 1e-3) == trainable
  model.trainable = False
  model.distribution.trainable_variables  # noqa: B018  Follows.
  model.trainable = True
  with tf.GradientTape() as tape:
    loss = -tf.reduce_mean(model.log_prob(x))
  gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
  assert None not in gradients
