import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tests import test_util


def matrix(layer, size):
  return layer.forward(tf.eye(size, dtype=layer.dtype)).numpy().T


@pytest.mark.parametrize('size', [1, 2, 7])
def test_starts_as_a_rotation(size):
  layer = tff.Invertible1x1ConvLU([size], seed=3, dtype='float64')
  w = matrix(layer, size)
  np.testing.assert_allclose(w @ w.T, np.eye(size), atol=1e-12)
  if size > 2:
    assert np.abs(w - np.eye(size)).max() > 0.1


def test_seed_fixes_the_start():
  a, b, c = (
    matrix(tff.Invertible1x1ConvLU([4], seed=s, dtype='float64'), 4) for s in (1, 1, 2)
  )
  np.testing.assert_array_equal(a, b)
  assert np.abs(a - c).max() > 0.1


def test_is_p_l_u_with_fixed_signs():
  layer = tff.Invertible1x1ConvLU([4], seed=0, dtype='float64')
  test_util.perturb(layer)
  lu = layer.lu.numpy()
  lower = np.tril(lu, -1) + np.eye(4)
  upper = np.triu(lu, 1) + np.diag(layer.sign.numpy() * np.exp(np.diag(lu)))
  permutation = np.eye(4)[np.argsort(layer.permutation.numpy())]
  np.testing.assert_allclose(matrix(layer, 4), permutation @ lower @ upper, atol=1e-12)
  assert not layer.sign.trainable
  assert not layer.permutation.trainable
  assert set(np.unique(layer.sign)) <= {-1.0, 1.0}


def test_log_det_counts_every_pixel():
  layer = tff.Invertible1x1ConvLU([3, 5, 4], seed=0, dtype='float64')
  test_util.perturb(layer)
  log_det = layer.forward_log_det_jacobian(test_util.normal([2, 3, 5, 4]), 3)
  np.testing.assert_allclose(log_det, 15 * np.trace(layer.lu.numpy()) * np.ones(2))


def test_inverse_uses_no_matrix_inverse():
  layer = tff.Invertible1x1ConvLU([2, 2, 3], seed=0)
  graph = tf.function(layer.inverse).get_concrete_function(tf.zeros([1, 2, 2, 3])).graph
  kinds = {op.type for op in graph.get_operations()}
  assert 'MatrixTriangularSolve' in kinds
  assert not kinds & {'MatrixInverse', 'MatrixSolve', 'MatrixDeterminant'}
