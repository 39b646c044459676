r"""Measures one workload with one library, in this process.

    python measure.py --workload=W1 --peer=normflows --steps=20
    python measure.py --workload=W1 --peer=ours --mode=graph --option width=64

Prints one line of JSON: the first step, two to warm up, then `steps` timed ones, each
with its result read back; `median_ms` is the median of those. `cold_s` is the time from
the start of the process to the end of the first step, `import_s` what of it the
libraries took to import. `loss` is the result of the last of the `3 + steps` steps:
in nats, for training that after `2 + steps` updates.

One further step serves to measure memory: `peak_mb` is its high-water mark of resident
memory minus what was resident before the first step, when model and data were there
but nothing was compiled. The mark is reset before that step through
/proc/self/clear_refs; where that cannot be written, it is that of the whole process,
and `peak_of` says so. It holds what a compiler has freed and the allocator has kept:
`trimmed_peak_mb` is that of a step after `malloc_trim`, which gives this back.
"""

import time

START = time.time()

import argparse  # noqa: E402
import ast  # noqa: E402
import ctypes  # noqa: E402
import importlib  # noqa: E402
import importlib.metadata  # noqa: E402
import inspect  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402

from suite import MODULES  # noqa: E402
from task import Task  # noqa: E402
from task import Unavailable  # noqa: E402
from workloads import WORKLOADS  # noqa: E402


def process_start() -> float:
  """When this process started, by `time.time()`; without /proc, this module."""
  try:
    with open('/proc/self/stat') as file:
      ticks = int(file.read().rsplit(')', 1)[1].split()[19])
  except OSError:
    return START
  age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf('SC_CLK_TCK')
  return time.time() - age


def num_cores() -> int:
  """How many cores this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count()


def memory_mb(field: str) -> float | None:
  """`VmRSS` or `VmHWM` of this process, or None where there is no /proc."""
  try:
    with open('/proc/self/status') as file:
      (line,) = (line for line in file if line.startswith(f'{field}:'))
  except OSError:
    return None
  return int(line.split()[1]) / 1024


def reset_peak() -> bool:
  """Lets `VmHWM` begin anew; whether that was possible."""
  try:
    with open('/proc/self/clear_refs', 'w') as file:
      file.write('5')
  except OSError:
    return False
  return True


def trim() -> bool:
  """Gives memory that is allocated no more back to the system, if glibc is there."""
  try:
    ctypes.CDLL('libc.so.6').malloc_trim(0)
  except (AttributeError, OSError):
    return False
  return True


def peak_of_step(task: Task, before: float | None) -> dict:
  """Memory of one further step, and of another after a trim."""
  if before is None:
    return {}
  is_reset = reset_peak()
  task.step()
  result = {
    'peak_mb': memory_mb('VmHWM') - before,
    'peak_of': 'step' if is_reset else 'process',
  }
  if trim() and reset_peak():
    task.step()
    result['trimmed_peak_mb'] = memory_mb('VmHWM') - before
  return result


def time_steps(task: Task, steps: int, started: float) -> dict:
  """What the first step and `steps` timed ones took."""
  seconds, losses = [], []
  for i in range(3 + steps):
    start = time.perf_counter()
    losses.append(task.step())
    seconds.append(time.perf_counter() - start)
    if i == 0:
      cold = time.time() - started
  times = [1e3 * s for s in seconds[3:]]
  return {
    'median_ms': statistics.median(times),
    'times_ms': times,
    'cold_s': cold,
    'first_step_s': seconds[0],
    'steps': steps,
    'parameters': task.num_parameters,
    'loss_first': losses[0],
    'loss': losses[-1],
    'versions': {name: importlib.metadata.version(name) for name in task.packages},
  }


def measure(args: argparse.Namespace) -> dict:
  """The line of JSON, as a dict."""
  started = process_start()
  if args.cores:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
  start = time.perf_counter()
  make = importlib.import_module(MODULES[args.peer]).make
  import_s = time.perf_counter() - start
  settings = {'mode': args.mode} if args.mode else {}
  settings |= dict(args.option)
  task = make_task(make, args, settings)
  before = memory_mb('VmRSS')
  result = {
    'workload': args.workload,
    'peer': args.peer,
    'mode': args.mode or default_mode(make),
    'options': dict(args.option),
    'cores': num_cores(),
    'import_s': import_s,
  }
  result |= time_steps(task, args.steps, started) | peak_of_step(task, before)
  if WORKLOADS[args.workload].task == 'sample' or 'floor' in args.peer:
    result |= {'loss_first': None, 'loss': None}  # It is no likelihood.
  return result


def make_task(make, args: argparse.Namespace, settings: dict) -> Task:
  """The task of the command line, with errors that name the library."""
  parameters = inspect.signature(make).parameters
  takes_all = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
  unknown = [name for name in settings if name not in parameters and not takes_all]
  if unknown:
    raise Unavailable(f'{args.peer} has no option {unknown[0]!r}.')
  return make(WORKLOADS[args.workload], **settings)


def default_mode(make) -> str | None:
  """The mode that `make` takes if none is given, if it has modes."""
  parameter = inspect.signature(make).parameters.get('mode')
  return parameter and parameter.default


def parse_option(text: str) -> tuple:
  """Name and value of `name=value`, a Python literal or a string."""
  name, equals, value = text.partition('=')
  if not name or not equals:
    raise argparse.ArgumentTypeError(f'expected name=value, received {text!r}')
  try:
    return name, ast.literal_eval(value)
  except (SyntaxError, ValueError):
    return name, value


def parse_args() -> argparse.Namespace:
  """Returns the command line."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--workload', choices=WORKLOADS, required=True)
  parser.add_argument('--peer', choices=MODULES, required=True)
  parser.add_argument('--steps', type=int, default=20, help='How many are timed.')
  parser.add_argument('--mode', help='jit or graph, of TensorFlow.')
  parser.add_argument(
    '--option',
    type=parse_option,
    action='append',
    default=[],
    help='name=value, of the peer; may be repeated.',
  )
  parser.add_argument('--cores', type=int, default=0, help='0: as many as there are.')
  return parser.parse_args()


def main() -> None:
  """Measures what the command line asks for."""
  args = parse_args()
  try:
    result = measure(args)
  except Unavailable as error:
    sys.exit(f'{args.workload} with {args.peer} is not available: {error}')
  print(json.dumps(result))


if __name__ == '__main__':
  main()
