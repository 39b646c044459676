"""How a command starts and how it fails."""

import contextlib
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from collections.abc import Sequence
from typing import NoReturn

from absl import app
from absl import flags
from absl import logging

from tfp_flows.bin import flags as flags_lib
from tfp_flows.bin import naming
from tfp_flows.runs.options import UsageError
from tfp_flows.runs.options import config_path
from tfp_flows.runs.options import configs
from tfp_flows.runs.options import folder_of
from tfp_flows.runs.options import recorded_lines

__all__ = ['expand_config', 'fail', 'run', 'stop_now']

_LIST = flags.DEFINE_bool('list_configs', False, 'List the named configurations.')


# Where TensorFlow says an operation failed, around what it says of the failure.
_TRACE = re.compile(
  r'^Graph execution error:\s*(Detected at node .*\n|<stack.*\n|  File .*\n|\s*\n)*'
)
_NODE = re.compile(
  r'Error in user-defined function passed to .*? with iterator: \S+: |'
  r'\{\{.*?\}\} ?|\s*\[\[.*|\s*\[Op:.*',
  re.S,
)


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
    expanded.append(f'--flagfile={config_path(name)}')
  return expanded


def expand_workdir(argv: Sequence[str]) -> list[str]:
  """Puts the `flags.txt` of `--workdir=DIR` first, if no flagfile is given."""
  if any(word.lstrip('-').startswith('flagfile') for word in argv):
    return list(argv)
  for i, word in enumerate(argv):
    key, has_value, value = word.lstrip('-').partition('=')
    if not has_value:
      value = ''.join(argv[i + 1 : i + 2])
    path = os.path.join(os.path.expanduser(value), 'flags.txt')
    if word.startswith('-') and key == 'workdir' and os.path.exists(path):
      return [argv[0], f'--flagfile={path}', *argv[1:]]
  return list(argv)


def has_only(argv: Sequence[str], names: Sequence[str]) -> bool:
  """Whether the command line has no flags but those."""
  found = {w.lstrip('-').partition('=')[0] for w in argv[1:] if w.startswith('-')}
  known = {*names, *(f'no{name}' for name in names), 'verbosity', 'v'}
  return found <= known


