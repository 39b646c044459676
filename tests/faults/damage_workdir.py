"""Damages each file of a run that was killed, and lets it go on.

  PYTHONPATH=. python tests/faults/damage_workdir.py

One run is left alone. Two more, of different seeds, are killed in their last epoch.
Then each file of the first of these is truncated, emptied, has a bit flipped, is
removed, or replaced by that of the second, one at a time, and the command is given
again. Prints a table of what came of it; exits with 1 if there was a traceback, a
silent start from the beginning, or another end than that of the run left alone.
"""

import collections
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from tests.faults import kill_and_resume

FLAGS = (
  *('--dataset=moons', '--num_points=20000', '--batch_size=500', '--epochs=3'),
  *('--model=real_nvp', '--nojit', '--arg=num_steps=1', '--arg=width=4'),
  *('--num_samples=4', '--checkpoint_minutes=0', '--ema=0.9'),
)
STEPS = 90  # Of 120.


def truncate(path: pathlib.Path, other: pathlib.Path) -> None:
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: pathlib.Path, other: pathlib.Path) -> None:
  path.write_bytes(b'')


def flip(path: pathlib.Path, other: pathlib.Path) -> None:
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(bytes(content))


def remove(path: pathlib.Path, other: pathlib.Path) -> None:
  path.unlink()


def swap(path: pathlib.Path, other: pathlib.Path) -> None:
  path.write_bytes(other.read_bytes())


DAMAGES = (truncate, empty, flip, remove, swap)


def main() -> int:
  """Returns the exit code."""
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    alone = kill_and_resume.command(folder / 'alone', list(FLAGS))
    subprocess.run(alone, check=True, stdout=subprocess.DEVNULL)
    for name, seed in (('run', 0), ('other', 1)):
      begin(folder / name, [*FLAGS, f'--seed={seed}'])
    found = (p for p in (folder / 'run').rglob('*') if p.is_file())
    files = sorted(p for p in found if p.stat().st_size)  # The lock is empty.
    targets = [*files, folder / 'run' / 'checkpoints']
    outcomes = collections.Counter()
    for path in targets:
      for damage in DAMAGES:
        found = outcome(folder, path, damage)
        outcomes[found.split(':')[0]] += 1
        name = path.relative_to(folder / 'run')
        print(f'{str(name)[:40]:40} {damage.__name__:9} {found}', flush=True)
    print(dict(outcomes))
    return int(any(name.isupper() for name in outcomes))


def begin(folder: pathlib.Path, flags: list[str]) -> None:
  """A run that is killed some steps before its end."""
  process = subprocess.Popen(
    kill_and_resume.command(folder, flags),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  last = folder / 'checkpoints' / f'step-{STEPS:010}.npz'
  while not last.exists():
    if process.poll() is not None:
      raise RuntimeError(f'the run in {folder} ended with {process.returncode}')
    time.sleep(0.001)
  process.kill()
  process.wait()


def outcome(folder: pathlib.Path, path: pathlib.Path, damage) -> str:
  """What comes of a run with a damaged file, or with all files of a folder damaged."""
  work = folder / 'work'
  shutil.rmtree(work, ignore_errors=True)
  shutil.copytree(folder / 'run', work / 'run')
  name = path.relative_to(folder / 'run')
  inside = sorted(path.iterdir()) if path.is_dir() else [path]
  others = sorted((folder / 'other' / name).parent.glob('*'))
  for i, each in enumerate(inside):
    other = folder / 'other' / each.relative_to(folder / 'run')
    if not other.exists():  # Names of TensorBoard have a time.
      other = others[min(i, len(others) - 1)]
    damage(work / 'run' / each.relative_to(folder / 'run'), other)
  done = subprocess.run(
    kill_and_resume.command(work / 'run', list(FLAGS)), capture_output=True, text=True
  )
  return classify(done, folder)


def classify(done: subprocess.CompletedProcess, folder: pathlib.Path) -> str:
  """The outcome in a few words; in capitals what must not be."""
  lines = [line for line in done.stderr.splitlines() if line.strip()]
  if 'Traceback' in done.stderr:
    return f'TRACEBACK: {lines[-1]}'
  if done.returncode:
    is_line = len(lines) == 1 and lines[0].startswith('error: ')
    return f'error: {lines[0][7:]}' if is_line else f'NO ERROR LINE: {lines}'
  if 'Going on after' not in done.stdout:
    return 'SILENT FRESH START'
  ends = [
    (kill_and_resume.hash_of_checkpoint(p), kill_and_resume.hash_of_weights(p))
    for p in (folder / 'alone', folder / 'work' / 'run')
  ]
  if ends[0] != ends[1]:
    return f'ANOTHER END: {ends}'
  warned = [line for line in lines if line.startswith('warning: ')]
  return f'same end, after a warning: {warned[0]}' if warned else 'same end'


if __name__ == '__main__':
  sys.exit(main())
