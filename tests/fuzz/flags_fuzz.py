"""Random flags and flagfiles for the commands, through their real entry points.

Every run must work, or end in one line that says why it cannot:

  python -m tests.fuzz.flags_fuzz --cases=300 --seed=0
  python -m tests.fuzz.flags_fuzz --absurd

The flags are those of `flags.SHARED` and of the commands, the arguments of models those
of their builders: what is added there is tried, too.
"""

import argparse
import collections
import functools
import gc
import inspect
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('MPLBACKEND', 'Agg')

import keras
import numpy as np
from absl import flags

from tests.fuzz import files
from tests.fuzz import running
from tfp_flows.bin import flags as flags_lib
from tfp_flows.flows import MODELS
from tfp_flows.runs.options import configs

OWN = dict(
  train=['overwrite'],
  evaluate=['part', 'noise_samples', 'estimates'],
  sample=['output'],
  interpolate=['output', 'first', 'second', 'frames'],
)

# Where a value may cost much time, these are tried instead of any.
CHEAP = dict(
  adapt_examples=['1', '10', '2147483647'],
  augment_shift=['0', '1', '3', '1000000'],
  batch_size=['16', '64', '1000000'],
  epochs=['1', '2'],
  frames=['2', '3'],
  image_size=['6', '8', '9'],
  log_det_terms=['1', '3'],
  noise_samples=['1', '3'],
  num_points=['10', '50'],
  num_samples=['1', '2', '9'],
)
# What takes more memory than there is; for processes with a limit.
ABSURD = (
  ('train', 'whole.csv', ['--model=real_nvp', '--arg=width=1000000']),
  ('train', 'whole.csv', ['--model=real_nvp', '--arg=width=1000000000']),
  ('train', 'whole_images', ['--model=glow', '--arg=width=1000000']),
  ('train', 'whole.csv', ['--model=maf', '--arg=hidden=[1000000, 1000000]']),
  ('train', 'whole.csv', ['--model=maf', '--arg=hidden=[10000000000000]']),
  ('train', 'whole.csv', ['--model=nice', '--arg=num_steps=1000000000']),
  ('train', 'moons', ['--model=nice', '--num_points=2000000000']),
  ('train', 'whole_images', ['--model=nice', '--image_size=1000000']),
  ('train', 'whole.csv', ['--model=nice', '--num_samples=2000000000', '--epochs=1']),
  ('sample', None, ['--num_samples=2000000000']),
  ('evaluate', None, ['--noise_samples=2000000000']),
  ('interpolate', None, ['--frames=2000000000']),
)

NUMBERS = ['', 'abc', 'nan', '-1', '1.5', '1e3', '1e999', 'inf', '9' * 40, '9' * 5000]
NUMBERS += ['0x10', ' 2', '\u0663', '1_0', '--', '-0', '0', '1', '2']
TEXTS = ['', ' ', 'x', 'nope', '\u00fc\u2603', 'a\nb', '/nowhere', '-1', 'None']
TEXTS += ['*' * 999]
VALUES = [*TEXTS, *NUMBERS, 'True', 'false', '[]', '[4]', '[4, 4]', '[4, 0]', '[[4]]']
VALUES += ['(3,)', '{}', '{[]: 1}', "'relu'", '0.3', '1e-3', '1e400', '((((', '4', '3']
VALUES += ["'\\d'", 'lambda: 0', '__import__("os")', '1' * 30, 'softmax', 'glu', '-0.5']

TINY = {
  'ffjord': ['hidden=[4]', 'tolerance=1e-2', 'num_blocks=1', 'num_levels=1'],
  'glow': ['num_steps=1', 'width=4', 'num_levels=1'],
  'iaf': ['num_layers=1', 'hidden=[4]'],
  'maf': ['num_layers=1', 'hidden=[4]'],
  'nice': ['num_steps=1', 'width=4'],
  'planar': ['num_layers=1'],
  'radial': ['num_layers=1'],
  'real_nvp': ['num_steps=1', 'width=4', 'num_levels=1', 'num_blocks=1'],
  'residual_flow': [
    'num_blocks=1',
    'width=4',
    'dense_width=4',
    'num_dense_blocks=1',
    'num_levels=1',
    'num_hidden=1',
  ],
  'sylvester': ['num_layers=1'],
}


