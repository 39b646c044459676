"""Trains a flow: `tfp-flows-train --config=glow_digits --workdir=DIR`.

A run that was stopped, or killed, goes on from its last checkpoint if the same command
is given again, or `--workdir=DIR` with nothing but flags that may change on the way, as
`--epochs` and `--on_nan`.
"""

import contextlib

from absl import flags

from tfp_flows import runs
from tfp_flows.bin import cli
from tfp_flows.bin import flags as flags_lib
from tfp_flows.runs import options as options_lib

# The exit code of a run that became NaN or infinite.
NON_FINITE = 2

SHOWN = (*flags_lib.SHARED, 'overwrite', 'list_configs')


def main() -> None:
  """The command, after its flags are parsed."""
  from tfp_flows.model import replicas  # Slow: imports TensorFlow.

  options = flags_lib.options()
  several = options.strategy == 'multi_worker'
  try:
    with replicas.losing_workers() if several else contextlib.nullcontext():
      runs.train(options, flags.FLAGS.overwrite)
  except runs.Diverged as error:
    cli.fail(error, NON_FINITE)
  except replicas.WorkerLost as error:
    print()  # Ends the line of the progress.
    cli.stop_now(error, replicas.WORKER_LOST)


def run() -> None:
  """Entry point."""
  # A configuration is for a run of its own.
  names = [name for name in options_lib.FREE if name != 'config']
  cli.run(main, ['overwrite', *names], SHOWN)


if __name__ == '__main__':
  run()
