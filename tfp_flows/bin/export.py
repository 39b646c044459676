"""Writes a run for other programs: `tfp-flows-export --flagfile=DIR/flags.txt`."""

from absl import flags

from tfp_flows.bin import cli
from tfp_flows.bin import flags as _  # noqa: F401  Defines the shared flags.

flags.DEFINE_multi_enum(
  'format',
  ['saved_model', 'stablehlo'],
  ['saved_model', 'stablehlo', 'data'],
  'What is written; may be repeated. saved_model: for TensorFlow alone. stablehlo: '
  'for runtimes of XLA, with --batch_size and the training step. data: the examples '
  'of each part, as these functions take them.',
)


def main() -> None:
  """The command, after its flags are parsed."""
  from tfp_flows.bin import exporting  # Slow: imports TensorFlow.

  found = flags.FLAGS
  exporting.export(set(found.format), found.output, found.overwrite)


def run() -> None:
  """Entry point."""
  cli.run(main, reads_run=True)


if __name__ == '__main__':
  run()
