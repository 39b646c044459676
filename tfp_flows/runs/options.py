"""The options of a run: what the flags of the commands set."""

import dataclasses
import functools
import importlib.resources
import math
import numbers
import os
import types
import typing
from typing import Any

import numpy as np

__all__ = [
  'FIXED',
  'FREE',
  'LARGEST',
  'Options',
  'UsageError',
  'config_path',
  'configs',
  'folder_of',
  'recorded_lines',
  'type_of',
]

LARGEST = 2**31 - 1  # Of all numbers.


class UsageError(ValueError):
  """Something that whoever set the options can mend.

  Its message names options as Python does, `epochs=3`; the commands show them as flags.
  """


def _option(
  default: Any,
  help: str,  # noqa: A002
  low: float | None = None,
  high: float | None = None,
  choices: tuple[str, ...] | None = None,
  is_free: bool = False,
) -> Any:
  """A field of `Options`.

  Args:
    default: its value.
    help: what it is, of which `--help` tells.
    low: smallest number.
    high: largest number.
    choices: of a text.
    is_free: whether it may change when a run goes on: nothing that was computed
      depends on it.
  """
  metadata = dict(help=help, low=low, high=high, choices=choices, is_free=is_free)
  return dataclasses.field(default=default, metadata=metadata)


_free = functools.partial(_option, is_free=True)


