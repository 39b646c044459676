"""Python's copies have weights of their own, all of which are read."""

import copy
import pickle

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util

tfb = tfp.bijectors


def pickled(value):
  return pickle.loads(pickle.dumps(value))


def moved(module, seed=0):
  test_util.perturb(module, seed=seed)
  return module


def ffjord(**options):
  field = tff.FieldMLP(4, [3], seed=0)
  return tff.FFJORD(field, [4], solver=tff.RungeKutta4(2), seed=0, **options)


MAKERS = dict(
  glow=lambda: tff.glow([4], num_steps=2, width=3, seed=0).bijector.bijector,
  maf=lambda: tff.maf([4], num_layers=1, hidden=[4], seed=0).bijector.bijector,
  ffjord=ffjord,
  inverted=lambda: tfb.Invert(tfb.Chain([tff.ActNorm([4]), tfb.Scale(2.0)])),
)


@pytest.mark.parametrize('name', MAKERS)
@pytest.mark.parametrize('make', [copy.deepcopy, pickled])
def test_copy_is_independent_and_reads_its_weights(name, make):
  original = moved(MAKERS[name]())
  other, x = make(original), test_util.normal([3, 4], 'float32')
  expected = original.forward(x).numpy()
  np.testing.assert_array_equal(other.forward(tf.identity(x)), expected)
  assert not {id(v) for v in other.variables} & {id(v) for v in original.variables}
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(other.forward(tf.identity(x)) ** 2)
  assert all(g is not None for g in tape.gradient(loss, other.trainable_variables))
  moved(other)
  np.testing.assert_array_equal(original.forward(tf.identity(x)), expected)


def test_copies_of_a_distribution():
  flow = moved(tff.real_nvp([4], num_steps=2, width=3, seed=0))
  x = test_util.normal([3, 4], 'float32')
  expected = flow.log_prob(x).numpy()
  others = [copy.deepcopy(flow), pickled(flow), copy.copy(flow), flow.copy(name='a')]
  for other in others:
    np.testing.assert_array_equal(other.log_prob(tf.identity(x)), expected)
  moved(others[0])
  moved(others[1])
  np.testing.assert_array_equal(flow.log_prob(tf.identity(x)), expected)
  # The other two are other names of the same weights.
  moved(flow)
  for other in others[2:]:
    assert np.abs(other.log_prob(tf.identity(x)) - expected).max() > 1e-3


def test_copy_of_tfp_keeps_values():
  layer = moved(tff.ActNorm([4]))
  other = layer.copy(name='other')
  for a, b in zip(other.variables, layer.variables, strict=True):
    assert a is not b
    np.testing.assert_array_equal(a, b)
  repeated = moved(tff.Repeated([tff.ActNorm([2]), tff.ActNorm([2])]))
  for a, b in zip(repeated.copy().variables, repeated.variables, strict=True):
    np.testing.assert_array_equal(a, b)
  with pytest.raises(ValueError, match='weights of the same shapes'):
    layer.copy(event_shape=[3])


def test_shallow_copy_shares_weights():
  layer = tff.ActNorm([4])
  assert copy.copy(layer).shift is layer.shift


def test_copies_that_cannot_be_right_are_refused():
  network = tff.MLP(2, 4, seed=0)
  pair = [tff.AffineCoupling(tff.ChannelMask([4]), network) for _ in range(2)]
  one = copy.deepcopy(tff.Sequential(pair))
  assert len(one.trainable_variables) == len(pair[0].trainable_variables)
  with pytest.raises(ValueError, match='share no network'):
    copy.deepcopy(tfb.Chain(pair))
  unknown = tff.AffineCoupling(tff.ChannelMask([4]), lambda x: tf.zeros([3, 4]))
  with pytest.raises(ValueError, match='arguments that can be saved'):
    copy.deepcopy(unknown)
