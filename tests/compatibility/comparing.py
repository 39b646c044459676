"""The numbers by which a model is known again, and how far they are from others.

Used by the version that writes files and by the one that reads them, with what both
have.
"""

import importlib.util
import io
import pathlib
import runpy
import zipfile

import numpy as np
import tensorflow as tf

import tfp_flows as tff

EXAMPLES = pathlib.Path(tff.__file__).parents[1] / 'examples'


def compress(path) -> None:
  """Packs a `.keras` file, in which Keras stores all as it is."""
  content = pathlib.Path(path).read_bytes()
  with (
    zipfile.ZipFile(io.BytesIO(content)) as source,
    zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=9) as target,
  ):
    for name in source.namelist():
      target.writestr(name, source.read(name))


def differences(found, expected) -> dict[str, float]:
  """The largest `|found - expected| / max(|expected|, 1)` of each array.

  Infinite where one is missing or has another shape or dtype.
  """
  return {key: _difference(found.get(key), expected[key]) for key in expected}


def _difference(found, expected):
  if found is None or (found.shape, found.dtype) != (expected.shape, expected.dtype):
    return float('inf')
  found, expected = (np.asarray(v, np.float64) for v in (found, expected))
  distance = np.abs(found - expected) / np.maximum(np.abs(expected), 1.0)
  return float(np.nan_to_num(distance, nan=np.inf).max(initial=0.0))


def numbers(model, inputs, has_noise: bool = True) -> dict[str, np.ndarray]:
  """What a `FlowModel` says of `inputs`.

  Args:
    model: the model.
    inputs: `x`, `points` if `x` has integers, and `condition` if there is one.
    has_noise: whether `log_prob` and `samples` are wanted, which have that of a seed.
      The others, `density`, `latents_I` and `back`, are free of it.
  """
  given = {k: inputs[k] for k in ('condition',) if k in inputs}
  points = tf.convert_to_tensor(inputs.get('points', inputs['x']))
  distribution = model.distribution
  latents = distribution.bijector.inverse(points, **given)
  # Copies: what a bijector has just computed, it does not compute again.
  copies = tf.nest.map_structure(tf.identity, latents)
  found = dict(
    density=distribution.log_prob(tf.identity(points), **given),
    back=distribution.bijector.forward(copies, **given),
  )
  found |= {f'latents_{i}': part for i, part in enumerate(tf.nest.flatten(latents))}
  if has_noise:
    count = [] if _draws_for_rows() and given else [len(points)]
    found['log_prob'] = model.log_prob(inputs['x'], seed=3, **given)
    found['samples'] = model.sample(*count, seed=4, **given)
  return {name: np.asarray(value) for name, value in found.items()}


def _draws_for_rows():
  """Whether one draw for each row of a condition needs no number; 0.1.0 wants it."""
  return hasattr(tff, 'given')


def numbers_of_weights(model, inputs) -> dict[str, np.ndarray]:
  """`numbers` and the sizes of what the optimizer keeps; in any order of variables."""
  slots = [np.asarray(v, np.float64) for v in model.optimizer.variables]
  found = dict(slots=np.asarray(sum(np.square(v).sum() for v in slots)))
  return found | numbers(model, inputs, has_noise=False)


def numbers_of_training(model, inputs) -> dict[str, np.ndarray]:
  """`numbers_of_weights`, and then what another step of training makes of them."""
  found = numbers_of_weights(model, inputs)
  loss = model.train_on_batch(inputs['x'], return_dict=True)['loss']
  after = numbers(model, inputs)
  found['loss'] = np.asarray(loss, np.float64)
  return found | {f'{name}_after': value for name, value in after.items()}


def numbers_of_exports(folder, inputs) -> dict[str, np.ndarray]:
  """What the SavedModel and the StableHLO in `folder` return."""
  x, condition = (tf.constant(inputs[k]) for k in ('x', 'condition'))
  loaded = tf.saved_model.load(str(folder / 'saved_model')).signatures
  given = dict(seed=tf.constant([0, 3]), condition=condition)
  draw = dict(n=tf.constant(len(x)), temperature=tf.constant(0.8))
  found = loaded['log_prob'](x=x, **given) | loaded['encode'](x=x, **given)
  found |= loaded['sample'](**draw, **given)
  found |= loaded['decode'](latents=found['latents'], condition=condition)
  found = {f'saved_model.{k}': v.numpy() for k, v in found.items()}
  for name in ('log_prob', 'training_step') if has_jax() else ():
    results, _ = call_exported(folder, name, inputs)
    found |= {f'stablehlo.{k}': v for k, v in results.items()}
  return found


def has_jax() -> bool:
  """Whether StableHLO can be run: the last versions of JAX need Python 3.11."""
  return importlib.util.find_spec('jax') is not None


def call_exported(folder, name, inputs):
  """What a function of StableHLO returns in the runtime of JAX, and its new state."""
  import jax

  before = jax.config.jax_enable_x64
  jax.config.update('jax_enable_x64', True)  # Optimizers count in int64.
  try:
    function = runpy.run_path(str(EXAMPLES / 'stablehlo_in_jax.py'))['Function']
    function = function(folder / 'stablehlo', name)
    arguments = {k: inputs[k] for k in ('x', 'condition')}
    results = function(seed=np.array([0, 3]), **arguments)
    return results, {k: np.asarray(v) for k, v in function.state.items()}
  finally:
    jax.config.update('jax_enable_x64', before)


def train_exported(folder, inputs, model) -> None:
  """Gives `model` the weights after a step of the exported training."""
  _, arrays = call_exported(folder, 'training_step', inputs)
  tff.import_stablehlo(model, folder / 'stablehlo', arrays)
