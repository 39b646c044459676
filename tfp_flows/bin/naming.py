"""Options in messages as the command line has them."""

import re

from absl import flags

__all__ = ['as_flags']


def as_flags(text: str) -> str:
  """A message of the library, `Pass epochs=3.`, with flags: `Pass --epochs=3.`.

  True and False become `--overwrite` and `--nojit`. What is quoted, in brackets of a
  call, or a part of a path or of another value stays as it is.
  """
  module_of = flags.FLAGS.find_module_defining_flag
  names = [n for n in flags.FLAGS if not str(module_of(n)).startswith('absl.')]
  known = '|'.join(map(re.escape, names))
  pattern = rf'(?<![^\s(])(?<!\w\()({known})=(True\b|False\b|tf\.)?'
  return re.sub(pattern, _as_flag, text)


def _as_flag(match):
  name, value = match.groups()
  if value == 'True':
    return f'--{name}'
  return f'--no{name}' if value == 'False' else f'--{name}='
