"""Trains a flow: `tfp-flows-train --config=glow_digits --workdir=DIR`.

A run that was stopped, or killed, goes on from its last checkpoint if the same command
is given again, or `--workdir=DIR` with nothing but flags that may change on the way, as
`--epochs` and `--on_nan`.
"""

import contextlib

from absl import flags

from tfp_flows.bin import cli
from tfp_flows.bin import flags as flags_lib


def main() -> None:
  """The command, after its flags are parsed."""
  from tfp_flows.bin import training  # Slow: imports TensorFlow.
  from tfp_flows.training import strategies

  several = flags.FLAGS.strategy == 'multi_worker'
  try:
    with strategies.losing_workers() if several else contextlib.nullcontext():
      training.train(overwrite=flags.FLAGS.overwrite)
  except strategies.WorkerLost as error:
    print()  # Ends the line of the progress.
    cli.stop_now(error, strategies.WORKER_LOST)


def run() -> None:
  """Entry point."""
  # A configuration is for a run of its own.
  names = [name for name in flags_lib.FREE if name != 'config']
  cli.run(main, ['overwrite', *names])


if __name__ == '__main__':
  run()
