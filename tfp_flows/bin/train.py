"""Trains a flow: `tfp-flows-train --config=glow_digits --workdir=DIR`.

A run that was stopped, or killed, goes on from its last checkpoint if the same command
is given again, or `--workdir=DIR` alone.
"""

import contextlib

from absl import flags

from tfp_flows.bin import cli
from tfp_flows.bin import flags as _  # noqa: F401  Defines the shared flags.


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
  cli.run(main, reads_run=None)


if __name__ == '__main__':
  run()
