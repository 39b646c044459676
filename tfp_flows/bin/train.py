"""Trains a flow: `tfp-flows-train --config=glow_digits --workdir=DIR`."""

import contextlib

from absl import flags

from tfp_flows.bin import cli
from tfp_flows.bin import flags as _  # noqa: F401  Defines the shared flags.

flags.DEFINE_bool('overwrite', False, 'Replace the run that --workdir holds.')


def main() -> None:
  """The command, after its flags are parsed."""
  from tfp_flows.bin import training  # Slow: imports TensorFlow.
  from tfp_flows.training import strategies

  several = flags.FLAGS.strategy == 'multi_worker'
  try:
    with strategies.losing_workers() if several else contextlib.nullcontext():
      training.train(overwrite=flags.FLAGS.overwrite)
  except strategies.WorkerLost as error:
    cli.stop_now(error, strategies.WORKER_LOST)


def run() -> None:
  """Entry point."""
  cli.run(main)


if __name__ == '__main__':
  run()
