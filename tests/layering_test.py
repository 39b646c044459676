"""The import arrows, read from the code and from BUILD."""

import ast
import pathlib
import re

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


def test_private_names_have_one_gate():
  gates = {PACKAGE / 'internal' / 'tfp_private.py'}
  for path in files(PACKAGE) + files(ROOT / 'examples'):
    private = [m for m in modules(path) if m.startswith('tensorflow_probability.')]
    assert not private or path in gates, (path, private)
    private = [m for m in modules(path) if m.startswith('tensorflow.python')]
    assert not private or path == PACKAGE / 'internal' / 'tf_private.py', path
    assert not any(m.split('.')[0] == 'tf_keras' for m in modules(path)), path


# Private attributes of Keras, TensorFlow and TensorFlow Probability that are read
# outside of the gates. The list may only become shorter.
PRIVATE_ATTRIBUTES = {
  'internal/keras_parameters.py': {
    'layer._flatten_layers',
    'self._no_dependency',
    'self._value',
  },
  'math/ode_solvers.py': {
    'other._first_step_size',
    'self._atol',
    'self._rtol',
    'self._validate_args',
  },
  'model/flow_model.py': {'self._distribute_strategy'},
  'model/replicas.py': {
    'distributed._cardinality',
    'optimizer._all_reduce_sum_gradients',
    'optimizer._distribution_strategy',
  },
  'model/saving.py': {'self._non_trainable_variables', 'self._trainable_variables'},
  'model/steps.py': {'self._distribute_strategy'},
  'networks/network.py': {
    'self._non_trainable_variables',
    'self._trainable_variables',
  },
  'runs/optimizers.py': {'optimizer._model_variables_moving_average'},
}

GATES = {'tfp_private.py', 'tf_private.py', 'keras_private.py'}

# Of named tuples and of `os`, where they are documented.
DOCUMENTED = {'_asdict', '_exit', '_fields', '_make', '_replace'}


def is_private(name):
  return name.startswith('_') and not name.startswith('__') and name not in DOCUMENTED


def defined_names(tree):
  """Names that a file gives to functions, classes, variables and its own attributes."""
  for node in ast.walk(tree):
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
      yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
      yield node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
      if isinstance(node.value, ast.Name) and node.value.id in ('self', 'cls'):
        yield node.attr


def private_attributes(tree, own):
  """Those that `tree` reads, also by `getattr`, and that are none of the `own`."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute):
      of, name = ast.unparse(node.value), node.attr
    elif isinstance(node, ast.Call) and len(node.args) > 1:
      is_access = ast.unparse(node.func) in ('getattr', 'hasattr', 'setattr')
      if not is_access or not isinstance(node.args[1], ast.Constant):
        continue
      of, name = ast.unparse(node.args[0]), node.args[1].value
    else:
      continue
    if is_private(name) and name not in own and of != 'super()':
      yield f'{of}.{name}'


def test_private_attributes_become_fewer():
  trees = {path: ast.parse(path.read_text()) for path in files(PACKAGE)}
  own = {name for tree in trees.values() for name in defined_names(tree)}
  found = {}
  for path, tree in trees.items():
    names = set(private_attributes(tree, own))
    if names and path.name not in GATES:
      found[str(path.relative_to(PACKAGE))] = names
  assert found == PRIVATE_ATTRIBUTES


def test_private_attributes_are_found():
  source = """
self._own = x._foreign + x._own + self._inherited + super()._hook + x._replace()
y = getattr(layer.part, '_named', None), getattr(layer, name), x.__dict__
"""
  tree = ast.parse(source)
  assert set(private_attributes(tree, set(defined_names(tree)))) == {
    'x._foreign',
    'self._inherited',
    'layer.part._named',
  }


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
