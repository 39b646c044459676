r"""Times the training step of a continuous flow, beside those of `cnf_peers.py`.

    cd examples/benchmarks
    python ffjord.py --trace=hutchinson --steps=20
    python ffjord.py --trace=exact --mode=graph

Workload, first weights, batch and output are those of `cnf_peers.py`, which see.
"""

import argparse
import json

import cnf_peers  # First: its clock starts here.


def make_peer(args: argparse.Namespace) -> cnf_peers.Peer:
  """The training step and its counts."""
  import keras
  import numpy as np
  import tensorflow as tf

  import tfp_flows as tff

  class Field(keras.layers.Layer):
    """Dense layers of `[x, t]`."""

    def __init__(self, layers):
      super().__init__()
      self._pairs = [
        [self.add_weight(shape=value.shape) for value in layer] for layer in layers
      ]
      self.set_weights([value for layer in layers for value in layer])
      self.built = True

    def call(self, t, x):
      *hidden, (kernel, bias) = self._pairs
      h = tf.concat([x, tf.fill([x.shape[0], 1], t)], axis=1)
      for w, b in hidden:
        h = tf.tanh(tf.matmul(h, w) + b)
      return tf.matmul(h, kernel) + bias

  data, layers = cnf_peers.make_problem()
  x = tf.constant(data)
  estimator = tff.HutchinsonTrace(noise='normal')
  if args.trace == 'exact':
    estimator = tff.ExactTrace()
  flow = tff.FFJORD(
    Field(layers),
    [2],
    tff.Trace(estimator, estimator),
    tff.DormandPrince(cnf_peers.TOLERANCE, cnf_peers.TOLERANCE),
  )
  optimizer = keras.optimizers.Adam(cnf_peers.LEARNING_RATE)
  weights = list(flow.field.trainable_variables)
  optimizer.build(weights)
  counts = []

  @tf.function(jit_compile=args.mode == 'jit')
  def update(seed):
    with tff.flow_report() as report, tf.GradientTape() as tape:
      tape.watch(report.probe)
      with tff.estimation(seed, training=True):
        z, log_det = flow.forward_and_log_det(x)
      loss = tf.reduce_mean(
        0.5 * tf.reduce_sum(z**2, axis=1) + np.log(2 * np.pi) - log_det
      )
    values = [v.value for v in weights]
    *gradients, backward = tape.gradient(loss, [*values, report.probe])
    optimizer.apply(gradients, weights)
    return loss, report.evaluations[0], backward

  def step():
    loss, *evaluations = update(tf.constant(len(counts)))
    counts.append(evaluations)
    return float(loss)

  return cnf_peers.Peer(
    step, lambda: [int(n) for n in counts[-1]], ['tensorflow', 'keras']
  )


def main() -> None:
  """Times what the command line asks for."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--trace', choices=['hutchinson', 'exact'], default='hutchinson')
  parser.add_argument('--steps', type=int, default=20, help='How many are timed.')
  parser.add_argument('--mode', choices=['jit', 'graph'], default='jit')
  args = parser.parse_args()
  result = cnf_peers.time_training(make_peer(args), args.steps)
  print(json.dumps({'workload': 'cnf', 'peer': 'tfp_flows'} | vars(args) | result))


if __name__ == '__main__':
  main()