# Bytes for one of them; TensorFlow alone has addresses of half of it.
MEMORY = 7 * 2**30


class World(NamedTuple):
  """Files that the cases speak of.

  Attributes:
    root: a folder.
    tables: paths of tables, of which the first is whole.
    images: names of image sets, of which the first is whole.
    runs: folders of finished runs.
  """

  root: pathlib.Path
  tables: list[str]
  images: list[str]
  runs: list[str]


class Case(NamedTuple):
  """A command with its words."""

  command: str
  words: list[str]


def build_world(root: pathlib.Path) -> World:
  """Writes the files; trains the runs."""
  whole = files.csv(root / 'whole.csv', files.table())
  short = files.csv(root / 'short.csv', files.table(3))
  constant = files.csv(root / 'constant.csv', files.table() * [1, 0, 1])
  narrow = files.csv(root / 'narrow.csv', files.table(columns=1), 'a')
  np.save(root / 'whole.npy', files.table())
  (root / 'empty.csv').write_text('')
  (root / 'garbage.npy').write_bytes(bytes(range(256)))
  tables = [whole, short, constant, narrow, str(root / 'whole.npy')]
  tables += [str(root / n) for n in ('empty.csv', 'garbage.npy', 'none.csv', '.csv')]
  files.image_set(root / 'tfds', 'whole_images', {'train': 20, 'test': 6})
  files.image_set(root / 'tfds', 'only_train', {'train': 20})
  damaged = files.image_set(root / 'tfds', 'damaged', {'train': 20, 'test': 6})
  files.rewrite(files.shard(damaged), files.set_image(b'no picture'))
  images = ['whole_images', 'only_train', 'damaged', 'mnist', 'whole_images:9.9.9']
  (root / 'foreign').mkdir()
  (root / 'foreign' / 'notes.txt').write_text('mine')
  world = World(root, tables, images, [])
  for name, dataset, model in (('t', whole, 'real_nvp'), ('i', images[0], 'glow')):
    run = str(root / 'runs' / name)
    words = [*_base(world, dataset, model), f'--workdir={run}']
    found = running.run('train', words)
    if found.kind != running.OK:
      raise RuntimeError(f'{words}: {found}')
    world.runs.append(run)
  return world


def cases(world: World, count: int, seed: int) -> Iterator[Case]:
  """Random cases; the same for the same seed."""
  for i in range(count):
    yield _Maker(world, random.Random(f'{seed}-{i}'), i).case()


def _base(world, dataset, model):
  args = [f'--arg={a}' for a in TINY[model]]
  words = [f'--dataset={dataset}', f'--data_dir={world.root}/tfds', '--nojit']
  return [*words, f'--model={model}', *args, '--epochs=1']


