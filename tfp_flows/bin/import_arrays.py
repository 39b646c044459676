"""Takes back a training: `tfp-flows-import --workdir=DIR --arrays=FILE`.

`tfp-flows-train --epochs=0` prepares a run, `tfp-flows-export` writes its training step
and its data, and any runtime of XLA makes the steps; see `stablehlo_in_jax.py` among
the examples. With what the last one returned the run is as if it had been trained here.
"""

from absl import flags

from tfp_flows import runs
from tfp_flows.bin import cli
from tfp_flows.bin import flags as flags_lib

flags.DEFINE_string(
  'arrays', None, 'Path of a .npz with the weights and the state of the optimizer.'
)
flags.DEFINE_string(
  'export', None, 'Folder of the StableHLO; by default export/stablehlo in the workdir.'
)


# Beside its own.
SHOWN = (*flags_lib.OF_RUNS, 'batch_size', 'overwrite')


def main() -> None:
  """The command, after its flags are parsed."""
  found = flags.FLAGS
  if not found.arrays:
    raise runs.UsageError(
      'Expected --arrays=PATH, a .npz with what the training returned; received none.'
    )
  runs.import_arrays(flags_lib.options(), found.arrays, found.export, found.overwrite)


def run() -> None:
  """Entry point."""
  cli.run(main, reads_run=True, shown=SHOWN)


if __name__ == '__main__':
  run()
