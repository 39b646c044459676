"""Private names: those of other libraries have one gate each, ours stay at home."""

import ast
import functools
import importlib
import inspect
import re
import textwrap

from tests import layering_test

ROOT, PACKAGE = layering_test.ROOT, layering_test.PACKAGE
GATES = {'tfp_private.py', 'tf_private.py', 'keras_private.py'}
FOREIGN = ('keras', 'tensorflow', 'tensorflow_probability')

# Of named tuples and of `os`, where they are documented.
DOCUMENTED = {'_asdict', '_exit', '_fields', '_make', '_replace'}

# Private attributes of ours that are read on other objects than `self`. Each is of an
# object whose class is in the same file, or is the base class of that object.
OWN_READS = {
  'bijectors/calls.py': {'bijector._min_event_ndims'},
  'bijectors/flow_bijector.py': {'bijector._salt', 'part._set_trainable'},
  'bijectors/repeated.py': {'repeated._salt'},
  'bijectors/reversible.py': {'bijector._pull_back'},
  'bijectors/sequential.py': {'other._condition_scaling'},
  'internal/configurable.py': {'type(self)._is_recorded'},
  'internal/renaming.py': {'named._renamed'},
  'math/ode_solvers.py': {'other._given_first_step_size'},
  'model/guard.py': {'guard._keep', 'guard._step'},
}

# Hooks of Keras without a public name that a class of ours implements.
OVERRIDDEN = {
  'model/callbacks.py': {'_finalize_ema_values'},
  'model/steps.py': {
    '_get_metrics_result_or_logs',
    '_make_function',
    '_maybe_symbolic_build',
  },
}


def is_private(name):
  return name.startswith('_') and not name.startswith('__') and name not in DOCUMENTED


def trees():
  """Path in the package -> tree of each file but the gates."""
  return {
    str(path.relative_to(PACKAGE)): ast.parse(path.read_text())
    for path in layering_test.files(PACKAGE)
    if path.name not in GATES
  }


def accesses(tree):
  """Object and attribute of each access, also by `getattr` and the like."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute):
      yield ast.unparse(node.value), node.attr
    elif isinstance(node, ast.Call) and len(node.args) > 1:
      if ast.unparse(node.func) in ('getattr', 'hasattr', 'setattr'):
        name = node.args[1]
        if isinstance(name, ast.JoinedStr):  # f'_{name}'
          name = name.values[0]
        if isinstance(name, ast.Constant):
          yield ast.unparse(node.args[0]), name.value


def quoted_names(tree):
  """Strings that look like private names, but for parts of formatted ones."""
  formatted = {
    id(part)
    for node in ast.walk(tree)
    if isinstance(node, ast.JoinedStr)
    for part in node.values
  }
  for node in ast.walk(tree):
    if isinstance(node, ast.Constant) and id(node) not in formatted:
      if isinstance(node.value, str) and re.fullmatch(r'_[a-z]\w*', node.value):
        yield node.value


def classes(tree):
  return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def selves(cls):
  """What stands for the object, or its class, in the methods of `cls`."""
  return {'self', 'cls', 'type(self)', cls.name}


def methods(cls):
  return {node.name for node in cls.body if isinstance(node, ast.FunctionDef)}


def defined_names(cls):
  """Names that a class gives to its methods and its attributes."""
  found = methods(cls)
  for node in cls.body:
    targets = [node.target] if isinstance(node, ast.AnnAssign) else []
    targets += node.targets if isinstance(node, ast.Assign) else []
    names = (n for target in targets for n in ast.walk(target))
    found |= {n.id for n in names if isinstance(n, ast.Name)}
  for node in ast.walk(cls):
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
      if ast.unparse(node.value) in selves(cls):
        found.add(node.attr)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == 'object.__setattr__':
      if isinstance(node.args[1], ast.Constant):
        found.add(node.args[1].value)
  return found


def families(nodes):
  """Name of each class -> names that it, its relatives or their bases define.

  Relatives are those that inherit from it: it may be a part of one of them.
  """
  bases, own = {}, {}
  for cls in nodes:
    names = {ast.unparse(base).split('.')[-1] for base in cls.bases}
    bases.setdefault(cls.name, set()).update(names - {cls.name})
    own.setdefault(cls.name, set()).update(defined_names(cls))

  def above(name):
    found = {name}
    for base in bases.get(name, ()):
      found |= above(base)
    return found

  return {
    name: set().union(
      *(own.get(m, set()) for d in bases if name in above(d) for m in above(d))
    )
    for name in bases
  }


def foreign_reads(tree, known):
  """Private attributes of objects of `tree` itself that none of its classes defines."""
  for cls in classes(tree):
    for of, name in accesses(cls):
      if of in selves(cls) and is_private(name) and name not in known[cls.name]:
        yield f'{of}.{name}'


def reads_of_others(tree):
  """Private attributes of objects that are not the one whose method reads them."""
  at_home = {
    (of, name)
    for cls in classes(tree)
    for of, name in accesses(cls)
    if of in selves(cls)
  }
  for of, name in set(accesses(tree)) - at_home:
    if is_private(name) and of != 'super()':
      yield f'{of}.{name}'


def test_private_names_in_strings_are_ours():
  found = trees()
  ours = {n for tree in found.values() for c in classes(tree) for n in defined_names(c)}
  ours |= DOCUMENTED
  assert not nonempty({p: set(quoted_names(t)) - ours for p, t in found.items()})


def nonempty(found):
  return {path: names for path, names in found.items() if names}


def test_private_modules_have_one_gate():
  gates = {PACKAGE / 'internal' / 'tfp_private.py'}
  for path in layering_test.files(PACKAGE) + layering_test.files(ROOT / 'examples'):
    modules = list(layering_test.modules(path))
    private = [m for m in modules if m.startswith('tensorflow_probability.')]
    assert not private or path in gates, (path, private)
    private = [m for m in modules if m.startswith('tensorflow.python')]
    assert not private or path == PACKAGE / 'internal' / 'tf_private.py', path
    private = [m for m in modules if m.startswith('keras.src')]
    assert not private or path == PACKAGE / 'internal' / 'keras_private.py', path
    assert not any(m.split('.')[0] == 'tf_keras' for m in modules), path


def test_objects_have_no_private_attributes_that_we_do_not_define():
  found = trees()
  known = families([cls for tree in found.values() for cls in classes(tree)])
  assert not nonempty({p: set(foreign_reads(t, known)) for p, t in found.items()})


def test_private_attributes_of_others_are_ours_and_listed():
  assert nonempty({p: set(reads_of_others(t)) for p, t in trees().items()}) == OWN_READS


SOURCE = """
class Base(foreign.Base):
  _default = None
  def __init__(self):
    self._own = 1
  def _hook(self):
    self._of_part + self._inherited + type(self)._default + super()._hook
