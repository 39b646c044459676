"""Files that are whole or not there."""

import contextlib
import os
import re
from collections.abc import Iterator

__all__ = ['first_line', 'remove_unfinished', 'replacing']

_UNFINISHED = re.compile(r'\.\d+\..+')


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
  """Gives the path of a file to write, which then takes the place of `path`.

  Whoever reads `path` finds what was there before or all that was written, wherever the
  writer is killed, and what was there before if writing fails. The path that is given
  has the ending of `path`.
  """
  folder, name = os.path.split(path)
  temporary = os.path.join(folder, f'.{os.getpid()}.{name}')
  try:
    yield temporary
    _flush(temporary)
    os.replace(temporary, path)
    with contextlib.suppress(OSError):  # Not all file systems can.
      _flush(folder or '.')
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.remove(temporary)


def remove_unfinished(folder: str) -> None:
  """Removes what writers that were killed have left; nobody may be writing."""
  if os.path.isdir(folder):
    for name in filter(_UNFINISHED.fullmatch, os.listdir(folder)):
      os.remove(os.path.join(folder, name))


def first_line(error: Exception) -> str:
  """What an error says, or the name of its class."""
  return (str(error).splitlines() or [type(error).__name__])[0]


def _flush(path):
  """Brings a file, or the entries of a folder, to the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
