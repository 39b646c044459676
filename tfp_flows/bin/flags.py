"""The flags that all commands share, so that `flags.txt` suits each of them."""

import dataclasses
from typing import Any

from absl import flags

from tfp_flows.runs import options as options_lib

__all__ = ['OF_RUNS', 'SHARED', 'options']


def _define(field):
  name, default, meta = field.name, field.default, field.metadata
  kind, text = options_lib.type_of(field), meta['help']
  if kind is tuple:
    flags.DEFINE_multi_string(name, list(default), text)
  elif kind is bool:
    flags.DEFINE_bool(name, default, text)
  elif meta['choices']:
    flags.DEFINE_enum(name, default, list(meta['choices']), text)
  elif kind is str:
    flags.DEFINE_string(name, default, text)
  else:
    define: Any = {int: flags.DEFINE_integer, float: flags.DEFINE_float}[kind]
    define(name, default, text, meta['low'], meta['high'])
    _check_number(name)


def _check_number(name):
  flags.register_validator(
    name,
    lambda value: value is None or abs(value) <= options_lib.LARGEST,  # NaN is not.
    message=f'Expected a finite number, at most {options_lib.LARGEST} in size.',
  )


for _field in dataclasses.fields(options_lib.Options):
  _define(_field)

SHARED = tuple(field.name for field in dataclasses.fields(options_lib.Options))

# Those that may be others than those of a run when a command reads it.
OF_RUNS = ('workdir', 'dataset', 'data_dir', 'download', 'seed', 'jit', 'precision')

# Of some commands, and of no run.
flags.DEFINE_string(
  'output',
  None,
  'Path without ending of the .png and the .npy, or the folder of an export; in the '
  'workdir.',
)
flags.DEFINE_bool(
  'overwrite',
  False,
  'Replace the run that --workdir holds, the export in --output, or, where a training '
  'comes back, steps that were made since.',
)


def options() -> options_lib.Options:
  """What the shared flags are set to.

  Raises:
    UsageError: for a combination that no run can have.
  """
  values: dict[str, Any] = {name: flags.FLAGS[name].value for name in SHARED}
  return options_lib.Options(**values)
