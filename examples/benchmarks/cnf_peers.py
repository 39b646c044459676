r"""Times a training step of a continuous normalizing flow in other libraries.

In environments of their own, with Python 3.11:

    python3.11 -m venv /tmp/peers_torch
    /tmp/peers_torch/bin/pip install 'torch==2.13.0+cpu' zuko==1.6.0 \
        torchdiffeq==0.2.5 numpy \
        --extra-index-url https://download.pytorch.org/whl/cpu
    python3.11 -m venv /tmp/peers_jax
    /tmp/peers_jax/bin/pip install jax==0.10.2 diffrax==0.7.2 equinox optax numpy
    python3.11 -m venv /tmp/peers_tf
    /tmp/peers_tf/bin/pip install tensorflow==2.21.0 tf_keras==2.21.0 \
        tensorflow_probability==0.25.0
    cd examples/benchmarks
    /tmp/peers_jax/bin/python cnf_peers.py --peer=diffrax --trace=hutchinson
    /tmp/peers_jax/bin/python cnf_peers.py --peer=diffrax --adjoint=backsolve
    /tmp/peers_torch/bin/python cnf_peers.py --peer=zuko --trace=exact
    /tmp/peers_torch/bin/python cnf_peers.py --peer=torchdiffeq --seminorm
    /tmp/peers_tf/bin/python cnf_peers.py --peer=tfb --mode=graph --trace=exact
    /tmp/peers_tf/bin/python cnf_peers.py --peer=tfb --mode=jit --steps=3

Each run is one process, and prints one line of JSON. A step is the mean negative
log-likelihood of a fixed batch of 512 points of the plane, its gradient, Adam's
update, and the loss read back, in float32. The field is a network [x, t] -> 64 -> 64
-> 64 -> 2 with tanh, integrated from the data at t = 0 to N(0, I) at t = 1 by the
method of Dormand and Prince, with `rtol` and `atol` of 1e-5 and one step size for the
batch; its trace is exact, or Hutchinson's estimate with one normal probe per point,
drawn anew in each step. Data and initial weights are the same everywhere.

The first step is reported by itself, as `first_step_s`; `cold_s` is the time from the
start of the script to its end, imports included. Two more steps warm up, and
`ms_per_step` is the median of those that follow. `evaluations_forward` and
`evaluations_backward` count the field in one gradient more, after the steps and not
timed.

What the peers do differently: each has its own first step size (torchdiffeq chooses it,
zuko tries the whole interval, tfb takes 1e-3) and its own norm of the error (a root
mean square; in torchdiffeq the largest one over state, adjoint and every weight; in
zuko the largest entry, with the log-determinant scaled by 0.01). The gradient is an
adjoint solve of its own in torchdiffeq and tfb and in diffrax's `backsolve`, one step
back for every accepted step in zuko, and in diffrax by default that of the solver's own
steps, where the evaluations backward are those repeated from checkpoints. zuko's
`FFJTransform` embeds the time as sines and cosines: the field here is used with the
transform below it. diffrax and torchdiffeq bring no flow, only solvers: the flows here
follow their examples. diffrax 0.7.2 documents a chosen first step too, but takes 0.01.
With tfb's `jit` XLA compiles a step again whenever a weight has changed, so that a few
steps suffice, and does not compile the exact trace at all. Compare only runs on the
same quiet machine.
"""

import argparse
import collections
import importlib.metadata
import json
import statistics
import time

START = time.perf_counter()

BATCH = 512
FEATURES = [3, 64, 64, 64, 2]
TOLERANCE = 1e-5
LEARNING_RATE = 1e-3

# `step` makes a training step and returns its loss; `count` returns the numbers of
# evaluations of the field in the forward and in the backward part of one gradient.
Peer = collections.namedtuple('Peer', ['step', 'count', 'packages'])


