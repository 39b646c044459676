"""The README and the pages of the site: their code, commands, links and names."""

import ast
import importlib
import inspect
import pathlib
import re
import shlex

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

import tfp_flows as tff
from tfp_flows.bin import cli
from tfp_flows.bin import evaluate
from tfp_flows.bin import export
from tfp_flows.bin import flags
from tfp_flows.bin import import_arrays
from tfp_flows.bin import interpolate
from tfp_flows.bin import sample
from tfp_flows.bin import train
from tfp_flows.data import toy
from tfp_flows.flows import MODELS
from tfp_flows.runs.options import configs

ROOT = pathlib.Path(__file__).parent.parent
PAGES = ROOT / 'docs' / 'pages'
NOTEBOOKS = sorted((ROOT / 'docs' / 'notebooks').glob('*.py'))
TEXTS = {
  str(path.relative_to(ROOT)): path.read_text()
  for path in [ROOT / 'README.md', *sorted(PAGES.rglob('*.md'))]
}
API = {name: text for name, text in TEXTS.items() if '/api/' in name}
COMMANDS = {
  'tfp-flows-evaluate': evaluate,
  'tfp-flows-export': export,
  'tfp-flows-import': import_arrays,
  'tfp-flows-interpolate': interpolate,
  'tfp-flows-sample': sample,
  'tfp-flows-train': train,
}
# Other programs, and where their flags are defined.
OTHERS = {'mkdocs', 'pip', 'python3', 'export'}


def blocks(text, language):
  return re.findall(rf'^```{language}\n(.*?)^```', text, re.S | re.M)


WITH_CODE = [
  name for name, text in TEXTS.items() if blocks(text, 'python') and name != 'README.md'
]


@pytest.fixture
def small(monkeypatch, tmp_path):
  """Little work: few steps, narrow networks, one epoch, no XLA."""
  monkeypatch.chdir(tmp_path)
  most = dict(num_steps=1, num_layers=1, num_blocks=2, num_hidden=1, width=8)
  most |= dict(hidden=[8], num_dense_blocks=0)

  def smaller(builder):
    names = inspect.signature(builder).parameters

    def build(*args, **given):
      for name in most.keys() & names:
        value = given.get(name)
        is_less = isinstance(value, int) and value < most[name]
        given[name] = value if is_less else most[name]
      return builder(*args, **given)

    return build

  for name in MODELS:
    monkeypatch.setattr(tff, name, smaller(getattr(tff, name)))
  fit, compile_model = tff.FlowModel.fit, tff.FlowModel.compile

  def compile_without_xla(self, optimizer='adam', **options):
    compile_model(self, optimizer, **options | dict(jit_compile=False))

  def fit_once(self, x, *args, **options):
    return fit(self, x, *args, **options | dict(epochs=1, verbose=0))

  monkeypatch.setattr(tff.FlowModel, 'compile', compile_without_xla)
  monkeypatch.setattr(tff.FlowModel, 'fit', fit_once)
  draw = toy.sample
  monkeypatch.setattr(toy, 'sample', lambda name, n, **k: draw(name, min(n, 64), **k))


@pytest.mark.parametrize('name', WITH_CODE)
@pytest.mark.filterwarnings('ignore:Expected a standard error')
def test_python_runs(small, name):
  """All blocks of a page, one after the other."""
  page = {'__name__': 'page'}
  for block in blocks(TEXTS[name], 'python'):
    exec(compile(block, name, 'exec'), page)


def test_code_of_others_is_python():
  """Blocks that are shown and not run, and that of a finished run."""
  for name, text in TEXTS.items():
    for block in blocks(text, 'py'):
      ast.parse(block, name)


def test_the_readme_keeps_its_promises():
  readme = TEXTS['README.md']
  (block,) = blocks(readme, 'python')
  # Where it is run.
  assert block == blocks(TEXTS['docs/pages/getting_started.md'], 'python')[0]
  assert len([line for line in block.splitlines() if line.strip()]) == 12
  assert len(readme.splitlines()) <= 150
  # `.ci/run` runs this line.
  assert len(re.findall(r'^python3 -m venv .* pytest.*$', readme, re.M)) == 1


def commands():
  """Page, program and words of every command in a block of shell."""
  for name, text in TEXTS.items():
    for block in blocks(text, 'sh'):
      for line in block.replace('\\\n', ' ').splitlines():
        for part in line.split(' && '):
          program, *words = shlex.split(part)
          yield name, program.removeprefix('.venv/bin/'), words


def test_commands_parse():
  """The flags of each, their values, and the arguments of models."""
  for name, program, words in commands():
    if program in ('python', 'python3') and words[0].endswith('.py'):
      script = (ROOT / words[0]).read_text()
      for word in words[1:]:
        if word.startswith('--'):
          flag = word.lstrip('-').partition('=')[0]
          assert f"'--{flag}'" in script or f"'{flag}'" in script, (name, word)
    elif program in COMMANDS:
      check_flags(name, COMMANDS[program], words)
    else:
      assert program.split('/')[-1] in OTHERS | {'python'}, (name, program)


def check_flags(name, command, words):
  with flagsaver.flagsaver():
    assert cli._parsed(cli.expand_config(['command', *words])) == ['command'], name
    options = flags.options()
    arguments = inspect.signature(MODELS[options.model]).parameters
    for argument in options.arg:
      assert argument.partition('=')[0] in arguments, (name, argument)
  known = {flag.name for flag in absl_flags.FLAGS.get_key_flags_for_module(command)}
  known |= {*flags.SHARED, 'output', 'overwrite', 'verbosity'}
  for word in words:
    flag = word.lstrip('-').partition('=')[0]
    assert {flag, flag.removeprefix('no')} & known, (name, word)


