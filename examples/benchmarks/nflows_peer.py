"""The workloads with nflows.

Two adaptations: it has no Glow, but the parts of one, put together here as in
`MultiscaleCompositeTransform`; its 1x1 convolutions start at a permutation. The
networks of couplings are plain ones, ours, instead of residual ones. Affine couplings
have the scale `sigmoid(s + 2) + 0.001`, autoregressive layers `softplus(s) + 0.001`;
their masked networks apply no ReLU to their first layer.

`ActNorm` initialises itself at the first batch of training data.
"""

import torch
import torch_tasks
from nflows import distributions
from nflows import flows
from nflows import transforms
from task import Task
from workloads import Glow
from workloads import Tabular
from workloads import Workload

PACKAGES = ['nflows']


def make(workload: Workload) -> Task:
  """The task."""
  torch.manual_seed(0)
  if isinstance(workload, Glow):
    transform, x = make_glow(workload), torch_tasks.images(workload.data())
  else:
    layers = []
    for i in range(workload.num_layers):
      layers += LAYERS[workload.layer](workload, i)
    transform = transforms.CompositeTransform(layers)
    x = torch.tensor(workload.data())
  size = x[0].numel()
  model = flows.Flow(transform, distributions.StandardNormal([size]))
  if workload.task == 'train':
    loss_fn = lambda: -model.log_prob(x).mean()  # noqa: E731
    return torch_tasks.training_task(model, loss_fn, PACKAGES)
  with torch.no_grad():
    model.log_prob(x)
  if workload.task == 'sample':
    fn = lambda: model.sample(workload.batch)  # noqa: E731
  else:
    fn = lambda: -model.log_prob(x)  # noqa: E731
  return torch_tasks.call_task(model, fn, PACKAGES)


def make_glow(workload: Glow) -> transforms.Transform:
  """Glow, data to latents."""
  height, width, channels = workload.image_shape
  levels = transforms.MultiscaleCompositeTransform(workload.num_levels)
  shape = (channels, height, width)
  for _ in range(workload.num_levels):
    layers = [transforms.SqueezeTransform()]
    shape = layers[0].get_output_shape(*shape)
    for _ in range(workload.num_steps):
      layers += [
        transforms.ActNorm(shape[0]),
        transforms.OneByOneConvolution(shape[0]),
        transforms.AffineCouplingTransform(
          torch.arange(shape[0]) >= shape[0] // 2,
          lambda m, n: torch_tasks.conv_net(m, n, workload.width),
        ),
      ]
    shape = levels.add_transform(transforms.CompositeTransform(layers), shape)
  return levels


def affine(workload: Tabular, index: int) -> list[transforms.Transform]:
  """An affine coupling."""
  return [transforms.AffineCouplingTransform(*mask_and_network(workload, index))]


def spline(workload: Tabular, index: int) -> list[transforms.Transform]:
  """A coupling with splines."""
  return [
    transforms.PiecewiseRationalQuadraticCouplingTransform(
      *mask_and_network(workload, index),
      num_bins=workload.num_bins,
      tails='linear',
      tail_bound=workload.bound,
    )
  ]


def autoregressive(workload: Tabular, index: int) -> list[transforms.Transform]:
  """An affine autoregressive layer; from the second on, in reverse order."""
  return masked(workload, index, transforms.MaskedAffineAutoregressiveTransform)


def autoregressive_spline(workload: Tabular, index: int) -> list[transforms.Transform]:
  """An autoregressive layer with splines; from the second on, in reverse order."""
  return masked(
    workload,
    index,
    transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform,
    num_bins=workload.num_bins,
    tails='linear',
    tail_bound=workload.bound,
  )


def masked(
  workload: Tabular, index: int, make: type[transforms.Transform], **options
) -> list[transforms.Transform]:
  """An autoregressive layer, behind a reversal but for the first."""
  layer = make(
    workload.num_dims,
    workload.hidden[0],
    num_blocks=len(workload.hidden) - 1,
    use_residual_blocks=False,
    **options,
  )
  torch_tasks.start_at_zero(layer.autoregressive_net.final_layer)
  return [*[transforms.ReversePermutation(workload.num_dims)][:index], layer]


def mask_and_network(workload: Tabular, index: int) -> tuple:
  """The mask of what a coupling changes, and the function that makes its network."""
  mask = (torch.arange(workload.num_dims) + index) % 2
  return mask, lambda m, n: torch_tasks.mlp([m, *workload.hidden, n])


LAYERS = {
  'affine': affine,
  'autoregressive': autoregressive,
  'autoregressive_spline': autoregressive_spline,
  'spline': spline,
}
