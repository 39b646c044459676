"""The notebooks: scripts in percent format that run while the site is built.

Each `docs/notebooks/NAME.py` becomes the page `notebooks/NAME.md` with its outputs, and
`notebooks/NAME.ipynb` beside it. What has run is kept in `build/notebooks` until the
script or the library changes.
"""

import base64
import hashlib
import html
import logging
import pathlib
import re

import jupytext
import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File
from mkdocs.structure.files import Files
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = ROOT / 'docs' / 'notebooks'
_KEPT = ROOT / 'build' / 'notebooks'
_SECONDS = 600
_ESCAPES = re.compile(r'\x1b\[[0-9;]*[A-Za-z]|\x08')
_log = logging.getLogger('mkdocs.hooks.notebooks')


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Adds the notebooks, their pictures and the files to take along."""
  for script in sorted(SCRIPTS.glob('*.py')):
    notebook = _executed(script)
    content, pictures = _as_markdown(notebook, script.stem)
    files.append(File.generated(config, f'notebooks/{script.stem}.md', content=content))
    for name, data in pictures.items():
      files.append(File.generated(config, f'notebooks/{name}', content=data))
    text = nbformat.writes(notebook)
    files.append(File.generated(config, f'notebooks/{script.stem}.ipynb', content=text))
  return files


def _executed(script):
  """The notebook of a script, with its outputs."""
  digest = _digest(script)
  kept = _KEPT / f'{script.stem}.ipynb'
  if kept.exists():
    notebook = nbformat.read(kept, as_version=4)
    if notebook.metadata.get('digest') == digest:
      return notebook
  _log.info('Running %s', script.relative_to(ROOT))
  notebook = jupytext.read(script)
  client = NotebookClient(notebook, timeout=_SECONDS, kernel_name='python3')
  client.execute(cwd=str(ROOT))
  notebook.metadata['digest'] = digest
  kept.parent.mkdir(parents=True, exist_ok=True)
  nbformat.write(notebook, kept)
  return notebook


def _digest(script):
  """What the outputs depend on."""
  digest = hashlib.sha256(script.read_bytes())
  for path in sorted((ROOT / 'tfp_flows').rglob('*.py')):
    digest.update(path.read_bytes())
  return digest.hexdigest()


def _as_markdown(notebook, name):
  """The page of a notebook, and name -> bytes of its pictures."""
  parts, pictures = [], {}
  for cell in notebook.cells:
    if cell.cell_type == 'markdown':
      # Links of a script are relative to its own folder, beside that of the pages.
      parts.append(cell.source.replace('](../pages/', '](../'))
      continue
    parts.append(f'```python\n{cell.source}\n```')
    for output in _joined(cell.get('outputs', [])):
      parts.append(_output(output, name, pictures))
  parts.insert(1, f'[Take it along as a notebook]({name}.ipynb)')
  return '\n\n'.join(part for part in parts if part), pictures


def _joined(outputs):
  """Outputs, of which texts that were printed one after the other are one."""
  found = []
  for output in outputs:
    is_text = output.output_type == 'stream' and output.name == 'stdout'
    if is_text and found and found[-1].get('name') == 'stdout':
      found[-1] = found[-1] | {'text': found[-1]['text'] + output.text}
      found[-1] = nbformat.from_dict(found[-1])
    elif output.get('name') != 'stderr':
      # What TensorFlow says of the machine is none of the notebook's.
      found.append(output)
  return found


def _output(output, name, pictures):
  if output.output_type == 'stream':
    return _as_text(output.text)
  data = output.get('data', {})
  if 'image/png' in data:
    picture = f'{name}_{len(pictures)}.png'
    pictures[picture] = base64.b64decode(data['image/png'])
    return f'![Output]({picture})'
  return _as_text(data.get('text/plain', ''))


def _as_text(text):
  lines = [_ESCAPES.sub('', line).rstrip() for line in text.splitlines()]
  escaped = html.escape('\n'.join(lines).strip('\n'))
  # As HTML: no colours, and no button to copy it.
  return f'<pre class="output">{escaped}</pre>' if escaped else ''
