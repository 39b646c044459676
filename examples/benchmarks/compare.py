r"""Compares this library with its peers: the benchmarks in one command.

    python examples/benchmarks/compare.py --workloads=W1,W3a --rounds=3
    python examples/benchmarks/compare.py --workloads=W6 --peers=ours,normflows \
        --cores=1
    python examples/benchmarks/compare.py --workloads=W1 \
        --peers=ours,ours:mode=graph,ours:num_bins=0:width=64
    python examples/benchmarks/compare.py --table=results.jsonl

`workloads.py` defines the workloads W1, W2, W3 and W6; `residual_flow.py` those of
residual flows, W4, and `cnf_peers.py` those of continuous ones, W5. `--workloads=W3`
stands for W3a, W3b and W3c. What a peer does differently is in the docstring of its
module.

Every measurement is a process of its own, and in each of the rounds every peer has its
turn. Each one's line of JSON goes to the output at once; the tables at the end take the
median over the rounds. After the name of a peer may stand its options, as above. Where
a peer fails, that is told, and the others go on.

Compare only figures of one run on a quiet machine. Other work on it costs some peers
more than others: PyTorch on two cores, one of them taken now and then, was seen to take
forty times as long, its threads waiting for each other. `--cores=1` is fairer then.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

import suite
import tables
from workloads import select

FOLDER = pathlib.Path(__file__).parent


def run(workload: str, variant: str, args: argparse.Namespace) -> dict:
  """One measurement, as a record; with `failure` if it failed."""
  record = {'workload': workload, 'variant': variant}
  try:
    process = subprocess.run(
      suite.command(workload, variant, args.steps, args.cores),
      cwd=FOLDER,
      capture_output=True,
      text=True,
      timeout=args.timeout,
    )
  except subprocess.TimeoutExpired:
    return record | {'failure': f'more than {args.timeout} s'}
  if process.returncode:
    lines = process.stderr.strip().splitlines() or ['no message']
    return record | {'failure': lines[-1]}
  return suite.as_record(json.loads(process.stdout.splitlines()[-1])) | record


def run_all(pairs: list[tuple[str, str]], args: argparse.Namespace) -> list[dict]:
  """All measurements, round by round; each is written as it comes."""
  records = []
  for i in range(args.rounds):
    for workload, variant in pairs:
      print(f'Round {i + 1} of {args.rounds}: {workload}, {variant}', file=sys.stderr)
      record = run(workload, variant, args) | {'round': i + 1}
      if 'failure' in record:
        print(f'  failed: {record["failure"]}', file=sys.stderr)
      with open(args.output, 'a') as file:
        file.write(json.dumps(record) + '\n')
      records.append(record)
  return records


def choose(args: argparse.Namespace) -> list[tuple[str, str]]:
  """The pairs of workload and peer that the command line asks for.

  Raises:
    ValueError: if a name is unknown, or no peer has any of the workloads.
  """
  workloads = select(args.workloads.split(','), list(suite.PEERS), 'workloads')
  names = sorted({name for workload in workloads for name in suite.PEERS[workload]})
  variants = args.peers.split(',') if args.peers else []
  for variant in variants:
    if variant.split(':')[0] not in names:
      raise ValueError(
        f'Expected peers of {", ".join(names)} for {", ".join(workloads)}; '
        f'received {variant!r}.'
      )
  return [
    (workload, variant)
    for workload in workloads
    for variant in variants or suite.PEERS[workload]
    if variant.split(':')[0] in suite.PEERS[workload]
  ]


def parse_args() -> argparse.Namespace:
  """Returns the command line."""
  parser = argparse.ArgumentParser(
    description=__doc__.splitlines()[0],
    epilog=f'Workloads: {", ".join(suite.PEERS)}.',
  )
  parser.add_argument('--workloads', default='W1', help='Names or their beginnings.')
  parser.add_argument('--peers', default='', help='Default: all that have a workload.')
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--steps', type=int, default=20, help='Timed ones of each run.')
  parser.add_argument('--cores', type=int, default=0, help='0: as many as there are.')
  parser.add_argument('--timeout', type=float, default=1800, help='Seconds of one run.')
  parser.add_argument('--output', default='results.jsonl', help='Lines are added.')
  parser.add_argument('--table', help='Print the tables of this file; run nothing.')
  args = parser.parse_args()
  if min(args.rounds, args.steps) < 1:
    parser.error('Expected at least one round and one step.')
  return args


def main() -> None:
  """Runs what the command line asks for, and prints the tables."""
  args = parse_args()
  try:
    if args.table:
      records = tables.read(args.table)
    else:
      pairs = choose(args)
      if args.cores:
        # Inherited by all the processes.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
      records = run_all(pairs, args)
  except (OSError, ValueError) as error:
    sys.exit(f'{pathlib.Path(__file__).name}: {error}')
  print(tables.markdown(records))


if __name__ == '__main__':
  main()
