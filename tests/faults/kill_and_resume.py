"""Kills a training run again and again and compares its end with that of another.

  python tests/faults/kill_and_resume.py --kills=20 -- --config=glow_digits --epochs=20
  python tests/faults/kill_and_resume.py --kills=4 --workers=2 -- --dataset=digits

What follows `--` are flags of tfp-flows-train. One run is left alone; one is killed
with SIGKILL at random moments, from the start of Python to the last epoch, and started
again until it is finished. Of several workers one is killed, and the others have to
stop by themselves. Prints where each process was killed, and hashes of what both runs
end with; exits with 1 if they differ.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import random
import socket
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
  parser.add_argument('--workers', type=int, default=1, help='Processes of a run.')
  parser.add_argument('flags', nargs='*', help='Of tfp-flows-train.')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    alone, killed = pathlib.Path(folder, 'alone'), pathlib.Path(folder, 'killed')
    start, duration = times(alone, args)
    print(f'undisturbed run: {start:.0f} s to its first steps of {duration:.0f} s')
    rng = random.Random(args.seed)
    # So that the last kills still find work to do.
    longest = start + 2.0 * (duration - start) / args.kills
    for i in range(args.kills):
      victim = rng.randrange(args.workers)
      kill_after(killed, args, rng.uniform(0.0, longest), i, victim)
    finish(start_run(killed, args))
    return report(alone, killed)


def command(workdir: pathlib.Path, flags: list[str]) -> list[str]:
  return [
    sys.executable,
    '-m',
    'tfp_flows.bin.train',
    *flags,
    f'--workdir={workdir}',
  ]


def start_run(workdir: pathlib.Path, args: argparse.Namespace, **options):
  """The processes of a run."""
  words = command(workdir, args.flags)
  options = dict(stdout=subprocess.DEVNULL) | options
  if args.workers == 1:
    return [subprocess.Popen(words, **options)]
  words.append('--strategy=multi_worker')
  cluster = {'worker': free_addresses(args.workers)}
  tasks = [{'type': 'worker', 'index': i} for i in range(args.workers)]
  configs = [json.dumps({'cluster': cluster, 'task': task}) for task in tasks]
  return [
    subprocess.Popen(words, env=os.environ | {'TF_CONFIG': config}, **options)
    for config in configs
  ]


def free_addresses(count: int) -> list[str]:
  """Of this machine, for one process each."""
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
    for s in sockets:
      s.bind(('localhost', 0))
    return [f'localhost:{s.getsockname()[1]}' for s in sockets]


def times(workdir: pathlib.Path, args: argparse.Namespace) -> tuple[float, float]:
  """Seconds until a run has made its first steps, and until its end."""
  begun = time.time()
  processes = start_run(workdir, args)
  saved = workdir / 'checkpoints'
  while processes[0].poll() is None and len(list(saved.glob('*.npz'))) < 2:
    time.sleep(0.1)
  first = time.time() - begun
  finish(processes)
  return first, time.time() - begun


def finish(processes: list[subprocess.Popen]) -> None:
  """Waits for the processes of a run that nobody disturbs."""
  codes = [process.wait(3600) for process in processes]
  if any(codes):
    raise RuntimeError(f'the run ended with {codes}')


def kill_after(workdir, args, seconds, index, victim) -> None:
  processes = start_run(workdir, args, stderr=subprocess.DEVNULL)
  killed, *others = [processes.pop(victim), *processes]
  try:
    killed.wait(seconds)
    how = f'had ended with code {killed.returncode}'
  except subprocess.TimeoutExpired:
    killed.kill()
    killed.wait()
    how = 'killed'
  if others:
    how = f'worker {victim} {how}'
  print(f'{index + 1}: {how} after {seconds:.1f} s, {where(workdir)}', flush=True)
  begun = time.time()
  for process in others:
    try:
      how = f'ended with code {process.wait(120)}'
    except subprocess.TimeoutExpired:
      # It waits for the first start of all.
      process.kill()
      how = 'waited and was killed'
    print(f'   another {how} after {time.time() - begun:.1f} s more', flush=True)


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
