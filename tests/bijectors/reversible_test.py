"""What `memory='reversible'` promises beside its gradients (see conformance)."""

import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util

tfb = tfp.bijectors


def coupling(size, seed=0, width=8, dtype='float64'):
  mask = tff.ChannelMask([size], invert=bool(seed % 2))
  network = tff.MLP(
    mask.kept_shape, 2 * mask.changed_shape[-1], hidden=(width,), seed=seed, dtype=dtype
  )
  return tff.AffineCoupling(mask, network, dtype=dtype)


def steps(count, size=4, **options):
  flow = tff.Sequential([coupling(size, i) for i in range(count)], **options)
  test_util.perturb(flow, 0.3)
  return flow


def test_a_coupling_evaluates_its_network_once_more():
  calls = []

  def network(x):
    calls.append(1)
    return tf.concat([tf.sin(x), tf.cos(x)], axis=-1)

  layer = tff.AffineCoupling(tff.ChannelMask([4]), network, dtype='float64')
  flow = tff.Sequential([layer], memory='reversible')
  x = test_util.normal([3, 4])
  with tf.GradientTape() as tape:
    tape.watch(x)
    y, log_det = flow.forward_and_log_det(x)
    loss = tf.reduce_sum(y**2) - tf.reduce_sum(log_det)
  assert len(calls) == 1
  tape.gradient(loss, x)
  assert len(calls) == 2


def test_gradients_do_not_drift_with_depth():
  """In float32, over 32 steps."""
  found = []
  for memory in ('stored', 'reversible'):
    flow = tff.Sequential(
      [
        layer
        for i in range(32)
        for layer in (
          tff.ActNorm([6]),
          tff.Invertible1x1ConvLU([6], seed=i),
          coupling(6, i, dtype='float32'),
        )
      ],
      memory,
    )
    test_util.perturb(flow, 0.05)
    x = test_util.normal([16, 6], 'float32', seed=1)
    with tf.GradientTape() as tape:
      tape.watch(x)
      y, log_det = flow.forward_and_log_det(x)
      loss = tf.reduce_mean(tf.reduce_sum(y**2, axis=1) / 2 - log_det)
    found.append(tape.gradient(loss, [x, *flow.trainable_variables]))
  for a, b in zip(*found):
    assert np.linalg.norm(a - b) < 1e-4 * np.linalg.norm(b)


def test_parts_may_be_any_bijectors():
  inner = steps(2, 6, memory='reversible')
  scale = tf.Variable([0.5] * 6, dtype='float64')
  parts = [tfb.Permute([2, 0, 1, 5, 4, 3]), tfb.Scale(scale), inner]
  parts += [tfb.Invert(steps(2, 6)), tfb.Reshape([2, 3], [6])]
  x = test_util.normal([5, 6])
  found = []
  for memory in ('stored', 'reversible'):
    flow = tff.Sequential(parts, memory)
    with tf.GradientTape() as tape:
      tape.watch(x)
      y, log_det = flow.forward_and_log_det(tf.identity(x))
      loss = tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(log_det**2)
    found.append(tape.gradient(loss, [x, scale, *flow.trainable_variables]))
  for a, b in zip(*found):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_parts_may_have_smaller_events_and_the_last_a_structure():
  scale = tf.Variable([0.7] * 6, dtype='float64')
  parts = [
    tff.ActNorm([4, 4, 6], dtype='float64'),
    tff.Sequential([tfb.Scale(scale), tfb.Softsign()]),
    tff.Invertible1x1ConvLU([4, 4, 6], seed=0, dtype='float64'),
  ]
  levels = [tff.Sequential(parts), tff.ActNorm([4, 4, 3], dtype='float64')]
  parts = [*parts, tff.Multiscale(levels, [4, 4, 6], flat=False)]
  test_util.perturb(tff.Sequential(parts))
  x = test_util.normal([2, 4, 4, 6])
  for direction in ('forward_and_log_det', 'inverse_and_log_det'):
    found = []
    for memory in ('stored', 'reversible'):
      flow = tff.Sequential(parts, memory)
      start = x
      if direction.startswith('inverse'):
        start = flow.forward(x)
      with tf.GradientTape() as tape:
        tape.watch(start)
        y, log_det = getattr(flow, direction)(start)
        loss = sum(tf.reduce_sum(tf.sin(t)) for t in tf.nest.flatten(y))
        loss += tf.reduce_sum(log_det**2)
      sources = [*tf.nest.flatten(start), *flow.trainable_variables]
      found.append(tape.gradient(loss, sources))
    for a, b in zip(*found):
      np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-11)


