"""Evaluates a run: `tfp-flows-evaluate --workdir=DIR`."""

from absl import flags

from tfp_flows import runs
from tfp_flows.bin import cli
from tfp_flows.bin import flags as flags_lib

flags.DEFINE_enum(
  'part', 'test', ['train', 'validation', 'test'], 'Part of the data set.'
)
flags.DEFINE_integer(
  'noise_samples',
  1,
  'Dequantizations per example; more tighten the bound. Not with estimated '
  'log-determinants.',
  1,
)
flags.DEFINE_integer(
  'estimates',
  0,
  'Independent estimates of each likelihood, of which the mean is taken; 0 is 4 for '
  'models with estimated log-determinants, 1 for all others.',
  0,
)


# Beside its own.
SHOWN = (*flags_lib.OF_RUNS, 'batch_size', 'log_det', 'log_det_terms')


def main() -> None:
  """The command, after its flags are parsed."""
  found = flags.FLAGS
  runs.evaluate(
    flags_lib.options(),
    found.part,
    num_samples=found.noise_samples,
    num_estimates=found.estimates,
  )


def run() -> None:
  """Entry point."""
  cli.run(main, reads_run=True, shown=SHOWN)


if __name__ == '__main__':
  run()
