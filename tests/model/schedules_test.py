import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff


def test_factor_scales_and_may_change_in_a_graph():
  rate = tff.ScaledSchedule(
    keras.optimizers.schedules.PolynomialDecay(1.0, 10, 0.0), factor=0.5
  )
  compiled = tf.function(rate, autograph=False, jit_compile=True)
  np.testing.assert_allclose(compiled(tf.constant(4)), 0.5 * 0.6, rtol=1e-6)
  rate.factor.assign(0.25)
  np.testing.assert_allclose(compiled(tf.constant(4)), 0.25 * 0.6, rtol=1e-6)
  np.testing.assert_allclose(tff.ScaledSchedule(0.1)(7), 0.1, rtol=1e-6)


@pytest.mark.parametrize(
  'schedule', [0.1, keras.optimizers.schedules.CosineDecay(0.1, 10)]
)
def test_an_optimizer_is_saved_with_it(schedule):
  rate = tff.ScaledSchedule(schedule)
  rate.factor.assign(0.125)
  optimizer = keras.optimizers.Adam(rate)
  text = keras.saving.serialize_keras_object(optimizer)
  loaded = keras.saving.deserialize_keras_object(text)
  np.testing.assert_allclose(loaded.learning_rate, optimizer.learning_rate, rtol=1e-6)
  np.testing.assert_allclose(loaded.learning_rate, 0.0125, rtol=1e-6)


@pytest.mark.parametrize('factor', [-1.0, float('nan'), float('inf')])
def test_bad_factor(factor):
  with pytest.raises(ValueError, match='a finite factor >= 0; received'):
    tff.ScaledSchedule(0.1, factor)
