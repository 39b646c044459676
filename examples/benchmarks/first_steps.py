r"""The first steps of training, each library from its own start.

    python first_steps.py                      every row, every library
    python first_steps.py --rows=W1,digits     rows that begin so
    python first_steps.py --batches=3          medians of three batches

A step is one of Adam at a learning rate of 1e-3 on one fixed batch, without warm-up
and without clipping, after the initialization from data where a library has one. Each
batch of a row runs in a process of its own. Columns: the loss in nats before the first
step and after 1, 2, 5, 10, 25 and 50; and by how much, in percent of the size of the
first, the largest of the losses after 1 to 50 steps exceeds it. What is negative never
rose. Of several batches these are medians, and the last column is their largest.

Rows with names of workloads are those of `workloads.py`; the others are models that
the builders of this library make with the arguments that the row names, and else with
their defaults. The peers need PyTorch, normflows, nflows and zuko.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator

import numpy as np
from suite import MODULES
from workloads import WORKLOADS
from workloads import Glow

STEPS = 50
SHOWN = (0, 1, 2, 5, 10, 25, 50)
PEERS = ('normflows', 'nflows', 'zuko')

SHARED = {
  **{name: WORKLOADS[name] for name in ('W1', 'W3a', 'W3b', 'W3c')},
  **{f'W1 K={k}': Glow(num_steps=k) for k in (4, 16, 32)},
  **{f'W1 width={w}': Glow(width=w) for w in (64, 512)},
}


def digits(seed: int) -> np.ndarray:
  """A batch of 64 of scikit-learn's digits with dequantization noise."""
  from sklearn import datasets

  chosen = np.arange(64 * seed, 64 * seed + 64) % 1797
  images = datasets.load_digits().images[chosen, :, :, np.newaxis]
  noise = np.random.default_rng(seed).uniform(size=images.shape)
  return (images + noise).astype('float32')


def moons(seed: int) -> np.ndarray:
  """512 points on two half circles, with noise of deviation 0.05."""
  from sklearn import datasets

  return datasets.make_moons(512, noise=0.05, random_state=seed)[0].astype('float32')


def table(seed: int) -> np.ndarray:
  """That of W3, 43 dimensions."""
  return dataclasses.replace(WORKLOADS['W3a'], seed=seed).data()


DATA = {'digits': digits, 'moons': moons, 'table': table}


@dataclasses.dataclass(frozen=True)
class Row:
  """A model of a builder on one of `DATA`."""

  data: str
  builder: str
  options: tuple[tuple[str, object], ...] = ()

  def __str__(self) -> str:
    options = ' '.join(f'{k}={v}' for k, v in self.options)
    return f'{self.data} {self.builder} {options}'.strip()


def grid(data: str, builder: str, **options) -> Iterator[Row]:
  """Every combination of the lists in `options`."""
  rows = [()]
  for name, values in options.items():
    rows = [(*row, (name, value)) for row in rows for value in values]
  return (Row(data, builder, row) for row in rows)


def own_rows() -> list[Row]:
  """The rows that only this library has."""
  rows = []
  couplings = dict(transformer=['affine', 'additive', 'spline', 'mixture'])
  for data in DATA:
    sizes = dict(num_steps=[4, 8, 16, 32], width=[64, 256])
    rows += grid(data, 'glow', **couplings, **sizes)
    rows += grid(data, 'glow', scale=['tanh', 'clamp'], num_steps=[32], width=[512])
    image = dict(num_steps=[3, 8], width=[32, 128])
    rows += grid(
      data, 'real_nvp', **couplings, **(image if data == 'digits' else sizes)
    )
    rows += grid(data, 'nice', num_steps=[4, 16], width=[64, 512])
    if data != 'digits':
      layers = dict(num_layers=[4, 16], hidden=[(64, 64), (512, 512)])
      rows += grid(data, 'maf', transformer=['affine', 'spline', 'mixture'], **layers)
      rows += grid(data, 'maf', transformer=['spline'], linear=['lu'], num_layers=[16])
      rows += grid(data, 'iaf', num_layers=[4, 16])
    rows += grid(data, 'residual_flow', num_blocks=[4] if data == 'digits' else [4, 16])
    rows += grid(data, 'ffjord', num_blocks=[1, 2])
  return rows


def shared_task(name: str, peer: str, seed: int) -> Callable[[], float]:
  """The step of a workload in one library, from its own start."""
  workload = dataclasses.replace(SHARED[name], seed=seed)
  if peer == 'ours':
    import ours

    return ours.make(workload, own_start=True).step
  import torch_tasks

  torch_tasks.own_start = True
  return __import__(MODULES[peer]).make(workload).step


def own_task(row: Row, seed: int) -> Callable[[], float]:
  """The step of a model of a builder."""
  import tensorflow as tf
  import tf_tasks

  import tfp_flows as tff

  x = DATA[row.data](seed)
  options = dict(row.options, seed=0)
  if row.data == 'digits':
    options['num_bins'] = 17
  flow = getattr(tff, row.builder)(list(x.shape[1:]), **options)
  flow.bijector.bijector.adapt(tf.constant(x))

  number = tf.Variable(0)

  def loss(x):
    with tff.estimation(number.assign_add(1), training=True):
      return -tf.reduce_mean(flow.log_prob(tf.identity(x)))

  step = tf_tasks.training_task(loss, flow.trainable_variables, x, 'jit').step

  update_norms = tf.function(lambda: tff.update_norms(flow), jit_compile=True)

  def with_norms():
    found = step()
    update_norms()
    return found

  return with_norms if row.builder == 'residual_flow' else step


def line(name: str, peer: str, losses: np.ndarray) -> str:
  """One line of the table, from `[batches, steps]`."""
  first = losses[:, 0]
  rise = np.max(100 * (np.max(losses[:, 1:], axis=1) - first) / np.abs(first))
  shown = ' '.join(f'{np.median(losses[:, i]):11.5g}' for i in SHOWN)
  return f'{name:48} {peer:10} {shown} {rise:9.1f} %'


def measure(name: str, peer: str, batches: int) -> str:
  """The line, each batch in a process of its own, or the reason why there is none."""
  losses = []
  for seed in range(batches):
    command = [sys.executable, __file__, '--one', name, peer, str(seed)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
      reason = ' '.join(result.stderr.strip().splitlines()[-1:])
      return f'{name:48} {peer:10} {reason[:120]}'
    losses.append(json.loads(result.stdout.strip().splitlines()[-1]))
  return line(name, peer, np.array(losses))


def main() -> None:
  """Prints the table; with `--one`, the losses of one batch as JSON."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rows', default='', help='Beginnings of names, with commas.')
  parser.add_argument('--peers', default=','.join(['ours', *PEERS]))
  parser.add_argument('--batches', type=int, default=1)
  parser.add_argument('--one', nargs=3, metavar=('ROW', 'PEER', 'SEED'))
  options = parser.parse_args()
  own = {str(row): row for row in own_rows()}
  if options.one:
    name, peer, seed = options.one
    if name in own:
      step = own_task(own[name], int(seed))
    else:
      step = shared_task(name, peer, int(seed))
    print(json.dumps([step() for _ in range(STEPS + 1)]))
    return
  print(f'{"row":48} {"library":10} ' + ' '.join(f'{i:11}' for i in SHOWN), ' rise')
  starts = tuple(options.rows.split(','))
  for name in [*SHARED, *own]:
    if name.startswith(starts):
      for peer in options.peers.split(',') if name in SHARED else ['ours']:
        print(measure(name, peer, options.batches), flush=True)


if __name__ == '__main__':
  main()
