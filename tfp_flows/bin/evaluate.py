"""Evaluates a run: `tfp-flows-evaluate --flagfile=DIR/flags.txt`."""

from absl import flags

from tfp_flows.bin import cli
from tfp_flows.bin import flags as _  # noqa: F401  Defines the shared flags.

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


def main() -> None:
  """The command, after its flags are parsed."""
  # Slow: these import TensorFlow.
  from tfp_flows.bin import evaluation
  from tfp_flows.bin import runs

  found = flags.FLAGS
  workdir = runs.Workdir(found.workdir)
  workdir.check_same_model()
  data = runs.load_trained_data(workdir)
  model = runs.trained_model(data)
  path = workdir.file(f'evaluation_{found.part}.json')
  evaluation.report(
    model,
    data,
    found.part,
    path,
    num_samples=found.noise_samples,
    num_estimates=found.estimates,
    digest=workdir.digest(),
  )


def run() -> None:
  """Entry point."""
  cli.run(main, reads_run=True)


if __name__ == '__main__':
  run()
