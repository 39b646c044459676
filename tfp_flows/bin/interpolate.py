"""Walks between two test examples in latent space.

`tfp-flows-interpolate --workdir=DIR --first=3 --second=8`
"""

from absl import flags

from tfp_flows import runs
from tfp_flows.bin import cli
from tfp_flows.bin import flags as flags_lib

flags.DEFINE_integer('first', 0, 'Index of the first example in the test set.', 0)
flags.DEFINE_integer('second', 1, 'Index of the second example.', 0)
flags.DEFINE_integer('frames', 10, 'Examples per walk, the ends included.', 2)


# Beside its own.
SHOWN = (*flags_lib.OF_RUNS, 'output')


def main() -> None:
  """The command, after its flags are parsed."""
  found = flags.FLAGS
  runs.interpolate(
    flags_lib.options(), found.first, found.second, found.frames, found.output
  )


def run() -> None:
  """Entry point."""
  cli.run(main, reads_run=True, shown=SHOWN)


if __name__ == '__main__':
  run()
