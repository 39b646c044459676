"""Files of versions whose equal steps were layers of their own."""

import concurrent.futures
import multiprocessing

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util

tfb, tfd = tfp.bijectors, tfp.distributions


def separate_flow(seed):
  """`tff.residual_flow` as it was, with each block for itself."""
  layers = []
  for i in range(3):
    branch = tff.LipschitzMLP([2], [4], lipschitz=0.7, seed=seed + i)
    layers += [tff.ActNorm([2]), tff.ResidualFlow(branch, [2], seed=i)]
  flow = tff.Sequential([*layers, tff.ActNorm([2])])
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [2])
  return tff.Flow(base, tfb.Invert(flow))


def flow_of_now(**options):
  return tff.residual_flow([2], num_blocks=3, width=4, num_hidden=1, **options)


def trained(distribution, optimizer='adam', seed=0):
  model = tff.FlowModel(distribution, seed=seed)
  options = dict(use_ema=True) if optimizer == 'adamw' else {}
  kinds = dict(adam='Adam', adamax='Adamax', adamw='AdamW')
  optimizer = getattr(keras.optimizers, kinds[optimizer])(1e-2, **options)
  model.compile(optimizer, jit_compile=False)
  x = data()
  model.adapt(x)
  model.fit(x, batch_size=32, verbose=0, shuffle=False)
  return model


def data():
  return 2.0 * test_util.normal([64, 2], 'float32').numpy() + 1.0


def exact(model):
  return model.log_prob(data(), estimator=tff.ExactLogDet())


@pytest.fixture(scope='module')
def old(tmp_path_factory):
  """What a model of then finds, its weights and its checkpoints."""
  folder = tmp_path_factory.mktemp('old')
  model = trained(separate_flow(0))
  model.save_weights(folder / 'old.weights.h5')
  tff.Checkpoints(folder, model).save(2, {})
  return exact(model), folder / 'old.weights.h5', folder


def test_weights(old):
  expected, weights, _ = old
  new = tff.FlowModel(flow_of_now(seed=9))
  assert np.abs(exact(new) - expected).max() > 0.1
  new.load_weights(weights)
  np.testing.assert_allclose(exact(new), expected, atol=1e-5)


@pytest.mark.filterwarnings('ignore:Skipping variable loading for optimizer')
def test_weights_bring_the_state_of_the_optimizer(old, tmp_path):
  _, weights, _ = old
  new = trained(flow_of_now(seed=9), seed=5)
  expected = trained(separate_flow(0))
  new.load_weights(weights)
  np.testing.assert_allclose(squared_slots(new), squared_slots(expected), rtol=1e-5)
  # A file without a state leaves that of the model.
  separate = tff.FlowModel(separate_flow(0))
  separate.save_weights(tmp_path / 'w.weights.h5')
  new.load_weights(tmp_path / 'w.weights.h5')
  np.testing.assert_allclose(squared_slots(new), squared_slots(expected), rtol=1e-5)


@pytest.mark.parametrize('optimizer', ['adamax', 'adamw'])
def test_checkpoints_go_on_as_they_would_have(tmp_path, optimizer):
  old = trained(separate_flow(0), optimizer)
  checkpoints = tff.Checkpoints(tmp_path, old)
  checkpoints.save(2, dict(epoch=1))
  new = trained(flow_of_now(seed=9), optimizer, seed=5)
  assert tff.Checkpoints(tmp_path, new).restore() == dict(epoch=1)
  np.testing.assert_allclose(exact(new), exact(old), atol=1e-5)
  assert len(squared_slots(old)) == (3 if optimizer == 'adamw' else 2)
  np.testing.assert_allclose(squared_slots(new), squared_slots(old), rtol=1e-5)
  assert int(new.optimizer.iterations) == int(old.optimizer.iterations) == 2


def squared_slots(model):
  """The squares of what the optimizer has for the weights, summed for each kind."""
  kinds = [
    v
    for v in vars(model.optimizer).values()
    if isinstance(v, list)
    and len(v) == len(model.trainable_variables)
    and v[0] is not model.trainable_variables[0]
  ]
  return [sum(np.sum(np.square(v)) for v in kind) for kind in kinds]


@pytest.mark.parametrize('other', [dict(width=5), dict(num_blocks=4)])
def test_files_of_other_models_are_refused(old, other):
  _, weights, folder = old
  options = dict(num_blocks=3, width=4, num_hidden=1, seed=0) | other
  new = tff.FlowModel(tff.residual_flow([2], **options))
  new.compile('adam', jit_compile=False)
  with pytest.raises(ValueError):
    new.load_weights(weights)
  with pytest.raises(tff.CheckpointError, match='its variables differ'):
    tff.Checkpoints(folder, new).restore()


def test_flows_that_no_builder_made_say_what_differs(tmp_path):
  def model(width):
    steps = [
      tff.AffineCoupling(mask, tff.MLP(mask.kept_shape, 2, hidden=[width]))
      for mask in [tff.ChannelMask([2])] * 2
    ]
    base = tfd.Sample(tfd.Normal(0.0, 1.0), [2])
    chain = tfb.Chain([tfb.Invert(tff.Repeated(steps))])
    return tff.FlowModel(tff.Flow(base, chain))

  model(4).save_weights(tmp_path / 'm.weights.h5')
  with pytest.raises(ValueError, match='shape'):
    model(5).load_weights(tmp_path / 'm.weights.h5')


def test_a_subclass_with_other_arguments(old):
  class Model(tff.FlowModel):
    def __init__(self, flow_seed, seed=None):
      super().__init__(flow_of_now(seed=flow_seed), seed=seed)

  expected, weights, _ = old
  model = Model(8)
  model.load_weights(weights)
  np.testing.assert_allclose(exact(model), expected, atol=1e-4)


def of_two_replicas(folder):
  """What is left of an older checkpoint, restored between two replicas."""
  cpu = tf.config.list_physical_devices('CPU')[0]
  options = [tf.config.LogicalDeviceConfiguration()] * 2
  tf.config.set_logical_device_configuration(cpu, options)
  with tf.distribute.MirroredStrategy(['cpu:0', 'cpu:1']).scope():
    models = [tff.FlowModel(separate_flow(0)), tff.FlowModel(flow_of_now(seed=9))]
    for model in models:
      model.compile(keras.optimizers.Adam(), jit_compile=False)
      model.optimizer.build(model.trainable_variables)
  old, new = models
  for i, variable in enumerate(old.trainable_variables):
    variable.assign(variable + 0.01 * i)
  tff.Checkpoints(folder, old).save(1, dict(epoch=1))
  state = tff.Checkpoints(folder, new).restore()
  return state, exact(old), exact(new)


def test_checkpoints_of_replicas(tmp_path):
  context = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
    state, old, new = pool.submit(of_two_replicas, tmp_path).result()
  assert state == dict(epoch=1)
  np.testing.assert_allclose(new, old, atol=1e-4)
