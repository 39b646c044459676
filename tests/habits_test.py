"""What CONTRIBUTING, CHANGELOG and CITATION say of the code."""

import ast
import importlib
import pathlib
import re
import subprocess
import sys

import tensorflow as tf

import tfp_flows as tff
from tests import layering_test
from tests import seconds
from tests.conformance import checks
from tests.conformance.specs import Spec

ROOT = pathlib.Path(__file__).parent.parent
CONTRIBUTING = (ROOT / 'CONTRIBUTING.md').read_text()
CHANGELOG = (ROOT / 'CHANGELOG.md').read_text()


def rows(text, header):
  """The cells of the table below a header."""
  lines = text.split(header)[1].splitlines()[2:]
  found = []
  for line in lines:
    if not line.startswith('|'):
      return found
    found.append([cell.strip() for cell in line.strip('|').split('|')])
  return found


def test_every_package_has_the_line_of_its_docstring():
  listed = dict(rows(CONTRIBUTING, '| Package | What is in it |'))
  for package in layering_test.ALLOWED:
    path = ROOT / 'tfp_flows' / package / '__init__.py'
    line = ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]
    assert listed.pop(f'`tfp_flows/{package}`') == line
  assert not listed


def test_the_arrows_are_those_of_the_test():
  listed = rows(CONTRIBUTING, '| Package | Imports |')
  arrows = {}
  for package, imports in listed:
    named = set(re.findall(r'`(\w+)`', imports))
    arrows[package.strip('`')] = set(arrows) if imports.startswith('all but') else named
  assert arrows == layering_test.ALLOWED


def test_the_layer_is_whole():
  (block,) = re.findall(r'```python\n(.*?)```', CONTRIBUTING, re.S)
  names = {'__name__': 'contributing'}
  exec(block, names)
  spec = Spec('scale', lambda dtype: names['Scale'](4, dtype=dtype), (4,))
  for dtype, atol in (('float64', 1e-9), ('float32', 1e-5)):
    checks.check_round_trip(spec, spec.make(dtype), dtype, atol)
  checks.check_log_det(spec, spec.make())
  repeated = tff.Repeated([spec.make() for _ in range(3)])
  x = spec.data()
  y, log_det = repeated.forward_and_log_det(x)
  tf.debugging.assert_near(repeated.inverse(tf.identity(y)), x)
  assert log_det.shape == (3,)
  assert spec.make().copy().parameters['size'] == 4


def test_every_path_exists():
  links = re.findall(r'\]\(((?!http)[^)]+)\)', CONTRIBUTING)
  paths = re.findall(r'`((?:tests|tfp_flows|examples)/[\w./]+)`', CONTRIBUTING)
  assert links and paths
  for path in [*links, *paths]:
    assert (ROOT / path).exists(), path


def test_modules_are_where_the_changelog_says():
  for _, module in rows(CHANGELOG, '| 0.1.0 | Now |'):
    importlib.import_module(module.strip('`'))


def test_new_names_are_public():
  for name in re.findall(r'`tff\.(\w+)`', CHANGELOG):
    assert name in tff.__all__


def test_the_citation_has_a_version_of_the_changelog():
  citation = (ROOT / 'CITATION.cff').read_text()
  version = re.search(r'^version: (.*)$', citation, re.M)[1]
  date = re.search(r'^date-released: (.*)$', citation, re.M)[1]
  assert f'## [{version}] - {date}' in CHANGELOG


def test_seconds_of_packages(tmp_path):
  path = tmp_path / 'junit.xml'
  cases = [
    ('tests.math.ode_test', 'test_a[tfp.1]', 1.25),
    ('tests.math.random_test', 'test_b', 2.25),
    ('tests.layering_test', 'test_c', 0.5),
  ]
  lines = [f'<testcase classname="{c}" name="{n}" time="{t}"/>' for c, n, t in cases]
  path.write_text(f'<testsuites><testsuite>{"".join(lines)}</testsuite></testsuites>')
  found = seconds.by_package(seconds.read(path))
  assert found == {'tests/math': (2, 3.5), 'tests': (1, 0.5)}
  run = [sys.executable, '-m', 'tests.seconds', str(path), '--slowest=1']
  printed = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
  lines = printed.stdout.splitlines()
  assert lines[0] == '| Tests | Number | Seconds |'
  assert lines[2:5] == [
    '| `tests/math` | 2 | 4 |',
    '| `tests` | 1 | 0 |',
    '| `all` | 3 | 4 |',
  ]
  assert lines[-1].endswith('tests.math.random_test.test_b')
