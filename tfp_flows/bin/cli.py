"""How a command starts and how it fails."""

import contextlib
import importlib.resources
import os
import sys
from collections.abc import Callable
from collections.abc import Sequence

from absl import app
from absl import flags
from absl import logging

__all__ = ['UsageError', 'configs', 'expand_config', 'run', 'stop_now']

_LIST = flags.DEFINE_bool('list_configs', False, 'List the named configurations.')


class UsageError(ValueError):
  """Something that the user can mend."""


def configs() -> dict[str, str]:
  """The named configurations: name to path of the flagfile."""
  folder = importlib.resources.files('tfp_flows') / 'configs'
  return {
    entry.name.removesuffix('.flags'): str(entry)
    for entry in sorted(folder.iterdir(), key=lambda e: e.name)
    if entry.name.endswith('.flags')
  }


def expand_config(argv: Sequence[str]) -> list[str]:
  """Puts the flagfile of `--config` where it stands: later flags override it.

  Raises:
    UsageError: if there is no configuration of that name.
  """
  expanded, rest = [], list(argv)
  while rest:
    word = rest.pop(0)
    expanded.append(word)
    key, has_value, name = word.lstrip('-').partition('=')
    if not word.startswith('-') or key != 'config':
      continue
    if not has_value and rest:
      name = rest.pop(0)
      expanded.append(name)
    if name not in configs():
      raise UsageError(
        f'Expected --config to be one of {", ".join(configs())}; received {name!r}.'
      )
    expanded.append(f'--flagfile={configs()[name]}')
  return expanded


def expand_workdir(argv: Sequence[str]) -> list[str]:
  """Puts the `flags.txt` of `--workdir=DIR` first, if no flagfile is given."""
  if any(word.lstrip('-').startswith('flagfile') for word in argv):
    return list(argv)
  for word in argv:
    key, _, value = word.lstrip('-').partition('=')
    path = os.path.join(os.path.expanduser(value), 'flags.txt')
    if word.startswith('-') and key == 'workdir' and os.path.exists(path):
      return [argv[0], f'--flagfile={path}', *argv[1:]]
  return list(argv)


def run(main: Callable[[], None], reads_run: bool = False) -> None:
  """Parses the flags and calls `main`; errors of users become one line.

  The exit code is 1 then, and 0 otherwise. `--verbosity=1` shows the traceback.

  Args:
    main: what the command does.
    reads_run: whether it reads a run of tfp-flows-train: `--workdir=DIR` then
      stands for `--flagfile=DIR/flags.txt`, too.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

  def parse(argv):
    if any(word.lstrip('-') in ('help', 'helpshort', 'h') for word in argv[1:]):
      _help(main)
    return _parse(expand_workdir(argv) if reads_run else argv)

  app.run(lambda _: _guarded(main), flags_parser=parse)


def _help(main):
  module = sys.modules[main.__module__]
  own = argv0 if (argv0 := sys.argv[0]) in _modules() else main.__module__
  print(module.__doc__.strip())
  for name in (own, 'tfp_flows.bin.flags'):
    if name in _modules():
      print(flags.FLAGS.module_help(name))
  sys.exit(0)


def _modules():
  return flags.FLAGS.flags_by_module_dict()


def _parse(argv):
  try:
    expanded = expand_config(argv)
    words = flags.FLAGS(expanded)
    if flags.FLAGS.config is not None and len(expanded) == len(argv):
      raise UsageError(
        'Expected --config on the command line; received it in a flagfile. Put '
        '--flagfile with the path of the configuration there.'
      )
    if words[1:]:
      raise UsageError(f'Expected flags only, as --workdir=DIR; received {words[1:]}.')
  except (flags.Error, UsageError, OSError) as error:
    _exit(error)
  if _LIST.value:
    print('\n'.join(configs()))
    sys.exit(0)
  return words


def _guarded(main):
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)
  with _silenced():
    import keras  # Slow: only once the flags are known to be good.
    import tensorflow as tf

  keras.utils.set_random_seed(flags.FLAGS.seed)
  # Keras would bury the message of an error under the arguments of its layers.
  keras.config.disable_traceback_filtering()
  tf.get_logger().setLevel('ERROR')
  try:
    main()
  except KeyboardInterrupt:
    _exit('interrupted')
  except (ValueError, OSError, tf.errors.OpError) as error:
    if logging.get_verbosity() > logging.INFO:
      raise
    _exit(error)


@contextlib.contextmanager
def _silenced():
  """Drops what TensorFlow writes to the terminal while it loads.

  It does so from C++, whatever `TF_CPP_MIN_LOG_LEVEL` says.
  """
  sys.stderr.flush()
  terminal = os.dup(2)
  with open(os.devnull, 'w') as nowhere:
    os.dup2(nowhere.fileno(), 2)
  try:
    yield
  finally:
    os.dup2(terminal, 2)
    os.close(terminal)


def stop_now(error: Exception, code: int) -> None:
  """Prints the one line of `error` and ends the process, waiting for no thread."""
  _print(error)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def _exit(error):
  _print(error)
  sys.exit(1)


def _print(error):
  lines = str(error).strip().splitlines() or [type(error).__name__]
  # Inside a traced function TensorFlow puts the trace before the message.
  line = lines[-1].strip() if lines[0] == 'in user code:' else lines[0]
  print(f'error: {line}', file=sys.stderr)
