"""The workloads on vectors with zuko.

Affine couplings are `NICE`, autoregressive layers `MAF`, those with splines `NSF`. Two
adaptations: splines of couplings are in `NICE`; and the last layers of all networks are
set to zero.
"""

import functools

import torch
import torch_tasks
import zuko
from task import Task
from task import Unavailable
from workloads import Tabular
from workloads import Workload


def make(workload: Workload) -> Task:
  """The task."""
  if not isinstance(workload, Tabular):
    raise Unavailable('zuko has no layers of images.')
  torch.manual_seed(0)
  model = make_flow(workload)
  for transform in model.transform.transforms:
    torch_tasks.start_at_zero(transform.hyper[-1])
  if workload.task == 'sample':
    sample = lambda: model().sample((workload.batch,))  # noqa: E731
    return torch_tasks.call_task(model, sample, ['zuko'])
  x = torch.tensor(workload.data())
  return torch_tasks.training_task(model, lambda: -model().log_prob(x).mean(), ['zuko'])


def make_flow(workload: Tabular) -> zuko.lazy.Flow:
  """The flow of `workload`."""
  options = dict(
    features=workload.num_dims,
    transforms=workload.num_layers,
    hidden_features=workload.hidden,
  )
  if workload.layer == 'affine':
    return zuko.flows.NICE(**options)
  if workload.layer == 'autoregressive':
    return zuko.flows.MAF(**options)
  k = workload.num_bins
  if workload.layer == 'autoregressive_spline':
    return zuko.flows.NSF(bins=k, **options)
  return zuko.flows.NICE(
    univariate=functools.partial(
      zuko.transforms.MonotonicRQSTransform, bound=workload.bound
    ),
    shapes=[(k,), (k,), (k - 1,)],
    **options,
  )
