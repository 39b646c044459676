"""The bias of a truncated log-determinant, and the roulette that has none.

  tfp-flows-train --config=residual_digits --workdir=runs/residual_digits
  python examples/log_det_bias.py --workdir=runs/residual_digits

Draws the test bits/dim of a trained residual flow on the digits as estimated by the
first n = 1, ..., 20 terms of the power series (with exact traces: what is left is
bias), by the exact determinant, and by Russian roulettes with their standard
errors. The dequantization noise is the same for all.
"""

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from absl import flags

import tfp_flows as tff
from tfp_flows import math
from tfp_flows.bin import cli
from tfp_flows.bin import flags as flags_lib
from tfp_flows.runs import loading
from tfp_flows.runs import models
from tfp_flows.runs import workdir as workdir_lib

FLAGS = flags.FLAGS
flags.DEFINE_integer('max_terms', 20, 'Longest series.', 1)
flags.DEFINE_integer('passes', 20, 'Estimates by each roulette.', 2)


def truncated(num_terms):
  """The mean of the series of so many terms, a variable, over its noise."""

  def estimator(g, x, event_ndims, seed):
    del seed
    value, jacobian = math.value_and_jacobian(g, x, event_ndims)

    def step(k, power, total):
      sign = tf.cast(2 * (k % 2) - 1, x.dtype)
      total += sign / tf.cast(k, x.dtype) * tf.linalg.trace(power)
      return k + 1, power @ jacobian, total

    start = (tf.constant(1), jacobian, tf.zeros_like(tf.linalg.trace(jacobian)))
    *_, total = tf.while_loop(lambda k, *_: k <= num_terms, step, start)
    return math.LogDetEstimate(value, total, tf.zeros_like(total))

  return estimator


def bits(model, images, estimator, seed=0):
  """Mean bits/dim of the images, with the same dequantization noise each time."""
  log_prob = model.log_prob(images, seed=seed, estimator=estimator)
  return float(
    tff.bits_per_dim(tf.reduce_mean(log_prob), int(np.prod(images.shape[1:])))
  )


def main():
  """Draws the picture."""
  workdir = workdir_lib.Workdir(flags_lib.options())
  data = loading.load_data(workdir.options)
  model = models.trained_model(data, workdir)
  images = next(iter(data.test.map(lambda x, *_: x).batch(1000)))
  exact = bits(model, images, tff.ExactLogDet())
  print(f'exact determinant: {exact:.5f} bits/dim')
  num_terms = tf.Variable(1)
  estimator = truncated(num_terms)
  series = []
  for n in range(1, FLAGS.max_terms + 1):
    num_terms.assign(n)
    series.append(bits(model, images, estimator))
    print(f'{n} terms: {series[-1]:.5f}, bias {series[-1] - exact:+.5f}')
  figure, axes = plt.subplots(figsize=(6, 3.6))
  axes.axhline(exact, color='black', lw=1, label='exact determinant')
  axes.plot(range(1, FLAGS.max_terms + 1), series, 'o-', ms=4, label='first n terms')
  exacts = [bits(model, images, tff.ExactLogDet(), s) for s in range(FLAGS.passes)]
  for terms, color in ((2, 'C1'), (8, 'C2')):
    # Of finite variance up to Lipschitz constants of 0.89.
    roulette = tff.RouletteLogDet(tff.geometric(0.2), num_terms=terms)
    found = [bits(model, images, roulette, seed) for seed in range(FLAGS.passes)]
    errors = np.subtract(found, exacts)
    mean, error = errors.mean(), errors.std(ddof=1) / FLAGS.passes**0.5
    label = f'roulette, {terms} + 5 terms on average'
    print(f'{label}: bias {mean:+.5f}, standard error {error:.5f}')
    axes.errorbar(
      terms + 5, exact + mean, 2 * error, fmt='s', color=color, capsize=3, label=label
    )
  axes.set_xlabel('terms of the series')
  axes.set_ylabel('bits/dim of the test set')
  axes.legend()
  figure.tight_layout()
  path = workdir.file('log_det_bias.png')
  figure.savefig(path, dpi=120)
  print(f'see {path}')


if __name__ == '__main__':
  cli.run(main, reads_run=True)
