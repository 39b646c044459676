"""Which libraries run which workloads, and by which command."""

import sys

__all__ = ['MODULES', 'PEERS', 'SCRIPTS', 'as_record', 'command']

# The modules that `measure.py` imports.
MODULES = {
  'ours': 'ours',
  'normflows': 'normflows_peer',
  'nflows': 'nflows_peer',
  'zuko': 'zuko_peer',
  'flowjax': 'flowjax_peer',
  'FrEIA': 'freia_peer',
  'tfb_glow': 'tfb_glow',
  'tfb': 'tfb_tabular',
  'floor': 'floor',
  'torch_floor': 'torch_floor',
}

# Scripts of their own, for the workloads that `measure.py` does not have.
SCRIPTS = {
  **{
    (f'W4{letter}{suffix}', peer): [script, workload, *inverse]
    for letter, ours, theirs in [('a', 'mlp', 'res_mlp'), ('b', 'conv', 'res_conv')]
    for suffix, inverse in [('', []), ('_inverse', ['--inverse'])]
    for peer, script, workload in [
      ('ours', 'residual_flow.py', f'--workload={ours}'),
      ('normflows', 'normflows_residual.py', f'--workload={theirs}'),
    ]
  },
  **{
    (f'W5_{trace}', peer): [*script, f'--trace={trace}']
    for trace in ['hutchinson', 'exact']
    for peer, script in [
      ('ours', ['ffjord.py']),
      ('diffrax', ['cnf_peers.py', '--peer=diffrax']),
      ('zuko', ['cnf_peers.py', '--peer=zuko']),
      ('torchdiffeq', ['cnf_peers.py', '--peer=torchdiffeq']),
      ('tfb_ffjord', ['cnf_peers.py', '--peer=tfb']),
    ]
  },
}

TAKES_THREADS = ['cnf_peers.py', 'normflows_residual.py']

# Name in `measure.py` -> names in these scripts.
NAMES = {
  'median_ms': ['ms_per_step', 'ms_per_inverse'],
  'loss': ['loss_last', 'last'],
}

# Workload -> the peers that have it.
PEERS = {
  'W1': ['ours', 'normflows', 'nflows', 'tfb_glow', 'floor', 'torch_floor'],
  'W2_sample': ['ours', 'normflows', 'nflows', 'tfb_glow'],
  'W2_log_prob': ['ours', 'normflows', 'nflows', 'tfb_glow'],
  'W3a': ['ours', 'flowjax', 'normflows', 'nflows', 'FrEIA', 'zuko', 'tfb'],
  'W3b': ['ours', 'flowjax', 'normflows', 'nflows', 'zuko', 'tfb'],
  'W3c': ['ours', 'flowjax', 'normflows', 'nflows', 'zuko', 'tfb'],
}
PEERS['W3d_sample'] = ['ours', 'flowjax', 'nflows', 'zuko']
for _workload, _peer in SCRIPTS:
  PEERS.setdefault(_workload, []).append(_peer)
for _steps in (4, 8, 16, 32):
  PEERS[f'W6_K{_steps}'] = ['ours', 'normflows', 'tfb_glow']


def command(workload: str, variant: str, steps: int, cores: int = 0) -> list[str]:
  """The command that measures `workload` with `variant`.

  Args:
    workload: its name.
    variant: a peer, or `peer:name=value:name=value` with its options.
    steps: how many are timed.
    cores: that it will be run on, or 0; some scripts must be told.
  """
  peer, *options = variant.split(':')
  if (workload, peer) in SCRIPTS:
    arguments = [*SCRIPTS[workload, peer], *(f'--{option}' for option in options)]
    if cores and arguments[0] in TAKES_THREADS:
      arguments.append(f'--threads={cores}')
  else:
    arguments = ['measure.py', f'--workload={workload}', f'--peer={peer}']
    for option in options:
      is_mode = option.startswith('mode=')
      arguments += [f'--{option}'] if is_mode else ['--option', option]
  return [sys.executable, *arguments, f'--steps={steps}']


def as_record(line: dict) -> dict:
  """The line of JSON of any of the scripts, with the names that `measure.py` has."""
  record = dict(line)
  for name, others in NAMES.items():
    for other in others:
      if other in line:
        record.setdefault(name, line[other])
  if isinstance(record.get('loss'), list):
    record['loss'] = record['loss'][0]
  if str(line.get('workload')).endswith('_inverse'):
    # What they print there is no loss.
    record['loss'] = None
  return record
