"""Glow of TensorFlow Probability: `tfp.bijectors.Glow`.

Two adaptations: its own networks are layers of Keras 2, so that it gets our `ConvNet`,
the same as theirs; and what leaves early does so without the coupling to the rest that
it has by default, since the prior of the workload is N(0, I). Its ActNorms initialise
themselves at their first call, whichever that is: here on the data.
"""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_tasks
from task import Task
from task import Unavailable
from workloads import Glow
from workloads import Workload

tfb = tfp.bijectors
tfd = tfp.distributions


def make(workload: Workload, mode: str = 'jit') -> Task:
  """The task, compiled by XLA or, with `mode='graph'`, as a graph."""
  if not isinstance(workload, Glow):
    raise Unavailable('This is Glow only.')
  networks = []

  def make_network(shape):
    networks.append(
      networks.ConvNet(shape, 2 * shape[-1], width=workload.width, seed=len(networks))
    )
    return networks[-1]

  flow = tfb.Glow(
    output_shape=workload.image_shape,
    num_glow_blocks=workload.num_levels,
    num_steps_per_block=workload.num_steps,
    coupling_bijector_fn=make_network,
    exit_bijector_fn=lambda shape, output_chan: lambda x: tfb.Identity(),
    seed=0,
  )
  distribution = tfd.TransformedDistribution(
    tfd.Sample(tfd.Normal(0.0, 1.0), [int(np.prod(workload.image_shape))]), flow
  )
  # The weights of a Keras 3 layer are none to TensorFlow Probability.
  weights = [v.value for network in networks for v in network.trainable_variables]
  tf_tasks.start_alike(weights, rank=4)
  if workload.task != 'train':
    flow.inverse(tf.constant(workload.data()))
  variables = [*flow.trainable_variables, *weights]
  return tf_tasks.distribution_task(distribution, variables, workload, mode)
