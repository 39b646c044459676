"""Training steps, calls and networks with PyTorch."""

import itertools
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np
import torch
from task import Task
from torch import nn
from workloads import LEARNING_RATE

__all__ = [
  'call_task',
  'conv_net',
  'images',
  'mlp',
  'start_at_zero',
  'training_task',
  'zero',
]


# Whether the networks of the peers keep the start that their users get.
own_start = False


class Network(nn.Sequential):
  """Layers in a row, called as the networks of couplings are."""

  def __init__(self, *layers, hidden_features):
    super().__init__(*layers)
    # By its root some splines divide the raw sizes of their bins.
    self.hidden_features = hidden_features

  def forward(self, x, context=None):
    return super().forward(x)


def mlp(sizes: Sequence[int]) -> Network:
  """Linear layers with ReLU between; the last starts at zero."""
  layers = []
  for m, n in itertools.pairwise(sizes):
    layers += [nn.Linear(m, n), nn.ReLU()]
  zero(layers[-2])
  return Network(*layers[:-1], hidden_features=sizes[-2])


def conv_net(channels: int, outputs: int, width: int) -> Network:
  """The network of Glow's couplings; the last layer starts at zero."""
  return Network(
    nn.Conv2d(channels, width, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(width, width, 1),
    nn.ReLU(),
    zero(nn.Conv2d(width, outputs, 3, padding=1)),
    hidden_features=width,
  )


def start_at_zero(layer: nn.Module) -> None:
  """Sets the last layer of a peer's own network to zero, unless `own_start`."""
  if not own_start:
    zero(layer)


def zero(layer: nn.Module) -> nn.Module:
  """`layer`, with all parameters set to zero."""
  for parameter in layer.parameters():
    nn.init.zeros_(parameter)
  return layer


def images(x: np.ndarray) -> torch.Tensor:
  """Images `[n, height, width, channels]` in PyTorch's order."""
  return torch.tensor(x.transpose(0, 3, 1, 2).copy())


def training_task(
  model: nn.Module, loss_fn: Callable[[], torch.Tensor], packages: Sequence[str]
) -> Task:
  """Steps of Adam on `loss_fn()`."""
  optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)

  def step():
    optimizer.zero_grad()
    loss = loss_fn()
    loss.backward()
    optimizer.step()
    return loss.item()

  return Task(step, _count(model), [*packages, 'torch'])


def call_task(
  model: nn.Module, fn: Callable[[], torch.Tensor], packages: Sequence[str]
) -> Task:
  """Calls of `fn`, without gradients."""

  @torch.no_grad()
  def step():
    return float(np.mean(fn().numpy()))

  return Task(step, _count(model), [*packages, 'torch'])


def _count(model):
  return sum(p.numel() for p in model.parameters())
