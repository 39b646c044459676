"""How many seconds each package of tests takes, of one run.

    python -m pytest -n 2 --junitxml=junit.xml
    python -m tests.seconds junit.xml

Prints a table; of several workers it has the sum. With `--slowest=N` the tests follow
that take longest.
"""

import argparse
import collections
import xml.etree.ElementTree

__all__ = ['by_package', 'read', 'table']


def read(path):
  """Name -> seconds of every test in a file of `--junitxml`."""
  found = collections.Counter()
  for case in xml.etree.ElementTree.parse(path).iter('testcase'):
    found[f'{case.get("classname")}.{case.get("name")}'] += float(case.get('time'))
  return found


def by_package(seconds):
  """Package -> number of tests and seconds; files beside the packages are `tests`."""
  found = {}
  for name, value in seconds.items():
    parts = name.partition('[')[0].split('.')
    package = '/'.join(parts[:2]) if len(parts) > 3 else parts[0]
    count, total = found.get(package, (0, 0.0))
    found[package] = count + 1, total + value
  return found


def table(packages):
  """The lines of a table, the longest first, with the sum."""
  rows = sorted(packages.items(), key=lambda item: -item[1][1])
  rows.append(('all', tuple(map(sum, zip(*packages.values())))))
  return ['| Tests | Number | Seconds |', '|---|---|---|'] + [
    f'| `{name}` | {count} | {seconds:.0f} |' for name, (count, seconds) in rows
  ]


def main():
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('path', help='what pytest wrote for --junitxml')
  parser.add_argument('--slowest', type=int, default=0, help='tests to list')
  arguments = parser.parse_args()
  seconds = read(arguments.path)
  print('\n'.join(table(by_package(seconds))))
  for name, value in seconds.most_common(arguments.slowest):
    print(f'{value:8.1f}  {name}')


if __name__ == '__main__':
  main()
