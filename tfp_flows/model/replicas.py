"""Several replicas: strategies of TensorFlow, and all that Keras needs under them."""

import contextlib
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows import bijectors
from tfp_flows.internal import keras_parameters
from tfp_flows.internal import keras_private
from tfp_flows.internal import tf_private

__all__ = [
  'STRATEGIES',
  'WORKER_LOST',
  'WorkerLost',
  'all_have',
  'as_logs',
  'check_every',
  'describe',
  'distribute',
  'global_weight',
  'has_xla',
  'is_chief',
  'losing_workers',
  'make_strategy',
  'prepare_optimizer',
  'sum_over_replicas',
  'synchronize',
  'unpack',
  'wait_for_all',
]

STRATEGIES = ('none', 'mirrored', 'multi_worker')

# The exit code of a command that stops because of another worker.
WORKER_LOST = 3

# How long the workers wait for each other: all to start, and one that is silent.
START_SECONDS = 600
SILENT_SECONDS = 20

_TF_CONFIG = (
  'Expected TF_CONFIG in the environment of each worker, as {"cluster": {"worker": '
  '["host0:port", "host1:port"]}, "task": {"type": "worker", "index": 0}} with the '
  'index of that worker; received '
)


_ADDRESS = re.compile(r'.+:\d+')


class WorkerLost(RuntimeError):
  """Another worker has gone, and training cannot go on without it."""


def make_strategy(name: str) -> tf.distribute.Strategy:
  """The strategy of that name; to be called before anything else of TensorFlow.

  Args:
    name: `'none'`; `'mirrored'`: a replica on each GPU of this machine; or
      `'multi_worker'`: one on each GPU, or else on the CPU, of each process that the
      environment variable `TF_CONFIG` lists. Waits until all of them have started.

  Raises:
    ValueError: if there is no such strategy or `TF_CONFIG` is not as it should be.
    WorkerLost: if a worker has not started in `START_SECONDS`.
  """
  if name not in STRATEGIES:
    raise ValueError(
      f'Expected a strategy of {", ".join(STRATEGIES)}; received {name!r}.'
    )
  if name == 'none':
    return tf.distribute.get_strategy()
  if name == 'mirrored':
    return tf.distribute.MirroredStrategy()
  cluster, task = _tf_config(os.environ.get('TF_CONFIG'))
  _wait_for_all(cluster, task)
  tf_private.configure_coordination(cluster, SILENT_SECONDS)
  at_term = signal.getsignal(signal.SIGTERM)
  with losing_workers():
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
  if threading.current_thread() is threading.main_thread():
    # TensorFlow takes this signal for the notice of a later end, and goes on.
    signal.signal(signal.SIGTERM, at_term)
  return strategy


def _wait_for_all(cluster, task):
  """Waits until there is a process at each address.

  TensorFlow would wait an hour, and not even hear Ctrl-C.
  """
  own = cluster[task['type']][task['index']]
  deadline = time.monotonic() + START_SECONDS
  try:
    server = socket.create_server(('', int(own.rpartition(':')[2])))
  except OSError as error:
    raise ValueError(
      f'Expected a free port for this worker, {own} in TF_CONFIG; {error.strerror}. '
      f'Choose another one for all workers.'
    ) from error
  with server:
    for address in (a for job in cluster.values() for a in job if a != own):
      while not _answers(address):
        if time.monotonic() > deadline:
          raise WorkerLost(
            f'Expected all workers within {START_SECONDS} s; there is none at '
            f'{address}. Start all that TF_CONFIG lists.'
          )
        time.sleep(0.2)


def _answers(address):
  host, _, port = address.rpartition(':')
  try:
    socket.create_connection((host, int(port)), timeout=5).close()
  except OSError:
    return False
  return True


def _tf_config(text):
  """Cluster and task of `TF_CONFIG`, checked."""
  if not text:
    raise ValueError(f'{_TF_CONFIG}none.')
  try:
    config = json.loads(text)
  except json.JSONDecodeError as error:
    raise ValueError(f'{_TF_CONFIG}{text!r}, which is no JSON ({error}).') from error
  problem = _problem(config)
  if problem:
    raise ValueError(f'{_TF_CONFIG}{text!r}: {problem}.')
  return config['cluster'], config['task']


def _problem(config):
  """What is wrong with a `TF_CONFIG`, or None."""
  for key in ('cluster', 'task'):
    if not isinstance(config, dict) or not isinstance(config.get(key), dict):
      return f'it has no object "{key}"'
  cluster, task = config['cluster'], config['task']
  if not cluster or not set(cluster) <= {'chief', 'worker'}:
    return f'the jobs are "worker" and, if need be, "chief", not {sorted(cluster)}'
  jobs = [job if isinstance(job, list) and job else [None] for job in cluster.values()]
  addresses: list[Any] = [address for job in jobs for address in job]
  if not all(isinstance(a, str) and _ADDRESS.fullmatch(a) for a in addresses):
    return 'each job is a list of "host:port"'
  if not all(0 < int(a.rpartition(':')[2]) < 2**16 for a in addresses):
    return 'ports are numbers below 65536'
  if len(set(addresses)) < len(addresses) or len(cluster.get('chief', [''])) > 1:
    return 'each address stands for one worker, and there is one chief at most'
  if task.get('type') not in [*cluster]:
    return f'the type of the task is one of {sorted(cluster)}'
  index, count = task.get('index'), len(cluster[task['type']])
  if not isinstance(index, int) or not 0 <= index < count:
    return f'the index of the task is one of 0 to {count - 1}'
  return None


