"""What no implementation can avoid: the networks of Glow alone, with TensorFlow.

Forward and backward pass of all conditioner networks of a workload, each on an input of
its shape, by the runtime and with the network that our Glow has. The loss is the sum of
squares of all outputs; the gradients are those of all weights and of all inputs. No
optimizer.
"""

import numpy as np
import tensorflow as tf
from task import Task
from task import Unavailable
from tf_tasks import PACKAGES
from workloads import Glow
from workloads import Workload

from tfp_flows import networks


def make(workload: Workload, mode: str = 'jit') -> Task:
  """The task, compiled by XLA or, with `mode='graph'`, as a graph."""
  if not isinstance(workload, Glow) or workload.task != 'train':
    raise Unavailable('There is a floor for the training of Glow only.')
  rng = np.random.default_rng(0)
  shapes = workload.network_shapes()
  networks = [make_network(s, workload.width, i) for i, s in enumerate(shapes)]
  inputs = [
    tf.constant(rng.standard_normal([workload.batch, *shape]), tf.float32)
    for shape in shapes
  ]
  weights = [v.value for network in networks for v in network.trainable_variables]

  @tf.function(jit_compile=mode == 'jit')
  def gradients(inputs):
    with tf.GradientTape() as tape:
      tape.watch(inputs)
      outputs = [network(x) for network, x in zip(networks, inputs)]
      loss = tf.add_n([tf.reduce_sum(y**2) for y in outputs])
    # Returned, for XLA drops what nobody asks for.
    return loss, tape.gradient(loss, [weights, inputs])

  count = sum(int(np.prod(v.shape)) for v in weights)
  return Task(lambda: float(gradients(inputs)[0]), count, PACKAGES)


def make_network(shape: tuple, width: int, seed: int) -> networks.ConvNet:
  """The network of a coupling; its last layer, zero at first, is made small."""
  network = networks.ConvNet(shape, 2 * shape[-1], width=width, seed=seed)
  rng = np.random.default_rng(seed)
  network.set_weights(
    [
      w if w.any() or w.ndim == 1 else 0.01 * rng.standard_normal(w.shape)
      for w in network.get_weights()
    ]
  )
  return network
