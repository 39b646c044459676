"""Errors about classes that a file names and nobody has registered."""

import re

__all__ = ['REGISTER', 'not_registered', 'shortened']

REGISTER = 'Decorate it with `@keras.saving.register_keras_serializable()`'


def not_registered(kind: str, name: str, module: str | None = None) -> ValueError:
  """The error where a file names what is not registered with Keras.

  Args:
    kind: what it is, as 'class'.
    name: under which it was registered when the file was written.
    module: in which it was then, if that is known.
  """
  # Keras writes functions of any module as if they were built in.
  of = f'module {module!r}' if module not in (None, 'None', 'builtins') else 'module'
  return ValueError(
    f'Expected the {kind} {name!r} of the file to be registered with Keras; it is not. '
    f'{REGISTER} and import its {of} before the file is loaded.'
  )


def shortened(error: TypeError) -> ValueError:
  """An error of Keras without the configurations that it repeats in its messages.

  Args:
    error: of `keras.saving.deserialize_keras_object` or `load_model`.
  """
  text = str(error)
  lost = _LOST.search(text)
  if lost:
    kind, name, module, rest = lost.groups()
    registered = re.findall("'registered_name': '([^']+)'", rest)
    is_class = kind == 'class' and registered
    return not_registered(kind, registered[-1] if is_class else name, module)
  # Each level of objects wraps the error of the one inside of it.
  of = _MADE.findall(text)
  cause = text.rpartition('Exception encountered: ')[2]
  return ValueError(
    f'Expected objects of the file that their classes can be made of; received for '
    f'{of[-1] if of else "one"} what fails with: {cause.splitlines()[0][:300]} Does '
    f'`from_config` of the class take what its `get_config` returned?'
  )


_LOST = re.compile(
  r"Could not locate (\w+) '(.*?)'\. "
  r".*?Full object config: {'module': '?([\w.]+)'?(.*)",
  re.S,
)
_MADE = re.compile(r"<class '([\w.<>]+)'> could not be deserialized properly")