def test_flags_in_the_text_exist():
  """`--flag` in a page is a flag of a command, or of a script that it names."""
  ours = {
    *flags.SHARED,
    'output',
    'overwrite',
    'verbosity',
    'helpshort',
    'list_configs',
  }
  for module in COMMANDS.values():
    ours |= {f.name for f in absl_flags.FLAGS.get_key_flags_for_module(module)}
  scripts = ''.join(
    p.read_text()
    for folder in ('examples', 'tests/fuzz')
    for p in (ROOT / folder).rglob('*.py')
  )
  for name, text in TEXTS.items():
    for flag in re.findall(r'`--(\w+)', text):
      in_script = f"'--{flag}'" in scripts or f"'{flag}'" in scripts
      assert flag in ours or flag.removeprefix('no') in ours or in_script, (name, flag)


# Of the root of the repository; the site has them, too.
ROOT_PAGES = ['CONTRIBUTING.md', 'CHANGELOG.md']


@pytest.mark.parametrize('name', [*TEXTS, *ROOT_PAGES, *map(str, NOTEBOOKS)])
def test_links_lead_somewhere(name):
  path = ROOT / name
  text = re.sub(r'^```.*?^```', '', path.read_text(), flags=re.S | re.M)
  for target in re.findall(r'\]\(([^)\s]+)\)', text):
    if target.startswith(('http://', 'https://')):
      continue
    file, _, anchor = target.partition('#')
    linked = (path.parent / file).resolve() if file else path
    assert linked.exists() and ROOT in linked.parents, (name, target)
    if anchor:
      titles = re.findall(r'^#+ (.*)$', linked.read_text(), re.M)
      assert anchor in {re.sub(r'\W+', '-', t.lower()).strip('-') for t in titles}


def entries():
  """Page -> what it says of names of the library."""
  return {
    name: re.findall(r'^::: tfp_flows\.([\w.]+)$', text, re.M)
    for name, text in API.items()
  }


@pytest.mark.parametrize('name', [n for n in tff.__all__ if n != '__version__'])
def test_every_public_name_has_one_entry(name):
  found = [e for page in entries().values() for e in page]
  # A module that has the name of its builder hides it.
  place = f'flows.{name}' if name in MODELS else tff._HOME[name]
  assert found.count(f'{place}.{name}') == 1


def test_inference_is_in_the_entry_of_the_model():
  """Its methods are those of other modules."""
  assert 'inherited_members: true' in TEXTS['docs/pages/api/model.md']


def test_entries_exist():
  for page, names in entries().items():
    for name in names:
      module, _, attribute = f'tfp_flows.{name}'.rpartition('.')
      found = getattr(importlib.import_module(module), attribute)
      assert inspect.getdoc(found), (page, name)


def test_every_class_is_in_the_table_of_the_api():
  """But for those that go with another one."""
  without = {'CheckpointError', 'Checkpoints', 'FlowBijector', 'FlowModel', 'Health'}
  without |= {'BitsPerDim', 'LipschitzReport', 'NonFiniteError', 'ScaledSchedule'}
  without |= {'StopOnNonFinite', 'Units'}
  for name in {n for n in tff.__all__ if n[0].isupper()} - without:
    assert f'`{name}`' in TEXTS['docs/pages/api/index.md'], name


def test_every_builder_and_configuration_is_named():
  for page in ('README.md', 'docs/pages/which_flow.md'):
    for name in MODELS:
      assert f'`tff.{name}`' in TEXTS[page], (page, name)
    for name in configs():
      assert f'`{name}`' in TEXTS[page], (page, name)
  for name in configs():
    assert f'| `{name}` |' in TEXTS['docs/pages/results.md'], name


def test_every_page_is_in_the_navigation():
  navigation = (ROOT / 'docs' / 'mkdocs.yml').read_text().partition('\nnav:')[2]
  listed = set(re.findall(r'([\w/]+\.md)$', navigation, re.M))
  pages = {str(path.relative_to(PAGES)) for path in PAGES.rglob('*.md')}
  notebooks = {f'notebooks/{path.stem}.md' for path in NOTEBOOKS}
  assert listed == pages | notebooks | {'contributing.md', 'changelog.md'}


def messages():
  """All texts of the library; what they are filled with is left out."""
  for path in (ROOT / 'tfp_flows').rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
      elif isinstance(node, ast.JoinedStr):
        yield ''.join(
          str(getattr(part, 'value', ''))
          for part in node.values
          if isinstance(part, ast.Constant)
        )


def test_messages_that_are_quoted_are_said():
  found = list(messages())
  quoted = re.findall(
    r'(`{1,2})(?:SamplingError: )?(Expected .*?)\1',
    TEXTS['docs/pages/troubleshooting.md'],
  )
  assert len(quoted) > 10
  for _, text in quoted:
    for part in text.replace('float32', '...').split('...'):
      # Numbers and shapes are filled in.
      words = re.split(r' \[', part.strip())[0].strip()
      assert any(words in said for said in found), text


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_compile_and_are_linked(path):
  names = {
    node.attr
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Attribute) and getattr(node.value, 'id', '') == 'tff'
  }
  assert names and names <= set(tff.__all__)
  for page in ('README.md', 'docs/pages/index.md'):
    assert f'notebooks/{path.name})' in TEXTS[page]
