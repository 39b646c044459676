"""The workloads on vectors with flowjax.

`coupling_flow` and `masked_autoregressive_flow`, compiled as a scan over the layers,
with a fixed random permutation after each. No adaptation; what differs: last layers
start at small random weights, the scale is `softplus(s) + 0.01`, and its splines have
trained slopes at the ends of the interval, too.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import paramax
from flowjax import bijections
from flowjax import distributions
from flowjax import flows
from flowjax.train import losses
from task import Task
from task import Unavailable
from workloads import LEARNING_RATE
from workloads import Tabular
from workloads import Workload


def make(workload: Workload) -> Task:
  """The task."""
  if not isinstance(workload, Tabular):
    raise Unavailable('flowjax has no layers of images.')
  flow = make_flow(workload)
  if workload.task == 'sample':
    return sampling_task(flow, workload)
  params, static = eqx.partition(
    flow,
    eqx.is_inexact_array,
    is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable),
  )
  x = jnp.asarray(workload.data())
  loss_fn = losses.MaximumLikelihoodLoss()
  optimizer = optax.adam(LEARNING_RATE)

  @eqx.filter_jit(donate='all')
  def update(params, state):
    loss, gradients = eqx.filter_value_and_grad(loss_fn)(params, static, x)
    updates, state = optimizer.update(gradients, state, params)
    return loss, (eqx.apply_updates(params, updates), state)

  count = sum(p.size for p in jax.tree.leaves(params))
  carry = params, optimizer.init(params)

  def step():
    nonlocal carry
    loss, carry = update(*carry)
    return float(loss)

  return Task(step, count, ['flowjax', 'jax', 'equinox', 'optax'])


def sampling_task(flow: distributions.Transformed, workload: Tabular) -> Task:
  """Calls of `sample`, compiled."""
  sample = eqx.filter_jit(lambda flow, key: flow.sample(key, (workload.batch,)))
  keys = map(jax.random.key, itertools.count())
  leaves = jax.tree.leaves(eqx.filter(flow, eqx.is_inexact_array))
  count = sum(leaf.size for leaf in leaves)
  step = lambda: float(np.mean(sample(flow, next(keys))))  # noqa: E731
  return Task(step, count, ['flowjax', 'jax', 'equinox'])


def make_flow(workload: Tabular) -> distributions.Transformed:
  """The flow of `workload`."""
  make = flows.coupling_flow
  options = {}
  if workload.layer.startswith('autoregressive'):
    make = flows.masked_autoregressive_flow
  if workload.layer.endswith('spline'):
    # Of `knots` inner ones there are `knots + 1` bins.
    options['transformer'] = bijections.RationalQuadraticSpline(
      knots=workload.num_bins - 1, interval=workload.bound
    )
  return make(
    jax.random.key(0),
    base_dist=distributions.Normal(jnp.zeros(workload.num_dims)),
    flow_layers=workload.num_layers,
    nn_width=workload.hidden[0],
    nn_depth=len(workload.hidden),
    **options,
  )
