"""What the commands do, for programs: `runs.train(runs.Options(workdir=...))`.

Functions are imported when they are first used, so that options can be checked before
TensorFlow is loaded.
"""

import importlib
from typing import Any

from tfp_flows.runs.options import Options
from tfp_flows.runs.options import UsageError

_HOME = {
  'Diverged': 'training',
  'evaluate': 'evaluation',
  'export': 'exporting',
  'import_arrays': 'importing',
  'interpolate': 'interpolation',
  'sample': 'sampling',
  'train': 'training',
}

__all__ = ['Options', 'UsageError', *_HOME]


def __getattr__(name: str) -> Any:
  if name not in _HOME:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(f'{__name__}.{_HOME[name]}'), name)