def test_what_no_tape_has_seen_is_not_kept():
  scale = tf.Variable([2.0, 3.0])
  part = tfb.Scale(scale)
  x = tf.ones([1, 2])
  with tf.GradientTape(persistent=True) as tape:
    tff.Sequential([part], memory='reversible').forward(x)
    loss = tf.reduce_sum(part.forward(x))
  np.testing.assert_allclose(tape.gradient(loss, scale), [1.0, 1.0])


def test_an_empty_batch_has_gradients():
  flow = steps(2, memory='reversible')
  x = tf.zeros([0, 4], 'float64')
  with tf.GradientTape() as tape:
    tape.watch(x)
    y, log_det = flow.forward_and_log_det(x)
    loss = tf.reduce_sum(y) + tf.reduce_sum(log_det)
  of_x, *of_weights = tape.gradient(loss, [x, *flow.trainable_variables])
  assert of_x.shape == [0, 4]
  assert all(np.all(g == 0.0) for g in of_weights)


def test_second_derivatives_raise():
  flow = steps(1, memory='reversible')
  x = test_util.normal([3, 4])
  with tf.GradientTape() as outer:
    outer.watch(x)
    with tf.GradientTape() as inner:
      inner.watch(x)
      loss = tf.reduce_sum(flow.forward(x) ** 2)
    gradient = inner.gradient(loss, x)
  with pytest.raises(LookupError, match="no second derivatives.*memory='stored'"):
    outer.gradient(gradient, x)


FIELD = tff.FieldMLP([2], [4], seed=0)


@pytest.mark.parametrize(
  ('part', 'message'),
  [
    (lambda: tff.MovingBatchNorm([2]), 'moving_batch_norm does not allow'),
    (lambda: tff.FFJORD(FIELD, [2], name='flow'), 'which flow does not allow'),
    (
      lambda: tff.AffineCoupling(
        tff.ChannelMask([2]), tff.MLP([1], 2, hidden=(4,), dropout=0.1)
      ),
      'draws noise or keeps statistics',
    ),
    (
      lambda: tff.AffineCoupling(
        tff.ChannelMask([2]),
        keras.Sequential(
          [keras.Input([1]), keras.layers.BatchNormalization(), keras.layers.Dense(2)]
        ),
      ),
      'draws noise or keeps statistics',
    ),
  ],
)
def test_what_is_refused(part, message):
  with pytest.raises(ValueError, match=f"{message}.*memory='stored'"):
    tff.Sequential([part()], memory='reversible')


def test_an_unknown_memory_is_refused():
  with pytest.raises(ValueError, match="'stored', 'reversible'.*received 'none'"):
    tff.Sequential([tff.ActNorm([2])], memory='none')


PROGRAM = """
import tensorflow as tf
import tfp_flows as tff

def step(i):
  mask = tff.ChannelMask([8, 8, 4])
  network = tff.ConvNet(mask.kept_shape, 4, width=32, kernel_sizes=(3, 3), seed=i)
  layers = [tff.ActNorm([8, 8, 4]), tff.AffineCoupling(mask, network)]
  return tff.Sequential(layers)

for count, memory, loop in {cases}:
  flow = tff.Repeated([step(i) for i in range(count)], memory, loop)

  def gradients(x):
    with tf.GradientTape() as tape:
      y, log_det = flow.forward_and_log_det(x)
      loss = tf.reduce_sum(y**2) - tf.reduce_sum(log_det)
    return tape.gradient(loss, flow.trainable_variables)

  tf.function(gradients, jit_compile=True)(tf.ones([128, 8, 8, 4]))
"""


def bytes_of_steps(folder, cases):
  """What XLA allocates to compute the gradients, for each of `cases`."""
  subprocess.run(
    [sys.executable, '-c', PROGRAM.format(cases=cases)],
    check=True,
    env=os.environ
    | {'XLA_FLAGS': f'--xla_dump_to={folder} --xla_dump_hlo_module_re=.*gradients.*'},
  )
  reports = sorted(folder.glob('*buffer-assignment.txt'))  # Their names are numbered.
  texts = [report.read_text() for report in reports]
  return [int(re.search(r'Total bytes used: (\d+)', text)[1]) for text in texts]


def test_memory_does_not_grow_with_depth(tmp_path):
  """Each step has 2 MB of activations, if it keeps them."""
  few, many, unrolled = bytes_of_steps(
    tmp_path,
    [(2, 'reversible', True), (8, 'reversible', True), (4, 'reversible', False)],
  )
  weights_of_a_step = 4 * (9 * (2 * 32 + 32 * 4) + 32 + 4 + 8)
  # Weights and gradients, and nothing of the activations.
  assert many - few < 3 * 6 * weights_of_a_step
  assert unrolled - few < 2e6
