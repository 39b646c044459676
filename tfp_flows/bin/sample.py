"""Samples from a run: `tfp-flows-sample --workdir=DIR`."""

from absl import flags

from tfp_flows import runs
from tfp_flows.bin import cli
from tfp_flows.bin import flags as flags_lib

# Beside its own.
SHOWN = (*flags_lib.OF_RUNS, 'num_samples', 'temperature', 'output')


def main() -> None:
  """The command, after its flags are parsed."""
  runs.sample(flags_lib.options(), flags.FLAGS.output)


def run() -> None:
  """Entry point."""
  cli.run(main, reads_run=True, shown=SHOWN)


if __name__ == '__main__':
  run()
