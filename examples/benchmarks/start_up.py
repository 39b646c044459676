r"""From the start of a process to the end of the first step of `fit`.

    python start_up.py                        every row, medians of three processes
    python start_up.py --rows=glow,maf --processes=1
    PYTHONPATH=../other python start_up.py    another version of this library

Columns, in seconds: `total`, from the start of the process to the end of the step;
`import`, what of it passed until the libraries were imported; `make`, what flow,
`adapt` and model took; `step`, the rest: tracing, compilation and the step itself. In
MB: `peak`, the high-water mark of resident memory above what was resident after the
imports.

The flows are those of the builders, with defaults where the row says nothing else.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import measure
import numpy as np

# Builder, event shape, batch size and options.
ROWS = {
  'residual_mlp': ('residual_flow', [2], 512, {}),
  'residual_mlp_64': ('residual_flow', [2], 512, dict(num_blocks=64)),
  'residual_conv': (
    'residual_flow',
    [28, 28, 1],
    32,
    dict(num_levels=1, num_blocks=4, num_dense_blocks=0),
  ),
  'glow': ('glow', [32, 32, 3], 16, dict(num_levels=3, num_steps=8, width=128)),
  'ffjord': ('ffjord', [2], 512, {}),
  'maf': ('maf', [43], 1000, dict(transformer='spline')),
}
COLUMNS = ('total', 'import', 'make', 'step', 'peak')


def run(name: str) -> dict[str, float]:
  """The columns of a row, in this process."""
  import keras

  import tfp_flows as tff

  imported, resident = time.time(), measure.memory_mb('VmRSS')
  builder, shape, batch, options = ROWS[name]
  rng = np.random.default_rng(0)
  if len(shape) == 3:
    x = rng.integers(256, size=[batch, *shape]).astype('float32')
  else:
    x = rng.normal(size=[batch, *shape]).astype('float32')
  model = tff.FlowModel(getattr(tff, builder)(shape, seed=0, **options))
  model.adapt(x)
  model.compile(keras.optimizers.Adam(1e-3))
  made = time.time()
  model.fit(x, batch_size=batch, epochs=1, verbose=0)
  end, start = time.time(), measure.process_start()
  return {
    'total': end - start,
    'import': imported - start,
    'make': made - imported,
    'step': end - made,
    'peak': (measure.memory_mb('VmHWM') or np.nan) - (resident or np.nan),
  }


def main() -> None:
  """Prints the table; with `--one`, one process of one row as JSON."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rows', default=','.join(ROWS), help='Names, with commas.')
  parser.add_argument('--processes', type=int, default=3, help='Of each row.')
  parser.add_argument('--one', choices=ROWS)
  options = parser.parse_args()
  if options.one:
    print(json.dumps(run(options.one)))
    return
  names = options.rows.split(',')
  if set(names) - set(ROWS):
    parser.error(f'expected rows among {list(ROWS)}, received {names}')
  print(f'{"row":18}' + ''.join(f'{column:>9}' for column in COLUMNS))
  for name in names:
    found = []
    for _ in range(options.processes):
      command = [sys.executable, __file__, '--one', name]
      done = subprocess.run(command, capture_output=True, text=True)
      if done.returncode:
        print(f'{name:18}', *done.stderr.strip().splitlines()[-1:], flush=True)
        break
      found.append(json.loads(done.stdout.strip().splitlines()[-1]))
    if len(found) < options.processes:
      continue
    medians = [statistics.median(f[column] for f in found) for column in COLUMNS]
    print(f'{name:18}' + ''.join(f'{value:9.1f}' for value in medians), flush=True)


if __name__ == '__main__':
  main()