def run(
  main: Callable[[], None],
  reads_run: bool | Sequence[str] = False,
  shown: Sequence[str] = flags_lib.SHARED,
) -> None:
  """Parses the flags and calls `main`; errors of users become one line.

  The exit code is 1 then, and 0 otherwise. `--verbosity=1` shows the traceback.

  Args:
    main: what the command does.
    reads_run: whether it reads a run of tfp-flows-train: `--workdir=DIR` then
      stands for `--flagfile=DIR/flags.txt`, too. Or the names of the flags beside
      which it does, and without others has to.
    shown: flags that `--help` shows beside those that only this command has; the
      others are in `--helpfull`.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

  def parse(argv):
    if any(word.lstrip('-') in ('help', 'helpshort', 'h') for word in argv[1:]):
      _help(main, shown)
    words = words_of(argv)
    _check_workdir(reads_run is True)
    return words

  def words_of(argv):
    if isinstance(reads_run, bool):
      return _parse(expand_workdir(argv) if reads_run else argv)
    if not has_only(argv, reads_run):
      return _parse(argv)
    expanded = expand_workdir(argv)
    words = _parse(expanded)
    if expanded == argv and flags.FLAGS.workdir:
      fail(
        f'Expected a run to go on with in {flags.FLAGS.workdir}; there is none. Pass '
        f'--config, --dataset or --model for a new one.'
      )
    return words

  app.run(lambda _: _guarded(main), flags_parser=parse)


def _check_workdir(has_run):
  """What can be said of the workdir before TensorFlow is loaded, which takes long."""
  try:
    folder = folder_of(flags_lib.options())
    if has_run:
      recorded_lines(folder)
  except UsageError as error:
    fail(error)


def _help(main, shown):
  # Whoever pages the help may stop before its end.
  signal.signal(signal.SIGPIPE, signal.SIG_DFL)
  module = sys.modules[main.__module__]
  own = argv0 if (argv0 := sys.argv[0]) in _modules() else main.__module__
  print((module.__doc__ or '').strip())
  own_names = [flag.name for flag in _modules().get(own, [])]
  chosen = flags.FlagValues()
  for name in [*own_names, *shown, 'verbosity']:
    chosen[name] = flags.FLAGS[name]
  print(f'\n{chosen.get_help()}')
  left = set(flags_lib.SHARED) - set(shown)
  more = 'The others of a run are those of its flags.txt. ' if left else ''
  print(f'{more}--helpfull lists all flags.')
  sys.exit(0)


def _modules():
  return flags.FLAGS.flags_by_module_dict()


def _parse(argv):
  try:
    expanded = expand_config(argv)
    words = _parsed(expanded)
    if flags.FLAGS.config is not None and len(expanded) == len(argv):
      raise UsageError(
        'Expected --config on the command line; received it in a flagfile. Put '
        '--flagfile with the path of the configuration there.'
      )
    if words[1:]:
      raise UsageError(f'Expected flags only, as --workdir=DIR; received {words[1:]}.')
  except (flags.Error, ValueError, OSError) as error:
    fail(error)
  if _LIST.value:
    print('\n'.join(configs()))
    sys.exit(0)
  return words


def _parsed(argv):
  with contextlib.redirect_stderr(io.StringIO()) as said:
    words = flags.FLAGS(argv)
  if 'circular' in said.getvalue():
    raise UsageError(
      f'Expected flagfiles that do not name themselves; received '
      f'{said.getvalue().split(":")[-1].strip()}, which does.'
    )
  for name in flags.FLAGS:
    values = flags.FLAGS[name].value
    for value in values if isinstance(values, list) else [values]:
      if isinstance(value, str) and value != ''.join(value.splitlines()):
        raise UsageError(
          f'Expected --{name} on one line, as a flagfile has it; received {value!r}.'
        )
  return words


def _guarded(main):
  if not flags.FLAGS['verbosity'].present:
    # Of TFDS come warnings about what an error then says in one line.
    logging.set_verbosity(logging.ERROR)
  with _silenced():
    import keras  # Slow: only once the flags are known to be good.
    import tensorflow as tf

  # Keras would bury the message of an error under the arguments of its layers.
  keras.config.disable_traceback_filtering()
  tf.get_logger().setLevel('ERROR')
  try:
    with _plain_warnings():
      main()
  except KeyboardInterrupt:
    fail('interrupted')
  except (ValueError, OSError, MemoryError, tf.errors.OpError) as error:
    if logging.get_verbosity() > logging.INFO:
      raise
    fail(_explained(error) if isinstance(error, tf.errors.OpError) else error)


@contextlib.contextmanager
def _plain_warnings():
  """Shows a warning as one line, and not with the line of code that gave it."""

  def show(message, *_, **__):
    print(f'warning: {naming.as_flags(_line(message))}', file=sys.stderr)

  with warnings.catch_warnings():
    warnings.showwarning = show
    yield


def _explained(error):
  """What TensorFlow says of an operation that failed, in one line."""
  text = _TRACE.sub('', str(error.message)).strip()
  line = _line(_NODE.sub('', text) or type(error).__name__)
  if 'IteratorGetNext' in str(error.message):
    return (
      f'Expected examples that can be read from --dataset={flags.FLAGS.dataset}; '
      f'received {line.rstrip(".")}. Restore the files of the data set.'
    )
  if 'OOM' in line or 'memory' in line:
    return f'{line}. Lower --batch_size or the sizes of the model.'
  return line


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


def fail(error: Exception | str, code: int = 1) -> NoReturn:
  """Prints the one line of an error and exits with `code`."""
  _print(error)
  sys.exit(code)


def stop_now(error: Exception, code: int) -> NoReturn:
  """The same, without waiting for any thread."""
  _print(error)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def _print(error):
  if isinstance(error, MemoryError):
    error = (
      f'Expected enough memory; {_line(error)}. Lower the size of the model, of the '
      f'data or of batch_size=N.'
    )
  print(f'error: {naming.as_flags(_line(error))}', file=sys.stderr)


def _line(error):
  lines = str(error).strip().splitlines() or [type(error).__name__]
  # Inside a traced function TensorFlow puts the trace before the message.
  return lines[-1].strip() if lines[0] == 'in user code:' else lines[0]
