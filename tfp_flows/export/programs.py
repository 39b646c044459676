"""What a model computes, as functions of tensors alone, and the folders for it."""

import contextlib
import os
import shutil
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import tensorflow as tf

from tfp_flows.export import units
from tfp_flows.internal import keras_parameters
from tfp_flows.internal import keras_private
from tfp_flows.model import flow_model
from tfp_flows.model import schedules

__all__ = [
  'Program',
  'check_folder',
  'condition_spec',
  'data_spec',
  'in_units',
  'inference',
  'replacing',
]

SEED = tf.TensorSpec([2], tf.int32, 'seed')

# What a writer that was killed may leave in the folder of an export.
_UNFINISHED = '.unfinished'


class Program(NamedTuple):
  """A function of named tensors, which returns named tensors.

  Attributes:
    name: of the function.
    fn: called by the keywords of `inputs`.
    inputs: name -> shape and dtype, in order.
  """

  name: str
  fn: Callable[..., dict[str, tf.Tensor]]
  inputs: dict[str, tf.TensorSpec]


def inference(
  model: flow_model.FlowModel,
  batch_size: int | None = None,
  condition_size: int | None = None,
) -> list[Program]:
  """`log_prob`, `sample`, and `encode` and `decode` if there are latents.

  With the numbers of the methods of the model:

    log_prob(x, seed) -> log_prob
    sample(n, seed, temperature) -> samples
    encode(x, seed) -> latents
    decode(latents) -> x

  Conditional models take `condition` as well, `[batch_size, K]`; `sample` draws `n` for
  each of its rows, `[n, batch_size, *event_shape]`, with a batch size one. There is a
  `temperature` if the base of the latents has a mean; latents that are a structure
  are `latents_0`, `latents_1`, and so on. What the methods refuse with a Python error,
  pixels out of range and samples that are not finite, is here an error of TensorFlow's
  if `batch_size` is None.

  Args:
    model: to be exported.
    batch_size: None: any, and `sample` takes `n`, a scalar. Else that of all tensors,
      and noise is drawn by XLA, for whom one seed gives other numbers.
    condition_size: `K`, for models whose networks do not say it.

  Raises:
    ValueError: if the size of the condition is unknown.
  """
  found = _Inference(model, batch_size)
  x, latents = data_spec(model, batch_size), found.latent_specs()
  condition = condition_spec(model, batch_size, condition_size)
  count = {} if batch_size else dict(n=tf.TensorSpec([], tf.int32, 'n'))
  temperature = {}
  if found.has_temperature:
    dtype = model.distribution.dtype
    temperature = dict(temperature=tf.TensorSpec([], dtype, 'temperature'))
  programs = [
    Program('log_prob', found.log_prob, dict(x=x, seed=SEED, **condition)),
    Program('sample', found.sample, dict(count, seed=SEED, **temperature, **condition)),
  ]
  if latents:
    programs += [
      Program('encode', found.encode, dict(x=x, seed=SEED, **condition)),
      Program('decode', found.decode, dict(latents, **condition)),
    ]
  return programs


def in_units(programs: list[Program], scaling: units.Units | None) -> list[Program]:
  """The programs as functions of a table in its own units; of None, as they are.

  Examples are float64 then, and densities and losses are those of such examples.
  """
  if scaling is None:
    return programs
  return [_in_units(program, scaling) for program in programs]


def _in_units(program, scaling):
  inputs = dict(program.inputs)
  # `decode` returns an `x`, and takes none.
  spec = inputs.get('x')
  if spec is not None:
    inputs['x'] = tf.TensorSpec(spec.shape, tf.float64, 'x')

  def fn(**tensors):
    if spec is not None:
      tensors['x'] = scaling.to_model(tensors['x'], spec.dtype)
    found = program.fn(**tensors)
    for name in {'x', 'samples'} & set(found):
      found[name] = scaling.from_model(found[name])
    for name, sign in (('log_prob', -1.0), ('loss', 1.0)):
      if name in found:
        found[name] += tf.cast(sign * scaling.log_det, found[name].dtype)
    return found

  return Program(program.name, fn, inputs)


def data_spec(model: flow_model.FlowModel, batch_size: int | None) -> tf.TensorSpec:
  """Of a batch of examples: integers if the model dequantizes."""
  dequantization = model.dequantization
  dtype = dequantization.dtype if dequantization else model.distribution.dtype
  return tf.TensorSpec([batch_size, *model.distribution.event_shape], dtype, 'x')


def condition_spec(
  model: flow_model.FlowModel, batch_size: int | None, size: int | None = None
) -> dict[str, tf.TensorSpec]:
  """Of the condition of a batch; empty if the model takes none.

  Raises:
    ValueError: if there is a condition whose size is unknown.
  """
  if not model.likelihood.takes_condition:
    return {}
  size = size or keras_parameters.condition_size(model.distribution)
  if size is None:
    raise ValueError(
      f'Expected condition_size=K, the size of the condition [..., K] of '
      f'{model.distribution.name!r}, which its networks do not say; received none.'
    )
  dtype = model.distribution.dtype
  return dict(condition=tf.TensorSpec([batch_size, size], dtype, 'condition'))


