"""Times training steps and inverses of residual flows.

  python examples/benchmarks/residual_flow.py --workload=mlp
  python examples/benchmarks/residual_flow.py --workload=conv --inverse

A step is the mean negative log-likelihood of one fixed batch, its gradient, Adam,
and 5 power iterations for each layer, in float32 under XLA; the loss is read back.
`normflows_residual.py` does the same work with normflows. Compare only runs on the
same quiet machine.

With the environment variable XLA_FLAGS=--xla_dump_to=DIR the memory of a step is the
`Total bytes used` in DIR/*inference_step*buffer-assignment.txt.
"""

import json
import statistics
import time

import keras
import numpy as np
import tensorflow as tf
from absl import app
from absl import flags

import tfp_flows as tff
from tfp_flows import math

FLAGS = flags.FLAGS
flags.DEFINE_enum(
  'workload',
  'mlp',
  ['mlp', 'conv'],
  'mlp: 2-D, 16 blocks of 4 layers of width 128, batch 512; conv: 28x28x1, 4 '
  'blocks 3x3-1x1-3x3 of width 64, batch 32.',
)
flags.DEFINE_integer('steps', 20, 'Timed steps, after 3 others.', 1)
flags.DEFINE_bool('inverse', False, 'Time the inverse of all blocks instead.')
flags.DEFINE_bool('loop', True, 'Of training steps: one loop of blocks.')
flags.DEFINE_integer(
  'num_terms', 0, 'Of a series of fixed length, instead of the roulette.', 0
)


def make_blocks(workload, log_det):
  """The blocks, and their batch."""
  rng = np.random.default_rng(0)
  if workload == 'mlp':
    shape, x = [2], 2 * rng.standard_normal((512, 2))
    make = lambda i: tff.LipschitzMLP(  # noqa: E731
      shape, [128] * 3, lipschitz=0.9**4, seed=i
    )
    count = 16
  else:
    shape, x = [28, 28, 1], rng.uniform(size=(32, 28, 28, 1))
    make = lambda i: tff.LipschitzConvNet(shape, 64, lipschitz=0.9**3, seed=i)  # noqa: E731
    count = 4
  blocks = [tff.ResidualFlow(make(i), shape, log_det, seed=i) for i in range(count)]
  return blocks, tf.constant(x, tf.float32)


def make_step(blocks, x):
  """A compiled training step; seeds tell one from the other."""
  flow = tff.Repeated(blocks, loop=FLAGS.loop)
  optimizer = keras.optimizers.Adam(1e-3)
  variables = flow.trainable_variables
  optimizer.build(variables)
  dims = x.shape[1:].num_elements()

  def loss_fn(seed):
    with tff.estimation(seed, training=True):
      z, log_det = flow.forward_and_log_det(x)
    square = tf.reduce_sum(tf.reshape(z, [len(z), -1]) ** 2, axis=1)
    return tf.reduce_mean(0.5 * square + 0.5 * dims * np.log(2 * np.pi) - log_det)

  @tf.function(jit_compile=True)
  def step(seed):
    with tf.GradientTape() as tape:
      loss = loss_fn(seed)
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
    # A tolerance that is never met: always 5 iterations.
    tff.update_norms(flow, tolerance=-1.0, max_iterations=5)
    return loss

  return step


def make_inverse(blocks, x):
  """A compiled inverse of all blocks, after their branches were made large.

  As the peer does, each last layer is scaled until the branch has, at its inputs, the
  Lipschitz constant that its norms allow.
  """
  y, seed = x, tf.constant([0, 1])
  for i, block in enumerate(blocks):
    branch, last = block.branch, block.branch._linears[-1]
    rng = np.random.default_rng(i)
    last.kernel.assign(rng.standard_normal(last.kernel.shape))
    last.lipschitz = 1e6  # Its scale is set here, not by its norm.
    stretch = tf.reduce_max(
      math.jacobian_norm(branch, y, block.forward_min_event_ndims, seed)
    )
    last.kernel.assign(last.kernel * branch.lipschitz / stretch)
    y += branch(y)
  branch = tf.math.reduce_std(blocks[0].branch(x)) / tf.math.reduce_std(x)
  print(f'branch: {float(branch):.3f} of the standard deviation of x')

  @tf.function(jit_compile=True)
  def inverse(seed):
    del seed
    z, count = y, 0
    for block in reversed(blocks):
      solution = block.solve(z)
      z, count = solution.x, count + solution.iterations
    return z, count / len(blocks)

  def timed(seed):
    z, count = inverse(seed)
    return tf.reduce_sum(z), count

  z, _ = inverse(seed)
  print(
    f'error: {float(tf.reduce_max(tf.abs(tff.Sequential(blocks).forward(z) - y))):.2g}'
  )
  return timed


def main(_):
  """Prints one line of JSON."""
  log_det = tff.LogDet(tff.RouletteLogDet())
  if FLAGS.num_terms:
    log_det = tff.LogDet(tff.TruncatedLogDet(FLAGS.num_terms))
  blocks, x = make_blocks(FLAGS.workload, log_det)
  step = (make_inverse if FLAGS.inverse else make_step)(blocks, x)
  times, results = [], []
  for i in range(3 + FLAGS.steps):
    start = time.perf_counter()
    results.append([float(r) for r in tf.nest.flatten(step(tf.constant(i)))])
    times.append(time.perf_counter() - start)
  print(
    json.dumps(
      dict(
        library='tfp_flows',
        workload=FLAGS.workload + '_inverse' * FLAGS.inverse,
        ms_per_step=1e3 * statistics.median(times[3:]),
        first_step_s=times[0],
        steps=FLAGS.steps,
        first=results[0],
        last=results[-1],
      )
    )
  )


if __name__ == '__main__':
  app.run(main)
