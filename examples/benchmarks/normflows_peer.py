"""The workloads with normflows.

Its Glow is `nf.MultiscaleFlow` of `nf.flows.GlowBlock`. On vectors its affine couplings
take the first half of the entries and the second in turn. Two adaptations: its
autoregressive and spline layers are fast from latents to data, so that they stand in a
`Reverse`; and the spline couplings have a plain multilayer perceptron instead of a
residual network, and no spline of the entries that they keep. The masked networks apply
no ReLU to their first layer.

`ActNorm` initialises itself at its first call, whichever that is: here on the data.
"""

import normflows as nf
import torch
import torch_tasks
from task import Task
from workloads import Glow
from workloads import Tabular
from workloads import Workload

PACKAGES = ['normflows']


def make(workload: Workload) -> Task:
  """The task."""
  torch.manual_seed(0)
  if isinstance(workload, Glow):
    return make_glow_task(workload)
  model = nf.NormalizingFlow(
    nf.distributions.DiagGaussian(workload.num_dims, trainable=False),
    # Listed from latents to data, which come first here.
    [LAYERS[workload.layer](workload, i) for i in range(workload.num_layers)][::-1],
  )
  x = torch.tensor(workload.data())
  return torch_tasks.training_task(model, lambda: model.forward_kld(x), PACKAGES)


def make_glow_task(workload: Glow) -> Task:
  """The task of Glow."""
  model, x = make_glow(workload), torch_tasks.images(workload.data())
  if workload.task == 'train':
    return torch_tasks.training_task(model, lambda: model.forward_kld(x), PACKAGES)
  with torch.no_grad():
    model.log_prob(x, None)
  if workload.task == 'sample':
    fn = lambda: model.sample(workload.batch)[0]  # noqa: E731
  else:
    fn = lambda: -model.log_prob(x, None)  # noqa: E731
  return torch_tasks.call_task(model, fn, PACKAGES)


def make_glow(workload: Glow) -> nf.MultiscaleFlow:
  """Glow; the levels are listed from latents to data."""
  height, width, channels = workload.image_shape
  bases, levels, merges = [], [], []
  for i in range(workload.num_levels):
    height, width, channels = height // 2, width // 2, 4 * channels
    blocks = [
      nf.flows.GlowBlock(channels, workload.width) for _ in range(workload.num_steps)
    ]
    levels.append([*blocks, nf.flows.Squeeze()])
    if i < workload.num_levels - 1:
      merges.append(nf.flows.Merge())
      channels //= 2
    shape = (channels, height, width)
    bases.append(nf.distributions.DiagGaussian(shape, trainable=False))
  return nf.MultiscaleFlow(bases[::-1], levels[::-1], merges[::-1], class_cond=False)


def affine(workload: Tabular, index: int) -> nf.flows.Flow:
  """An affine coupling."""
  small, large = workload.num_dims // 2, (workload.num_dims + 1) // 2
  kept, changed = (small, large) if index % 2 else (large, small)
  return nf.flows.AffineCouplingBlock(
    nf.nets.MLP([kept, *workload.hidden, 2 * changed], init_zeros=True),
    split_mode='channel_inv' if index % 2 else 'channel',
  )


def autoregressive(workload: Tabular, index: int) -> nf.flows.Flow:
  """An affine autoregressive layer; in every second one the order is reversed."""
  made = nf.flows.MaskedAffineAutoregressive(
    workload.num_dims,
    workload.hidden[0],
    num_blocks=len(workload.hidden) - 1,
    use_residual_blocks=False,
  )
  torch_tasks.start_at_zero(made.autoregressive_net.final_layer)
  flow = nf.flows.Reverse(made)
  return nf.flows.Composite([flow, Backwards()]) if index else flow


class Backwards(nf.flows.Flow):
  """The entries in reverse order."""

  def forward(self, z):
    return z.flip(1), z.new_zeros(len(z))

  inverse = forward


def spline(workload: Tabular, index: int) -> nf.flows.Flow:
  """A coupling with splines."""
  coupling = nf.flows.neural_spline.coupling.PiecewiseRationalQuadraticCoupling(
    mask=(torch.arange(workload.num_dims) + index) % 2,
    transform_net_create_fn=lambda m, n: torch_tasks.mlp([m, *workload.hidden, n]),
    num_bins=workload.num_bins,
    tails='linear',
    tail_bound=workload.bound,
  )
  return nf.flows.Reverse(coupling)


LAYERS = {'affine': affine, 'autoregressive': autoregressive, 'spline': spline}