def _resolver(strategy):
  """What knows the cluster, or None if there is one process."""
  resolver = getattr(strategy, 'cluster_resolver', None)
  return resolver if resolver and resolver.cluster_spec().jobs else None


def is_chief(strategy: tf.distribute.Strategy) -> bool:
  """Whether this process is the one that writes files."""
  resolver = _resolver(strategy)
  if resolver is None:
    return True
  chief = 'chief' if 'chief' in resolver.cluster_spec().jobs else 'worker'
  return (resolver.task_type, resolver.task_id) == (chief, 0)


def describe(strategy: tf.distribute.Strategy) -> str:
  """The place of this process among the replicas, or nothing if there is one."""
  count = strategy.num_replicas_in_sync
  resolver = _resolver(strategy)
  if resolver is None:
    return f'{count} replicas, ' if count > 1 else ''
  return f'{resolver.task_type} {resolver.task_id} with {count} replicas in all, '


@contextlib.contextmanager
def losing_workers() -> Iterator[None]:
  """Raises `WorkerLost` for the errors that the loss of another worker causes.

  A worker whose process has ended is noticed at the next reduction, one that is
  silent after `SILENT_SECONDS`.
  """
  try:
    yield
  except (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
  ) as error:
    raise WorkerLost(
      'Expected all workers to go on; one has ended, is silent or never started '
      f'({_cause(error)}). Start all of them again.'
    ) from error


def _cause(error):
  """The line that says it, among those that say where."""
  lines = str(error).splitlines() or [type(error).__name__]
  said = [line.split('aborted by: ')[1] for line in lines if 'aborted by: ' in line]
  return (said or lines)[0].strip()


def has_xla(module: tf.Module, strategy: tf.distribute.Strategy) -> bool:
  """Whether XLA can compile what a replica computes of `module`.

  Not for several virtual CPUs, which are for tests, and not with layers that reduce
  over the replicas themselves, as `MovingBatchNorm`.
  """
  if strategy.num_replicas_in_sync > 1 and any(
    isinstance(part, bijectors.FlowBijector) and part.reduces_over_replicas
    for part in keras_parameters.parts(module)
  ):
    return False
  devices = strategy.extended.worker_devices
  return len(devices) == 1 or not any('CPU' in device for device in devices)


def distribute(
  batches: tf.data.Dataset,
  strategy: tf.distribute.Strategy,
  own_weights: bool = True,
  fill: bool = True,
) -> tf.distribute.DistributedDataset:
  """Each batch in equal consecutive parts, the first for the first replica.

  Every worker reads all batches and takes its parts: the replicas together see the
  batches of one process, example for example.

  Args:
    batches: tuples of `x`, `(x, condition)` or `(x, condition, weight)`, the global
      batches. Ones of unknown size are filled up with examples of weight 0; those
      without examples are left out.
    strategy: says how many parts there are.
    own_weights: whether the weights are those of `batches`, or else 1.
    fill: whether batches are filled up to a multiple of the number of replicas.

  Returns:
    Dictionaries of `x`, `condition` if there is one, and `weight`: TensorFlow cannot
    distribute None.

  Raises:
    ValueError: if it is no multiple, without `fill`.
  """
  count = strategy.num_replicas_in_sync
  size = batches.element_spec[0].shape[0]
  if fill and size is not None and size % count:
    size = None
  if size is not None and size % count:
    raise ValueError(
      f'Expected a global batch size that the {count} replicas can share equally; '
      f'received {size}. Use a multiple of {count}.'
    )

  cardinality = batches.cardinality().numpy()
  if size is None:
    # TensorFlow ends the process at gradients of loops over no rows.
    batches = batches.filter(lambda x, *_: tf.shape(x)[0] > 0)

  def parts(context):
    local = count // context.num_input_pipelines
    first = context.input_pipeline_id * local

    def part(*batch):
      batch = _without_none(batch, own_weights)
      if size is None:
        batch = _filled_up(batch, count)
      return tf.nest.map_structure(
        lambda t: _rows(t, size, count)[first : first + local], batch
      )

    return batches.map(part).unbatch().prefetch(local)

  extended = strategy.extended
  # All replicas always have data; TensorFlow need not ask them at each step, for
  # which it would forget the shapes. Strategies of one replica do not ask.
  asks = getattr(extended, 'experimental_enable_get_next_as_optional', None)
  if asks is not None:
    extended.experimental_enable_get_next_as_optional = False
  try:
    distributed = strategy.distribute_datasets_from_function(parts)
  finally:
    if asks is not None:
      extended.experimental_enable_get_next_as_optional = asks
  # TensorFlow counts the parts of this worker, and Keras takes that for the steps.
  tf_private.set_cardinality(distributed, cardinality)
  return distributed


