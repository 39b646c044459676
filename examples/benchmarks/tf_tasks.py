"""Training steps and calls with TensorFlow and Keras."""

import itertools
from collections.abc import Callable
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from task import Task
from task import Unavailable
from workloads import LEARNING_RATE
from workloads import Workload

__all__ = ['distribution_task', 'start_alike', 'training_task']

tfd = tfp.distributions

PACKAGES = ['tensorflow', 'tensorflow_probability', 'keras']


def training_task(
  loss_fn: Callable[[tf.Tensor], tf.Tensor],
  variables: Sequence[tf.Variable],
  x: np.ndarray,
  mode: str,
) -> Task:
  """Steps of Adam on `loss_fn(x)`, each one call of one `tf.function`."""
  compiled = _is_compiled(mode)
  variables = list(variables)
  x = tf.constant(x)
  # Keras's optimizers train Keras variables; these share the storage of the others.
  shared = [keras.Variable(v) for v in variables]
  optimizer = keras.optimizers.Adam(LEARNING_RATE, epsilon=1e-8)
  optimizer.build(shared)

  @tf.function(jit_compile=compiled)
  def update(x):
    with tf.GradientTape() as tape:
      loss = loss_fn(x)
    optimizer.apply(tape.gradient(loss, variables), shared)
    return loss

  return Task(lambda: float(update(x)), _count(variables), PACKAGES)


def distribution_task(
  distribution: tfd.Distribution,
  variables: Sequence[tf.Variable],
  workload: Workload,
  mode: str,
) -> Task:
  """The task of `workload` with the density `distribution`."""
  if workload.task == 'train':
    return training_task(
      # Bijectors cache by the identity of tensors: a fresh one each time.
      lambda x: -tf.reduce_mean(distribution.log_prob(tf.identity(x))),
      variables,
      workload.data(),
      mode,
    )
  return _call_task(distribution, workload, mode, _count(variables))


def start_alike(variables: Sequence[tf.Variable], rank: int) -> None:
  """Gives the kernels that are not zero the start that those of the peers have.

  It is uniform in +-1 / sqrt(fan-in), the default of PyTorch and of Equinox. From the
  larger one of He et al., which our networks have, the first steps at this learning
  rate raise the loss, and the losses after equal numbers of steps would not compare.

  Args:
    variables: all those of a flow.
    rank: of a kernel; where several are stacked, it is the last axes of the stack.
  """
  for i, variable in enumerate(variables):
    if 'kernel' in variable.name and tf.reduce_any(variable != 0):
      limit = int(np.prod(variable.shape[-rank:-1])) ** -0.5
      values = np.random.default_rng(i).uniform(-limit, limit, variable.shape)
      variable.assign(values)


def _call_task(distribution, workload, mode, num_parameters):
  if workload.task == 'sample':
    fn = lambda seed: distribution.sample(workload.batch, seed=seed)  # noqa: E731
    seeds = itertools.count()
    argument = lambda: tf.constant([0, next(seeds)])  # noqa: E731
  else:
    x = tf.constant(workload.data())
    fn = lambda x: -distribution.log_prob(tf.identity(x))  # noqa: E731
    argument = lambda: x  # noqa: E731
  call = tf.function(fn, jit_compile=_is_compiled(mode))
  return Task(lambda: float(np.mean(call(argument()))), num_parameters, PACKAGES)


def _is_compiled(mode):
  if mode not in ('jit', 'graph'):
    raise Unavailable(f"Expected mode 'jit' or 'graph'; received {mode!r}.")
  return mode == 'jit'


def _count(variables):
  return sum(int(np.prod(v.shape)) for v in variables)
