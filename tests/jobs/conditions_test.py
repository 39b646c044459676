"""Conditions in the units of the data."""

import keras
import numpy as np
import pytest

import tfp_flows as tff

RNG = np.random.RandomState(0)
# A temperature in kelvin, a class and a setting that never changes.
CONDITION = np.stack(
  [1e5 + 50 * RNG.normal(size=300), RNG.randint(0, 2, 300), np.full(300, 7.0)], axis=1
)
X = (CONDITION[:, :1] - 1e5) / 50 + 0.1 * RNG.normal(size=[300, 2])
X = X.astype(np.float32)


@pytest.fixture(scope='module')
def model():
  model = tff.FlowModel(tff.maf([2], num_layers=1, condition_size=3, seed=0), seed=0)
  model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
  model.adapt(X, CONDITION)
  model.fit(X, CONDITION, batch_size=60, epochs=12, verbose=0)
  return model


def test_a_condition_far_from_zero_is_learned(model):
  # Two independent columns of deviation 1 have 2.8 nats; given the condition -1.8.
  loss = model.evaluate(X, CONDITION, batch_size=300, verbose=0, return_dict=True)
  assert loss['loss'] < 0.5
  direct = model.distribution.log_prob(X, condition=CONDITION)
  np.testing.assert_allclose(direct, model.log_prob(X, CONDITION), rtol=1e-4, atol=1e-3)


def test_it_is_saved_with_the_model(model, tmp_path):
  expected = model.log_prob(X, CONDITION)
  model.save(tmp_path / 'model.keras')
  loaded = keras.models.load_model(tmp_path / 'model.keras')
  np.testing.assert_array_equal(loaded.log_prob(X, CONDITION), expected)
  again = tff.FlowModel(tff.maf([2], num_layers=1, condition_size=3, seed=1))
  model.save_weights(tmp_path / 'model.weights.h5')
  again.load_weights(tmp_path / 'model.weights.h5')
  # XLA compiles this one, which rounds otherwise.
  found = again.log_prob(X, CONDITION)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