class _Inference:
  """The functions of `inference`."""

  def __init__(self, model, batch_size):
    self._model, self._batch_size = model, batch_size
    self._likelihood = model.likelihood
    # XLA leaves out assertions, and other runtimes do not know them.
    self._is_checked = batch_size is None

  @property
  def has_temperature(self):
    return self._likelihood.has_temperature

  def latent_specs(self):
    base = self._likelihood.density.base
    if base is None:
      return {}
    shape, dtypes = tf.nest.flatten(base.event_shape), tf.nest.flatten(base.dtype)
    names = ['latents']
    if tf.nest.is_nested(base.event_shape):
      names = [f'latents_{i}' for i in range(len(shape))]
    return {
      name: tf.TensorSpec([self._batch_size, *s], dtype, name)
      for name, s, dtype in zip(names, shape, dtypes, strict=True)
    }

  def log_prob(self, x, seed, condition=None):
    x = self._in_range(x)
    return dict(log_prob=self._likelihood.log_prob(x, condition, seed))

  def sample(self, seed, n=None, temperature=1.0, condition=None):
    if n is None:
      shape = [] if condition is not None else [self._batch_size]
    else:
      shape = tf.reshape(n, [1])
    x = self._likelihood.sample(condition, seed, shape, temperature)
    is_both = n is not None and condition is not None
    lead = [None] * (1 + is_both) if self._is_checked else [self._batch_size]
    return dict(samples=self._quantized(x, lead))

  def encode(self, x, seed, condition=None):
    latents = self._likelihood.encode(self._in_range(x), condition, seed)
    return dict(zip(self.latent_specs(), tf.nest.flatten(latents), strict=True))

  def decode(self, condition=None, **latents):
    base = self._likelihood.density.base
    structure = tf.nest.map_structure(lambda _: 0, base.event_shape)
    latents = tf.nest.pack_sequence_as(structure, list(latents.values()))
    x = self._likelihood.decode(latents, condition)
    return dict(x=self._quantized(x, [self._batch_size]))

  def _in_range(self, x):
    bins = self._likelihood.num_bins
    if not self._is_checked or bins is None or 0 == x.dtype.min < x.dtype.max < bins:
      return x
    is_pixel = (x >= 0) & (tf.cast(x, tf.int32) < bins)
    check = tf.debugging.Assert(
      tf.reduce_all(is_pixel), [f'Expected pixel values in [0, {bins - 1}].']
    )
    with tf.control_dependencies([check]):
      return tf.identity(x)

  def _quantized(self, x, batch_shape):
    x = tf.ensure_shape(x, [*batch_shape, *self._model.distribution.event_shape])
    if self._is_checked:
      x = tf.debugging.check_numerics(
        x,
        'Expected finite samples. The model has diverged, or an inverse did not '
        'converge.',
      )
    dequantization = self._model.dequantization
    return x if dequantization is None else dequantization.quantize(x)


def optimizer_variables(model: flow_model.FlowModel) -> list[tf.Variable]:
  """The state of the optimizer, and the factor of its learning rate if there is one."""
  if not model.compiled or model.optimizer is None:
    return []
  found = [v.value for v in model.optimizer.variables]
  rate = keras_private.learning_rate(model.optimizer)
  return [*found, rate.factor] if isinstance(rate, schedules.ScaledSchedule) else found


def check_known(
  model: flow_model.FlowModel, variables: Sequence[tf.Variable], name: str
) -> None:
  """Raises `ValueError` unless all variables that a program reads are weights."""
  known = [*(v.value for v in model.variables), *optimizer_variables(model)]
  unseen = [v.name for v in variables if not any(v is k for k in known)]
  if unseen:
    raise ValueError(
      f'Expected every variable that `{name}` reads to be a weight of the model; '
      f'{unseen} are not. A network inside a function is invisible to TensorFlow: '
      f'pass it as the conditioner itself.'
    )


def check_folder(path: Any, overwrite: bool, known: Sequence[str]) -> None:
  """Raises `ValueError` unless an export may be written to the folder `path`.

  Args:
    path: new, empty, or with `overwrite` an earlier export.
    overwrite: whether that may be replaced.
    known: what an export consists of.
  """
  if not os.path.exists(path):
    return
  if not os.path.isdir(path):
    raise ValueError(f'Expected a folder; {path} is a file. Pass another path.')
  found = set(os.listdir(path)) - {_UNFINISHED}
  if not found:
    return
  if strange := found - set(known):
    raise ValueError(
      f'Expected a new or empty folder; {path} holds other things, as '
      f'{min(strange)!r}. Pass another path.'
    )
  if not overwrite:
    raise ValueError(
      f'Expected a new or empty folder; {path} holds an export. Pass another path, '
      f'or overwrite=True to replace it.'
    )


@contextlib.contextmanager
def replacing(path: Any, known: Sequence[str]) -> Iterator[str]:
  """Gives a folder to write, whose files then take the place of an earlier export.

  Until all is written that stays as it is.
  """
  folder = os.path.join(path, _UNFINISHED)
  os.makedirs(path, exist_ok=True)
  try:
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    yield folder
    for name in known:
      old = os.path.join(path, name)
      if os.path.isdir(old):
        shutil.rmtree(old)
      elif os.path.exists(old):
        os.remove(old)
    for name in os.listdir(folder):
      os.replace(os.path.join(folder, name), os.path.join(path, name))
  finally:
    shutil.rmtree(folder, ignore_errors=True)
