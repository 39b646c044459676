"""Samples from a run: `tfp-flows-sample --flagfile=DIR/flags.txt`."""

from absl import flags

from tfp_flows.bin import cli
from tfp_flows.bin import flags as _  # noqa: F401  Defines the shared flags.


def main() -> None:
  """The command, after its flags are parsed."""
  # Slow: these import TensorFlow.
  import numpy as np

  from tfp_flows.bin import drawing
  from tfp_flows.bin import runs

  workdir = runs.Workdir(flags.FLAGS.workdir)
  workdir.check_same_model()
  data = runs.describe_data(workdir)
  model = runs.trained_model(data)
  path = flags.FLAGS.output or workdir.file('sample')
  samples = drawing.sample(model, data)
  np.save(f'{path}.npy', samples)
  drawing.draw(model, data, samples, f'{path}.png', drawing.points_of(data, workdir))
  print(f'{len(samples)} samples in {path}.npy, their picture in {path}.png')


def run() -> None:
  """Entry point."""
  cli.run(main, reads_run=True)


if __name__ == '__main__':
  run()
