"""Every public function, method and constructor says its types: read from the code."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / 'tfp_flows'
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def is_public(name):
  return not name.startswith('_') or name in ('__init__', '__call__')


def public_functions(body, owner=''):
  """Name and node of what can be called from outside, with that of classes."""
  for node in body:
    if isinstance(node, FUNCTIONS) and is_public(node.name):
      yield f'{owner}{node.name}', node
    elif isinstance(node, ast.ClassDef) and is_public(node.name):
      yield from public_functions(node.body, f'{owner}{node.name}.')
    elif isinstance(node, ast.If):
      yield from public_functions([*node.body, *node.orelse], owner)


def lacking(name, node):
  """Names of the arguments without a type, and `return`."""
  arguments = node.args
  listed = [*arguments.posonlyargs, *arguments.args]
  decorators = {d.id for d in node.decorator_list if isinstance(d, ast.Name)}
  if '.' in name and 'staticmethod' not in decorators:
    listed = listed[1:]  # `self` or `cls`.
  others = [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
  every = [*listed, *arguments.kwonlyargs, *others]
  found = [a.arg for a in every if a.annotation is None]
  if node.returns is None and node.name != '__init__':
    found.append('return')
  return found


def untyped(source):
  functions = public_functions(ast.parse(source).body)
  found = {name: lacking(name, node) for name, node in functions}
  return {name: arguments for name, arguments in found.items() if arguments}


@pytest.mark.parametrize(
  'path', sorted(PACKAGE.rglob('*.py')), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_what_is_public_has_types(path):
  assert untyped(path.read_text()) == {}


SOURCE = """
def function(a, b: int, *args, c, d=1, **kwargs): pass
def typed(a: int, *args: int, b: int = 1, **kwargs: int) -> None: pass
def _private(a): pass
class Layer:
  def __init__(self, a): pass
  def __call__(self, x: int): pass
  def __copy__(self): pass
  def method(self, x) -> None: pass
  def typed(self) -> None: pass
  @classmethod
  def made(cls, config) -> None: pass
  @staticmethod
  def static(first) -> None: pass
  def _hook(self, x): pass
  if True:
    @property
    def guarded(self): pass
class _Private:
  def method(self, x): pass
"""


def test_untyped_are_found():
  assert untyped(SOURCE) == {
    'function': ['a', 'c', 'd', 'args', 'kwargs', 'return'],
    'Layer.__init__': ['a'],
    'Layer.__call__': ['return'],
    'Layer.method': ['x'],
    'Layer.made': ['config'],
    'Layer.static': ['first'],
    'Layer.guarded': ['return'],
  }


def test_the_package_says_that_it_has_types():
  assert (PACKAGE / 'py.typed').exists()
  setup = (ROOT / 'setup.cfg').read_text()
  assert '\ntfp_flows = py.typed\n' in setup.split('[options.package_data]')[1]
