"""The import arrows, read from the code and from BUILD."""

import ast
import io
import pathlib
import re
import tokenize

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / 'tfp_flows'

# A package may import from itself and from these.
ALLOWED = {
  'internal': set(),
  'math': {'internal'},
  'bijectors': {'internal', 'math'},
  'networks': {'bijectors', 'internal', 'math'},
  'flows': {'bijectors', 'internal', 'math', 'networks'},
  'model': {'bijectors', 'flows', 'internal', 'math'},
  'export': {'internal', 'model'},
  'data': set(),
  'configs': set(),
}
ALLOWED['runs'] = set(ALLOWED)
ALLOWED['bin'] = {'model', 'runs'}


def modules(path):
  """Names of all modules that a file imports, in full."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield node.module
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def packages(path):
  """The sub-packages of ours that a file imports."""
  found = (m.split('.') for m in modules(path) if m.startswith('tfp_flows.'))
  return {parts[1] for parts in found if parts[1] in ALLOWED}


def files(folder):
  return sorted(folder.rglob('*.py'))


def test_every_package_has_its_arrows():
  folders = {p.name for p in PACKAGE.iterdir() if (p / '__init__.py').exists()}
  assert folders == set(ALLOWED)


@pytest.mark.parametrize('package', ALLOWED)
def test_imports_follow_the_arrows(package):
  for path in files(PACKAGE / package):
    assert packages(path) - {package} <= ALLOWED[package], path


def test_library_reads_no_flags():
  for path in files(PACKAGE):
    if path.parent.name != 'bin':
      assert not any(m.startswith('absl') for m in modules(path)), path


def test_one_context_surrounds_calls():
  """The other is that of `serialization`, which no call sees."""
  known = {PACKAGE / 'internal' / f for f in ('call.py', 'serialization.py')}
  for path in files(PACKAGE):
    text = path.read_text()
    assert 'threading.local' not in text, path
    assert 'ContextVar(' not in text or path in known, path


def code_lines(text):
  """The number of lines that are neither blank, nor a comment, nor of a docstring."""
  no_code = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)
  lines = set()
  for token in tokenize.generate_tokens(io.StringIO(text).readline):
    if token.type not in (*no_code, tokenize.INDENT, tokenize.DEDENT):
      lines |= set(range(token.start[0], token.end[0] + 1))
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
      if ast.get_docstring(node) is not None:
        lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
  return len(lines)


def test_files_are_small():
  sizes = {path: code_lines(path.read_text()) for path in files(PACKAGE)}
  assert not {path: size for path, size in sizes.items() if size > 300}


def test_lines_of_code_are_counted():
  text = """'Docstring.'

# Comment.
x = [  # Comment.
  1,

]
def function():
  '''Docstring
  of two lines.'''
  return '''a
b'''
"""
  assert code_lines(text) == 6


def build_targets():
  """name -> (sources, deps) of every library in BUILD."""
  targets = {}
  text = (ROOT / 'BUILD').read_text()
  for body in re.findall(r'py_library\((.*?)\n\)', text, re.S):
    fields = {
      k: ast.literal_eval(v.strip())
      for k, v in re.findall(r'(\w+) = (".*?"|\[.*?\]),\n', f'{body}\n', re.S)
    }
    targets[fields['name']] = (fields.get('srcs'), set(fields.get('deps', [])))
  return targets


@pytest.mark.parametrize('package', ALLOWED)
def test_build_lists_sources_and_deps(package):
  sources, deps = build_targets()[package]
  real = [str(p.relative_to(ROOT)) for p in files(PACKAGE / package)]
  assert sorted(sources) == real
  imported = set().union(*(packages(ROOT / p) for p in real)) - {package}
  assert {d[1:] for d in deps if d.startswith(':')} - {'version'} == imported
  outside = set()
  for path in real:
    outside |= {m.split('.')[0] for m in modules(ROOT / path)}
  pips = {
    'absl': 'absl-py',
    'keras': 'keras',
    'matplotlib': 'matplotlib',
    'numpy': 'numpy',
    'sklearn': 'scikit-learn',
    'tensorflow': 'tensorflow',
    'tensorflow_datasets': 'tensorflow-datasets',
    'tensorflow_probability': 'tensorflow-probability',
  }
  expected = {f'@pip//{pips[m].replace("-", "_")}' for m in outside if m in pips}
  assert {d for d in deps if d.startswith('@pip')} == expected


def test_build_has_every_command_example_and_test():
  text = (ROOT / 'BUILD').read_text()
  for command in ('train', 'evaluate', 'sample', 'interpolate', 'export'):
    assert f'"tfp_flows/bin/{command}.py"' in text
  for path in files(ROOT / 'examples'):
    assert f'"{path.relative_to(ROOT)}"' in text, path
  assert 'glob(["tests/**/*_test.py"])' in text


def test_setup_requires_what_build_requires():
  required = set().union(*(build_targets()[p][1] for p in ALLOWED))
  required = {d.removeprefix('@pip//') for d in required if d.startswith('@pip//')}
  setup = (ROOT / 'setup.cfg').read_text()
  block = setup.split('install_requires =')[1].split('[options.extras')[0]
  declared = {
    re.split(r'[ \[>]', line.strip())[0].replace('-', '_')
    for line in block.splitlines()
    if line.strip() and not line.strip().startswith('#')
  }
  # Two are needed by other libraries: Keras's TensorBoard callback and TFDS.
  assert declared - {'tensorboard', 'importlib_resources'} == required
