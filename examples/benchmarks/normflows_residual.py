r"""Times residual flows of normflows (PyTorch), the peer of `tfp_flows`' own.

In an environment of its own, with Python 3.11:

    python3.11 -m venv /tmp/peers
    /tmp/peers/bin/pip install 'torch==2.13.0+cpu' normflows==1.7.3 numpy \
        --extra-index-url https://download.pytorch.org/whl/cpu
    cd examples/benchmarks
    /tmp/peers/bin/python normflows_residual.py --workload=res_mlp --steps=20
    /tmp/peers/bin/python normflows_residual.py --workload=res_conv --steps=20
    /tmp/peers/bin/python normflows_residual.py --workload=res_mlp --inverse
    /tmp/peers/bin/python normflows_residual.py --workload=res_conv --inverse

Each run prints one line of JSON. A step is the mean negative log-likelihood of a
fixed batch under N(0, I), its gradient, Adam's update, the loss read back, and five
power iterations per layer, in float32. The first step is reported by itself, two
more warm up, and `ms_per_step` is the median of those that follow.

With `--inverse` the last layers, nearly zero where training starts, are scaled until
every block's branch g has, on its batch, the Lipschitz constant that is the most a
trained one can have, 0.9 to the power of its layers; `branch` is the mean of
std(g) / std(x). What is timed is the inverse of all the blocks without the
log-determinant; `error` is the largest |forward(inverse(y)) - y|, and `error_data`
the largest |inverse(forward(x)) - x|. A fixed-point iteration of normflows stops when
its last *squared* change is below `atol + rtol * |y|`, so its default of 1e-5 stops
at changes of about 3e-3. The line reports it under `default`; its other numbers are
those of changes of about 1e-5 (`atol` and `rtol` of 1e-10).
"""

import argparse
import json
import statistics
import time

import normflows as nf
import numpy as np
import torch

COEFF = 0.9
POWER_ITERATIONS = 5


def make_flow(workload: str) -> nf.NormalizingFlow:
  """Returns the blocks of `workload` over a standard normal."""
  # No weight has its norm estimated in a forward pass: `max_lipschitz_iter` is the
  # default of the explicit updates, and of a convolution's first call.
  lipschitz = dict(
    lipschitz_const=COEFF,
    max_lipschitz_iter=POWER_ITERATIONS,
    lipschitz_tolerance=None,
    init_zeros=True,
  )
  if workload == 'res_mlp':
    shape = (2,)
    nets = [nf.nets.LipschitzMLP([2, 128, 128, 128, 2], **lipschitz) for _ in range(16)]
  else:
    shape = (1, 28, 28)
    nets = [
      nf.nets.LipschitzCNN([1, 64, 64, 1], [3, 1, 3], **lipschitz) for _ in range(4)
    ]

  # `reverse` (the default) makes x + g(x) the direction from data to latent.
  blocks = [
    nf.flows.Residual(
      net,
      reverse=True,
      reduce_memory=True,
      geom_p=0.5,
      n_samples=1,
      n_exact_terms=2,
      n_dist='geometric',
    )
    for net in nets
  ]
  base = nf.distributions.DiagGaussian(shape, trainable=False)
  return nf.NormalizingFlow(base, blocks)


def make_batch(workload: str) -> torch.Tensor:
  """Returns the fixed batch of `workload`."""
  rng = np.random.default_rng(0)
  if workload == 'res_mlp':
    batch = 2 * rng.standard_normal((512, 2))
  else:
    batch = rng.uniform(size=(32, 1, 28, 28))
  return torch.tensor(batch, dtype=torch.float32)


def time_training(workload: str, steps: int) -> dict:
  """Returns what `steps` training steps took, after the first and two more."""
  flow = make_flow(workload).train()
  batch = make_batch(workload)
  optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)

  seconds, losses = [], []
  for _ in range(3 + steps):
    start = time.perf_counter()
    optimizer.zero_grad()
    loss = flow.forward_kld(batch)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    nf.utils.update_lipschitz(flow, POWER_ITERATIONS)
    seconds.append(time.perf_counter() - start)

  return {
    'ms_per_step': 1e3 * statistics.median(seconds[3:]),
    'first_step_s': seconds[0],
    'steps': steps,
    'loss_first': losses[0],
    'loss_last': losses[-1],
  }


