"""Tables of numbers: CSV and NPY files."""

import gzip
import os
import zlib
from collections.abc import Iterable
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ['Table', 'named', 'read_table', 'repeating', 'scale']

# The smallest step of float32 at a number, per standard deviation of its column, with
# which the column is still continuous.
_FINEST = 1e-4


class Table(NamedTuple):
  """Numbers in columns.

  Attributes:
    values: float64 `[N, D]`.
    names: of the columns, or None.
  """

  values: np.ndarray
  names: tuple[str, ...] | None = None


def read_table(path: str) -> Table:
  """Reads a table of numbers.

  Args:
    path: `.npy`; or `.csv`, `.csv.gz` with commas, with or without one line of
      column names.

  Raises:
    ValueError: if the file is missing, no table, empty, or has entries that are
      missing, infinite or no numbers.
  """
  if not os.path.exists(path):
    raise ValueError(f'Expected a CSV or NPY file; there is none at {path}.')
  return from_array(read_npy(path), path) if path.endswith('.npy') else _read_csv(path)


def from_array(
  values: np.ndarray, path: str, names: Sequence[str] | None = None
) -> Table:
  """The table of an array.

  Raises:
    ValueError: if it is none, or has numbers that are not finite.
  """
  is_real = np.issubdtype(values.dtype, np.floating) or np.issubdtype(
    values.dtype, np.integer
  )
  if not is_real:
    raise ValueError(f'Expected real numbers in {path}; received {values.dtype}.')
  if values.ndim != 2 or not values.size:
    raise ValueError(
      f'Expected a table of rows and columns in {path}, or images of uint8 [N, H, W] '
      f'or [N, H, W, C]; received {values.dtype} of shape {list(values.shape)}.'
    )
  if not np.isfinite(values).all():
    row, column = np.argwhere(~np.isfinite(values))[0]
    raise ValueError(
      f'Expected finite numbers in {path}; received {values[row, column]} in row '
      f'{row + 1}, column {named([column], names)}. Remove or impute such rows.'
    )
  return Table(values.astype(np.float64), None if names is None else tuple(names))


def named(columns: Iterable[int], names: Sequence[str] | None = None) -> str:
  """Columns as a reader counts them, from 1, with their names."""
  found = list(columns)
  texts = [f'{i + 1}' + (f' ({names[i][:40]})' if names else '') for i in found[:10]]
  more = [f'{len(found) - 10} more'] if len(found) > 10 else []
  return ', '.join(texts + more)


def read_npy(path: str) -> np.ndarray:
  """Reads the array of a `.npy` file.

  Raises:
    ValueError: if it holds none.
  """
  try:
    values = np.load(path, allow_pickle=False)
  except Exception as error:  # The header of a damaged file may raise anything.
    raise ValueError(
      f'Expected a NumPy array file at {path}; it cannot be read: {reason(error)}'
    ) from error
  if not isinstance(values, np.ndarray):
    raise ValueError(
      f'Expected one NumPy array in {path}; received an archive of several. Save the '
      f'one that is meant with `np.save`, or rename the file to .npz if it has images.'
    )
  return values


def _read_csv(path):
  try:
    # Spreadsheets begin files with a byte order mark; names may be in any encoding.
    with (gzip.open if path.endswith('.gz') else open)(
      path, 'rt', encoding='utf-8-sig', errors='replace'
    ) as file:
      lines = [line for line in file if line.strip()]
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(
      f'Expected a CSV file at {path}; it cannot be read: {reason(error)}'
    ) from error
  header = int(bool(lines) and not any(map(_is_number, lines[0].split(','))))
  if len(lines) == header:
    raise ValueError(f'Expected rows of numbers in {path}; it is empty.')
  names = [name.strip().strip('"') for name in lines[0].split(',')] if header else None
  try:
    values = np.loadtxt(lines[header:], delimiter=',', ndmin=2, comments=None)
  except ValueError as error:
    found = _first_fault(lines[header:], names) or reason(error)
    raise ValueError(
      f'Expected numbers separated by commas in {path}; {found}'
    ) from error
  if names and len(names) != values.shape[1]:
    raise ValueError(
      f'Expected as many names as columns in {path}; received {len(names)} names and '
      f'{values.shape[1]} columns. Mend the first line.'
    )
  return from_array(values, path, names)


def _first_fault(lines, names):
  """What the first cell or line is that is no number or has not as many columns."""
  count = len(lines[0].split(','))
  for row, line in enumerate(lines, 1):
    cells = line.strip().split(',')
    if len(cells) != count:
      return (
        f'received {len(cells)} in row {row} and {count} in the rows before. Complete '
        f'or remove such rows.'
      )
    for column, cell in enumerate(cells):
      if not _is_number(cell):
        text = cell if len(cell) <= 40 else f'{cell[:40]}...'
        known = names if names and len(names) == count else None
        return (
          f'received {text!r} in row {row}, column {named([column], known)}. Remove or '
          f'impute such rows.'
        )
  return None


def reason(error: Exception) -> str:
  """One line that does not quote a whole file."""
  text = ' '.join(str(error).split()) or type(error).__name__
  return text if len(text) <= 200 else f'{text[:200]}...'


def _is_number(text):
  try:
    float(text)
  except ValueError:
    return False
  return True


def scale(
  train: np.ndarray, names: Sequence[str] | None = None, standardize: bool = True
) -> tuple[np.ndarray, np.ndarray]:
  """What is subtracted from every column, and what it is divided by then.

  Args:
    train: the rows `[N, D]` that say it.
    names: of the columns.
    standardize: whether columns get mean 0 and variance 1. If not, those that lie so
      far from zero that float32 does not have their digits get mean 0 all the same.

  Raises:
    ValueError: if a column is constant: its density would be infinite; or if it has
      numbers whose squares are too large for float64 or, to be left as they are, for
      float32.
  """
  mean, deviation = _moments(train, names)
  if standardize:
    return mean, deviation
  largest = np.abs(train).max(axis=0)
  huge = np.flatnonzero(largest > 1e18)
  if huge.size:
    raise ValueError(
      f'Expected numbers up to 1e18 with standardize=False; received '
      f'{largest.max():.3g} in column {named(huge, names)}. Scale them, or pass '
      f'standardize=True.'
    )
  is_coarse = np.spacing(largest.astype(np.float32)) > _FINEST * deviation
  return np.where(is_coarse, mean, 0.0), np.ones_like(mean)


def _moments(train, names):
  with np.errstate(over='ignore', invalid='ignore'):
    mean, deviation = train.mean(0), train.std(0)
  huge = np.flatnonzero(~np.isfinite(deviation))
  if huge.size:
    raise ValueError(
      f'Expected columns of finite variance; that of column {named(huge, names)} is '
      f'not, with numbers up to {np.abs(train[:, huge]).max():.3g}. Scale them.'
    )
  constant = np.flatnonzero(deviation <= 1e-14 * np.abs(mean))
  if constant.size:
    raise ValueError(
      f'Expected columns that vary; constant among the rows for training is column '
      f'{named(constant, names)}. Drop such columns: a density on them is infinite.'
    )
  return mean, deviation


def repeating(train: np.ndarray) -> list[int]:
  """The columns whose numbers come again and again, as integers and rounded ones do.

  They have no density: one that is fitted to them grows without bound. A column counts
  if at most half of its numbers differ, or one of them fills a tenth of the rows.

  Args:
    train: rows `[N, D]`.
  """
  counts = [np.unique(column, return_counts=True)[1] for column in train.T]
  often = max(5, len(train) // 10)
  return [i for i, c in enumerate(counts) if 2 * len(c) <= c.sum() or c.max() >= often]
