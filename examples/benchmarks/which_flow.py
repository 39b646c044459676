r"""The builders side by side on one 2-D density, trained alike.

    python which_flow.py                               all builders
    python which_flow.py --flows=maf,glow --steps=200

Every flow sees the same batches of a toy without end for the same number of steps of
Adam, with a cosine schedule, and with the arguments below, which nobody has tuned.
Columns: the mean negative log-likelihood of 20,000 points that no step has seen, with
its standard error, in nats; the seconds of training, with compilation; and the
milliseconds of 10,000 densities and of 10,000 samples, by the medians of five calls.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np

import tfp_flows as tff
from tfp_flows.data import toy

FLOWS = {
  'glow': lambda: tff.glow([2], num_steps=8, width=64, transformer='spline', seed=0),
  'real_nvp': lambda: tff.real_nvp(
    [2], num_steps=8, width=64, transformer='spline', seed=0
  ),
  'nice': lambda: tff.nice([2], num_steps=8, width=64, seed=0),
  'maf': lambda: tff.maf(
    [2], num_layers=4, hidden=[64, 64], transformer='spline', seed=0
  ),
  'iaf': lambda: tff.iaf([2], num_layers=4, hidden=[64, 64], seed=0),
  'planar': lambda: tff.planar([2], num_layers=32, seed=0),
  'radial': lambda: tff.radial([2], num_layers=32, seed=0),
  'sylvester': lambda: tff.sylvester([2], num_layers=16, seed=0),
  'residual_flow': lambda: tff.residual_flow([2], num_blocks=8, width=64, seed=0),
  'ffjord': lambda: tff.ffjord([2], hidden=[64, 64, 64], tolerance=1e-4, seed=0),
}
CALL = 10_000  # Points of a timed call.


def milliseconds(call: Callable[[], object]) -> float:
  """The median of five calls, after one that compiles."""
  call()
  seconds = []
  for _ in range(5):
    start = time.perf_counter()
    call()
    seconds.append(time.perf_counter() - start)
  return 1e3 * statistics.median(seconds)


def measure(name: str, dataset: str, steps: int, batch_size: int) -> dict[str, float]:
  """The columns of one flow."""
  train = toy.sample(dataset, steps * batch_size, seed=0).astype('float32')
  test = toy.sample(dataset, 20_000, seed=1).astype('float32')
  keras.utils.set_random_seed(0)
  start = time.perf_counter()
  model = tff.FlowModel(FLOWS[name](), seed=0)
  rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
  model.compile(keras.optimizers.Adam(rate, global_clipnorm=5.0))
  model.adapt(train[:1000])
  model.fit(train, batch_size=batch_size, epochs=1, verbose=0)
  seconds = time.perf_counter() - start
  nats = -model.log_prob(test, seed=0)
  return dict(
    nats=float(np.mean(nats)),
    error=float(np.std(nats) / np.sqrt(len(nats))),
    seconds=seconds,
    densities=milliseconds(lambda: model.log_prob(test[:CALL], seed=0)),
    samples=milliseconds(lambda: model.sample(CALL, seed=0)),
  )


def run(
  flows: list[str], dataset: str, steps: int, batch_size: int
) -> dict[str, dict[str, float]]:
  """Prints a row for each flow, and returns them all."""
  print('| Builder | nats | training, s | 10,000 densities, ms | 10,000 samples, ms |')
  print('|---|---|---|---|---|')
  found = {}
  for name in flows:
    row = found[name] = measure(name, dataset, steps, batch_size)
    print(
      f'| `tff.{name}` | {row["nats"]:.3f} +- {row["error"]:.3f} | '
      f'{row["seconds"]:.0f} | {row["densities"]:.0f} | {row["samples"]:.0f} |',
      flush=True,
    )
  return found


def main() -> None:
  """The command."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--flows', default=','.join(FLOWS), help='names, with commas')
  parser.add_argument('--dataset', default='8gaussians', help='name of a toy')
  parser.add_argument('--steps', type=int, default=2000, help='of training')
  parser.add_argument('--batch_size', type=int, default=250, help='points of a step')
  options = parser.parse_args()
  run(options.flows.split(','), options.dataset, options.steps, options.batch_size)


if __name__ == '__main__':
  main()