def _without_none(batch, own_weights):
  x, condition, weight = keras.utils.unpack_x_y_sample_weight(batch)
  if weight is None or not own_weights:
    weight = tf.ones(tf.shape(x)[:1])
  found = dict(x=x, weight=tf.reshape(weight, tf.shape(x)[:1]))
  return found if condition is None else found | dict(condition=condition)


def _filled_up(batch, count):
  size = tf.shape(batch['x'])[0]
  rows = tf.range(size + -size % count)
  filled = {k: tf.gather(v, tf.minimum(rows, size - 1)) for k, v in batch.items()}
  is_own = tf.cast(rows < size, batch['weight'].dtype)
  return filled | dict(weight=filled['weight'] * is_own)


def _rows(t, size, count):
  rows = tf.shape(t)[0] // count if size is None else size // count
  return tf.reshape(t, tf.concat([[count, rows], tf.shape(t)[1:]], axis=0))


def unpack(data: Any) -> tuple[tf.Tensor, tf.Tensor | None, tf.Tensor | None]:
  """`x`, `condition`, `weight` of a batch, be it from `distribute` or from Keras."""
  if isinstance(data, dict):
    return data['x'], data.get('condition'), data['weight']
  x, condition, weight = keras.utils.unpack_x_y_sample_weight(data)
  if weight is None and tf.distribute.get_strategy().num_replicas_in_sync > 1:
    weight = tf.ones(tf.shape(x)[:1])
  return x, condition, weight


def global_weight(weight: tf.Tensor | None) -> tf.Tensor | None:
  """The sum of the weights of all replicas, or None if there is one replica."""
  if tf.distribute.get_strategy().num_replicas_in_sync == 1:
    return None
  return sum_over_replicas([tf.reduce_sum(weight)])[0]


def sum_over_replicas(values: Sequence[tf.Tensor | None]) -> list[tf.Tensor | None]:
  """The sums, for tensors of one replica; what is None stays so."""
  context = tf.distribute.get_replica_context()
  given = [v for v in values if v is not None]
  if context is None or context.num_replicas_in_sync == 1 or not given:
    return list(values)
  sums = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, given))
  return [None if v is None else next(sums) for v in values]


def prepare_optimizer(
  optimizer: keras.optimizers.Optimizer, strategy: tf.distribute.Strategy
) -> None:
  """Makes `optimizer` take gradients that are sums over the replicas.

  Keras clips the gradients of each replica and adds them up after that, so that
  clipping by norm would depend on the number of replicas.

  Raises:
    ValueError: if the optimizer was made for another strategy.
  """
  optimizer = getattr(optimizer, 'inner_optimizer', optimizer)
  if not keras_private.made_under(optimizer, strategy):
    raise ValueError(
      f'Expected an optimizer made under the strategy of the model; received '
      f'{optimizer.name!r}, made outside. Make both inside `strategy.scope()`.'
    )
  keras_private.take_gradients_as_sums(optimizer)


def as_logs(logs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  """`logs` in the shape in which Keras can take their mean over the replicas."""
  strategy = tf.distribute.get_strategy()
  if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
    # Between workers it reduces the first axis, and scalars have none.
    return {k: v[tf.newaxis] for k, v in logs.items()}
  return logs


def synchronize(
  variables: Sequence[tf.Variable], strategy: tf.distribute.Strategy
) -> None:
  """Gives the variables of all workers the values that the chief has.

  For what each worker has computed or read by itself. All workers must call it.
  """
  if _resolver(strategy) is None:
    return

  def of_chief(variable):
    dtype = variable.dtype if variable.dtype.is_floating else tf.int64
    value = tf.cast(variable, dtype)
    context = tf.distribute.get_replica_context()
    is_first = tf.equal(context.replica_id_in_sync_group, 0)
    value = tf.where(is_first, value, tf.zeros_like(value))
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)

  @tf.function(autograph=False)
  def values():
    return strategy.run(lambda: [of_chief(v) for v in variables])

  for variable, value in zip(variables, values()):
    local = strategy.experimental_local_results(value)[0]
    variable.assign(tf.cast(local, variable.dtype))


def all_have(number: int, strategy: tf.distribute.Strategy) -> bool:
  """Whether the chief has the same number; all workers must call it."""
  variable = tf.Variable(number, dtype=tf.int64, trainable=False)
  synchronize([variable], strategy)
  return int(variable.numpy()) == number


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
  """Returns when all workers have called it."""
  all_have(0, strategy)


def check_every(strategy: tf.distribute.Strategy) -> int | None:
  """The steps between two looks of `StopOnNonFinite`.

  Workers must look at the same steps: who raises an error leaves the others alone.
  """
  return None if _resolver(strategy) is None else 10