class _Maker:
  """Makes one case."""

  def __init__(self, world, rng, index):
    self._world, self._rng = world, rng
    self._index, self._tried = index, set()

  def case(self) -> Case:
    rng = self._rng
    command = rng.choices(list(OWN), [6, 1, 1, 1])[0]
    self._model = rng.choice(list(MODELS))
    words = self._train() if command == 'train' else self._of_a_run(command)
    for _ in range(rng.choices([0, 1, 2, 3], [2, 4, 2, 1])[0]):
      change = rng.choices(
        [self._flag, self._argument, self._structure, self._unknown], [5, 4, 2, 1]
      )[0]
      words = change(command, words)
    cheap = dict(epochs=1, batch_size=64, num_points=50)
    words += [f'--{k}={v}' for k, v in cheap.items() if k not in self._tried]
    if rng.random() < 0.25:
      words = self._in_a_flagfile(words)
    return Case(command, words)

  def _train(self):
    rng = self._rng
    dataset = self._dataset()
    words = _base(self._world, dataset, self._model)
    if rng.random() < 0.2:
      name = rng.choice([*configs(), 'nope', ''])
      words = [f'--config={name}', *words]
    return [*words, *self._workdir()]

  def _dataset(self):
    rng, world = self._rng, self._world
    good = [world.tables[0], world.images[0], 'digits']
    if rng.random() < 0.8:
      return rng.choice(good)
    odd = ['', 'moons', 'MOONS', '/', '.', 'a:b', 'a/b/c', 'mnist[x=1]', 'kaggle:x']
    return rng.choice([*world.tables, *world.images, *odd, *TEXTS])

  def _workdir(self):
    rng, world = self._rng, self._world
    new = f'{world.root}/new/{self._index}'
    if rng.random() < 0.7:
      return [f'--workdir={new}']
    inside = [f'{world.tables[0]}/run', '/proc/none', '/dev/null', world.tables[0]]
    odd = [f'{new} \u00fc', f'{new}/../{self._index}', f'{new}/', 'x' * 300, 'a\0b']
    odd += [f'{world.root}/foreign', '', '\udcff', *world.runs]
    path = rng.choice([*inside, *odd])
    return rng.choice([[], [f'--workdir={path}'], ['--workdir', path], ['--workdir']])

  def _of_a_run(self, command):
    rng = self._rng
    runs = [*self._world.runs, *self._world.runs, f'{self._world.root}/foreign']
    run = rng.choice(runs)
    words = rng.choice([[f'--workdir={run}'], [f'--flagfile={run}/flags.txt']])
    if rng.random() < 0.5:
      name = rng.choice(OWN[command])
      words = [*words, *self._words_for(name)]
    return words

  def _flag(self, command, words):
    name = self._rng.choice([*flags_lib.SHARED, *OWN[command]])
    new = self._words_for(name)
    place = self._rng.randint(0, len(words))
    return [*words[:place], *new, *words[place:]]

  def _words_for(self, name):
    """A flag with a value that may or may not be good for it."""
    rng, flag = self._rng, flags.FLAGS[name]
    self._tried.add(name)
    if isinstance(flag.parser, flags.BooleanParser):
      forms = [f'--{name}', f'--no{name}', f'--{name}=true', f'--{name}=maybe']
      return [rng.choice([*forms, f'--{name}='])]
    is_good = rng.random() < 0.7
    value = rng.choice(self._good(name, flag) if is_good else NUMBERS + TEXTS)
    forms = [[f'--{name}={value}'], [f'--{name}', value], [f'-{name}={value}']]
    return rng.choices([*forms, [f'--{name}']], [8, 1, 1, 0.3])[0]

  def _good(self, name, flag):
    """Values of the right kind, most of them in range."""
    special = dict(
      config=[*configs()],
      dataset=[self._dataset()],
      workdir=[f'{self._world.root}/new/{self._index}'],
      data_dir=[f'{self._world.root}/tfds', '/nowhere', ''],
      model=list(MODELS),
      arg=[self._argument_text()],
      output=[
        f'{self._world.root}/out',
        '/nowhere/x',
        '',
        f'{self._world.root}/foreign',
      ],
    )
    if name in special:
      return special[name]
    if name in CHEAP:
      return CHEAP[name]
    parser = flag.parser
    if hasattr(parser, 'enum_values'):
      return list(parser.enum_values)
    low = getattr(parser, 'lower_bound', None)
    if isinstance(parser, flags.IntegerParser):
      return [str((low or 0) + i) for i in (0, 1, 2, 5)] + ['2147483647']
    if isinstance(parser, flags.FloatParser):
      return ['0', '0.5', '1', '1e-3', '1e-300', '1e30', '-1']
    return TEXTS

  def _argument_text(self):
    rng = self._rng
    names = list(inspect.signature(MODELS[self._model]).parameters)
    name = rng.choice([*names, 'depth', ''])
    default = names and inspect.signature(MODELS[self._model]).parameters.get(name)
    value = rng.choice(VALUES)
    if default is not None and rng.random() < 0.4:
      value = str(default.default)
    return rng.choices([f'{name}={value}', name, value], [12, 1, 1])[0]

  def _argument(self, command, words):
    del command
    return [*words, f'--arg={self._argument_text()}']

  def _structure(self, command, words):
    """Words lost, said twice, in another order, or besides flags."""
    del command
    rng, words = self._rng, list(words)
    kind = rng.choice(['drop', 'twice', 'shuffle', 'positional', 'dashes', 'cut'])
    if kind == 'drop' and words:
      words.pop(rng.randrange(len(words)))
    elif kind == 'twice' and words:
      words += rng.sample(words, rng.randint(1, len(words)))
    elif kind == 'shuffle':
      rng.shuffle(words)
    elif kind == 'positional':
      words.insert(rng.randint(0, len(words)), rng.choice(['more', '-', '', '=']))
    elif kind == 'dashes':
      words.insert(rng.randint(0, len(words)), rng.choice(['--', '---x', '-=1', '--=']))
    elif words:
      i = rng.randrange(len(words))
      words[i] = words[i][: rng.randint(0, len(words[i]))]
    return words

  def _unknown(self, command, words):
    del command
    name = self._rng.choice(['epoch', 'Epochs', 'lr', 'batch-size', '\u00fc', 'no'])
    return [*words, f'--{name}={self._rng.choice(NUMBERS)}']

  def _in_a_flagfile(self, words):
    """The words but the workdir in a file, whole or damaged."""
    rng, root = self._rng, self._world.root
    path = root / f'{self._index}.flags'
    inside = [w for w in words if not w.startswith('--config')]
    lines = [w.encode(errors='surrogateescape') for w in inside]
    kinds = ['', '', 'comment', 'itself', 'missing', 'bytes', 'text', 'dos']
    damage = rng.choice(kinds)
    extra = dict(
      comment=b'# --seed=x\n// no\n\n   \n',
      itself=f'--flagfile={path}\n'.encode(),
      missing=b'--flagfile=/nowhere/x.flags\n',
      bytes=b'\xff\xfe\x00\n',
      text=b'seed 3\n',
    )
    end = b'\r\n' if damage == 'dos' else b'\n'
    path.write_bytes(extra.get(damage, b'') + end.join(lines) + end)
    place = str(rng.choices([path, root, '/nowhere', ''], [12, 1, 1, 1])[0])
    outside = [w for w in words if w.startswith('--config')]
    return [*outside, f'--flagfile={place}']


