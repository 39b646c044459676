"""What networks in bfloat16 change in the log-determinants of a finished run.

  tfp-flows-train --config=glow_digits --epochs=20 --workdir=runs/glow_digits
  python examples/mixed_precision.py --workdir=runs/glow_digits

Prints the mean and the largest change over the test set, in nats per dimension, of the
same weights at the same dequantized images. For flows whose networks can compute in
bfloat16, without a condition.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from tfp_flows.bin import cli
from tfp_flows.bin import flags as flags_lib
from tfp_flows.runs import loading
from tfp_flows.runs import models
from tfp_flows.runs import workdir


def log_dets(data, options, precision):
  """`log|det df/dx|` of each test example, in nats."""
  run = workdir.Workdir(dataclasses.replace(options, precision=precision))
  bijector = models.trained_model(data, run).distribution.bijector
  found = []
  for x, *_ in data.test.batch(256):
    x = tf.cast(x, bijector.dtype)
    if data.num_bins:
      x += tf.random.stateless_uniform(x.shape, seed=[len(found), 0], dtype=x.dtype)
    found.append(bijector.inverse_log_det_jacobian(x, len(data.event_shape)))
  return np.concatenate(found)


def main():
  """Prints both numbers."""
  options = flags_lib.options()
  data = loading.load_data(options)
  exact, mixed = (log_dets(data, options, p) for p in ('float32', 'mixed_bfloat16'))
  changes = np.abs(mixed - exact) / np.prod(data.event_shape)
  print(
    f'{len(changes)} examples: mean change {changes.mean():.1e}, largest '
    f'{changes.max():.1e} nats per dimension'
  )


if __name__ == '__main__':
  cli.run(main, reads_run=True)
