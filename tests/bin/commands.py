"""Commands in the process of a test."""

import re

import pytest
from absl.testing import flagsaver

from tfp_flows.bin import cli


def call(command, *words):
  """Runs a command in this process, as its entry point would."""
  with flagsaver.flagsaver():
    cli._parse(['command', *words])
    cli._guarded(command.main)


def fails(capsys, command, *words, code=1):
  """The one line that a failing command prints."""
  capsys.readouterr()
  with pytest.raises(SystemExit) as stop:
    call(command, *words)
  assert stop.value.code == code
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1, lines
  assert re.match(r'error: (Expected|.* expects) .*received|error: Expected', lines[0])
  return lines[0]
