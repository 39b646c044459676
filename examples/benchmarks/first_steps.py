r"""The first steps of training, each library from its own start.

    python first_steps.py                      every row, every library
    python first_steps.py --rows=W1,digits     rows that begin so

A step is one of Adam at a learning rate of 1e-3 on one fixed batch, without warm-up
and without clipping, after the initialization from data where a library has one. Each
row runs in a process of its own. Columns: the loss in nats before the first step and
after 1, 2, 5, 10, 25 and 50; and by how much, in percent of the size of the first, the
largest of the losses after 1 to 50 steps exceeds it. What is negative never rose.

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


def digits() -> np.ndarray:
  """A batch of 64 of scikit-learn's digits with dequantization noise."""
  from sklearn import datasets

  images = datasets.load_digits().images[:64, :, :, np.newaxis]
  noise = np.random.default_rng(0).uniform(size=images.shape)
  return (images + noise).astype('float32')


def moons() -> np.ndarray:
  """512 points on two half circles, with noise of deviation 0.05."""
  from sklearn import datasets

  return datasets.make_moons(512, noise=0.05, random_state=0)[0].astype('float32')


def table() -> np.ndarray:
  """That of W3, 43 dimensions."""
  return WORKLOADS['W3a'].data()


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
  couplings = dict(coupling=['affine', 'additive', 'spline'])
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
      rows += grid(data, 'maf', transformer=['affine', 'spline'], **layers)
    rows += grid(data, 'residual_flow', num_blocks=[4] if data == 'digits' else [4, 16])
    rows += grid(data, 'ffjord', num_blocks=[1, 2])
  return rows


def shared_task(name: str, peer: str) -> Callable[[], float]:
  """The step of a workload in one library, from its own start."""
  workload = SHARED[name]
  if peer == 'ours':
    import ours

    return ours.make(workload, own_start=True).step
  import torch_tasks

  torch_tasks.own_start = True
  return __import__(MODULES[peer]).make(workload).step


def own_task(row: Row) -> Callable[[], float]:
  """The step of a model of a builder."""
  import tensorflow as tf
  import tf_tasks

  import tfp_flows as tff

  x = DATA[row.data]()
  options = dict(row.options, seed=0)
  if row.data == 'digits':
    options['num_bins'] = 17
  flow = getattr(tff, row.builder)(list(x.shape[1:]), **options)
  flow.bijector.bijector.adapt(tf.constant(x))

  def loss(x):
    with tff.estimation(training=True):
      return -tf.reduce_mean(flow.log_prob(tf.identity(x)))

  step = tf_tasks.training_task(loss, flow.trainable_variables, x, 'jit').step

  def with_norms():
    found = step()
    tff.update_norms(flow)
    return found

  return with_norms if row.builder == 'residual_flow' else step


def line(name: str, peer: str, losses: list[float]) -> str:
  """One line of the table."""
  rise = 100 * (np.max(losses[1:]) - losses[0]) / abs(losses[0])
  shown = ' '.join(f'{losses[i]:11.5g}' for i in SHOWN)
  return f'{name:48} {peer:10} {shown} {rise:9.1f} %'


def main() -> None:
  """Prints the table; with `--one`, the losses of one line as JSON."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rows', default='', help='Beginnings of names, with commas.')
  parser.add_argument('--peers', default=','.join(['ours', *PEERS]))
  parser.add_argument('--one', nargs=2, metavar=('ROW', 'PEER'))
  options = parser.parse_args()
  own = {str(row): row for row in own_rows()}
  if options.one:
    name, peer = options.one
    step = own_task(own[name]) if name in own else shared_task(name, peer)
    print(json.dumps([step() for _ in range(STEPS + 1)]))
    return
  print(f'{"row":48} {"library":10} ' + ' '.join(f'{i:11}' for i in SHOWN), ' rise')
  for name in [*SHARED, *own]:
    if not any(name.startswith(start) for start in options.rows.split(',')):
      continue
    for peer in options.peers.split(',') if name in SHARED else ['ours']:
      command = [sys.executable, __file__, '--one', name, peer]
      result = subprocess.run(command, capture_output=True, text=True)
      if result.returncode:
        reason = result.stderr.strip().splitlines()[-1:]
        print(f'{name:48} {peer:10} {" ".join(reason)[:120]}', flush=True)
      else:
        losses = json.loads(result.stdout.strip().splitlines()[-1])
        print(line(name, peer, losses), flush=True)


if __name__ == '__main__':
  main()
