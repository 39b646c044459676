import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import test_util
from tfp_flows import MADE

ORDERS = [None, 'reversed', 'random', [2, 0, 3, 1]]


def network(size, params_per_dim=2, hidden=(16, 12), scale=0.5, **options):
  options = dict(activation='tanh', seed=0, dtype='float64') | options
  made = MADE(size, params_per_dim, hidden, **options)
  rng = np.random.default_rng(1)
  for v in made.trainable_variables:
    v.assign_add(scale * rng.standard_normal(v.shape))
  return made


def jacobians(made, x, condition=None):
  """Of the outputs `[P, D]` of one example, with respect to `x`: `[P, D, D]`."""
  with tf.GradientTape(persistent=True) as tape:
    tape.watch(x)
    y = made(x, condition)
  size = len(x)
  jacobian = tape.jacobian(y, x, experimental_use_pfor=False).numpy()
  if made.params_first:
    return jacobian.reshape(-1, size, size)
  return jacobian.reshape(size, -1, size).swapaxes(0, 1)


def assert_sees_exactly_what_is_before(made, jacobian):
  order = made.order
  for of_param in jacobian:
    in_order = of_param[np.ix_(order, order)]
    before = np.tril(np.ones_like(in_order), -1) > 0
    np.testing.assert_array_equal(in_order[~before], 0.0)
    assert np.all(np.abs(in_order[before]) > 1e-6)


@pytest.mark.parametrize('params_first', [True, False])
@pytest.mark.parametrize('order', ORDERS, ids=str)
def test_outputs_see_exactly_what_is_before(order, params_first):
  made = network(4, 3, order=order, params_first=params_first)
  jacobian = jacobians(made, test_util.normal([4]))
  assert jacobian.shape == (3, 4, 4)
  assert_sees_exactly_what_is_before(made, jacobian)


@pytest.mark.parametrize('hidden', [(), (5,), (5, 9), (9, 5, 7)])
@pytest.mark.parametrize('size', [2, 3, 5, 6])
def test_size_minus_one_units_are_enough(size, hidden):
  made = network(size, hidden=hidden, condition_size=None)
  assert_sees_exactly_what_is_before(made, jacobians(made, test_util.normal([size])))


def test_order():
  assert network(4).order == [0, 1, 2, 3]
  assert network(4, order='reversed').order == [3, 2, 1, 0]
  assert network(4, order=np.array([2, 0, 3, 1])).order == [2, 0, 3, 1]
  orders = [network(9, order='random', seed=seed).order for seed in (1, 1, 2)]
  assert orders[0] == orders[1] != orders[2]
  assert sorted(orders[0]) == list(range(9)) != orders[0]


def test_a_random_order_is_saved(tmp_path):
  first, second = (network(9, order='random', seed=seed) for seed in (1, 2))
  x = test_util.normal([3, 9])
  models = [keras.Sequential([made]) for made in (first, second)]
  assert np.abs(models[0](x) - models[1](x)).max() > 0.1
  models[0].save_weights(tmp_path / 'w.weights.h5')
  models[1].load_weights(tmp_path / 'w.weights.h5')
  assert second.order == first.order
  np.testing.assert_array_equal(second(x), first(x))


@pytest.mark.parametrize('hidden', [(), (4,), (6, 5)])
@pytest.mark.parametrize('size', [1, 3])
def test_all_outputs_depend_on_the_condition(size, hidden):
  made = network(size, hidden=hidden, condition_size=2)
  x, condition = test_util.normal([size]), test_util.normal([2], seed=1)
  assert_sees_exactly_what_is_before(made, jacobians(made, x, condition))
  with tf.GradientTape(persistent=True) as tape:
    tape.watch(condition)
    y = made(x, condition)
  assert np.abs(tape.jacobian(y, condition, experimental_use_pfor=False)).min() > 1e-6


def test_the_first_output_is_no_linear_map_of_the_condition():
  made = network(3, condition_size=2)
  x, condition = test_util.normal([3]), test_util.normal([2], seed=1)
  left, middle, right = (made(x, condition + i)[0] for i in (-1.0, 0.0, 1.0))
  assert abs(left - 2 * middle + right) > 1e-3


