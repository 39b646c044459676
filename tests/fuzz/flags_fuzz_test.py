"""A few of the cases of `flags_fuzz`, and that it can tell."""

import collections

import pytest

from tests.fuzz import flags_fuzz
from tests.fuzz import running


def test_random_flags_run_or_fail_in_one_line(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  found = flags_fuzz.fuzz(10, 0, tmp_path, absurd=False, verbose=False)
  kinds = collections.Counter(outcome.kind for _, outcome in found)
  assert not kinds[running.UNCLASSIFIED], found
  assert kinds[running.OK] >= 2
  assert kinds[running.ERROR] >= 3


@pytest.mark.parametrize(
  ('code', 'err', 'kind'),
  [
    (0, '', running.OK),
    (1, 'error: Expected 1; received 2.\n', running.ERROR),
    (1, 'warning: so so\nerror: Expected 1; received 2.\n', running.ERROR),
    (1, '', running.UNCLASSIFIED),
    (1, 'error: a long first\nand a second line\n', running.UNCLASSIFIED),
    (1, 'error: a long one\nerror: and another\n', running.UNCLASSIFIED),
    (0, 'error: a long one\n', running.UNCLASSIFIED),
    (2, 'error: a long one\n', running.UNCLASSIFIED),
    (1, 'error: \n', running.UNCLASSIFIED),
  ],
)
def test_classes(code, err, kind):
  assert running._classified(code, err).kind == kind


def test_exceptions_and_hangs_are_unclassified(monkeypatch):
  from tfp_flows.runs import training

  def fail(*_):
    raise KeyError('x')

  monkeypatch.setattr(training, 'train', fail)
  assert 'KeyError' in running.run('train', ['--workdir=x']).text

  def hang(*_):
    while True:
      pass

  monkeypatch.setattr(training, 'train', hang)
  found = running.run('train', ['--workdir=x'], seconds=1)
  assert found.kind == running.UNCLASSIFIED
  assert 'more than 1 s' in found.text
