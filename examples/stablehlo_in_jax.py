"""Runs exported StableHLO in JAX's runtime of XLA; TensorFlow is not needed.

    python stablehlo_in_jax.py runs/glow_digits/export/stablehlo sample results.npz
    python stablehlo_in_jax.py runs/glow_digits/export/stablehlo training_step \
        results.npz --arguments=batch.npz --steps=10
    python stablehlo_in_jax.py runs/glow_digits/export/stablehlo training_step \
        trained.npz --arguments=runs/glow_digits/export/data/train.npz --epochs=100

The arguments, by their names in `manifest.json`, are arrays of a `.npz`; the seed is
by default 0 and the temperature 1. Each step feeds the new weights back and counts the
seed up; `results.npz` gets what the steps returned, stacked, and the last weights.

With `--epochs` the arguments have any number of examples, which are shuffled and cut
into batches of the export's size, those that are left over being left out until the
next epoch; `--minutes` ends it earlier, after an epoch.
"""

import argparse
import json
import pathlib
import time

import jax
import numpy as np
from jax.extend import backend


class Function:
  """A function of an export, with its weights."""

  def __init__(self, folder, name):
    folder = pathlib.Path(folder)
    manifest = json.loads((folder / 'manifest.json').read_text())
    function = manifest['functions'][name]
    self.inputs, self.outputs = function['inputs'], function['outputs']
    client = backend.get_backend()
    self._device = client.local_devices()[0]
    dtypes = {i['name']: i['dtype'] for i in self.inputs}
    with np.load(folder / 'arrays.npz') as arrays:
      names = dtypes.keys() & set(arrays)
      self.state = {n: self._on_device(arrays[n], dtypes[n]) for n in names}
    self.batch_size = manifest['batch_size']
    self.identity = manifest.get('identity')  # Older exports have none.
    self._executable = client.compile_and_load(
      (folder / function['module']).read_bytes(),
      [self._device],
      backend.get_compile_options(num_replicas=1, num_partitions=1),
    )

  def _on_device(self, value, dtype):
    if isinstance(value, jax.Array):  # Weights stay where they are.
      return value
    return jax.device_put(np.asarray(value, dtype), self._device)

  def __call__(self, **arguments):
    """Returns the results by name, and keeps new weights."""
    values = {'seed': [0, 0], 'temperature': 1.0} | self.state | arguments
    flat = [self._on_device(values[i['name']], i['dtype']) for i in self.inputs]
    values = self._executable.execute(flat)
    outputs = {o['name']: value for o, value in zip(self.outputs, values)}
    results = [o['name'] for o in self.outputs if o['kind'] == 'result']
    self.state |= {k: v for k, v in outputs.items() if k not in results}
    return {name: np.asarray(outputs[name]) for name in results}


def epochs(function, arguments, seed, count, minutes):
  """Makes the steps of so many epochs, and returns what each of them returned."""
  missing = {i['name'] for i in function.inputs if i['kind'] == 'argument'}
  missing -= {*arguments, 'seed'}
  if missing or 'loss' not in {o['name'] for o in function.outputs}:
    raise ValueError(
      f'Expected a training_step, and a .npz with its arguments; it lacks '
      f'{sorted(missing)}. Pass --arguments=PATH.'
    )
  examples = len(next(iter(arguments.values())))
  size, start, found = function.batch_size, time.monotonic(), []
  if examples < size:
    raise ValueError(
      f'Expected as many examples as the export has in a batch, {size}, or more; '
      f'received {examples}. Export with a smaller --batch_size.'
    )
  for epoch in range(count):
    order = np.random.default_rng([epoch, *abs(seed)]).permutation(examples)
    batches = order[: examples // size * size].reshape(-1, size)
    for rows in batches:
      step = seed + np.array([0, len(found)])
      batch = {name: values[rows] for name, values in arguments.items()}
      found.append(function(seed=step, **batch))
    elapsed = (time.monotonic() - start) / 60
    mean = np.mean([step['loss'] for step in found[-len(batches) :]])
    print(f'epoch {epoch + 1}: loss {mean:.4f}, {elapsed:.1f} minutes', flush=True)
    if minutes and elapsed >= minutes:
      break
  return found


def main():
  """Runs what the command line says."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('folder', help='of the export')
  parser.add_argument('function', help='log_prob, sample, training_step, ...')
  parser.add_argument('results', help='path of a .npz that is written')
  parser.add_argument('--arguments', help='path of a .npz')
  parser.add_argument('--steps', type=int, default=1)
  parser.add_argument('--epochs', type=int, help='over the arguments, of training_step')
  parser.add_argument('--minutes', type=float, help='after which no epoch is begun')
  options = parser.parse_args()
  jax.config.update('jax_enable_x64', True)  # Optimizers count in int64.
  function = Function(options.folder, options.function)
  arguments = dict(np.load(options.arguments)) if options.arguments else {}
  seed = np.asarray(arguments.pop('seed', [0, 0]))
  if options.epochs:
    steps = epochs(function, arguments, seed, options.epochs, options.minutes)
  else:
    steps = [function(seed=seed + [0, i], **arguments) for i in range(options.steps)]
  results = {name: np.stack([step[name] for step in steps]) for name in steps[0]}
  weights = {o['name'] for o in function.outputs} - results.keys()
  results |= {name: np.asarray(function.state[name]) for name in weights}
  if function.identity:
    results['identity'] = np.asarray(function.identity)
  np.savez(options.results, **results)
  for name, value in results.items():
    if value.ndim == 1 and not options.epochs:
      print(name, *value)


if __name__ == '__main__':
  main()
