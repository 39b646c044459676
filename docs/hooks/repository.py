"""Files of the repository as pages of the site, and names as links to the API.

The pages link to files outside of their folder as GitHub has it, by relative paths.
Here each such file becomes a page, or, if it is a picture, a file of the site, and the
links lead there; a folder becomes a list of its files. Classes, and names with `tff.`
before them, lead to their entries.
"""

import os
import pathlib
import re

import docstrings
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File
from mkdocs.structure.files import Files
from mkdocs.structure.files import InclusionLevel
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parents[2]
PAGES = ROOT / 'docs' / 'pages'

# Pages of the site whose text lies in the root of the repository.
_ROOT_PAGES = {
  'contributing.md': 'CONTRIBUTING.md',
  'changelog.md': 'CHANGELOG.md',
}
# It has classes of others, of the same names.
_UNLINKED = 'coming_from.md'
_NAME = re.compile(r'(?<![\[`])`((?:tff\.)?\w+)(?:\([^`]*\))?`(?![\]`])')
_LINK = re.compile(r'(\]\()([^)#\s]+)(#[^)\s]*)?(\))')
_LANGUAGES = {'.py': 'python', '.flags': 'sh', '.md': 'markdown', '': 'text'}


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Adds what the pages link to."""
  for page, name in _ROOT_PAGES.items():
    files.append(
      File.generated(config, page, content=_relinked((ROOT / name).read_text(), page))
    )
  texts = [path.read_text() for path in PAGES.rglob('*.md')]
  texts += [(ROOT / name).read_text() for name in _ROOT_PAGES.values()]
  texts += [path.read_text() for path in (ROOT / 'docs' / 'notebooks').glob('*.py')]
  linked = {
    target.lstrip('./')
    for text in texts
    for _, target, _, _ in _LINK.findall(text)
    if not target.startswith('http')
  }
  for name in sorted(linked):
    path = ROOT / name
    is_page = name in _ROOT_PAGES.values() or name.startswith('docs/')
    if path.exists() and path != ROOT and not is_page:
      files.append(_as_file(name.rstrip('/'), config))
  return files


def on_page_markdown(
  markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
  """Leads links to files of the repository to their pages."""
  if page.file.src_uri in _ROOT_PAGES or page.file.src_uri.startswith('source/'):
    return markdown
  folder = (PAGES / page.file.src_uri).parent
  markdown = _relinked(markdown, page.file.src_uri, folder)
  return markdown if page.file.src_uri == _UNLINKED else _with_names(markdown)


def _with_names(markdown):
  """Leads names of the library to the API, but in code and headings."""

  def link(match):
    name = match[1].removeprefix('tff.')
    is_plain = match[1] == name and name.islower()
    if is_plain or name not in docstrings.NAMES:
      return match[0]
    return f'[{match[0]}][{docstrings.identifier(name)}]'

  parts = re.split(r'(^```.*?^```$|^#.*?$)', markdown, flags=re.S | re.M)
  parts[::2] = [_NAME.sub(link, part) for part in parts[::2]]
  return ''.join(parts)


def _as_file(name, config):
  path = ROOT / name
  if path.suffix in ('.png', '.svg'):
    return File.generated(config, _place(name), content=path.read_bytes())
  language = _LANGUAGES.get(path.suffix, 'text')
  if path.is_dir():
    text = '\n'.join(sorted(entry.name for entry in path.iterdir()))
  else:
    text = path.read_text()
  content = (
    f'---\nsearch:\n  exclude: true\n---\n\n# {name}\n\n'
    f'````{language}\n{text.rstrip()}\n````\n'
  )
  return File.generated(
    config, _place(name), content=content, inclusion=InclusionLevel.NOT_IN_NAV
  )


def _place(name):
  """Where a file of the repository lies among the pages."""
  is_picture = name.endswith(('.png', '.svg'))
  return f'source/{name}' if is_picture else f'source/{name}.md'


def _relinked(text, page, folder=ROOT):
  """`text`, whose links are relative to `folder`, as that of `page`."""

  def place(match):
    target = match[2]
    path = pathlib.Path(os.path.normpath(folder / target))
    if '://' in target or not path.exists() or ROOT not in path.parents:
      return match[0]
    name = path.relative_to(ROOT).as_posix()
    back = {root: page for page, root in _ROOT_PAGES.items()}
    if path.is_relative_to(PAGES):
      place = path.relative_to(PAGES).as_posix()
    elif name.startswith('docs/notebooks/'):
      place = f'notebooks/{path.stem}.md'
    else:
      place = back.get(name) or _place(name)
    found = os.path.relpath(place, pathlib.PurePosixPath(page).parent)
    return f'{match[1]}{found}{match[3] or ""}{match[4]}'

  return _LINK.sub(place, text)
