import numpy as np
import pytest
import tensorflow as tf

from tfp_flows.math import random


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_uniform_in_the_unit_interval(dtype):
  x = random.uniform([100_000], tf.constant([0, 7]), dtype).numpy()
  assert x.dtype == dtype
  assert 0 <= x.min() < 1e-3
  assert 1 - 1e-3 < x.max() < 1
  counts, _ = np.histogram(x, bins=10, range=(0, 1))
  # Each count is binomial: five standard deviations.
  assert np.abs(counts - 10_000).max() < 5 * np.sqrt(9_000)


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_uniform_is_the_same_under_xla(dtype):
  draw = lambda: random.uniform([1000], tf.constant([1, 2]), dtype)  # noqa: E731
  np.testing.assert_array_equal(draw(), tf.function(draw, jit_compile=True)())


@pytest.mark.parametrize('draw', [random.normal, random.rademacher])
def test_moments(draw):
  x = draw([200_000], tf.constant([0, 7]), 'float64').numpy()
  fourth = 3.0 if draw is random.normal else 1.0
  for power, moment in ((1, 0), (2, 1), (3, 0), (4, fourth)):
    values = x**power
    error = values.std() / np.sqrt(len(x))
    assert np.abs(values.mean() - moment) <= 4 * error


def test_rademacher_is_plus_or_minus_one():
  x = random.rademacher([1000], tf.constant([0, 7]))
  assert x.dtype == tf.float32
  assert set(x.numpy()) == {-1.0, 1.0}


@pytest.mark.parametrize('draw', [random.normal, random.rademacher])
def test_draws_under_xla(draw):
  run = lambda: draw([100], tf.constant([1, 2]), 'float64')  # noqa: E731
  np.testing.assert_allclose(run(), tf.function(run, jit_compile=True)(), rtol=1e-12)
