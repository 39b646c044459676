"""Layers of TensorFlow Probability on vectors: `RealNVP` and the like.

Couplings are `tfb.RealNVP`, with `tfb.RationalQuadraticSpline` for the splines, and a
reversal of the entries after each; autoregressive layers are
`tfb.MaskedAutoregressiveFlow`. The networks that it has are layers of Keras 2, whose
masks are constraints that the optimizer must apply; here they are variables, and masks
factors in the forward pass. Last layers start at zero.
"""

import itertools

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_tasks
from task import Task
from task import Unavailable
from workloads import Tabular
from workloads import Workload

tfb = tfp.bijectors
tfd = tfp.distributions


class Network(tf.Module):
  """Dense layers, with the masks of MADE if asked for."""

  def __init__(self, sizes, degrees=None, seed=0):
    rng = np.random.default_rng(seed)
    self.kernels, self.biases, self.masks = [], [], []
    for i, (m, n) in enumerate(itertools.pairwise(sizes)):
      is_last = i == len(sizes) - 2
      kernel = m**-0.5 * rng.uniform(-1, 1, [m, n]) * (not is_last)
      self.kernels.append(tf.Variable(kernel, dtype=tf.float32))
      self.biases.append(tf.Variable(tf.zeros([n])))
      if degrees:
        before, after = degrees[i][:, np.newaxis], degrees[i + 1]
        mask = before < after if is_last else before <= after
        self.masks.append(tf.constant(mask, tf.float32))

  def __call__(self, x):
    for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases)):
      x = tf.nn.relu(x) if i else x
      x = x @ (kernel * self.masks[i] if self.masks else kernel) + bias
    return x


def make(workload: Workload, mode: str = 'jit') -> Task:
  """The task, compiled by XLA or, with `mode='graph'`, as a graph."""
  if not isinstance(workload, Tabular):
    raise Unavailable('These are the layers of vectors only.')
  layers = []
  for i in range(workload.num_layers):
    layers += [LAYERS[workload.layer](workload, i), reverse(workload.num_dims)]
  flow = tfb.Chain(layers[:-1])
  distribution = tfd.TransformedDistribution(
    tfd.Sample(tfd.Normal(0.0, 1.0), [workload.num_dims]), flow
  )
  return tf_tasks.distribution_task(
    distribution, flow.trainable_variables, workload, mode
  )


def reverse(num_dims: int) -> tfb.Bijector:
  """The entries in reverse order."""
  return tfb.Permute(list(range(num_dims))[::-1])


def affine(workload: Tabular, index: int) -> tfb.Bijector:
  """An affine coupling."""
  kept = workload.num_dims // 2 + index % 2
  changed = workload.num_dims - kept
  network = Network([kept, *workload.hidden, 2 * changed], seed=index)
  layer = tfb.RealNVP(
    kept,
    shift_and_log_scale_fn=lambda x, n: tf.split(network(x), 2, axis=-1),
  )
  layer.network = network  # For the layer to know its variables.
  return layer


def spline(workload: Tabular, index: int) -> tfb.Bijector:
  """A coupling with splines."""
  kept = workload.num_dims // 2 + index % 2
  k, changed = workload.num_bins, workload.num_dims - kept
  network = Network([kept, *workload.hidden, (3 * k - 1) * changed], seed=index)

  def bijector_fn(x, n):
    raw = tf.reshape(network(x), [-1, n, 3 * k - 1])
    widths, heights, slopes = tf.split(raw, [k, k, k - 1], axis=-1)
    return tfb.RationalQuadraticSpline(
      bin_widths=sizes(widths, workload),
      bin_heights=sizes(heights, workload),
      knot_slopes=1e-2 + 0.99 * tf.nn.softplus(slopes + np.log(np.e - 1)),
      range_min=-workload.bound,
    )

  layer = tfb.RealNVP(kept, bijector_fn=bijector_fn)
  layer.network = network  # For the layer to know its variables.
  return layer


def sizes(raw: tf.Tensor, workload: Tabular) -> tf.Tensor:
  """Widths or heights of bins, none below a hundredth of the interval."""
  free = 1 - 1e-2 * workload.num_bins
  return 2 * workload.bound * (1e-2 + free * tf.nn.softmax(raw))


def autoregressive(workload: Tabular, index: int) -> tfb.Bijector:
  """An affine autoregressive layer."""
  n = workload.num_dims
  hidden = [1 + np.arange(size) % (n - 1) for size in workload.hidden]
  degrees = [1 + np.arange(n), *hidden, np.repeat(1 + np.arange(n), 2)]
  network = Network([len(d) for d in degrees], degrees, seed=index)
  layer = tfb.MaskedAutoregressiveFlow(
    lambda x: tf.reshape(network(x), [*x.shape[:-1], n, 2])
  )
  layer.network = network  # For the layer to know its variables.
  return layer


LAYERS = {'affine': affine, 'spline': spline, 'autoregressive': autoregressive}
