"""Samples from a run: `tfp-flows-sample --flagfile=DIR/flags.txt`."""

from absl import flags

from tfp_flows import runs
from tfp_flows.bin import cli
from tfp_flows.bin import flags as flags_lib


def main() -> None:
  """The command, after its flags are parsed."""
  runs.sample(flags_lib.options(), flags.FLAGS.output)


def run() -> None:
  """Entry point."""
  cli.run(main, reads_run=True)


if __name__ == '__main__':
  run()