def forward(flow: nf.NormalizingFlow, x: torch.Tensor) -> torch.Tensor:
  """Maps data to the latent space, without the log-determinant."""
  for block in reversed(flow.flows):
    x = block.iresblock(x)
  return x


def inverse(flow: nf.NormalizingFlow, y: torch.Tensor, tol: float) -> torch.Tensor:
  """Maps the latent space to data, without the log-determinant."""
  for block in flow.flows:
    # `iresblock.inverse(y)`, which offers no choice of tolerance.
    y = block.iresblock._inverse_fixed_point(y, atol=tol, rtol=tol)
  return y


def lipschitz_constant(net: torch.nn.Module, x: torch.Tensor) -> float:
  """Returns the largest singular value of the Jacobians of `net` on a batch."""
  x = x.detach().requires_grad_()
  v = torch.randn_like(x)
  for _ in range(20):
    v = v / v.flatten(1).norm(dim=1).view(-1, *[1] * (x.ndim - 1))
    _, u = torch.autograd.functional.jvp(net, x, v)
    _, v = torch.autograd.functional.vjp(net, x, u)
  return u.flatten(1).norm(dim=1).max().item()


def enlarge_last_layers(flow: nf.NormalizingFlow, x: torch.Tensor) -> float:
  """Scales the last layers for data `x`; returns how large the branches are then."""
  nf.utils.update_lipschitz(flow, 200)
  sizes = []
  for block in reversed(flow.flows):
    net = block.iresblock.nnet
    layers = net.net[1::2]
    factor = COEFF ** len(layers) / lipschitz_constant(net, x)
    with torch.no_grad():
      layers[-1].weight.mul_(factor)
      # So that its norm, more than `COEFF` now, is not brought back.
      layers[-1].coeff = max(COEFF, 1.01 * factor * layers[-1].scale.item())
      # Centred: large offsets would leave float32 too few digits to converge.
      layers[-1].bias.sub_(net(x).mean([0, *range(2, x.ndim)]))
      sizes.append((net(x).std() / x.std()).item())
      x = block.iresblock(x)
  return statistics.mean(sizes)


def time_inverse(workload: str, steps: int) -> dict:
  """Returns what inverting all the blocks took, and how well it was done."""
  flow = make_flow(workload).train()
  batch = make_batch(workload)
  forward(flow, batch)  # Where convolutions learn the size of their images.
  branch = enlarge_last_layers(flow, batch)
  nets = [block.iresblock.nnet for block in flow.flows]
  calls = []

  @torch.no_grad()
  def measure(tol: float) -> dict:
    latent = forward(flow, batch)
    hooks = [net.register_forward_hook(lambda *_: calls.append(1)) for net in nets]
    calls.clear()
    data = inverse(flow, latent, tol)
    evaluations = len(calls) / len(nets)
    for hook in hooks:
      hook.remove()

    seconds = []
    for _ in range(2 + steps):
      start = time.perf_counter()
      inverse(flow, latent, tol).sum().item()
      seconds.append(time.perf_counter() - start)

    return {
      'ms_per_inverse': 1e3 * statistics.median(seconds[2:]),
      'evaluations_per_block': evaluations,
      'error': (forward(flow, data) - latent).abs().max().item(),
      'error_data': (data - batch).abs().max().item(),
    }

  return {
    'steps': steps,
    'branch': branch,
    **measure(1e-10),
    'default': measure(1e-5),
  }


def main() -> None:
  """Times what the command line asks for."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--workload', choices=['res_mlp', 'res_conv'], required=True)
  parser.add_argument('--steps', type=int, default=20, help='How many are timed.')
  parser.add_argument('--threads', type=int, default=2, help='Of PyTorch.')
  parser.add_argument('--inverse', action='store_true', help='No training: inverses.')
  args = parser.parse_args()

  torch.set_num_threads(args.threads)
  torch.manual_seed(0)
  np.random.seed(0)  # The number of terms of every series.

  run = time_inverse if args.inverse else time_training
  result = run(args.workload, args.steps)
  workload = args.workload + ('_inverse' if args.inverse else '')
  print(json.dumps({'library': 'normflows', 'workload': workload, **result}))


if __name__ == '__main__':
  main()
