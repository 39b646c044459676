"""Weights files of Keras, whole and checked."""

import hashlib

import h5py
import keras

from tfp_flows.training import files

__all__ = ['DamagedWeights', 'check_weights', 'load_weights', 'save_weights']

_DIGEST, _RUN = 'sha256 of the datasets', 'run'


class DamagedWeights(ValueError):
  """A weights file that is not as it was written, or that is of another run."""


def save_weights(model: keras.Model, path: str, run: str = '') -> None:
  """Saves weights as `model.save_weights` does, or leaves what was there.

  Args:
    model: whose weights.
    path: ends in `.weights.h5`.
    run: what tells the run from others, as its options.
  """
  with files.replacing(path) as temporary:
    model.save_weights(temporary)
    with h5py.File(temporary, 'r+') as file:
      file.attrs[_DIGEST], file.attrs[_RUN] = _digest(file), run


def load_weights(model: keras.Model, path: str, run: str = '') -> None:
  """Loads weights, of `save_weights` or of Keras itself, which have no digest.

  Raises:
    DamagedWeights: if the numbers are not those that were written, or `run` differs.
    OSError, KeyError, ValueError: of Keras, if the file cannot be read.
  """
  check_weights(path, run)
  model.load_weights(path)


def check_weights(path: str, run: str = '') -> None:
  """Raises `DamagedWeights` if the file cannot be read, or as `load_weights` does."""
  try:
    with h5py.File(path, 'r') as file:
      found, digest = dict(file.attrs), _digest(file)
  except (OSError, KeyError, RuntimeError) as error:
    # The library of HDF5 has errors of several kinds for a file that is not whole.
    raise DamagedWeights(str(error).splitlines()[0]) from error
  if found.get(_DIGEST, digest) != digest:
    raise DamagedWeights('its checksum is another')
  if found.get(_RUN, run) != run:
    raise DamagedWeights('it is of another run')


def _digest(file):
  digest = hashlib.sha256()

  def add(name, item):
    if isinstance(item, h5py.Dataset):
      digest.update(name.encode())
      digest.update(item[()].tobytes())

  file.visititems(add)
  return digest.hexdigest()
