"""What no implementation in PyTorch can avoid: the networks of Glow alone.

The same as `floor.py`, which see.
"""

import torch
import torch_tasks
from task import Task
from task import Unavailable
from workloads import Glow
from workloads import Workload


def make(workload: Workload) -> Task:
  """The task."""
  if not isinstance(workload, Glow) or workload.task != 'train':
    raise Unavailable('There is a floor for the training of Glow only.')
  torch.manual_seed(0)
  networks, inputs = torch.nn.ModuleList(), []
  for height, width, channels in workload.network_shapes():
    network = torch_tasks.conv_net(channels, 2 * channels, workload.width)
    torch.nn.init.normal_(network[-1].weight, std=0.01)
    networks.append(network)
    x = torch.randn(workload.batch, channels, height, width)
    inputs.append(x.requires_grad_())

  def step():
    networks.zero_grad()
    for x in inputs:
      x.grad = None
    loss = sum((net(x) ** 2).sum() for net, x in zip(networks, inputs))
    loss.backward()
    return loss.item()

  count = sum(p.numel() for p in networks.parameters())
  return Task(step, count, ['torch'])