def test_one_dimension():
  made = network(1)
  y = made(test_util.normal([5, 1]))
  assert y.shape == (5, 2)
  assert np.abs(y).min() > 1e-3
  np.testing.assert_array_equal(y, np.broadcast_to(y[0], [5, 2]))


@pytest.mark.parametrize('order', [None, 'random'])
@pytest.mark.parametrize('width', [6, 7, 41])
def test_hidden_units_are_spread_evenly(width, order):
  made = network(4, 1, hidden=(width,), order=order, scale=0.0)
  seen = np.count_nonzero(made.trainable_variables[0], axis=0)
  counts = np.bincount(seen)
  assert counts[0] == 0
  assert len(counts) == 4
  assert max(counts[1:]) - min(counts[1:]) <= 1


def test_units_start_with_the_variance_of_what_they_see():
  made = MADE(5, 1, hidden=(4000, 4000), seed=0)
  for kernel in [v.numpy() for v in made.trainable_variables if v.ndim == 2][:2]:
    seen = np.count_nonzero(kernel, axis=0)
    assert len(set(seen)) == 4
    for count in set(seen):
      # Each unit by itself has the sum of squares 2, on average.
      mean = np.mean(np.sum(kernel[:, seen == count] ** 2, axis=0))
      np.testing.assert_allclose(mean, 2.0, rtol=0.15)


def test_starts_at_zero_and_takes_any_batch_shape():
  made = MADE(5, 2, hidden=(8,), condition_size=3, seed=0)
  x = test_util.normal((2, 3, 5), 'float32')
  condition = test_util.normal((3, 3), 'float32')
  y = made(x, condition)
  assert y.shape == (2, 3, 10)
  np.testing.assert_array_equal(y, np.zeros_like(y))
  made = network(5, condition_size=3, dtype='float32')
  y = made(x, condition)
  np.testing.assert_allclose(made(x[1, 2], condition[2]), y[1, 2], atol=1e-5)
  few = made(x[1, 2], condition)
  assert few.shape == (3, 10)
  np.testing.assert_allclose(few[2], y[1, 2], atol=1e-5)


def test_seed_and_dtype():
  def weights(**options):
    made = MADE(5, 2, hidden=(6, 6), **options)
    return np.concatenate([np.ravel(v.numpy()) for v in made.trainable_variables])

  np.testing.assert_array_equal(weights(seed=1), weights(seed=1))
  assert np.abs(weights(seed=1) - weights(seed=2)).max() > 0.01
  assert weights(seed=1, dtype='float64').dtype == np.float64


def test_mixed_precision_computes_in_bfloat16():
  made = MADE(300, 2, hidden=(6,), seed=0, dtype='mixed_bfloat16')
  assert made(tf.zeros([1, 300])).dtype == 'bfloat16'
  assert {v.dtype for v in made.trainable_variables} == {'float32'}
  # Places have no rounding.
  assert made.order == list(range(300))
  masks = made._masks()
  np.testing.assert_array_equal(masks[1][:, 299], np.ones(6))
  np.testing.assert_array_equal(np.sum(masks[0], axis=0), 1 + np.arange(6) * 299 // 6)


@pytest.mark.parametrize('jit_compile', [False, True])
def test_graph_equals_eager(jit_compile):
  made = network(4, condition_size=2, order='random')
  x, condition = test_util.normal([3, 4]), test_util.normal([2], seed=1)
  found = tf.function(made, jit_compile=jit_compile)(x, condition)
  np.testing.assert_allclose(found, made(x, condition), atol=1e-12)


@pytest.mark.parametrize(
  ('build', 'message'),
  [
    (lambda: MADE(3, 2, order='random '), "permutation of 0 to 2; received 'random '"),
    (lambda: MADE(3, 2, order=[0, 1]), r'received \[0, 1\]'),
    (lambda: MADE(3, 2, order=[1, 2, 3]), r'received \[1, 2, 3\]'),
    (lambda: MADE(3, 2, order=[0, 0, 1]), r'received \[0, 0, 1\]'),
    (lambda: MADE(0, 2), 'integer size >= 1; received 0'),
    (lambda: MADE(3, 0), 'params_per_dim >= 1; received 0'),
  ],
)
def test_bad_options(build, message):
  with pytest.raises(ValueError, match=message):
    build()
