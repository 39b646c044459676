"""Runs commands as their entry points do, and says how that ended."""

import contextlib
import io
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from collections.abc import Sequence
from typing import NamedTuple
from unittest import mock

import tensorflow_datasets as tfds
from absl.testing import flagsaver

from tfp_flows.bin import cli
from tfp_flows.bin import evaluate
from tfp_flows.bin import interpolate
from tfp_flows.bin import sample
from tfp_flows.bin import train

COMMANDS = dict(train=train, evaluate=evaluate, sample=sample, interpolate=interpolate)

OK, ERROR, UNCLASSIFIED = 'ok', 'one-line error', 'UNCLASSIFIED'


class Outcome(NamedTuple):
  """How a command ended.

  Attributes:
    kind: `OK`: it returned. `ERROR`: it exited with 1 and one line on stderr,
      'error: ...', beside lines 'warning: ...'. `UNCLASSIFIED`: anything else.
    text: the error line, or what was unexpected.
  """

  kind: str
  text: str


class _HangError(BaseException):
  pass


def run(name: str, words: Sequence[str], seconds: int = 120) -> Outcome:
  """Calls a command in this process, without a network."""
  try:
    with _captured() as err, _offline(), _limited(seconds):
      code = _call(COMMANDS[name], name != 'train', words)
  except _HangError:
    return Outcome(UNCLASSIFIED, f'took more than {seconds} s')
  except BaseException:
    return Outcome(UNCLASSIFIED, traceback.format_exc())
  return _classified(code, err.getvalue())


def run_process(name: str, words: Sequence[str], memory: int) -> Outcome:
  """Calls a command in a process that can have so many bytes."""
  done = subprocess.run(
    [sys.executable, '-m', f'tfp_flows.bin.{name}', *words],
    capture_output=True,
    text=True,
    errors='backslashreplace',
    check=False,
    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory)),
  )
  return _classified(done.returncode, done.stderr)


def _call(command, reads_run, words):
  """The exit code."""
  with flagsaver.flagsaver(), warnings.catch_warnings():
    # As outside of a test suite.
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ResourceWarning):
      warnings.simplefilter('ignore', category)
    argv = ['command', *words]
    try:
      cli._parse(cli.expand_workdir(argv) if reads_run else argv)
      cli._guarded(command.main)
    except SystemExit as stop:
      return stop.code
  return 0


def _classified(code, err):
  lines = err.splitlines()
  errors = [line for line in lines if line.startswith('error: ')]
  others = [li for li in lines if not re.match(r'(error|warning): ', li)]
  if code == 0 and not errors:
    return Outcome(OK, err)
  if code == 1 and len(errors) == 1 and not others and len(errors[0]) > 12:
    return Outcome(ERROR, errors[0])
  return Outcome(UNCLASSIFIED, f'exit code {code} with stderr:\n{err}')


@contextlib.contextmanager
def _captured() -> Iterator[io.StringIO]:
  """What is written to stderr, also by C++; stdout is dropped."""
  found = io.StringIO()
  sys.stdout.flush()
  sys.stderr.flush()
  kept = os.dup(1), os.dup(2)
  with tempfile.TemporaryFile() as file, open(os.devnull, 'w') as nowhere:
    os.dup2(nowhere.fileno(), 1)
    os.dup2(file.fileno(), 2)
    with open(os.dup(file.fileno()), 'w', errors='backslashreplace') as text:
      try:
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(text):
          yield found
      finally:
        text.flush()
        for fd, original in zip((1, 2), kept):
          os.dup2(original, fd)
          os.close(original)
        file.seek(0)
        found.write(file.read().decode(errors='backslashreplace'))


def _offline():
  def refuse(*_, **__):
    raise ConnectionError('there is no network here')

  patches = contextlib.ExitStack()
  patches.enter_context(
    mock.patch.object(tfds.core.DatasetBuilder, 'download_and_prepare', refuse)
  )
  patches.enter_context(mock.patch.object(socket.socket, 'connect', refuse))
  patches.enter_context(mock.patch.object(socket, 'getaddrinfo', refuse))
  return patches


@contextlib.contextmanager
def _limited(seconds):
  def stop(*_):
    raise _HangError

  old = signal.signal(signal.SIGALRM, stop)
  signal.alarm(seconds)
  try:
    yield
  finally:
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)
