"""Writes a run for other programs: `tfp-flows-export --workdir=DIR`."""

from absl import flags

from tfp_flows import runs
from tfp_flows.bin import cli
from tfp_flows.bin import flags as flags_lib

flags.DEFINE_multi_enum(
  'format',
  ['saved_model', 'stablehlo'],
  ['saved_model', 'stablehlo', 'data'],
  'What is written; may be repeated. saved_model: for TensorFlow alone. stablehlo: '
  'for runtimes of XLA, with --batch_size and the training step. data: the examples '
  'of each part, as these functions take them.',
)


# Beside its own.
SHOWN = (*flags_lib.OF_RUNS, 'batch_size', 'epochs', 'output', 'overwrite')


def main() -> None:
  """The command, after its flags are parsed."""
  found = flags.FLAGS
  runs.export(flags_lib.options(), found.format, found.output, found.overwrite)


def run() -> None:
  """Entry point."""
  cli.run(main, reads_run=True, shown=SHOWN)


if __name__ == '__main__':
  run()