def make_problem() -> tuple:
  """Returns the batch, and the kernel and bias of every layer."""
  import numpy as np  # Here for `cold_s` to include it.

  rng = np.random.default_rng(0)
  angle = 2 * np.pi * rng.integers(8, size=BATCH) / 8
  x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
  x += 0.1 * rng.standard_normal(x.shape)
  x *= 1.5 / x.std()

  rng = np.random.default_rng(0)
  layers = []
  for fan_in, fan_out in zip(FEATURES[:-1], FEATURES[1:]):
    limit = (6 / (fan_in + fan_out)) ** 0.5  # Glorot's.
    kernel = rng.uniform(-limit, limit, [fan_in, fan_out])
    layers.append((kernel.astype('float32'), np.zeros(fan_out, 'float32')))
  return x.astype('float32'), layers


def make_diffrax(args: argparse.Namespace) -> Peer:
  """A flow over the solvers of diffrax, after its example of one."""
  import diffrax
  import jax
  import jax.numpy as jnp
  import optax

  x, params = jax.tree.map(jnp.asarray, make_problem())
  controller = diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE)
  if args.adjoint == 'backsolve':
    adjoint = diffrax.BacksolveAdjoint()
  else:
    adjoint = diffrax.RecursiveCheckpointAdjoint()

  def field(params, t, x):
    h = jnp.concatenate([x, jnp.broadcast_to(t, [BATCH, 1])], axis=1)
    for kernel, bias in params[:-1]:
      h = jnp.tanh(h @ kernel + bias)
    kernel, bias = params[-1]
    return h @ kernel + bias

  def derivative(t, state, args_):
    params, probe = args_
    dx, vjp = jax.vjp(lambda x: field(params, t, x), state[0])
    if args.trace == 'hutchinson':
      return dx, jnp.sum(vjp(probe)[0] * probe, axis=1)
    basis = jnp.broadcast_to(jnp.eye(2)[:, None], [2, BATCH, 2])
    return dx, jnp.einsum('ibi->b', jax.vmap(vjp)(basis)[0])

  def loss_fn(params, key, derivative=derivative):
    solution = diffrax.diffeqsolve(
      diffrax.ODETerm(derivative),
      diffrax.Dopri5(),
      t0=0.0,
      t1=1.0,
      dt0=None,
      y0=(x, jnp.zeros(BATCH)),
      args=(params, jax.random.normal(key, x.shape)),
      stepsize_controller=controller,
      adjoint=adjoint,
    )
    z, log_det = jax.tree.map(lambda y: y[-1], solution.ys)
    log_prob = jax.scipy.stats.norm.logpdf(z).sum(axis=1) + log_det
    return -jnp.mean(log_prob)

  optimizer = optax.adam(LEARNING_RATE)

  @jax.jit
  def update(params, state, key):
    key, subkey = jax.random.split(key)
    loss, grads = jax.value_and_grad(loss_fn)(params, subkey)
    updates, state = optimizer.update(grads, state)
    return loss, (optax.apply_updates(params, updates), state, key)

  carry = params, optimizer.init(params), jax.random.key(0)

  def step():
    nonlocal carry
    loss, carry = update(*carry)
    return float(loss)

  def count():
    calls = []

    def counted(*args_):
      jax.debug.callback(lambda: calls.append(1))
      return derivative(*args_)

    def calls_of(fn):
      calls.clear()
      fn = jax.jit(fn, static_argnums=2)
      jax.block_until_ready(fn(carry[0], carry[2], counted))
      jax.effects_barrier()
      return len(calls)

    forward = calls_of(loss_fn)
    return forward, calls_of(jax.grad(loss_fn)) - forward

  return Peer(step, count, ['diffrax', 'jax', 'equinox', 'optax'])


