"""Markdown tables of measurements."""

import json
import statistics

__all__ = ['markdown', 'read']

HEADER = [
  'peer',
  'median ms',
  'ratio to ours',
  'cold s',
  'peak MB',
  'parameters',
  'NLL',
]


def read(path: str) -> list[dict]:
  """The records of a file of JSON lines.

  Raises:
    OSError: if the file cannot be read.
    ValueError: if a line is no record.
  """
  with open(path) as file:
    records = [json.loads(line) for line in file if line.strip()]
  if not all(isinstance(r, dict) and {'workload', 'variant'} <= {*r} for r in records):
    raise ValueError(f'Expected lines of measurements in {path!r}.')
  return records


def markdown(records: list[dict]) -> str:
  """One table per workload, of the medians over the rounds, the fastest first."""
  tables = []
  for workload in dict.fromkeys(r['workload'] for r in records):
    of_workload = [r for r in records if r['workload'] == workload]
    tables.append(f'### {workload}\n\n{_table(of_workload)}')
  return '\n\n'.join(tables)


def _table(records):
  variants = dict.fromkeys(r['variant'] for r in records)
  good = [r for r in records if 'failure' not in r]
  rows = [_medians(v, [r for r in good if r['variant'] == v]) for v in variants]
  ours = next((row['median_ms'] for row in rows if row['variant'] == 'ours'), None)
  rows.sort(key=lambda row: row['median_ms'] or float('inf'))
  lines = [HEADER, [':--', *['--:'] * (len(HEADER) - 1)]]
  lines += [_cells(row, ours) for row in rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _medians(variant, records):
  names = ['median_ms', 'cold_s', 'peak_mb', 'parameters', 'loss']
  return {'variant': variant, 'count': len(records)} | {
    name: _median([r.get(name) for r in records]) for name in names
  }


def _median(values):
  values = [v for v in values if v is not None]
  return statistics.median(values) if values else None


def _cells(row, ours):
  if not row['count']:
    return [row['variant'], 'failed', *['-'] * (len(HEADER) - 2)]
  ratio = row['median_ms'] / ours if ours else None
  return [
    row['variant'],
    _number(row['median_ms'], '.1f' if row['median_ms'] < 100 else '.0f'),
    _number(ratio, '.2f'),
    _number(row['cold_s'], '.1f'),
    _number(row['peak_mb'], '.0f'),
    _number(row['parameters'], ',.0f'),
    _number(row['loss'], '.2f'),
  ]


def _number(value, format_):
  return '-' if value is None else format(value, format_)
