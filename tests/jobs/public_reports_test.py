"""Jobs of public bug reports of flow libraries that failed here, too."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff

tfb, tfd = tfp.bijectors, tfp.distributions


def fast(flow):
  model = tff.FlowModel(flow, seed=0)
  model.compile(keras.optimizers.SGD(1e-3), jit_compile=False)
  return model


def test_conditional_flow_inside_of_a_chain():  # tensorflow/probability#1410
  inner = tff.maf([1], num_layers=1, hidden=[4], condition_size=1, seed=0)
  chained = tfd.TransformedDistribution(
    inner.distribution, tfb.Chain([tfb.Sigmoid(), inner.bijector])
  )
  model = fast(chained)
  x, condition = np.array([[0.2], [0.7]], 'f4'), np.array([[-1.0], [2.0]], 'f4')
  logit = np.log(x / (1 - x))
  expected = inner.log_prob(tf.constant(logit), condition=tf.constant(condition))
  expected -= np.log(x * (1 - x))[:, 0]
  np.testing.assert_allclose(model.log_prob(x, condition), expected, rtol=1e-5)
  model.fit(x, condition, verbose=0)


def test_one_example_with_many_conditions_behind_two_inverts():
  inner = tff.maf([2], num_layers=1, hidden=[4], condition_size=1, seed=0)
  layers = tff.Sequential([tfb.Invert(tfb.Sigmoid()), tfb.Invert(inner.bijector)])
  flow = tfd.TransformedDistribution(inner.distribution, tfb.Invert(layers))
  given = dict(condition=tf.ones([3, 1]))
  log_prob = flow.log_prob(tf.constant([[0.3, 0.4]]), bijector_kwargs=given)
  assert log_prob.shape == [3]


def test_data_outside_of_the_support():  # danielward27/flowjax#74
  bounded = tff.Sequential([tfb.Invert(tfb.Sigmoid()), tff.ActNorm([2])])
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [2])
  model = fast(tfd.TransformedDistribution(base, tfb.Invert(bounded)))
  x = np.random.default_rng(0).uniform(0.1, 0.9, [8, 2]).astype('f4')
  x[3, 0] = 1.5
  with pytest.raises(ValueError, match='some examples.*outside of the support'):
    model.fit(x, shuffle=False, verbose=0)
  with pytest.raises(tff.NonFiniteError, match='received NaN for 1 of 8 examples, 3'):
    model.log_prob(x)
  with pytest.raises(tff.NonFiniteError, match='received NaN for 1 of 8 examples, 3'):
    model.predict(x, verbose=0)
  with pytest.raises(tff.NonFiniteError, match='received NaN. Such examples'):
    model.evaluate(x, verbose=0)


def test_outside_of_a_uniform_base_is_minus_infinity():  # danielward27/flowjax#147
  base = tfd.Sample(tfd.Uniform(-5.0, 5.0), [2])
  flow = tfd.TransformedDistribution(base, tfb.Invert(tff.ActNorm([2])))
  log_prob = fast(flow).log_prob(np.array([[8.0, 0.0], [1.0, 1.0]], 'f4'))
  np.testing.assert_allclose(log_prob, [-np.inf, -2 * np.log(10.0)], rtol=1e-6)


def test_one_number_that_is_not_gaussian():  # sbi-dev/sbi#1315
  x = np.random.default_rng(0).exponential(size=[512, 1]).astype('f4')
  model = tff.FlowModel(tff.maf([1], num_layers=2, hidden=[16], seed=0), seed=0)
  model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
  model.adapt(x)
  model.fit(x, batch_size=128, epochs=30, verbose=0)
  gaussian = 0.5 * np.log(2 * np.pi * np.e * x.var())
  assert -np.mean(model.log_prob(x)) < gaussian - 0.15


def test_class_weights():  # keras-team/keras#12511
  model = fast(tff.real_nvp([2], num_steps=1, width=4))
  with pytest.raises(ValueError, match='sample_weight.*received class_weight'):
    model.fit(np.ones([4, 2], 'f4'), class_weight={0: 1.0})


@pytest.mark.parametrize('builder', [tff.glow, tff.real_nvp])
def test_odd_images(builder):  # vislearn/FrEIA#27
  with pytest.raises(ValueError, match=r'multiples of 2; received \[7, 7, 1\].*`nice`'):
    builder([7, 7, 1], num_levels=1)
  flow = tff.nice([7, 7, 1], num_steps=2, width=4)
  assert flow.log_prob(tf.ones([1, 7, 7, 1])).shape == [1]


def test_cdf_and_quantile():  # tensorflow/probability#1401
  flow = tff.maf([1], num_layers=1, hidden=[4])
  with pytest.raises(NotImplementedError, match='flow has no `cdf`.*from samples'):
    flow.cdf([[0.0]])


def test_adapt_the_parts_of_a_mixture():  # sbi-dev/sbi#106
  parts = [tff.real_nvp([2], num_steps=1, width=4) for _ in range(2)]
  mixture = tfd.Mixture(tfd.Categorical(logits=tf.Variable([0.0, 0.0])), parts)
  x = np.random.default_rng(0).normal(3.0, 2.0, [64, 2]).astype('f4')
  with pytest.raises(ValueError, match='received _?Mixture.*parts one by one'):
    fast(mixture).adapt(x)
  before = -np.mean(fast(mixture).log_prob(x))
  for part in parts:
    fast(part).adapt(x)
  assert -np.mean(fast(mixture).log_prob(x)) < before - 1.0
