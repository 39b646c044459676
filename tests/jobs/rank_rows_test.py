"""Rank rows by their likelihood, where log-determinants are estimated."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff

X = np.random.RandomState(0).normal(size=[12, 66]).astype(np.float32)
ORDER = np.random.RandomState(1).permutation(12)


def _model(flow):
  for i, v in enumerate(flow.trainable_variables):
    v.assign_add(0.2 * tf.random.stateless_normal(v.shape, [0, i]))
  model = tff.FlowModel(flow, seed=0)
  model.compile('adam', jit_compile=False)
  model.update_norms()
  return model


@pytest.fixture(scope='module')
def residual():
  return _model(tff.residual_flow(66, num_blocks=1, width=8, num_hidden=1, seed=0))


def _continuous():
  # Fixed steps: adaptive ones are chosen for the whole batch.
  return _model(tff.ffjord(66, hidden=[8], solver='rk4', solver_steps=2, seed=0))


def _check_rows(model):
  close = dict(rtol=0, atol=1e-4)
  expected = model.log_prob(X, seed=0).numpy()
  assert np.abs(model.log_prob(X, seed=1) - expected).max() > 0.1  # It is noisy.
  permuted = model.log_prob(X[ORDER], seed=0)
  np.testing.assert_allclose(permuted, expected[ORDER], **close)
  by_five = model.predict(X, batch_size=5, verbose=0)
  by_six = model.predict(X[ORDER], batch_size=6, verbose=0)
  np.testing.assert_allclose(by_six, by_five[ORDER], **close)


def test_a_row_has_one_likelihood_whatever_its_neighbours_are(residual):
  _check_rows(residual)


def test_a_row_of_a_continuous_flow_has_one_likelihood():
  _check_rows(_continuous())


def test_averages_until_a_stated_error(residual):
  log_prob, error = residual.log_prob(
    X, seed=0, max_standard_error=0.1, standard_error=True
  )
  assert error.numpy().max() <= 0.1
  exact = residual.log_prob(X, estimator=tff.ExactLogDet())
  assert np.abs(log_prob - exact).max() < 0.5
  with pytest.warns(UserWarning, match='error of 1e-06.*after 10 estimates'):
    residual.log_prob(X, seed=0, max_standard_error=1e-6, num_estimates=10)


def test_bits_of_an_image_do_not_depend_on_the_batch():
  images = np.random.RandomState(0).randint(0, 256, [9, 4, 4, 1]).astype(np.uint8)
  model = _model(tff.glow([4, 4, 1], num_levels=1, num_steps=1, width=4, seed=0))
  expected = model.predict(images, batch_size=9, verbose=0)
  by_four = model.predict(images[::-1], batch_size=4, verbose=0)
  np.testing.assert_allclose(by_four[::-1], expected, rtol=0, atol=1e-4)


def test_classify_an_image_by_its_likelihood_under_each_class():
  flow = tff.glow(
    [4, 4, 1], num_levels=1, num_steps=1, width=4, num_bins=8, condition_size=3, seed=0
  )
  model = tff.FlowModel(flow, seed=0)
  model.compile('sgd', jit_compile=False)
  images = np.random.default_rng(0).integers(0, 8, [2, 4, 4, 1]).astype('uint8')
  classes = np.eye(3, dtype='f4')
  rows = model.log_prob(np.repeat(images, 3, axis=0), np.tile(classes, [2, 1]), seed=1)
  # A new flow does not know of classes, and the noise is that of the image.
  rows = np.reshape(rows, [2, 3])
  np.testing.assert_allclose(rows, rows[:, :1] * np.ones(3), rtol=1e-6)
  assert abs(rows[0, 0] - rows[1, 0]) > 1e-3
  table = model.log_prob(images[:, np.newaxis], classes[np.newaxis], seed=1)
  np.testing.assert_allclose(table, rows, rtol=1e-6)
