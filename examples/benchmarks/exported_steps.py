r"""Training steps as StableHLO: written here, timed on a machine with an accelerator.

    python exported_steps.py export steps              where this library is
    python exported_steps.py run steps --steps=200     where there is JAX, without it

`export` writes, for each row and batch size, the training step of a `FlowModel` with
Adam, from its own start, and as `NAME_networks` its networks alone: forward and
backward on inputs of their shapes, without optimizer. For `glow` these are all
couplings', for `residual` one evaluation of each branch, for `ffjord` one of the field.

`run` compiles each and feeds new weights back on the device; it prints the seconds of
compilation, the median of `--steps` steps in ms, each waited for, and the loss of the
first and of the last. With `--peak=TFLOPS` of the card it adds the share of it that
the products in the networks, one forward and two of them backward, come to. On NVIDIA's
cards `NVIDIA_TF32_OVERRIDE=0` in the environment keeps products in float32.
"""

import argparse
import json
import pathlib
import statistics
import time

import numpy as np

# Builder, event shape, batch sizes, options.
ROWS = {
  'glow': (
    'glow',
    [32, 32, 3],
    (16, 64, 256, 1024),
    dict(num_levels=3, num_steps=8, width=128),
  ),
  'residual': (
    'residual_flow',
    [28, 28, 1],
    (32,),
    dict(num_levels=1, num_blocks=4, num_dense_blocks=0),
  ),
  'ffjord': ('ffjord', [2], (512,), {}),
}


def export(folder: pathlib.Path, names: list[str], batches: list[int]) -> None:
  """Writes the steps of the rows, of their own batch sizes if none are given."""
  import keras

  import tfp_flows as tff

  for name in names:
    builder, shape, own_batches, options = ROWS[name]
    flow = getattr(tff, builder)(shape, seed=0, **options)
    for batch in batches or own_batches:
      model = tff.FlowModel(flow, seed=0)
      model.adapt(examples([batch, *shape]))
      model.compile(keras.optimizers.Adam(1e-3))
      path = folder / f'{name}_{batch}'
      tff.export_stablehlo(model, path, batch, ['training_step'], overwrite=True)
      export_networks(folder / f'{name}_{batch}_networks', flow, batch)
      print(path, flush=True)


def examples(shape: list[int], dtype: str = 'float32') -> np.ndarray:
  """Pixels, or normal numbers for vectors."""
  rng = np.random.default_rng(0)
  x = rng.integers(256, size=shape) if len(shape) == 4 else rng.normal(size=shape)
  return x.astype(dtype)


def export_networks(folder: pathlib.Path, flow, batch: int) -> None:
  """Writes the gradients of the sums of squares of what the networks return."""
  import tensorflow as tf

  networks, inputs, flops = [], [], 0
  for network, shape in networks_of(flow):
    networks.append(network)
    inputs.append(tf.random.stateless_normal([batch, *shape], [0, len(inputs)]))
    pixels = int(np.prod(shape[:-1]))
    kernels = [v.shape for v in network.trainable_variables if len(v.shape) > 1]
    flops += sum(6 * batch * pixels * int(np.prod(kernel)) for kernel in kernels)
  weights = [v.value for network in networks for v in network.trainable_variables]

  @tf.function(autograph=False, jit_compile=True)
  def gradients(*inputs):
    with tf.GradientTape() as tape:
      tape.watch(inputs)
      outputs = [call(net, x) for net, x in zip(networks, inputs)]
      loss = tf.add_n([tf.reduce_sum(y**2) for y in outputs])
    return [loss, *tf.nest.flatten(tape.gradient(loss, [weights, inputs]))]

  concrete = gradients.get_concrete_function(*inputs)
  variables = {id(v.handle): v for v in concrete.variables}
  captured = [variables.get(id(t), t) for t in concrete.captured_inputs]
  folder.mkdir(parents=True, exist_ok=True)
  module = gradients.experimental_get_compiler_ir(*inputs)(stage='stablehlo_serialized')
  (folder / 'training_step.mlirbc').write_bytes(module)
  values = [np.asarray(t) for t in (*inputs, *captured)]
  np.savez(folder / 'arrays.npz', *values)
  entries = [
    dict(name=f'arr_{i}', kind='constant', shape=v.shape, dtype=v.dtype.name)
    for i, v in enumerate(values)
  ]
  outputs = [
    dict(name=f'result_{i}', kind='result', shape=t.shape.as_list(), dtype=t.dtype.name)
    for i, t in enumerate(concrete.structured_outputs)
  ]
  step = dict(module='training_step.mlirbc', inputs=entries, outputs=outputs)
  manifest = dict(batch_size=batch, flops=flops, functions=dict(training_step=step))
  (folder / 'manifest.json').write_text(json.dumps(manifest, indent=1))


