"""What a model is asked for: in which parts, compiled how often, with gradients."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tfp_flows.model import draws

tfb, tfd = tfp.bijectors, tfp.distributions


def model_of(flow, jit_compile=False):
  test_util.perturb(flow, 0.1)
  model = tff.FlowModel(flow, seed=0)
  model.compile(jit_compile=jit_compile)
  return model


def glow(jit_compile=False, **options):
  options = dict(num_steps=2, width=4, condition_size=3, seed=0) | options
  return model_of(tff.glow([2], **options), jit_compile)


@pytest.fixture(scope='module')
def condition():
  return test_util.normal([4, 3], 'float32')


@pytest.fixture(scope='module')
def model():
  return glow()


@pytest.mark.parametrize('total', [0, 1, 16, 17, 100, 1000, 5000, 20_000])
def test_parts_are_of_few_sizes_and_waste_little(total):
  values, sizes = tf.range(max(total, 1)), []

  def double(values, rows, i):
    assert rows is None
    assert i == len(sizes)
    sizes.append(len(values))
    return 2 * values

  found = draws.in_parts(double, values, None, total, 64)
  np.testing.assert_array_equal(found, 2 * np.arange(total))
  assert set(sizes) <= {16, 128, 1024}
  assert sum(sizes) <= max(16, 2 * total)
  assert len(sizes) < 30


def test_samples_are_decoded_latents_in_parts(model, condition):
  x = model.sample(50, condition, temperature=0.5, seed=3)
  assert x.shape == (50, 4, 2)
  z = 0.5 * model.distribution.distribution.sample(200, seed=[0, 3])
  expected = model.decode(tf.reshape(z, [50, 4, 2]), condition)
  np.testing.assert_allclose(x, expected, atol=1e-5)
  under_xla = glow(jit_compile=True)
  np.testing.assert_allclose(
    under_xla.sample(50, condition, temperature=0.5, seed=3), x, atol=1e-5
  )
  assert len(under_xla._compiled.values()) == 2  # Latents, and parts of 128.
  x, log_prob = model.sample_and_log_prob([2, 3], condition, seed=3)
  assert log_prob.shape == (2, 3, 4)
  np.testing.assert_allclose(log_prob, model.log_prob(x, condition), atol=1e-5)


@pytest.mark.parametrize('n', [-1, [2, -1], 1.5, 'a', [[1]], [[1], [2, 3]]])
def test_what_is_no_number_of_draws(model, condition, n):
  with pytest.raises(ValueError, match='number or the shape of the draws'):
    model.sample(n, condition)


def test_conditions_that_are_not_finite(model, condition):
  x = condition[:, :2]
  for call in (model.sample, lambda condition: model.log_prob(x, condition)):
    with pytest.raises(ValueError, match='condition of finite'):
      call(condition=condition * np.nan)


def test_temperature_about_a_mode_or_nothing():
  def samples(base, **options):
    flow = tfd.TransformedDistribution(base, tfb.Invert(tff.ActNorm([2])))
    model = tff.FlowModel(flow)
    model.compile(jit_compile=False)
    return model.sample(3, seed=[0, 1], **options)

  cauchy = tfd.Sample(tfd.Cauchy(5.0, 1.0), 2)
  expected = 5.0 + 0.5 * (cauchy.sample(3, seed=[0, 1]) - 5.0)
  np.testing.assert_allclose(samples(cauchy, temperature=0.5), expected, rtol=1e-5)
  truncated = tfd.Sample(tfd.HalfCauchy(0.0, 1.0), 2)
  np.testing.assert_allclose(samples(cauchy), cauchy.sample(3, seed=[0, 1]))
  mixture = tfd.MixtureSameFamily(
    tfd.Categorical(logits=[0.0, 0.0]),
    tfd.Independent(tfd.Cauchy([[0.0, 0.0], [1.0, 1.0]], 1.0), 1),
  )
  assert samples(truncated).shape == (3, 2)
  with pytest.raises(ValueError, match='Expected temperature=1'):
    samples(mixture, temperature=0.5)


@pytest.mark.parametrize('batch', [[1], [3]])
def test_batches_of_distributions_are_refused(batch):
  loc = tf.Variable(tf.zeros([*batch, 2]))
  with pytest.raises(ValueError, match=r'of batch shape \[\]; received'):
    tff.FlowModel(tfd.Independent(tfd.Normal(loc, 1.0), 1))


def test_no_images():
  flow = tff.glow([4, 4, 1], num_levels=1, num_steps=1, width=4, num_bins=4, seed=0)
  model = model_of(flow)
  x = np.zeros([0, 4, 4, 1], 'u1')
  assert model.log_prob(x).shape == (0,)
  assert model.sample(0).shape == x.shape


def test_the_number_of_samples_of_a_bound_compiles_nothing():
  flow = tff.real_nvp([2], num_steps=1, width=4, num_bins=4, seed=0)
  model = model_of(flow)
  x, seed = tf.constant([[0, 3], [1, 2]], tf.uint8), tf.constant([0, 5])
  found = [model.log_prob(x, seed=seed, num_samples=k) for k in (2, 3)]
  count = len(model._compiled.values())
  found += [model.log_prob(x, seed=seed, num_samples=k) for k in (4, 5)]
  assert len(model._compiled.values()) == count
  for k, bound in zip((2, 3, 4, 5), found, strict=True):
    expected = model.likelihood.log_prob(x, None, seed, num_samples=k)
    np.testing.assert_allclose(bound, expected, rtol=1e-5)


def test_gradients_to_all_that_goes_in(condition):
  model = glow(jit_compile=True)
  flow, weights = model.distribution, [v.value for v in model.trainable_variables]
  x, temperature = test_util.normal([4, 2], 'float32', 1), tf.constant(1.0)
  z = flow.distribution.sample(4, seed=[0, 5])

  def gradients(fn, *sources):
    with tf.GradientTape() as tape:
      tape.watch(sources)
      y = tf.reduce_sum(tf.sin(fn(*sources)))
    return tape.gradient(y, [*sources, *weights], unconnected_gradients='zero')

  pairs = [
    (model.log_prob, lambda x, c: flow.log_prob(tf.identity(x), condition=c), x),
    (
      lambda t, c: model.sample(None, c, t, seed=5),
      lambda t, c: flow.bijector.forward(t * z, condition=c),
      temperature,
    ),
  ]
  for found, expected, source in pairs:
    for a, b in zip(
      gradients(found, source, condition),
      gradients(expected, source, condition),
      strict=True,
    ):
      np.testing.assert_allclose(a, b, atol=1e-5)


def test_forward_mode(model, condition):
  x = test_util.normal([4, 2], 'float32', 1)
  with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
    log_prob = model.log_prob(x, condition)
  with tf.GradientTape() as tape:
    tape.watch(x)
    total = tf.reduce_sum(model.distribution.log_prob(x, condition=condition))
  expected = tf.reduce_sum(tape.gradient(total, x), axis=-1)
  np.testing.assert_allclose(accumulator.jvp(log_prob), expected, atol=1e-5)


def test_inside_of_a_function(model, condition):
  @tf.function(autograph=False)
  def draw(n, condition, temperature):
    return model.sample(n, condition, temperature, seed=3)

  found = draw(tf.constant(2), condition, tf.constant(0.5))
  expected = model.sample(2, condition, 0.5, seed=3)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_exports_broadcast_examples_and_conditions(model, condition, tmp_path):
  tff.export_saved_model(model, tmp_path / 'm')
  loaded = tf.saved_model.load(tmp_path / 'm')
  x, seed = test_util.normal([4, 2], 'float32', 1), tf.constant([0, 1])
  for one, c in ((x[:1], condition), (x, condition[:1])):
    found = loaded.signatures['log_prob'](x=one, condition=c, seed=seed)['log_prob']
    np.testing.assert_allclose(found, model.log_prob(one, c), atol=1e-5)


def test_blockwise_in_stablehlo(tmp_path):
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [3])
  parts = [tfb.Invert(tff.ActNorm([n])) for n in (2, 1)]
  model = model_of(tfd.TransformedDistribution(base, tfb.Blockwise(parts, [2, 1])))
  tff.export_stablehlo(model, tmp_path / 'm', 2, ['log_prob', 'sample'])
  assert (tmp_path / 'm' / 'sample.mlirbc').exists()


def test_no_rows_of_a_condition_and_too_few_estimates():
  flow = tff.real_nvp([2], num_steps=1, width=4, condition_size=1, seed=0)
  model = tff.FlowModel(flow, seed=0)
  model.compile('sgd', jit_compile=False)
  assert model.sample(condition=np.zeros([0, 1], 'f4')).shape == (0, 2)
  x, condition = np.ones([2, 2], 'f4'), np.ones([2, 1], 'f4')
  for count in (-3, 0, 1):
    with pytest.raises(ValueError, match=f'num_estimates >= 2.*received {count}'):
      model.log_prob(x, condition, max_standard_error=0.1, num_estimates=count)


def test_infinite_rows_of_weight_zero():
  base = tfd.Sample(tfd.Uniform(-3.0, 3.0), [2])
  flow = tfd.TransformedDistribution(base, tfb.Invert(tff.ActNorm([2])))
  model = tff.FlowModel(flow)
  model.compile('sgd', jit_compile=False)
  x = np.array([[0, 0], [1, 1], [9, 9]], 'f4')
  weights = np.array([1, 1, 0], 'f4')
  loss = model.evaluate(x, sample_weight=weights, verbose=0)
  np.testing.assert_allclose(loss, 2 * np.log(6.0), rtol=1e-6)