@dataclasses.dataclass(frozen=True)
class Options:
  """All that a run depends on, and where it is written.

  The commands have a flag for each field; `Options.of_config` reads the file of a named
  configuration. Beside those that are `is_free`, options of a run stay as they are.

  Raises:
    UsageError: if a value is of another type, out of range, or none of its choices.
  """

  config: str | None = _free(
    None, 'A named configuration; as glow_digits; see --list_configs.'
  )
  workdir: str | None = _free(
    None, 'Where the run is written, or was, by tfp-flows-train.'
  )
  dataset: str = _option(
    'digits',
    "'digits', a 2-D toy, the path of a .csv or .npy table, of images of uint8 in a "
    '.npy or .npz, or of a folder of PNG, JPEG or BMP files (with a slash, as '
    './photos), or the name of an image set of TensorFlow Datasets.',
  )
  data_dir: str | None = _free(None, 'Folder of TensorFlow Datasets.')
  download: bool | None = _free(
    None, 'Download a data set that is not there; by default only without data_dir.'
  )
  image_size: int | None = _option(
    None, 'Scale the centre of each image to this side.', 1, 2**14
  )
  standardize: bool = _option(
    True,
    'Scale the columns of tables to mean 0 and variance 1. Without, columns that lie '
    'too far from 0 for float32 are centred.',
  )
  num_points: int = _option(20_000, 'Training points of a 2-D toy.', 10)
  conditional: bool = _option(False, 'Model the data given their labels.')
  model: str = _option(
    'glow',
    'The builder of the flow.',
    choices=(
      'ffjord',
      'glow',
      'iaf',
      'maf',
      'nice',
      'planar',
      'radial',
      'real_nvp',
      'residual_flow',
      'sylvester',
    ),
  )
  arg: tuple[str, ...] = _option(
    (), 'An argument of the model, as num_steps=8; may be repeated.'
  )
  dtype: str = _option(
    'float32', 'Of the flow and its weights.', choices=('float32', 'float64')
  )
  precision: str = _option(
    'float32',
    'mixed_bfloat16: networks compute in bfloat16, all else in dtype float32.',
    choices=('float32', 'mixed_bfloat16'),
  )
  jit: bool = _option(True, 'Compile with XLA.')
  strategy: str = _option(
    'none',
    'Share each batch among the GPUs of this machine (mirrored), or among processes, '
    'one for each entry of TF_CONFIG (multi_worker).',
    choices=('none', 'mirrored', 'multi_worker'),
  )
  seed: int = _option(0, 'Of the weights and all noise.', 0, 2**31 - 2)
  data_seed: int = _option(
    0, 'Of the split of digits, tables and image files, and of the toys.', 0
  )
  batch_size: int = _option(64, 'Examples per step.', 1)
  epochs: int = _free(
    100,
    'Passes over the training set; 0 prepares a run and keeps the untrained weights.',
    0,
  )
  optimizer: str = _option('adam', 'Its name.', choices=('adam', 'adamax', 'adamw'))
  learning_rate: float = _option(1e-3, 'After the warm-up.', 0.0)
  warmup_steps: int = _option(0, 'Steps of linear increase.', 0)
  schedule: str = _option(
    'cosine', 'Learning rate after warm-up.', choices=('cosine', 'constant')
  )
  weight_decay: float = _option(0.0, 'Decoupled; needs the optimizer adamw.', 0.0)
  clip_norm: float = _option(50.0, 'Largest gradient norm; 0 for none.', 0.0)
  ema: float = _option(
    0.0, 'Momentum of the weight average that is kept; 0 for none.', 0.0, 1.0
  )
  augment_shift: int = _option(0, 'Move training images by up to so many pixels.', 0)
  adapt_examples: int = _option(1024, 'Examples that set ActNorms.', 1)
  patience: int = _free(
    0, 'Stop after so many epochs without a better one; 0 for never.', 0
  )
  log_det: str | None = _free(
    None,
    'How the log-determinants of residual and continuous flows are found for the '
    'final likelihood; by default as the model evaluates. hutchinson: of continuous '
    'flows alone, exact: of both, the others: of residual flows.',
    choices=('exact', 'hutchinson', 'roulette', 'poisson', 'truncated'),
  )
  log_det_terms: int = _free(20, 'Terms of log_det, if it is a series.', 1)
  checkpoint_minutes: float = _free(
    1.0,
    'Minutes between checkpoints, from which a run that was stopped goes on; 0 for one '
    'after every step.',
    0.0,
  )
  on_nan: str = _free(
    'stop',
    'Where a loss or a gradient is NaN or infinite: stop with exit code 2, or go back '
    'to an earlier checkpoint and on with half the learning rate.',
    choices=('stop', 'rollback'),
  )
  picture_every: int = _free(10, 'Epochs between pictures; 0: at the end.', 0)
  num_samples: int = _free(
    64,
    'How many samples are drawn. A picture of images shows the first ones, others show '
    'as many samples as data.',
    1,
    10**7,
  )
  temperature: float = _free(1.0, 'Scales the latents of samples.', 0.0)

  def __post_init__(self):
    for field in dataclasses.fields(self):
      object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))

  @classmethod
  def of_config(cls, name: str, **values: Any) -> 'Options':
    """Those of a named configuration, but for `values`.

    Raises:
      UsageError: if there is no configuration of that name.
    """
    with open(config_path(name)) as file:
      found = _of_lines(file.read().splitlines())
    return cls(**dict(config=name) | found | values)

  @classmethod
  def of_run(cls, workdir: str | os.PathLike[str], **values: Any) -> 'Options':
    """Those of the run in `workdir`, of its `flags.txt`, but for `values`.

    Raises:
      UsageError: if there is no run.
    """
    folder = os.path.expanduser(os.fspath(workdir))
    found = _of_lines(recorded_lines(folder))
    return cls(**found | dict(workdir=folder) | values)

  def lines(self, name: str) -> list[str]:
    """The lines of a flagfile that set an option; none for None."""
    value = getattr(self, name)
    if value is None:
      return []
    if isinstance(value, bool):
      return [f'--{name}' if value else f'--no{name}']
    return [f'--{name}={v}' for v in (value if isinstance(value, tuple) else [value])]

  def identity(self) -> str:
    """What the numbers of a run depend on, as lines of a flagfile."""
    return '\n'.join(line for name in FIXED for line in self.lines(name))

  def as_flagfile(self) -> str:
    """All options as the text of a flagfile."""
    names = [field.name for field in dataclasses.fields(self) if field.name != 'config']
    # The configuration is spelt out below; its name is a note.
    header = [f'# --config={self.config}'] if self.config else []
    lines = [line for name in names for line in self.lines(name)]
    return '\n'.join([*header, *lines]) + '\n'

  def is_default(self, name: str) -> bool:
    """Whether an option is what it is by default."""
    return getattr(self, name) == getattr(Options, name)


_FIELDS = {field.name: field for field in dataclasses.fields(Options)}
FREE = tuple(name for name, field in _FIELDS.items() if field.metadata['is_free'])
FIXED = tuple(name for name in _FIELDS if name not in FREE)


