"""Divergences against autodiff Jacobians, and the moments of the estimates."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import test_util
from tfp_flows.math import divergence

DRAWS = 20_000
EVENTS = [(3,), (10,), (2, 2, 3)]
CASES = [((3,), ()), ((3,), (4,)), ((3,), (2, 2)), ((10,), (2,)), ((2, 2, 3), (2,))]


def weights(event):
  size = int(np.prod(event))
  return [test_util.normal([size, size], seed=s) / size**0.5 for s in (1, 2)]


def field(weights, event):
  """`x -> second tanh(first x)`, of flattened events, under any batch shape."""
  first, second = weights

  def f(x):
    flat = tf.reshape(x, tf.concat([tf.shape(x)[: -len(event)], [-1]], 0))
    value = tf.linalg.matvec(second, tf.tanh(tf.linalg.matvec(first, flat)))
    return tf.reshape(value, tf.shape(x))

  return f


def jacobians(weights, x):
  """`[num_examples, D, D]` of `field`, by autodiff of one example after the other."""
  size = len(weights[0])
  f = field(weights, (size,))
  with tf.GradientTape(persistent=True) as tape:
    flat = tf.reshape(x, [-1, size])
    tape.watch(flat)
    y = f(flat)
  return tape.batch_jacobian(y, flat, experimental_use_pfor=False).numpy()


def moments(jacobian, noise):
  """Mean and variance of `v' J v`."""
  symmetric = (jacobian + jacobian.T) / 2
  if noise == 'rademacher':
    symmetric = symmetric - np.diag(np.diag(symmetric))
  return np.trace(jacobian), 2 * np.sum(symmetric**2)


@pytest.mark.parametrize(('event', 'batch'), CASES)
def test_exact_divergence_is_the_trace_of_the_jacobian(event, batch):
  parts, x = weights(event), test_util.normal([*batch, *event], seed=3)
  at = divergence.exact_divergence(field(parts, event), x, len(event))
  expected = jacobians(parts, x)
  np.testing.assert_allclose(at.value, field(parts, event)(x), rtol=1e-12)
  assert at.value.shape == x.shape
  assert at.divergence.shape == at.squared_norm.shape == batch
  traces = np.trace(expected, axis1=1, axis2=2)
  np.testing.assert_allclose(np.ravel(at.divergence), traces, rtol=1e-10)
  norms = np.sum(expected**2, axis=(1, 2))
  np.testing.assert_allclose(np.ravel(at.squared_norm), norms, rtol=1e-10)


@pytest.mark.parametrize(('event', 'batch'), CASES)
def test_an_estimate_is_the_mean_of_the_products_with_its_samples(event, batch):
  parts, x = weights(event), test_util.normal([*batch, *event], seed=3)
  noise = test_util.normal([2, *batch, *event], seed=4)
  f = field(parts, event)
  at = divergence.hutchinson_divergence(f, x, len(event), noise)
  v = np.reshape(noise, [2, -1, int(np.prod(event))])
  products = np.einsum('sni,nij->snj', v, jacobians(parts, x))
  np.testing.assert_allclose(at.value, f(x), rtol=1e-12)
  assert at.divergence.shape == at.squared_norm.shape == batch
  expected = np.mean(np.sum(products * v, -1), 0)
  np.testing.assert_allclose(np.ravel(at.divergence), expected, rtol=1e-10)
  expected = np.mean(np.sum(products**2, -1), 0)
  np.testing.assert_allclose(np.ravel(at.squared_norm), expected, rtol=1e-10)


@pytest.mark.parametrize('kind', ['rademacher', 'normal'])
@pytest.mark.parametrize('event', EVENTS)
def test_estimates_are_unbiased(event, kind):
  parts, x = weights(event), test_util.normal(event, seed=3)
  # A batch of the same example: each draws its own noise.
  many = tf.repeat(x[tf.newaxis], DRAWS, axis=0)
  noise = divergence.hutchinson_noise(kind, many, tf.constant([0, 1]))
  at = divergence.hutchinson_divergence(field(parts, event), many, len(event), noise)
  (jacobian,) = jacobians(parts, x)
  mean, variance = moments(jacobian, kind)
  found = at.divergence.numpy()
  assert abs(found.mean() - mean) < 3 * (variance / DRAWS) ** 0.5
  np.testing.assert_allclose(found.var(), variance, rtol=0.06)
  squares, expected = at.squared_norm.numpy(), np.sum(jacobian**2)
  error = squares.std() / DRAWS**0.5
  assert error < 0.02 * expected  # Or nothing is tested.
  assert abs(squares.mean() - expected) < 3 * error


@pytest.mark.parametrize('kind', ['rademacher', 'normal'])
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_noise(kind, dtype):
  x = tf.zeros([5000, 3], dtype)
  draw = functools.partial(divergence.hutchinson_noise, kind, x)
  noise = draw(tf.constant([0, 1]), 2)
  assert (noise.shape, noise.dtype) == ((2, 5000, 3), dtype)
  flat = noise.numpy().reshape(-1, 3)
  np.testing.assert_allclose(flat.mean(0), np.zeros(3), atol=0.04)
  np.testing.assert_allclose(flat.T @ flat / len(flat), np.eye(3), atol=0.05)
  fourth = {'rademacher': 1.0, 'normal': 3.0}[kind]
  np.testing.assert_allclose(np.mean(flat**4), fourth, rtol=0.1)
  # Samples and examples have noise of their own, seeds likewise.
  assert abs(np.mean(noise[0] * noise[1])) < 0.04
  assert abs(np.mean(noise[:, 1:] * noise[:, :-1])) < 0.04
  np.testing.assert_array_equal(noise, draw(tf.constant([0, 1]), 2))
  assert abs(np.mean(noise * draw(tf.constant([0, 2]), 2))) < 0.04


def test_unknown_kind():
  with pytest.raises(ValueError, match="'rademacher' or 'normal'; received 'other'"):
    divergence.hutchinson_noise('other', tf.zeros([2]), tf.constant([0, 0]))


@pytest.mark.parametrize('kind', [None, 'rademacher', 'normal'])
@pytest.mark.parametrize('event', EVENTS)
def test_gradients_are_central_differences_and_xla_is_eager(event, kind):
  x = test_util.normal([2, *event], seed=3)
  upstream = test_util.normal([2, 2], seed=5)
  seed = tf.constant([0, 1])

  def loss(x, *parts):
    f = field(parts, event)
    if kind is None:
      at = divergence.exact_divergence(f, x, len(event))
    else:
      noise = divergence.hutchinson_noise(kind, x, seed, 2)
      at = divergence.hutchinson_divergence(f, x, len(event), noise)
    return tf.reduce_sum(upstream * tf.stack([at.divergence, at.squared_norm]))

  def run(*args):
    with tf.GradientTape() as tape:
      tape.watch(args)
      value = loss(*args)
    return value, tape.gradient(value, args)

  args = [x, *weights(event)]
  value, gradients = run(*args)
  # Along a random direction of each argument.
  for i, gradient in enumerate(gradients):
    direction = test_util.normal(args[i].shape, seed=6 + i)

    def moved(step, i=i, direction=direction):
      return loss(*args[:i], args[i] + step * direction, *args[i + 1 :])

    expected = (moved(1e-5) - moved(-1e-5)) / 2e-5
    found = tf.reduce_sum(gradient * direction)
    assert abs(expected) > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
  if kind != 'normal' or event == (3,):
    compiled = tf.function(run, jit_compile=True, autograph=False)
    tf.nest.map_structure(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
      compiled(*args),
      (value, gradients),
    )


@pytest.mark.parametrize('kind', [None, 'rademacher', 'normal'])
def test_unknown_batch_size(kind):
  event = (3,)
  x, f = test_util.normal([2, *event], seed=3), field(weights(event), event)

  def run(x):
    if kind is None:
      return divergence.exact_divergence(f, x, 1)
    noise = divergence.hutchinson_noise(kind, x, tf.constant([0, 1]), 2)
    return divergence.hutchinson_divergence(f, x, 1, noise)

  signature = [tf.TensorSpec([None, *event], tf.float64)]
  found = tf.function(run, input_signature=signature, autograph=False)(x)
  for a, b in zip(found, run(x)):
    np.testing.assert_allclose(a, b, rtol=1e-12)


def test_the_field_is_evaluated_once():
  calls = []

  def f(x):
    calls.append(1)
    return tf.sin(x)

  for size in (3, 10):
    x = test_util.normal([2, size])
    divergence.exact_divergence(f, x, 1)
    noise = divergence.hutchinson_noise('normal', x, tf.constant([0, 1]), 3)
    divergence.hutchinson_divergence(f, x, 1, noise)
  assert len(calls) == 4


def test_a_constant_field():
  x = test_util.normal([2, 3])
  noise = tf.ones([1, 2, 3], tf.float64)
  for at in (
    divergence.exact_divergence(lambda x: tf.ones_like(x), x, 1),
    divergence.hutchinson_divergence(lambda x: tf.ones_like(x), x, 1, noise),
  ):
    np.testing.assert_array_equal(at.divergence, np.zeros(2))
    np.testing.assert_array_equal(at.squared_norm, np.zeros(2))
