"""Tests of the condition of `bijectors/sequential.py`."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util


def _flow(size=4):
  def coupling(seed):
    mask = tff.IndexMask([True, False])
    net = tff.MLP([1], 2, (8,), condition_size=size, seed=seed)
    return tff.AffineCoupling(mask, net)

  flow = tff.Sequential([coupling(0), coupling(1)], condition_size=size)
  test_util.perturb(flow, 0.3)
  for variable, value in zip(flow.condition_variables, (0.0, 1.0)):
    variable.assign(tf.fill(variable.shape, value))
  return flow


def _plain(flow):
  return tff.Sequential(flow.bijectors)


def test_without_adapt_the_condition_is_what_it_is():
  flow, x = _flow(), test_util.normal([6, 2], 'float32')
  condition = test_util.normal([6, 4], 'float32', 3)
  for a, b in zip(
    flow.forward_and_log_det(x, condition),
    _plain(flow).forward_and_log_det(x, condition),
  ):
    np.testing.assert_array_equal(a, b)


def test_adapt_standardizes_all_columns_but_indicators():
  rng, flow = np.random.RandomState(0), _flow()
  condition = np.stack(
    [
      1e9 + rng.normal(size=50),
      rng.randint(0, 2, 50),
      np.full(50, 3.7),
      5 - 9 * rng.normal(size=50),
    ],
    axis=1,
  )
  x = test_util.normal([50, 2], 'float32')
  standard = (condition - condition.mean(0)) / condition.std(0, keepdims=True)
  standard[:, 1], standard[:, 2] = condition[:, 1], 0.0
  expected = _plain(flow).forward_and_log_det(x, standard)
  adapted = flow.adapt(x, condition)
  np.testing.assert_allclose(adapted, expected[0], rtol=1e-4, atol=1e-5)
  for jit_compile in (False, True):
    found = tf.function(flow.forward_and_log_det, jit_compile=jit_compile)(x, condition)
    for a, b in zip(found, expected):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  back = flow.inverse(adapted, condition=condition)
  np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-4)


def test_gradients_of_the_condition_have_its_units():
  flow, x = _flow(1), test_util.normal([20, 2], 'float32')
  condition = 5.0 * test_util.normal([20, 1], 'float32', 3) + 100.0
  flow.adapt(x, condition)
  deviation = tf.math.reduce_std(condition)
  standard = (condition - tf.reduce_mean(condition)) / deviation
  with tf.GradientTape(persistent=True) as tape:
    tape.watch([condition, standard])
    y = flow.forward(x, condition=condition)
    expected = _plain(flow).forward(x, condition=standard)
  np.testing.assert_allclose(
    tape.gradient(y, condition),
    tape.gradient(expected, standard) / deviation,
    rtol=1e-3,
    atol=1e-5,
  )


def test_an_earlier_weights_file_and_checkpoint_still_load(tmp_path):
  def model(condition_size):
    flow = tff.maf([2], num_layers=1, condition_size=3, seed=0)
    layers = flow.bijector.bijector.bijectors
    inner = tff.Sequential(layers, condition_size=condition_size)
    base, of_data = flow.distribution, tfp.bijectors.Invert(inner)
    made = tff.FlowModel(tfp.distributions.TransformedDistribution(base, of_data))
    made.compile('adam', jit_compile=False)
    return made

  old, new = model(None), model(3)
  for variable in old.trainable_variables:
    variable.assign_add(tf.ones_like(variable))
  tff.Checkpoints(tmp_path, old).save(1, {})
  old.save_weights(tmp_path / 'old.weights.h5')
  tff.Checkpoints(tmp_path, new).restore()
  for a, b in zip(old.trainable_variables, new.trainable_variables, strict=True):
    np.testing.assert_array_equal(a, b)
  scale, shift = new.condition_variables
  scale.assign([2.0, 2.0, 2.0])
  shift.assign(tf.ones([2, 3]))
  new.load_weights(tmp_path / 'old.weights.h5')
  np.testing.assert_array_equal(scale, [1.0, 1.0, 1.0])
  np.testing.assert_array_equal(shift, tf.zeros([2, 3]))
