"""Affine couplings with FrEIA.

One adaptation: its `GLOWCouplingBlock` changes both halves, one after the other, so
that it stands for two couplings. The log-scale is `1.27 * atan(s)`.
"""

import math

import torch
import torch_tasks
from FrEIA import framework
from FrEIA import modules
from task import Task
from task import Unavailable
from workloads import Tabular
from workloads import Workload


def make(workload: Workload) -> Task:
  """The task."""
  if not isinstance(workload, Tabular) or workload.layer != 'affine':
    raise Unavailable('FrEIA takes part with its affine couplings only.')
  torch.manual_seed(0)
  size = workload.num_dims
  model = framework.SequenceINN(size)
  for _ in range(workload.num_layers // 2):
    model.append(
      modules.GLOWCouplingBlock,
      subnet_constructor=lambda m, n: torch_tasks.mlp([m, *workload.hidden, n]),
    )
  x = torch.tensor(workload.data())

  def loss_fn():
    z, log_det = model(x)
    square = (z**2).sum(dim=1)
    return (0.5 * square + 0.5 * size * math.log(2 * math.pi) - log_det).mean()

  return torch_tasks.training_task(model, loss_fn, ['FrEIA'])
