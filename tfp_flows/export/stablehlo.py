"""A model as StableHLO, for any runtime of XLA."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows import version
from tfp_flows.export import programs
from tfp_flows.export import units as units_lib
from tfp_flows.internal import assignments
from tfp_flows.model import flow_model

__all__ = ['export_stablehlo', 'import_stablehlo']

_NAMES = ('log_prob', 'sample', 'encode', 'decode', 'training_step')
_FILES = ('arrays.npz', 'manifest.json', *(f'{name}.mlirbc' for name in _NAMES))


def export_stablehlo(
  model: flow_model.FlowModel,
  path: str | os.PathLike[str],
  batch_size: int,
  functions: Sequence[str] | None = None,
  overwrite: bool = False,
  condition_size: int | None = None,
  units: units_lib.Units | None = None,
) -> None:
  """Writes the functions of the model as StableHLO, with a manifest.

  Each is a pure function of tensors of fixed shapes, for XLA on any platform. In the
  folder `path` are then

    NAME.mlirbc     the module of a function, as MLIR bytecode of StableHLO
    arrays.npz      the weights, the state of the optimizer and constants, by name
    manifest.json   what the functions take and return

  with these functions, as `export_saved_model` has them. There is no `n`: `sample`
  draws `batch_size` examples, one for each row of the condition if there is one, from
  noise of XLA, which has other numbers for a seed than TensorFlow.

    log_prob(x, seed, weights) -> log_prob
    sample(seed, temperature, weights) -> samples
    encode(x, seed, weights) -> latents
    decode(latents, weights) -> x
    training_step(x, seed, weights, optimizer) -> loss, weights, optimizer

  The last is a step of `fit`, gradients, optimizer and norms of Lipschitz networks
  included. Conditional models take `condition` after `seed`.

  The manifest is an object with `batch_size`, `versions`, `functions` and `identity`,
  which tells the weights of this export from others. A function
  has lists of `inputs` and `outputs` in their order, each with

    name    of the tensor; of a weight or constant that in arrays.npz
    kind    'argument' and 'result'; 'weight', 'optimizer' or 'constant'
    shape, dtype
    variable   its name in TensorFlow, if it is a weight or of the optimizer

  An output that has the name of an input is its new value: feed it back. An output
  of a sample that is not finite stands for an inverse that did not converge.

  Args:
    model: compiled with its optimizer, if there is to be a `training_step`.
    path: of a new or empty folder.
    batch_size: of all functions.
    functions: names of those that are exported; None is all that the model has, and
      `training_step` if it is compiled.
    overwrite: whether an earlier export in `path` is replaced.
    condition_size: `K`, for models whose networks do not say it.
    units: how the columns of a table and those of the model belong together, if it was
      scaled for the model: `x` and `samples` are then float64, in the units of the
      table, and so are densities and losses.

  Raises:
    ValueError: if `path` holds something else, the model does not have a function,
      the size of the condition is unknown, or the model reads variables that are not
      its weights.
  """
  if batch_size < 1:
    raise ValueError(f'Expected batch_size >= 1; received {batch_size}.')
  programs.check_folder(path, overwrite, _FILES)
  found = programs.inference(model, batch_size, condition_size)
  if model.compiled:
    found.append(_training_step(model, batch_size, condition_size))
  found = programs.in_units(_selected(found, functions), units)
  model.update_norms()
  arrays = _Arrays(model)
  modules, entries = {}, {}
  for program in found:
    name = f'{program.name}.mlirbc'
    modules[name], tensors = _lowered(model, program, arrays)
    entries[program.name] = dict(module=name, **tensors)
  versions = dict(tfp_flows=version.__version__, tensorflow=tf.__version__)
  manifest = dict(batch_size=batch_size, versions=versions, functions=entries)
  manifest['identity'] = _digest(arrays.values)
  with programs.replacing(path, _FILES) as folder:
    for name, module in modules.items():
      with open(os.path.join(folder, name), 'wb') as file:
        file.write(module)
    values: dict[str, Any] = arrays.values
    np.savez(os.path.join(folder, 'arrays.npz'), **values)
    with open(os.path.join(folder, 'manifest.json'), 'w') as file:
      json.dump(manifest, file, indent=1)


def import_stablehlo(
  model: flow_model.FlowModel,
  path: str | os.PathLike[str],
  arrays: Mapping[str, np.ndarray],
) -> None:
  """Gives a model what exported training steps have made of its weights.

  Args:
    model: as it was exported, of the same layers; with its optimizer, if the state of
      that is to be taken, too.
    path: of the folder of the export.
    arrays: by the names of the manifest, as an open `.npz`; what has other names is
      left alone. The weights that a training step returns, and the state of the
      optimizer if the model is compiled, have to be there. An `'identity'`, if it is
      there, has to be that of the manifest.

  Raises:
    ValueError: if there is no export with a training step in `path`, it is of another
      model, or an array is missing, of another shape or dtype, or not finite. The
      model is then as it was.
  """
  entries, constants = _weights_of_training(path, arrays)
  variables = {f'weight_{i}': v for i, v in enumerate(model.distribution.variables)}
  if model.compiled:
    if not model.optimizer.built:
      model.optimizer.build(model.trainable_variables)
    state = programs.optimizer_variables(model)
    variables |= {f'optimizer_{i}': v for i, v in enumerate(state)}
  values = {}
  for entry in entries:
    if entry['kind'] == 'weight' or model.compiled:
      variable = variables.get(entry['name'])
      _check_variable(entry, variable)
      values[entry['name']] = _checked_array(entry, arrays)
  for name, value in constants.items():
    if name not in variables or not np.array_equal(variables[name].numpy(), value):
      raise ValueError(
        f'Expected the model that was exported to {os.fspath(path)}; received one '
        f'whose {name}, which no training step changes, is another. Build it with the '
        f'same seed, or load the weights that it was exported with first.'
      )
  for name, value in values.items():
    variables[name].assign(value)


def _weights_of_training(path, arrays):
  """The entries that a training step returns, and the weights that it only reads."""
  file = os.path.join(path, 'manifest.json')
  try:
    with open(file) as text:
      manifest = json.load(text)
      outputs = manifest['functions']['training_step']['outputs']
      entries = [entry for entry in outputs if entry['kind'] != 'result']
      inputs = manifest['functions']['training_step']['inputs']
    given = {e['name'] for e in inputs if e['kind'] == 'weight'}
    given -= {e['name'] for e in entries}
    with np.load(os.path.join(path, 'arrays.npz'), allow_pickle=False) as file:
      constants = {name: file[name] for name in given}
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'Expected an export with a training_step in {os.fspath(path)}; received '
      f'{type(error).__name__} from its files. Export the model first.'
    ) from error
  if 'identity' in arrays and str(arrays['identity']) != manifest.get('identity'):
    raise ValueError(
      f'Expected what came of the export in {os.fspath(path)}; received arrays that '
      f'came of another.'
    )
  return entries, constants


def _digest(arrays):
  """The same for the same names and values."""
  found = hashlib.sha256()
  for name in sorted(arrays):
    found.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
  return found.hexdigest()


def _check_variable(entry, variable):
  expected = entry['shape'], entry['dtype']
  received = None
  if variable is not None:
    received = list(variable.shape), tf.as_dtype(variable.dtype).name
  if expected != received:
    raise ValueError(
      f'Expected the model that was exported, whose {entry["name"]} '
      f'({entry["variable"]}) has shape and dtype {expected}; received a model whose '
      f'has {received}. Build it with the same arguments and optimizer.'
    )


def _checked_array(entry, arrays):
  name = entry['name']
  if name not in arrays:
    raise ValueError(
      f'Expected an array {name!r} ({entry["variable"]}), as each training step '
      f'returns it; received arrays without. Save all that the last step returned.'
    )
  value = np.asarray(arrays[name])
  dtype = tf.as_dtype(entry['dtype'])
  if value.dtype.kind == 'V' and value.dtype.itemsize == dtype.size:
    value = value.view(dtype.as_numpy_dtype)  # Files of NumPy have bfloat16 as bytes.
  if [list(value.shape), value.dtype.name] != [entry['shape'], entry['dtype']]:
    raise ValueError(
      f'Expected {name!r} of shape {entry["shape"]} and dtype {entry["dtype"]}; '
      f'received {list(value.shape)}, {value.dtype.name}.'
    )
  if dtype.is_floating and not np.isfinite(value.astype(np.float64)).all():
    raise ValueError(
      f'Expected finite numbers in {name!r} ({entry["variable"]}); received NaN or '
      f'infinite ones: the training has diverged. Lower its learning rate.'
    )
  return value


def _training_step(model, batch_size, condition_size):
  if not model.optimizer.built:
    model.optimizer.build(model.trainable_variables)

  def training_step(x, seed, condition=None):
    return dict(loss=model.gradient_step(x, condition, seed=seed))

  condition = programs.condition_spec(model, batch_size, condition_size)
  inputs = dict(
    x=programs.data_spec(model, batch_size), seed=programs.SEED, **condition
  )
  return programs.Program('training_step', training_step, inputs)


def _selected(found, names):
  if names is None:
    return found
  known = {program.name: program for program in found}
  if not names or set(names) - set(known):
    hint = ''
    if 'training_step' in set(names) - set(known):
      hint = ' A training_step needs the optimizer: call `compile` first.'
    raise ValueError(
      f'Expected functions among {list(known)}; received {list(names)}.{hint}'
    )
  return [known[name] for name in names]


class _Arrays:
  """The names and values of weights, state and constants in all functions."""

  def __init__(self, model: flow_model.FlowModel):
    self.values: dict[str, np.ndarray] = {}
    self._entries: dict[int, dict[str, Any]] = {}
    self._kept: list[tf.Variable] = []
    for i, v in enumerate(model.distribution.variables):
      self._add(v, f'weight_{i}', 'weight')
    for i, v in enumerate(programs.optimizer_variables(model)):
      self._add(v, f'optimizer_{i}', 'optimizer')

  def _add(self, variable, name, kind):
    entry = _entry(name, kind, variable)
    self._entries[id(variable)] = entry | dict(variable=variable.name.split(':')[0])
    self._kept.append(variable)

  def variable(self, variable: tf.Variable) -> dict[str, Any]:
    """The entry of a variable, whose value is then among the arrays."""
    entry = self._entries[id(variable)]
    self.values[entry['name']] = variable.numpy()
    return entry

  def constant(self, tensor: tf.Tensor) -> dict[str, Any]:
    """The entry of a tensor that a function has found around itself."""
    if id(tensor) not in self._entries:
      count = sum(e['kind'] == 'constant' for e in self._entries.values())
      entry = _entry(f'constant_{count}', 'constant', tensor)
      self._entries[id(tensor)] = entry
      self._kept.append(tensor)
      self.values[entry['name']] = tensor.numpy()
    return self._entries[id(tensor)]


def _lowered(model, program, arrays):
  """The module of a function, and its inputs and outputs for the manifest."""

  # Keywords would be sorted.
  def positional(*inputs):
    return program.fn(**dict(zip(program.inputs, inputs, strict=True)))

  function = tf.function(positional, autograph=False, jit_compile=True)
  specs = list(program.inputs.values())
  concrete = function.get_concrete_function(*specs)
  programs.check_known(model, concrete.variables, program.name)
  variables = {id(v.handle): v for v in concrete.variables}
  captured = [
    arrays.variable(variables[id(t)]) if id(t) in variables else arrays.constant(t)
    for t in concrete.captured_inputs
  ]
  arguments = [_entry(k, 'argument', s) for k, s in program.inputs.items()]
  results = [_entry(k, 'result', s) for k, s in concrete.structured_outputs.items()]
  assigned = assignments.assigned_captures(concrete)
  inputs = arguments + captured
  outputs = results + [captured[i] for i in assigned]
  lower = function.experimental_get_compiler_ir(*specs)
  _check_types(program.name, lower(stage='stablehlo'), inputs, outputs)
  return lower(stage='stablehlo_serialized'), dict(inputs=inputs, outputs=outputs)


def _entry(name, kind, tensor):
  shape = tf.TensorShape(tensor.shape).as_list()
  return dict(name=name, kind=kind, shape=shape, dtype=tensor.dtype.name)


_DTYPES = {
  'i1': 'bool',
  'ui8': 'uint8',
  'ui16': 'uint16',
  'ui32': 'uint32',
  'ui64': 'uint64',
  'i32': 'int32',
  'i64': 'int64',
  'bf16': 'bfloat16',
  'f16': 'float16',
  'f32': 'float32',
  'f64': 'float64',
}


def _check_types(
  name: str,
  text: str,
  inputs: Sequence[dict[str, Any]],
  outputs: Sequence[dict[str, Any]],
) -> None:
  """Raises `RuntimeError` unless the module takes and returns what we say it does."""
  signature = re.search(r'func\.func (public )?@main\((.*)', text)
  if signature is None:
    raise RuntimeError(
      f'Expected a module of {name} with a function main; TensorFlow '
      f'{tf.__version__} made one without.'
    )
  for part, entries in zip(signature[2].split(' -> '), (inputs, outputs), strict=True):
    found = [_type_of(t) for t in re.findall(r'tensor<([^>]*)>', part)]
    expected = [(e['shape'], e['dtype']) for e in entries]
    if found != expected:
      raise RuntimeError(
        f'Expected a module of {name} with {expected}; TensorFlow {tf.__version__} '
        f'made one with {found}.'
      )


def _type_of(text):
  *sizes, dtype = text.split('x')
  return [int(n) for n in sizes], _DTYPES.get(dtype, dtype)
