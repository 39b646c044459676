"""The only use of private TensorFlow names."""

import contextlib
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python import pywrap_tfe
from tensorflow.python.distribute import multi_worker_util
from tensorflow.python.eager import context
from tensorflow.python.eager import forwardprop_util
from tensorflow.python.eager import record
from tensorflow.python.framework import ops
from tensorflow.python.ops import control_flow_util

__all__ = [
  'Following',
  'VariableWatcher',
  'configure_coordination',
  'has_tangents',
  'in_xla',
  'is_recording',
  'recording',
  'set_cardinality',
  'set_trainable',
  'stop_recording',
  'untracked',
]


def in_xla() -> bool:
  """Whether what is being traced is compiled by XLA."""
  return control_flow_util.GraphOrParentsInXlaContext(ops.get_default_graph())


# Whether a gradient tape or a forward accumulator sees what is computed.
is_recording = record.could_possibly_record

# Lists the trainable variables that are read inside of it.
VariableWatcher = record.VariableWatcher

# Nothing inside this context is seen by any gradient tape. With a tape on, TensorFlow
# builds the derivatives of each loop with it, be they wanted or not, and those of
# loops in loops take it many seconds.
stop_recording = record.stop_recording


def has_tangents(values: Any) -> bool:
  """Whether a `tf.autodiff.ForwardAccumulator` follows one of `values`.

  Args:
    values: a structure of tensors, variables and numbers.
  """
  # It watches the handle of a variable, as it is: a conversion would be a capture, and
  # that of a variable which others stand for cannot be exported.
  handles = [getattr(v, 'handle', v) for v in tf.nest.flatten(values)]
  tensors = [h for h in handles if tf.is_tensor(h)]
  return bool(forwardprop_util.pack_tangents(tensors).tangents)


def set_trainable(variable: tf.Variable, trainable: bool) -> None:
  """Says whether tapes and `tf.Module.trainable_variables` see `variable`."""
  for part in getattr(variable, 'values', [variable]):  # One for each replica.
    part._trainable = trainable


def untracked(module: tf.Module, value: Any) -> Any:
  """`value` as an attribute of `module` whose parts are not parts of it."""
  return module._no_dependency(value)


def set_cardinality(dataset: tf.distribute.DistributedDataset, batches: int) -> None:
  """Says how many batches there are, where TensorFlow would count other things."""
  dataset._cardinality = batches


class Following(tf.Module):
  """A module some of whose variables are frozen while others are.

  Subclasses have `followed()`, pairs of a `tf.Variable` and what it follows.
  """

  def follow(self) -> None:
    """Freezes and thaws the variables."""
    for variable, other in self.followed():
      if variable.trainable != other.trainable:
        set_trainable(variable, other.trainable)

  @property
  def _TF_MODULE_IGNORED_PROPERTIES(self):  # noqa: N802
    # `tf.Module` reads it before it looks for variables, from wherever it comes.
    self.follow()
    return super()._TF_MODULE_IGNORED_PROPERTIES


@contextlib.contextmanager
def recording() -> Iterator[None]:
  """Lets tapes record again inside of `stop_recording`."""
  is_stopped = pywrap_tfe.TFE_Py_TapeSetIsStopped()
  if is_stopped:
    pywrap_tfe.TFE_Py_TapeSetRestartOnThread()
  try:
    yield
  finally:
    if is_stopped:
      pywrap_tfe.TFE_Py_TapeSetStopOnThread()


def configure_coordination(
  cluster: Mapping[str, Sequence[str]], silent_seconds: float
) -> None:
  """Sets how long the workers of a cluster wait for one that is silent.

  As `MultiWorkerMirroredStrategy` does when it is made, which leaves this time open.

  Args:
    cluster: job -> addresses.
    silent_seconds: until a worker that does not answer counts as gone.
  """
  # The module of this message has another name in each version of TensorFlow.
  jobs = tf.compat.v1.ConfigProto().experimental.coordination_config
  for name, addresses in cluster.items():
    jobs.coordinated_job_list.add(name=name, num_tasks=len(addresses))
  spec = multi_worker_util.normalize_cluster_spec(dict(cluster))
  context.context().configure_coordination_service(
    service_type='standalone',
    service_leader=multi_worker_util.coordination_leader(spec),
    heartbeat_timeout_in_ms=int(1000 * silent_seconds),
    coordinated_jobs=list(jobs.coordinated_job_list),
  )
