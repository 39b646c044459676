"""Tests of `internal/example_keys.py` and of the noise that is made with it."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tfp_flows.internal import example_keys
from tfp_flows.math import random

SEED = tf.constant([3, 4])


def _noise(draw, keys, event=(3,), samples=2, dtype=tf.float32, seed=SEED):
  shape = [samples, *keys.shape[:-1], *event]
  return random.for_examples(draw, shape, seed, dtype, axis=1, keys=keys)


def test_keys_are_those_of_the_numbers():
  x = tf.constant([[0.0, 1.0], [1.0, 0.0], [-0.0, 1.0], [0.0, 1.0]])
  keys = example_keys.example_keys(x).numpy()
  assert keys.shape == (4, 2) and keys.dtype == np.uint32
  np.testing.assert_array_equal(keys[[0, 0]], keys[[2, 3]])
  assert (keys[0] != keys[1]).all()
  compiled = tf.function(example_keys.example_keys, jit_compile=True)
  np.testing.assert_array_equal(compiled(x), keys)
  np.testing.assert_array_equal(example_keys.example_keys(x[2:]), keys[2:])


def test_keys_of_images_conditions_and_float64():
  x = tf.reshape(tf.range(8, dtype=tf.float64), [2, 2, 2, 1])
  keys = example_keys.example_keys(x, event_ndims=3)
  assert keys.shape == [2, 2]
  near = example_keys.example_keys(x * (1 + 2.0**-40), event_ndims=3)
  assert (keys.numpy() != near.numpy()).all()
  of_two = example_keys.example_keys(x, tf.eye(2)[:, tf.newaxis], 3).numpy()
  assert of_two.shape == (2, 2, 2)
  assert len(np.unique(of_two.reshape([4, 2]), axis=0)) == 4


def test_keys_of_small_integers_do_not_collide():
  x = np.stack(np.meshgrid(*[np.arange(40.0)] * 3), axis=-1).reshape([-1, 3])
  keys = example_keys.example_keys(x.astype(np.float32)).numpy()
  assert len(np.unique(keys, axis=0)) == len(x)


@pytest.mark.parametrize('draw', [random.uniform, random.rademacher, random.normal])
@pytest.mark.parametrize('dtype', [tf.float32, tf.float64])
def test_noise_belongs_to_the_example(draw, dtype):
  keys = example_keys.example_keys(tf.random.stateless_normal([50, 2], SEED))
  noise = _noise(draw, keys, dtype=dtype).numpy()
  order = np.random.RandomState(0).permutation(50)
  permuted = _noise(draw, tf.gather(keys, order), dtype=dtype)
  np.testing.assert_allclose(permuted, noise[:, order], rtol=1e-6, atol=1e-6)
  some = _noise(draw, keys[:7], dtype=dtype)
  np.testing.assert_allclose(some, noise[:, :7], rtol=1e-6, atol=1e-6)
  other = _noise(draw, keys, dtype=dtype, seed=tf.constant([3, 5])).numpy()
  assert (other != noise).mean() > 0.4


def test_noise_is_the_same_under_xla():
  keys = example_keys.example_keys(tf.random.stateless_normal([9, 2], SEED))
  for draw in (random.uniform, random.rademacher):
    compiled = tf.function(lambda k, draw=draw: _noise(draw, k), jit_compile=True)
    np.testing.assert_array_equal(compiled(keys), _noise(draw, keys))


def test_noise_has_its_distribution_over_seeds_and_over_examples():
  keys = example_keys.example_keys(tf.reshape(tf.range(4000.0), [4000, 1]))
  over_examples = _noise(random.rademacher, keys, (4,), 1)[0].numpy()
  over_seeds = np.concatenate(
    [
      _noise(random.rademacher, keys[:8], (4,), 125, seed=tf.constant([0, i]))[:, 5]
      for i in range(32)
    ]
  )
  for v in (over_examples, over_seeds):
    # Mean 0 and covariance I, within 5 standard errors.
    assert np.abs(v.mean(axis=0)).max() < 5 / 4000**0.5
    assert np.abs(v.T @ v / 4000 - np.eye(4)).max() < 5 / 4000**0.5
  # Neighbours in the order of numbers have nothing to do with each other.
  assert np.abs((over_examples[1:] * over_examples[:-1]).mean(axis=0)).max() < 0.08
  u = np.sort(_noise(random.uniform, keys, (1,), 1).numpy().ravel())
  assert np.abs(u - np.arange(4000) / 4000).max() < 0.03  # Kolmogorov, p < 0.002.


def test_parts_of_an_example_have_other_keys():
  keys = example_keys.example_keys(tf.eye(2))
  parts = example_keys.for_batch(keys, tf.zeros([2, 3, 5]), 1).numpy()
  assert parts.shape == (2, 3, 2)
  assert len(np.unique(parts.reshape([6, 2]), axis=0)) == 6
  with pytest.raises(ValueError, match=r'examples of the keys.*\[2\]; received \[3\]'):
    example_keys.for_batch(keys, tf.zeros([3, 5]), 1)


def _roulette(num_dims=6):
  estimator = tff.RouletteLogDet(tff.geometric(0.3), num_terms=1)
  return tff.ResidualFlow(
    tff.LipschitzMLP(num_dims, [8], zero_last=False, lipschitz=0.8**2, seed=0),
    [num_dims],
    tff.LogDet(evaluation_estimator=estimator),
    seed=0,
  )


def test_log_dets_of_both_directions_agree_inside_a_block():
  flow, x = _roulette(), tf.random.stateless_normal([5, 6], SEED)
  with tff.estimation(0, keys=tff.example_keys(x)):
    y, forward = flow.forward_and_log_det(x)
    _, backward = flow.inverse_and_log_det(y)
  np.testing.assert_allclose(forward, -backward, rtol=1e-4, atol=1e-5)


def test_roulette_with_keys_is_unbiased():
  flow, x = _roulette(), tf.random.stateless_normal([4, 6], SEED)
  exact = tff.exact_log_det(flow.branch, x, 1).log_det
  x, keys = (tf.repeat(t, 2000, axis=0) for t in (x, tff.example_keys(x)))
  # As if each example had 2,000 seeds.
  keys = example_keys.fold_in(keys, tf.range(8000))
  with tff.estimation(0, keys=keys):
    found = flow.forward_log_det_jacobian(x).numpy().reshape([4, 2000])
  error = found.std(axis=1) / 2000**0.5
  assert (np.abs(found.mean(axis=1) - exact) < 4 * error).all()
