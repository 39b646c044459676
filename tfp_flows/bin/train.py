"""Trains a flow: `tfp-flows-train --config=glow_digits --workdir=DIR`.

A run that was stopped, or killed, goes on from its last checkpoint if the same command
is given again, or `--workdir=DIR` alone.
"""

from absl import flags

from tfp_flows.bin import cli
from tfp_flows.bin import flags as _  # noqa: F401  Defines the shared flags.


def main() -> None:
  """The command, after its flags are parsed."""
  from tfp_flows.bin import training  # Slow: imports TensorFlow.

  training.train(overwrite=flags.FLAGS.overwrite)


def run() -> None:
  """Entry point."""
  cli.run(main, reads_run=None)


if __name__ == '__main__':
  run()
