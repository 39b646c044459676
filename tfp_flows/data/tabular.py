"""Tables of numbers: CSV and NPY files."""

import gzip
import os
import zlib

import numpy as np

__all__ = ['moments', 'read_table']


def read_table(path: str) -> np.ndarray:
  """Reads a table `[N, D]` of numbers.

  Args:
    path: `.npy`; or `.csv`, `.csv.gz` with commas, with or without one line of
      column names.

  Returns:
    float64 array.

  Raises:
    ValueError: if the file is missing, no table, empty, or has entries that are
      missing, infinite or no numbers.
  """
  if not os.path.exists(path):
    raise ValueError(f'Expected a CSV or NPY file; there is none at {path}.')
  table = _read_npy(path) if path.endswith('.npy') else _read_csv(path)
  if table.ndim != 2 or not table.size:
    raise ValueError(
      f'Expected a table of rows and columns in {path}; received an array of '
      f'shape {list(table.shape)}.'
    )
  if not np.isfinite(table).all():
    row, column = np.argwhere(~np.isfinite(table))[0]
    raise ValueError(
      f'Expected finite numbers in {path}; received {table[row, column]} in row '
      f'{row}, column {column}. Remove or impute such rows.'
    )
  return table.astype(np.float64)


def _read_npy(path):
  try:
    table = np.load(path, allow_pickle=False)
  except Exception as error:  # The header of a damaged file may raise anything.
    raise ValueError(
      f'Expected a NumPy array file at {path}; it cannot be read: {_reason(error)}'
    ) from error
  if not isinstance(table, np.ndarray):
    raise ValueError(
      f'Expected one NumPy array in {path}; received an archive of several. Save the '
      f'one that is meant with `np.save`.'
    )
  is_real = np.issubdtype(table.dtype, np.floating) or np.issubdtype(
    table.dtype, np.integer
  )
  if not is_real:
    raise ValueError(f'Expected real numbers in {path}; received {table.dtype}.')
  return table


def _read_csv(path):
  try:
    # Spreadsheets begin files with a byte order mark; names may be in any encoding.
    with (gzip.open if path.endswith('.gz') else open)(
      path, 'rt', encoding='utf-8-sig', errors='replace'
    ) as file:
      lines = [line for line in file if line.strip()]
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(
      f'Expected a CSV file at {path}; it cannot be read: {_reason(error)}'
    ) from error
  header = int(bool(lines) and not any(map(_is_number, lines[0].split(','))))
  if len(lines) == header:
    raise ValueError(f'Expected rows of numbers in {path}; it is empty.')
  try:
    return np.loadtxt(lines[header:], delimiter=',', ndmin=2, comments=None)
  except ValueError as error:
    raise ValueError(
      f'Expected numbers separated by commas in {path}; {_reason(error)}'
    ) from error


def _reason(error):
  """One line that does not quote a whole file."""
  text = ' '.join(str(error).split()) or type(error).__name__
  return text if len(text) <= 200 else f'{text[:200]}...'


def _is_number(text):
  try:
    float(text)
  except ValueError:
    return False
  return True


def moments(train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation of every column.

  Raises:
    ValueError: if a column is constant: its density would be infinite; or if it has
      numbers whose squares are too large for float64.
  """
  with np.errstate(over='ignore', invalid='ignore'):
    mean, deviation = train.mean(0), train.std(0)
  huge = np.flatnonzero(~np.isfinite(deviation))
  if huge.size:
    raise ValueError(
      f'Expected columns of finite variance; those of columns {huge.tolist()} are '
      f'not, with numbers up to {np.abs(train[:, huge]).max():.3g}. Scale them.'
    )
  constant = np.flatnonzero(deviation <= 1e-14 * np.abs(mean))
  if constant.size:
    raise ValueError(
      f'Expected columns that vary; columns {constant.tolist()} are constant. '
      f'Drop them: a density on them is infinite.'
    )
  return mean, deviation
