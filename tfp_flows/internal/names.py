"""What stands in files by its name, wherever it is defined."""

import importlib
from typing import Any

import keras

__all__ = ['named', 'private', 'public', 'register_all', 'register_ours']

_PACKAGE = 'tfp_flows'
# Whose import registers all classes of this package that stand in configurations.
_PACKAGES = ('math', 'bijectors', 'networks', 'flows', 'model')

_private_names: dict[str, Any] = {}


def named(value: Any) -> Any:
  """Lets a private function or class stand in configurations; a decorator."""
  _private_names[value.__name__] = value
  return value


def private(name: str) -> Any:
  """The function or class that is `named`, or None."""
  if name not in _private_names:
    register_all()
  return _private_names.get(name)


def public(name: str) -> Any:
  """The public object of that name in this package, or None."""
  package = importlib.import_module(_PACKAGE)
  return getattr(package, name) if name in package.__all__ else None


def register_ours(name: str | None) -> None:
  """Imports what registers a name of this package with Keras, unless it is."""
  is_ours = (name or '').startswith(f'{_PACKAGE}>')
  if is_ours and keras.saving.get_registered_object(name) is None:
    register_all()


def register_all() -> None:
  """Imports what registers the names of this package with Keras."""
  for package in _PACKAGES:
    importlib.import_module(f'{_PACKAGE}.{package}')