def networks_of(flow) -> list:
  """Each network of a flow, those in loops as layers of their own, and its input."""
  import tfp_flows as tff

  found, parts = [], [flow.bijector, *flow.bijector.submodules]
  loops = [part for part in parts if isinstance(part, tff.Repeated)]
  inside = {id(p) for loop in loops for p in (loop, *loop.submodules)}
  parts = [part for part in parts if id(part) not in inside]
  for step in (step for loop in loops for step in loop.separate()):
    parts += [step, *step.submodules]
  for part in parts:
    if isinstance(part, tff.Coupling):
      found.append((part.parameters['conditioner'], part.mask.kept_shape))
    elif isinstance(part, tff.ResidualFlow):
      found.append((part.branch, part.parameters['event_shape']))
    elif isinstance(part, tff.FFJORD):
      found.append((part.field, part.parameters['event_shape']))
  return found


def call(network, x):
  """A network at `x`, a field at time 0."""
  import tensorflow as tf

  import tfp_flows as tff

  if isinstance(network, tff.FieldMLP):
    return network(tf.zeros([]), x)
  return network(x)


def run(folder: pathlib.Path, steps: int, peak: float | None) -> None:
  """Times what is in the folder."""
  import jax

  jax.config.update('jax_enable_x64', True)  # Optimizers count in int64.
  device = jax.devices()[0]
  print(f'{device.device_kind}, {device.platform}, JAX {jax.__version__}')
  print(
    f'{"step":24} {"compile s":>10} {"ms":>10} {"first":>12} {"last":>12} {"share":>7}'
  )
  for path in sorted(folder.iterdir()):
    flops = flops_of(path, folder)
    start = time.perf_counter()
    step = Step(path, device)
    compiled = time.perf_counter() - start
    times, losses = [], []
    for i in range(3 + steps):
      start = time.perf_counter()
      losses.append(step(i))
      times.append(1e3 * (time.perf_counter() - start))
    ms = statistics.median(times[3:])
    share = f'{100 * flops / (1e9 * ms * peak):5.1f} %' if peak else ''
    print(
      f'{path.name:24} {compiled:10.1f} {ms:10.3f} {losses[0]:12.5g} '
      f'{losses[-1]:12.5g} {share:>7}',
      flush=True,
    )


def flops_of(path: pathlib.Path, folder: pathlib.Path) -> int:
  """Of the products in the networks of a step."""
  name = path.name.removesuffix('_networks') + '_networks'
  return json.loads((folder / name / 'manifest.json').read_text())['flops']


class Step:
  """A compiled step, whose weights stay on the device."""

  def __init__(self, folder, device):
    import jax
    from jax.extend import backend

    manifest = json.loads((folder / 'manifest.json').read_text())
    function = manifest['functions']['training_step']
    self._device, self._inputs = device, function['inputs']
    arrays = dict(np.load(folder / 'arrays.npz'))
    for entry in self._inputs:
      if entry['name'] == 'x':
        arrays['x'] = examples(entry['shape'], entry['dtype'])
    self._state = {k: jax.device_put(v, device) for k, v in arrays.items()}
    self._outputs = [o['name'] for o in function['outputs']]
    self._executable = backend.get_backend().compile_and_load(
      (folder / function['module']).read_bytes(),
      [device],
      backend.get_compile_options(num_replicas=1, num_partitions=1),
    )

  def __call__(self, number: int) -> float:
    """Makes a step with the seed of this number, and returns the loss."""
    import jax

    seed = jax.device_put(np.array([0, number], np.int32), self._device)
    values = self._state | dict(seed=seed)
    outputs = self._executable.execute([values[i['name']] for i in self._inputs])
    found = dict(zip(self._outputs, outputs, strict=True))
    self._state |= {k: v for k, v in found.items() if k in self._state}
    jax.block_until_ready(outputs)
    return float(np.asarray(outputs[0]))


def main() -> None:
  """Exports or runs."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('task', choices=('export', 'run'))
  parser.add_argument('folder', type=pathlib.Path)
  parser.add_argument('--rows', default=','.join(ROWS), help='Names, with commas.')
  parser.add_argument('--batches', default='', help='Sizes, in place of the rows own.')
  parser.add_argument('--steps', type=int, default=200)
  parser.add_argument('--peak', type=float, help='TFLOP/s of the card.')
  options = parser.parse_args()
  if options.task == 'run':
    run(options.folder, options.steps, options.peak)
    return
  batches = [int(b) for b in options.batches.split(',') if b]
  export(options.folder, options.rows.split(','), batches)


if __name__ == '__main__':
  main()
