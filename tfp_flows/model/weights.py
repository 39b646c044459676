"""Weights files of Keras, whole and checked."""

import errno
import hashlib
import os

import h5py
import keras

from tfp_flows.internal import files

__all__ = ['DamagedWeights', 'check_weights', 'load_weights', 'save_weights']

# Stands behind the HDF5 file, where its readers do not look, and before two digests.
_MARK = b'tfp_flows sha256 '


class DamagedWeights(ValueError):
  """A weights file that is not as it was written, or that is of another run."""


def save_weights(model: keras.Model, path: str, run: str = '') -> None:
  """Saves weights as `model.save_weights` does, or leaves what was there.

  Args:
    model: whose weights.
    path: ends in `.weights.h5`.
    run: what tells the run from others, as its options.

  Raises:
    OSError: if it cannot be written.
  """
  with files.replacing(path) as temporary:
    _save(model, temporary)
    with open(temporary, 'ab+') as file:
      file.seek(0)
      content = file.read()
      file.write(_MARK + _digest(content) + _digest(run.encode()))


def _save(model, path):
  try:
    model.save_weights(path)
  except RuntimeError as error:
    # Of HDF5, where the disk becomes full while it closes a file.
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
  except OSError as error:
    raise OSError(error.errno or errno.ENOSPC, files.first_line(error)) from error


def load_weights(model: keras.Model, path: str, run: str = '') -> None:
  """Loads weights, of `save_weights` or of Keras itself, which have no digest.

  Raises:
    DamagedWeights: if the numbers are not those that were written, or `run` differs.
    OSError, KeyError, ValueError: of Keras, if the file cannot be read.
  """
  check_weights(path, run)
  model.load_weights(path)


def check_weights(path: str, run: str = '') -> None:
  """Raises `DamagedWeights` as `load_weights` does, before HDF5 reads the file.

  Which may take a flipped bit for the address of an endless list.
  """
  with open(path, 'rb') as file:
    content, mark, digests = file.read().rpartition(_MARK)
  if not mark:
    return _check_length(path)
  if digests[:64] != _digest(content):
    raise DamagedWeights('its checksum is another')
  if digests[64:] != _digest(run.encode()):
    raise DamagedWeights('it is of another run')


def _check_length(path):
  try:
    h5py.File(path, 'r').close()
  except OSError as error:
    raise DamagedWeights(files.first_line(error)) from error


def _digest(content):
  return hashlib.sha256(content).hexdigest().encode()