def make_torch(args: argparse.Namespace, make_transform) -> Peer:
  """The part that both flows in PyTorch share.

  Args:
    args: The command line.
    make_transform: Takes the field, a module called with t and x, and returns the
      function from data to latents and log-determinants.
  """
  import torch

  torch.set_num_threads(args.threads)
  torch.manual_seed(0)
  x, weights = make_problem()
  x = torch.tensor(x)

  class Field(torch.nn.Module):
    def __init__(self):
      super().__init__()
      layers = []
      for kernel, bias in weights:
        linear = torch.nn.Linear(*kernel.shape)
        linear.weight.data = torch.tensor(kernel.T.copy())
        linear.bias.data = torch.tensor(bias)
        layers += [linear, torch.nn.Tanh()]
      self.net = torch.nn.Sequential(*layers[:-1])

    def forward(self, t, x):
      return self.net(torch.cat([x, t.expand(len(x), 1)], dim=1))

  field = Field()
  optimizer = torch.optim.Adam(field.parameters(), lr=LEARNING_RATE)
  transform = make_transform(field)
  base = torch.distributions.Normal(0.0, 1.0)

  def loss_fn():
    z, log_det = transform(x)
    return -(base.log_prob(z).sum(dim=1) + log_det).mean()

  def step():
    optimizer.zero_grad()
    loss = loss_fn()
    loss.backward()
    optimizer.step()
    return loss.item()

  def count():
    calls = []
    handle = field.register_forward_hook(lambda *_: calls.append(1))
    loss = loss_fn()
    forward = len(calls)
    loss.backward()
    handle.remove()
    return forward, len(calls) - forward

  return Peer(step, count, [args.peer, 'torch'])


def make_zuko(args: argparse.Namespace) -> Peer:
  """The free-form flow of zuko, with its adaptive checkpoint adjoint."""
  from zuko.transforms import FreeFormJacobianTransform

  def make_transform(field):
    return FreeFormJacobianTransform(
      field,
      phi=field.parameters(),
      atol=TOLERANCE,
      rtol=TOLERANCE,
      exact=args.trace == 'exact',
    ).call_and_ladj

  return make_torch(args, make_transform)


def make_torchdiffeq(args: argparse.Namespace) -> Peer:
  """A flow over torchdiffeq's adjoint method, after its example of one."""
  import torch
  from torchdiffeq import odeint_adjoint

  def trace_of(dx, x, probe, create_graph):
    if args.trace == 'hutchinson':
      (vjp,) = torch.autograd.grad(dx, x, probe, create_graph=create_graph)
      return (vjp * probe).sum(dim=1)
    trace = 0
    for i in range(2):
      # The last one may free the graph, unless there is a gradient to come.
      (row,) = torch.autograd.grad(
        dx[:, i].sum(), x, create_graph=create_graph, retain_graph=create_graph or i < 1
      )
      trace = trace + row[:, i]
    return trace

  def make_transform(field):
    times = torch.tensor([0.0, 1.0])
    params = tuple(field.parameters())
    options = dict(norm='seminorm') if args.seminorm else None

    def transform(x):
      probe = torch.randn_like(x)

      def derivative(t, state):
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
          x = state[0]
          x = x if x.requires_grad else x.detach().requires_grad_()
          dx = field(t, x)
          trace = trace_of(dx, x, probe, create_graph)
        return dx, trace

      z, log_det = odeint_adjoint(
        derivative,
        (x, torch.zeros(len(x))),
        times,
        rtol=TOLERANCE,
        atol=TOLERANCE,
        adjoint_params=params,
        adjoint_options=options,
      )
      return z[-1], log_det[-1]

    return transform

  return make_torch(args, make_transform)


