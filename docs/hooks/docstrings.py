"""Docstrings as Markdown: formulas keep their lines, papers and names are links.

The docstrings are written for readers of the source. Blocks that are indented by two
spaces are formulas, `[(Author, year)][1]` is a reference of a list at their end, and
names of the library stand in backticks.
"""

import ast
import pathlib
import re
import textwrap

import griffe

_PACKAGE = pathlib.Path(__file__).parents[2] / 'tfp_flows'
_PAPER = re.compile(r'^\[(\d+)\]: (.*(?:\n {2,}.*)*)', re.M)
_URL = re.compile(r'https?://\S+')
_NAME = re.compile(r'(?<![\[`])`(?:tff\.)?(\w+)`(?![\]`])')
_SECTION = re.compile(r'^\s*(Args|Attributes|Raises|Returns|Yields):$')


def public_names() -> dict[str, str]:
  """Public name -> package, as `tfp_flows/__init__.py` has it."""
  tree = ast.parse((_PACKAGE / '__init__.py').read_text())
  (table,) = (
    node.value
    for node in tree.body
    if isinstance(node, ast.Assign) and node.targets[0].id == '_MODULES'
  )
  return {n: m for m, names in ast.literal_eval(table).items() for n in names}


NAMES = public_names()


def identifier(name):
  """By which a page of the API has its entry."""
  package = f'tfp_flows.{NAMES[name]}'
  # The module of a builder has its name, and hides it.
  is_module = (_PACKAGE / 'flows' / f'{name}.py').exists() and name.islower()
  return f'{package}.{name}.{name}' if is_module else f'{package}.{name}'


class Docstrings(griffe.Extension):
  """Rewrites every docstring that is loaded."""

  def on_object(self, *, obj: griffe.Object, **_) -> None:
    """Called for each module, class, function and attribute."""
    if obj.docstring is not None:
      obj.docstring.value = as_markdown(obj.docstring.value, obj.name)


def as_markdown(text: str, owner: str) -> str:
  """A docstring of the library as Markdown with Google sections."""
  text = _linked_papers(re.sub(r'^ *#### (.*)$', r'**\1**', text, flags=re.M))
  parts = re.split(r'(^ *```.*?^ *```$)', text, flags=re.S | re.M)
  for i in range(0, len(parts), 2):
    parts[i] = _linked_names(_kept_lines(parts[i]), owner)
  return ''.join(parts)


def _linked_papers(text):
  """References as a list, and what is quoted as links to it."""
  papers = {}
  for number, entry in _PAPER.findall(text):
    papers[number] = re.sub(r'\s+', ' ', entry).strip()
  for number, entry in papers.items():
    url = _URL.search(entry)
    if url:
      text = text.replace(f'][{number}]', f']({url[0]})')
    else:
      text = re.sub(rf'\[([^\]]*)\]\[{number}\]', r'\1', text)
  entries = {n: _URL.sub(r'<\g<0>>', entry) for n, entry in papers.items()}
  return _PAPER.sub(lambda match: f'- {entries[match[1]]}', text)


def _kept_lines(text):
  """Formulas, paragraphs that are indented by two spaces, line by line."""
  out, block, is_section, previous = [], [], False, ''
  for line in [*text.split('\n'), '']:
    indented = line.startswith('  ')
    if _SECTION.match(line):
      is_section = True
    elif line and not indented:
      is_section = False
    starts = indented and not is_section and not previous.strip() and out
    if indented and (block or starts):
      block.append(line)
    else:
      out += _formula(block)
      block = []
      out.append(line)
    previous = line
  return '\n'.join(out[:-1])


def _formula(lines):
  """Lines with code in backticks as lines of text, others as a block of code."""
  if not any('`' in line for line in lines):
    text = textwrap.dedent('\n'.join(lines))
    return ['```text', text, '```'] if lines else []
  if lines[0].lstrip().startswith(('* ', '- ')):
    return lines
  return [f'{line.strip()}<br>' for line in lines[:-1]] + [lines[-1].strip()]


def _linked_names(text, owner):
  def link(match):
    name = match[1]
    if name not in NAMES or name == owner:
      return match[0]
    return f'[{match[0]}][{identifier(name)}]'

  return _NAME.sub(link, text)