class Whole(Base, Part): pass
class Part:
  def __init__(self):
    self._of_part = self._own + getattr(self, '_named', None)
    object.__setattr__(self, '_set', 1)
    self._set
def function(other):
  other._own + other._replace() + other.__dict__
  getattr(other.part, f'_{name}') + getattr(other, name)
"""


def test_private_attributes_are_found():
  tree = ast.parse(SOURCE)
  known = families(classes(tree))
  assert set(foreign_reads(tree, known)) == {'self._inherited', 'self._named'}
  assert set(reads_of_others(tree)) == {'other._own', 'other.part._'}
  assert set(quoted_names(tree)) == {'_named', '_set'}


@functools.cache
def names_of_base(base):
  """What a class of another library defines, by its source."""
  (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
  return defined_names(tree), methods(tree)


def bases_of(path, name):
  """The classes of other libraries that a class of ours is made of."""
  module = '.'.join(('tfp_flows', *path.removesuffix('.py').split('/')))
  cls = getattr(importlib.import_module(module), name)
  return [c for c in cls.__mro__ if c.__module__.split('.')[0] in FOREIGN]


def collisions(path, tree):
  """Attributes of ours that have the name of a private one of a base.

  Hooks, which a class of ours implements, are none.
  """
  for cls in tree.body:
    if isinstance(cls, ast.ClassDef) and cls.bases:
      taken = set().union(*(names_of_base(b)[0] for b in bases_of(path, cls.name)))
      assigned = {n.attr for n in ast.walk(cls) if is_store(n, cls)}
      yield from {f'{cls.name}.{n}' for n in assigned & taken if is_private(n)}


def is_store(node, cls):
  is_attribute = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
  return is_attribute and ast.unparse(node.value) in selves(cls)


def test_our_attributes_have_no_name_of_a_base():
  found = {p: t for p, t in trees().items() if not p.startswith(('bin/', 'data/'))}
  assert not nonempty({p: set(collisions(p, t)) for p, t in found.items()})


def test_overridden_hooks_of_keras_are_listed():
  ours = ('model/flow_model.py', 'FlowModel'), ('model/callbacks.py', 'SwapAverages')
  bases = [base for path, name in ours for base in bases_of(path, name)]
  private = {n for base in bases for n in names_of_base(base)[1] if is_private(n)}
  found = {
    path: {name for cls in classes(tree) for name in methods(cls)} & private
    for path, tree in trees().items()
    if path.startswith(('model/', 'networks/'))
  }
  assert nonempty(found) == OVERRIDDEN