def make_tfb(args: argparse.Namespace) -> Peer:
  """`FFJORD` of TensorFlow Probability."""
  import keras
  import tensorflow as tf
  import tensorflow_probability as tfp

  tf.random.set_seed(0)
  x, weights = make_problem()
  x = tf.constant(x)
  variables = [tf.Variable(w) for layer in weights for w in layer]
  calls = []

  def field(t, x):
    h = tf.concat([x, tf.fill([BATCH, 1], t)], axis=1)
    for kernel, bias in zip(variables[:-2:2], variables[1:-2:2]):
      h = tf.tanh(h @ kernel + bias)
    return h @ variables[-2] + variables[-1]

  def augment(*args_):
    # Calls are counted here since the exact trace calls the field three times.
    derivative = getattr(tfp.bijectors.ffjord, f'trace_jacobian_{args.trace}')(*args_)

    def counted(t, state):
      calls.append(1)
      return derivative(t, state)

    return counted

  flow = tfp.bijectors.FFJORD(
    field,
    ode_solve_fn=tfp.math.ode.DormandPrince(rtol=TOLERANCE, atol=TOLERANCE).solve,
    trace_augmentation_fn=augment,
  )
  distribution = tfp.distributions.TransformedDistribution(
    tfp.distributions.MultivariateNormalDiag(tf.zeros(2)), tfp.bijectors.Invert(flow)
  )
  optimizer = keras.optimizers.Adam(LEARNING_RATE, epsilon=1e-8)
  optimizer.build(variables)

  def loss_fn():
    data = tf.identity(x)  # Results are cached with the tensor they belong to.
    return -tf.reduce_mean(distribution.log_prob(data))

  @tf.function(jit_compile=args.mode == 'jit')
  def update():
    with tf.GradientTape() as tape:
      loss = loss_fn()
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
    return loss

  def count():
    calls.clear()  # Of the tracing; what follows is eager.
    with tf.GradientTape() as tape:
      loss = loss_fn()
    forward = len(calls)
    tape.gradient(loss, variables)
    return forward, len(calls) - forward

  packages = ['tensorflow_probability', 'tensorflow', 'keras']
  return Peer(lambda: float(update()), count, packages)


def time_training(peer: Peer, steps: int) -> dict:
  """Returns what `steps` training steps took, after the first and two more."""
  seconds, losses = [], []
  for _ in range(3 + steps):
    start = time.perf_counter()
    losses.append(peer.step())
    end = time.perf_counter()
    seconds.append(end - start)
    if len(seconds) == 1:
      cold = end - START

  forward, backward = peer.count()
  return {
    'ms_per_step': 1e3 * statistics.median(seconds[3:]),
    'first_step_s': seconds[0],
    'cold_s': cold,
    'steps': steps,
    'parameters': sum((m + 1) * n for m, n in zip(FEATURES[:-1], FEATURES[1:])),
    'loss_first': losses[0],
    'loss_last': losses[-1],
    'evaluations_forward': forward,
    'evaluations_backward': backward,
    'versions': {name: importlib.metadata.version(name) for name in peer.packages},
  }


PEERS = {
  'diffrax': (make_diffrax, ['adjoint']),
  'zuko': (make_zuko, ['threads']),
  'torchdiffeq': (make_torchdiffeq, ['seminorm', 'threads']),
  'tfb': (make_tfb, ['mode']),
}


def parse_args() -> argparse.Namespace:
  """Returns the command line."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--peer', choices=PEERS, required=True)
  parser.add_argument('--trace', choices=['hutchinson', 'exact'], default='hutchinson')
  parser.add_argument('--steps', type=int, default=20, help='How many are timed.')
  parser.add_argument('--threads', type=int, default=2, help='Of PyTorch.')
  parser.add_argument(
    '--adjoint',
    choices=['checkpoint', 'backsolve'],
    default='checkpoint',
    help='Of diffrax.',
  )
  parser.add_argument(
    '--seminorm', action='store_true', help="torchdiffeq: no weights in errors' norm."
  )
  parser.add_argument(
    '--mode', choices=['jit', 'graph'], default='graph', help='Of tfb.'
  )
  args = parser.parse_args()
  if (args.peer, args.mode, args.trace) == ('tfb', 'jit', 'exact'):
    parser.error('The exact trace of tfb does not compile: use --mode=graph.')
  return args


def main() -> None:
  """Times what the command line asks for."""
  args = parse_args()
  make, options = PEERS[args.peer]
  result = time_training(make(args), args.steps)
  settings = {name: getattr(args, name) for name in ['peer', 'trace', *options]}
  print(json.dumps({'workload': 'cnf', **settings, **result}))


if __name__ == '__main__':
  main()