def absurd_cases(world: World) -> Iterator[Case]:
  """What takes more memory than there is."""
  for command, dataset, words in ABSURD:
    if dataset is None:
      yield Case(command, [f'--workdir={world.runs[1]}', *words])
    else:
      path = f'{world.root}/{dataset}' if dataset.endswith('.csv') else dataset
      first = [f'--dataset={path}', f'--data_dir={world.root}/tfds', '--nojit']
      yield Case(command, [*first, f'--workdir={world.root}/new', *words])


def fuzz(
  count: int, seed: int, root: pathlib.Path, absurd: bool, verbose: bool
) -> list[tuple[Case, running.Outcome]]:
  """Runs the cases; returns each with its outcome."""
  world = build_world(root)
  found = []
  run = functools.partial(running.run_process, memory=MEMORY) if absurd else running.run
  made = absurd_cases(world) if absurd else cases(world, count, seed)
  for i, case in enumerate(made):
    start, words = time.time(), ' '.join(ascii(w) for w in case.words)
    if verbose:
      print(f'{i}: {case.command} {words}'[:2000], flush=True)
    outcome = run(case.command, case.words)
    found.append((case, outcome))
    if verbose:
      seconds = f'{time.time() - start:.1f} s'
      print(f'  {seconds}, {outcome.kind}: {ascii(outcome.text)[:300]}', flush=True)
    if outcome.kind == running.UNCLASSIFIED:
      print(f'{i}: {case.command} {words}\n{outcome.text}', flush=True)
    shutil.rmtree(root / 'new', ignore_errors=True)
    if i % 20 == 19:
      keras.utils.clear_session()
      gc.collect()
  return found


def main() -> None:
  """Prints the number of cases and of outcomes by class."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--cases', type=int, default=300, dest='count')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--absurd', action='store_true', help='Sizes beyond memory.')
  parser.add_argument('--verbose', action='store_true')
  options = parser.parse_args()
  # The commands read their own flags, none of this script.
  sys.argv[1:] = []
  start = time.time()
  with tempfile.TemporaryDirectory() as root:
    os.chdir(root)
    found = fuzz(**vars(options), root=pathlib.Path(root))
  kinds = collections.Counter(outcome.kind for _, outcome in found)
  print(f'{len(found)} cases in {time.time() - start:.0f} s: {dict(kinds)}')
  sys.exit(int(kinds[running.UNCLASSIFIED] > 0))


if __name__ == '__main__':
  main()
