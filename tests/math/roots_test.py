"""Roots of increasing functions, and their derivatives."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_flows.math import roots
from tfp_flows.math import tanh_maps

EPS = {t: np.finfo(t).eps for t in ('float32', 'float64')}


def cubic(a, c):
  return a * a * a + c * a, 3.0 * a * a + c


@pytest.mark.parametrize('mode', ['eager', 'graph', 'xla'])
@pytest.mark.parametrize('dtype', EPS)
def test_known_roots_of_all_sizes(dtype, mode):
  expected = np.concatenate([-np.logspace(-6, 3, 40), np.logspace(-6, 3, 40), [0.0]])
  expected = tf.constant(expected, dtype)
  c = tf.constant(0.5, dtype)
  target = cubic(expected, c)[0]
  bound = tf.fill(target.shape, tf.constant(2e3, dtype))

  def find(target):
    return roots.find_root(cubic, target, -bound, bound, c)

  if mode != 'eager':
    find = tf.function(find, jit_compile=mode == 'xla')
  found = find(target)
  assert found.dtype == dtype
  np.testing.assert_allclose(found, expected, rtol=8 * EPS[dtype], atol=1e-30)


def test_few_evaluations():
  calls = []

  def counted(a, c):
    calls.append(a)
    return cubic(a, c)

  target = tf.constant(np.linspace(-5, 5, 50))
  roots.find_root(counted, target, -10.0, 10.0, tf.constant(0.5, tf.float64))
  # Halvings alone would take 55.
  assert len(calls) < 30


def test_the_bracket_decides_and_not_the_value():
  """A step that is nearly vertical, between lines that are nearly flat."""

  def step(a, parameters):
    t = tf.tanh(1e6 * (a - 1.0))
    return t + 1e-6 * a, 1e6 * (1.0 - t) * (1.0 + t) + 1e-6

  expected = tf.constant([-7.0, 0.5, 1.0 - 1e-7, 1.0, 1.0 + 1e-6, 3.0], tf.float64)
  target = step(expected, ())[0]
  found = roots.find_root(step, target, -20.0, 20.0)
  # Values differ by 1e-6 for each unit, and have 16 digits.
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_what_is_returned_is_inside_of_the_bracket():
  for target, expected in ((9.0, 1.0), (-9.0, -1.0), (np.nan, np.nan)):
    target = tf.constant([target], tf.float64)
    found = roots.find_root(cubic, target, -1.0, 1.0, tf.constant(1.0, tf.float64))
    np.testing.assert_allclose(found, [expected], rtol=1e-12)
  with pytest.raises(ValueError, match='float32 or float64; received float16'):
    roots.find_root(cubic, tf.constant([0.0], tf.float16), -1.0, 1.0, 1.0)


def by_root(t, p):
  """The `a` with `sinh(a) / p = t`."""
  call = roots.with_slope(lambda a, parameters: tf.sinh(a) / parameters['p'])
  return roots.find_root(call, t, -9.0, 9.0, dict(p=p))


def by_formula(t, p):
  return tf.asinh(p * t)


def derivatives(fn, t, p, order):
  """Of a mixed kind, up to an order."""
  if not order:
    return [fn(t, p)]
  with tf.GradientTape() as tape:
    tape.watch([t, p])
    lower = derivatives(fn, t, p, order - 1)
    along = tf.reduce_sum(lower[-1])
  first, second = tape.gradient(along, [t, p])
  return [*lower, first + 0.7 * second]


T = tf.constant([-3.0, 0.1, 2.0], tf.float64)
P = tf.constant([0.5, 1.5, 2.5], tf.float64)


@pytest.mark.parametrize(('mode', 'order'), [('eager', 4), ('graph', 2), ('xla', 2)])
def test_derivatives_of_higher_order(mode, order):
  def run(t, p):
    return derivatives(by_root, t, p, order)

  run = run if mode == 'eager' else tf.function(run, jit_compile=mode == 'xla')
  for found, expected in zip(run(T, P), derivatives(by_formula, T, P, order)):
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_tapes_around_a_function():
  """TensorFlow asks for all that gradients of any order may need."""
  traced = tf.function(by_root)
  found = derivatives(traced, T, P, 2)
  for a, b in zip(found, derivatives(by_formula, T, P, 2)):
    np.testing.assert_allclose(a, b, rtol=1e-10)
  with tf.GradientTape(persistent=True) as tape:
    tape.watch(P)
    a = traced(T, P)
  np.testing.assert_allclose(tape.gradient(a, P), T / tf.sqrt(1 + (P * T) ** 2))


@pytest.mark.parametrize('place', ['eager', 'around', 'inside'])
def test_forward_mode(place):
  def product(fn):
    with tf.autodiff.ForwardAccumulator([T, P], [P, T]) as accumulator:
      a = fn(T, P)
    return accumulator.jvp(a)

  if place == 'inside':
    found = tf.function(lambda: product(by_root))()
  else:
    found = product(by_root if place == 'eager' else tf.function(by_root))
  np.testing.assert_allclose(found, product(by_formula), rtol=1e-12)


@pytest.mark.parametrize('dtype', EPS)
def test_slopes_do_not_cancel(dtype):
  a = np.concatenate([[0.0], np.logspace(-9, 1.5, 50)]).astype(dtype)
  wide = a.astype(np.longdouble)
  for s in (1e-18, 1e-6, 0.3, 1.0, 50.0, 1e6):
    s = a.dtype.type(s)
    expected = np.log(np.tanh(wide) ** 2 + np.longdouble(s) / np.cosh(wide) ** 2)
    found = tanh_maps.log_slope(tf.constant(a), tf.constant(s))
    np.testing.assert_allclose(
      found, expected.astype('f8'), rtol=8 * EPS[dtype], atol=4 * EPS[dtype]
    )


@pytest.mark.parametrize('dtype', EPS)
def test_roots_of_tanh_maps(dtype):
  rng = np.random.default_rng(0)
  a = tf.constant(4 * rng.standard_normal(500), dtype)
  s = tanh_maps.positive(tf.constant(3 * rng.standard_normal(500), dtype))
  target = a + (s - 1) * tf.tanh(a)
  found = tanh_maps.solve(target, s)
  # As far as the rounding of `target`, and of its terms, tells.
  slope = tf.exp(tanh_maps.log_slope(a, s))
  allowed = 8 * EPS[dtype] * (tf.abs(a) + (tf.abs(a) + tf.abs(target)) / slope)
  assert np.all(np.abs(found - a) <= allowed)
