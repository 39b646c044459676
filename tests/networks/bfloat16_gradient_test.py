"""Gradients under `mixed_bfloat16` are sums in float32, also of large batches."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff

NETWORKS = dict(
  mlp=([8192, 4], lambda dtype: tff.MLP(4, 2, [5], 'tanh', seed=0, dtype=dtype)),
  made=([8192, 4], lambda dtype: tff.MADE(4, 2, [5], 'tanh', seed=0, dtype=dtype)),
  conv=(
    [512, 4, 4, 1],
    lambda dtype: tff.ConvNet(
      [4, 4, 1], 2, 3, activation='tanh', act_norm=True, seed=0, dtype=dtype
    ),
  ),
  conv_bias=(
    [512, 4, 4, 1],
    lambda dtype: tff.ConvNet([4, 4, 1], 2, 3, activation='tanh', seed=0, dtype=dtype),
  ),
  res_net=(
    [512, 4, 4, 1],
    lambda dtype: tff.ResNet([4, 4, 1], 2, 3, 1, seed=0, dtype=dtype),
  ),
)


def gradients(network, x):
  with tf.GradientTape() as tape:
    y = tf.cast(network(x), tf.float32)
    loss = tf.reduce_mean(tf.reduce_sum((y - 1.0) ** 2, axis=-1))
  return tape.gradient(loss, [v.value for v in network.trainable_variables])


@pytest.mark.parametrize('name', NETWORKS)
@pytest.mark.parametrize('jit_compile', [False, True])
def test_large_batches(name, jit_compile):
  shape, make = NETWORKS[name]
  rng = np.random.default_rng(0)
  x = tf.constant(rng.standard_normal(shape), tf.float32)
  exact, mixed = make('float32'), make(keras.DTypePolicy('mixed_bfloat16'))
  for a, b in zip(exact.variables, mixed.variables, strict=True):
    if a.dtype == 'float32':
      a.assign(a + 0.3 * rng.standard_normal(a.shape))
    b.assign(a)
  expected = gradients(exact, x)
  fn = tf.function(lambda: gradients(mixed, x), jit_compile=jit_compile)
  for g, e in zip(fn(), expected, strict=True):
    assert np.linalg.norm(g - e) < 0.04 * np.linalg.norm(e), name


@pytest.mark.parametrize('policy', ['mixed_float16', 'float16'])
def test_float16_is_refused(policy):
  before = keras.config.dtype_policy()
  keras.config.set_dtype_policy(policy)
  try:
    for make in (
      lambda: tff.MLP(2, 2),
      lambda: tff.LipschitzMLP([2], [4]),
      lambda: tff.FieldMLP(2, [4]),
    ):
      with pytest.raises(ValueError, match='loss scaling'):
        make()
    if policy == 'mixed_float16':
      with pytest.raises(ValueError, match='loss scaling'):
        tff.glow([4])
  finally:
    keras.config.set_dtype_policy(before)
