"""Kills a training run again and again and compares its end with that of another.

  python tests/faults/kill_and_resume.py --kills=20 -- --config=glow_digits --epochs=20

What follows `--` are flags of tfp-flows-train. One run is left alone; one is killed
with SIGKILL at random moments, from the start of Python to the last epoch, and started
again until it is finished. Prints where each process was killed, and hashes of what
both runs end with; exits with 1 if they differ.
"""

import argparse
import hashlib
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np


def main() -> int:
  """Returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0, help='Of the moments.')
  parser.add_argument('flags', nargs='*', help='Of tfp-flows-train.')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    alone, killed = pathlib.Path(folder, 'alone'), pathlib.Path(folder, 'killed')
    start, duration = times(alone, args.flags)
    print(f'undisturbed run: {start:.0f} s to its first steps of {duration:.0f} s')
    rng = random.Random(args.seed)
    # So that the last kills still find work to do.
    longest = start + 2.0 * (duration - start) / args.kills
    for i in range(args.kills):
      kill_after(killed, args.flags, rng.uniform(0.0, longest), i)
    finish(killed, args.flags)
    return report(alone, killed)


def command(workdir: pathlib.Path, flags: list[str]) -> list[str]:
  return [
    sys.executable,
    '-m',
    'tfp_flows.bin.train',
    *flags,
    f'--workdir={workdir}',
  ]


def times(workdir: pathlib.Path, flags: list[str]) -> tuple[float, float]:
  """Seconds until a run has made its first steps, and until its end."""
  begun = time.time()
  process = subprocess.Popen(command(workdir, flags), stdout=subprocess.DEVNULL)
  while process.poll() is None and len(list(workdir.glob('checkpoints/*.npz'))) < 2:
    time.sleep(0.1)
  first = time.time() - begun
  if process.wait():
    raise RuntimeError(f'the run ended with code {process.returncode}')
  return first, time.time() - begun


def finish(workdir: pathlib.Path, flags: list[str]) -> None:
  subprocess.run(
    command(workdir, flags), check=True, stdout=subprocess.DEVNULL, timeout=3600
  )


def kill_after(workdir, flags, seconds, index) -> None:
  process = subprocess.Popen(
    command(workdir, flags), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  )
  try:
    process.wait(seconds)
    how = f'had ended with code {process.returncode}'
  except subprocess.TimeoutExpired:
    process.kill()
    process.wait()
    how = 'killed'
  print(f'{index + 1}: {how} after {seconds:.1f} s, {where(workdir)}', flush=True)


def where(workdir: pathlib.Path) -> str:
  found = sorted(workdir.glob('checkpoints/step-*.npz'))
  return f'last checkpoint {found[-1].stem}' if found else 'no checkpoint'


def report(alone: pathlib.Path, killed: pathlib.Path) -> int:
  hashes = {
    'last checkpoint': hash_of_checkpoint,
    'best weights': hash_of_weights,
    'metrics.jsonl': lambda path: hash_of(path / 'metrics.jsonl'),
    'result.json': lambda path: hash_of(path / 'result.json'),
  }
  code = 0
  for name, find in hashes.items():
    one, other = find(alone), find(killed)
    code |= one != other
    print(f'{name}: {one} alone, {other} killed: {"equal" if one == other else "NOT"}')
  return code


def hash_of(path: pathlib.Path) -> str:
  return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def hash_of_checkpoint(workdir: pathlib.Path) -> str:
  digest = hashlib.sha256()
  path = sorted(workdir.glob('checkpoints/step-*.npz'))[-1]
  digest.update(os.path.basename(path).encode())
  with np.load(path, allow_pickle=False) as file:
    for key in sorted(set(file.files) - {'header'}):
      digest.update(file[key].tobytes())
  return digest.hexdigest()[:16]


def hash_of_weights(workdir: pathlib.Path) -> str:
  """Of the numbers: HDF5 writes times, too."""
  digest = hashlib.sha256()

  def add(name, item):
    if isinstance(item, h5py.Dataset):
      digest.update(name.encode())
      digest.update(item[()].tobytes())

  with h5py.File(workdir / 'best.weights.h5', 'r') as file:
    file.visititems(add)
  return digest.hexdigest()[:16]


if __name__ == '__main__':
  sys.exit(main())