def configs() -> dict[str, str]:
  """The named configurations: name to path of the flagfile."""
  folder = importlib.resources.files('tfp_flows') / 'configs'
  return {
    entry.name.removesuffix('.flags'): str(entry)
    for entry in sorted(folder.iterdir(), key=lambda e: e.name)
    if entry.name.endswith('.flags')
  }


def config_path(name: str) -> str:
  """The flagfile of a named configuration.

  Raises:
    UsageError: if there is no configuration of that name.
  """
  known = configs()
  if name not in known:
    raise UsageError(
      f'Expected config=NAME, one of {", ".join(known)}; received {name!r}.'
    )
  return known[name]


def folder_of(options: Options) -> str:
  """The folder of a run.

  Raises:
    UsageError: if there is none.
  """
  if not options.workdir:
    raise UsageError('Expected workdir=DIR, the folder of the run; received none.')
  return os.path.abspath(os.path.expanduser(options.workdir))


def recorded_lines(folder: str) -> list[str]:
  """The lines of the `flags.txt` of a run.

  Raises:
    UsageError: if there is none, or it is damaged.
  """
  path = os.path.join(folder, 'flags.txt')
  if not os.path.exists(path):
    raise UsageError(
      f'Expected a run of tfp-flows-train in {folder}; there is no flags.txt.'
    )
  try:
    with open(path) as file:
      return file.read().splitlines()
  except UnicodeDecodeError as error:
    raise UsageError(
      f'Expected the flags of a run in {path}; the file is damaged ({error}). '
      f'Restore it, or pass another workdir=DIR.'
    ) from error


def type_of(field: dataclasses.Field[typing.Any]) -> type[typing.Any]:
  """What the value of a field is, if it is not None."""
  kinds = typing.get_args(field.type) if _may_be_none(field) else (field.type,)
  (kind,) = (k for k in kinds if k is not types.NoneType)
  return typing.get_origin(kind) or kind


def _may_be_none(field):
  return types.NoneType in typing.get_args(field.type)


def _checked(field, value):
  """`value`, as the type of the field has it."""
  kind, meta = type_of(field), field.metadata
  if value is None and _may_be_none(field):
    return None
  value = _as_kind(value, kind)
  if type(value) is not kind:
    name = 'list of str' if kind is tuple else kind.__name__
    raise UsageError(f'Expected {field.name} of type {name}; received {value!r}.')
  for text in value if kind is tuple else [value]:
    is_text = isinstance(text, str)
    if (kind is tuple and not is_text) or (
      is_text and text != ''.join(text.splitlines())
    ):
      raise UsageError(
        f'Expected {field.name} as text on one line, as a flagfile has it; received '
        f'{text!r}.'
      )
  if meta['choices'] and value not in meta['choices']:
    raise UsageError(
      f'Expected {field.name} to be one of {", ".join(meta["choices"])}; received '
      f'{value!r}.'
    )
  if kind in (int, float):
    low = -LARGEST if meta['low'] is None else meta['low']
    high = LARGEST if meta['high'] is None else meta['high']
    if not (math.isfinite(value) and low <= value <= high):
      raise UsageError(f'Expected {field.name} in [{low}, {high}]; received {value!r}.')
  return value


def _as_kind(value, kind):
  """`value` as Python's own number, text or tuple, if it is one of others."""
  if kind is tuple and isinstance(value, (list, tuple)):
    return tuple(value)
  if kind is str and isinstance(value, os.PathLike):
    return os.fspath(value)
  if isinstance(value, (bool, np.bool_)):
    return bool(value)
  is_number = isinstance(value, numbers.Integral) or (
    kind is float and isinstance(value, numbers.Real)
  )
  if kind in (int, float) and is_number:
    try:
      return kind(value)
    except OverflowError:
      return float('inf')
  return value


def _of_lines(lines):
  """The options that the lines of a flagfile set."""
  found: dict[str, typing.Any] = {}
  for line in lines:
    if not line.startswith('--'):
      continue
    name, has_value, value = line.removeprefix('--').partition('=')
    if not has_value and name not in _FIELDS:
      name, value = name.removeprefix('no'), 'false'
    kind = type_of(_FIELDS[name])
    if kind is tuple:
      found[name] = (*found.get(name, ()), value)
    elif kind is bool:
      found[name] = value.lower() not in ('false', '0')
    else:
      found[name] = kind(value)
  return found
