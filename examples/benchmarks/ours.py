"""The workloads with this library.

`Glow` is what `tff.glow` builds; options of the command line are passed on to it. The
layers of vectors are those of `tff.maf`, in turn from the first entry and from the
last, or couplings with masks that keep every second entry, in turn. All networks start
as those of the peers do; with `--option own_start=True` as ours do.
"""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_tasks
from task import Task
from task import Unavailable
from workloads import Glow
from workloads import Tabular
from workloads import Workload

from tfp_flows import bijectors
from tfp_flows import flows
from tfp_flows import networks

tfb = tfp.bijectors
tfd = tfp.distributions


def make(
  workload: Workload,
  mode: str = 'jit',
  adapt: bool = True,
  own_start: bool = False,
  **options,
) -> Task:
  """The task, compiled by XLA or, with `mode='graph'`, as a graph."""
  is_glow = isinstance(workload, Glow)
  if options and not is_glow:
    raise Unavailable(f'Only Glow takes options; received {options}.')
  flow = make_glow(workload, **options) if is_glow else make_tabular(workload)
  if not own_start:
    tf_tasks.start_alike(flow.trainable_variables, rank=4 if is_glow else 2)
  if is_glow and adapt:
    # The bijector under `Invert` maps data to latents, the way to adapt.
    flow.bijector.bijector.adapt(tf.constant(workload.data()))
  return tf_tasks.distribution_task(flow, flow.trainable_variables, workload, mode)


def make_glow(workload: Glow, **options) -> tfd.Distribution:
  """Glow, with `options` of `tff.glow`."""
  return flows.glow(
    list(workload.image_shape),
    num_levels=workload.num_levels,
    num_steps=workload.num_steps,
    width=workload.width,
    **dict(learn_prior=False, num_bins=0, seed=0) | options,
  )


def make_tabular(workload: Tabular) -> tfd.Distribution:
  """The flow of `workload`, data to latent, over a standard normal."""
  if workload.layer.startswith('autoregressive'):
    is_spline = workload.layer.endswith('spline')
    return flows.maf(
      [workload.num_dims],
      workload.num_layers,
      workload.hidden,
      transformer='spline' if is_spline else 'affine',
      act_norm=False,
      seed=0,
    )
  if workload.layer == 'affine':
    transformers = [
      bijectors.Affine(workload.num_dims // 2 + i % 2, scale='clamp')
      for i in range(workload.num_layers)
    ]
  else:
    spline = bijectors.RationalQuadratic(workload.num_bins, workload.bound)
    transformers = [spline] * workload.num_layers
  layers = [
    coupling(workload, transformer, i) for i, transformer in enumerate(transformers)
  ]
  return tfd.TransformedDistribution(
    tfd.Sample(tfd.Normal(0.0, 1.0), [workload.num_dims]),
    tfb.Invert(bijectors.Sequential(layers)),
  )


def coupling(workload: Tabular, transformer, index: int) -> bijectors.Coupling:
  """A coupling that keeps the even entries, or in every second layer the odd ones."""
  mask = bijectors.IndexMask(np.arange(workload.num_dims) % 2 == index % 2)
  network = networks.MLP(
    mask.kept_shape,
    mask.changed_shape[0] * transformer.params_per_dim,
    hidden=workload.hidden,
    seed=index,
  )
  return bijectors.Coupling(mask, network, transformer)
