"""Training steps that are not finite leave nothing behind."""

import concurrent.futures
import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal import tf_private

__all__ = ['Guard']

_NONE = -1
_MOST_ROWS, _MOST_BYTES = 4096, 2**26


class Guard:
  """Freezes a model at the first training step that is not finite.

  A step is finite if its loss is, and the squared norm of the gradient of each
  variable: optimizers and clipping compute it, too. The first step that is not, and
  all after it, leave weights, optimizer and its averages, moving statistics, norms and
  seeds as they were before that step, bit for bit. Its number and its batch are kept
  until `thaw`, so that the step can be repeated.

  Everything happens in the graph of the step, under XLA, too. All replicas of a
  strategy do the same.
  """

  def __init__(self):
    """Creates the guard, inside of the scope of a strategy if there is one."""
    self._step, self._kept = _replicated('step'), _replicated('kept')
    self._batches: dict[Any, _Batch] = {}

  @property
  def step(self) -> int | None:
    """The number of the first step that was not finite, from 1; None if all were."""
    step = int(self._step.numpy())
    return None if step == _NONE else step

  def thaw(self) -> None:
    """Lets training go on."""
    self._step.assign(_NONE)
    self._kept.assign(_NONE)

  def batch(self) -> tuple[Any, Any, Any] | None:
    """Examples, condition and weights of that step; None if they were not kept.

    Several replicas keep none. Of a batch whose size the graph does not know only the
    first rows are kept, 4096 or 64 MiB.
    """
    kept = int(self._kept.numpy())
    if kept == _NONE:
      return None
    return list(self._batches.values())[kept].read()

  def begin(self, written: Iterable[tf.Variable]) -> '_Step':
    """To be called first in a step, with the variables that its loss may write."""
    return _Step(self, [(v, tf.identity(v)) for v in written])

  def _keep(self, first, number, batch):
    """Keeps step and batch where `first`, a boolean scalar, is true."""
    self._step.assign(tf.where(first, number, self._step))
    kept = self._kept_batch(batch)
    if kept is not None:
      index = list(self._batches.values()).index(kept)
      self._kept.assign(tf.where(first, tf.constant(index, tf.int64), self._kept))
      kept.assign(first, batch)

  def _kept_batch(self, batch):
    """The variables for batches of this shape; None if shapes are unknown."""
    shapes = [t if t is None else t.shape for t in batch]
    if _num_replicas() > 1:
      return None
    if not all(s is None or (s.rank and s[1:].is_fully_defined()) for s in shapes):
      return None
    key = tuple(t if t is None else (*t.shape, t.dtype) for t in batch)
    if key not in self._batches:
      self._batches[key] = _outside_of_functions(lambda: _Batch(batch))
    return self._batches[key]


class _Batch:
  """Variables that hold one batch."""

  def __init__(self, batch):
    self._count = tf.Variable(0, trainable=False)
    self._slots = [t if t is None else _slot(t) for t in batch]

  def assign(self, condition, batch):
    for slot, tensor in zip(self._slots, batch):
      if slot is not None:
        count = tf.minimum(tf.shape(tensor)[0], slot.shape[0])
        self._count.assign(tf.where(condition, count, self._count))
        slot.assign(tf.where(condition, _filled_up(tensor, slot.shape), slot))

  def read(self):
    count = self._count.numpy()
    return tuple(s if s is None else s[:count] for s in self._slots)


class _Step:
  """One step, in the graph."""

  def __init__(self, guard, before):
    self._guard, self._before = guard, before

  def finish(
    self,
    values: Sequence[tf.Tensor | None],
    update: Callable[[], Any],
    model: keras.Model,
    batch: Sequence[tf.Tensor | None],
  ) -> tf.Tensor:
    """Calls `update()`, or undoes the step and keeps it; returns whether it updated.

    Args:
      values: loss and gradients.
      update: changes weights and optimizer of `model`, and what `begin` was told of.
      model: has an optimizer.
      batch: of the step: examples, condition and weights.
    """
    guard, optimizer = self._guard, model.optimizer
    if not optimizer.built:
      # No branch may create variables.
      with tf.init_scope():
        optimizer.build(model.trainable_variables)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
      # Its gradients may overflow: it leaves out such steps, and scales less.
      values = values[:1]
    good = _all_finite(values) & (guard._step < 0)
    number = tf.cast(optimizer.iterations, tf.int64) + 1
    if tf_private.in_xla() or tf.distribute.has_strategy():
      # Under XLA a choice between two values is free, and for a branch an accelerator
      # would wait for the host. No branch may hold what replicas do together.
      first = ~good & (guard._step < 0)
      updated = [v.value for v in (*model.trainable_variables, *optimizer.variables)]
      pairs = [*self._before, *((v, tf.identity(v)) for v in updated)]
      update()
      _restore_unless(good, pairs)
      guard._keep(first, number, batch)
      return good

    def made():
      update()
      return tf.constant(True)

    def undone():
      for variable, old in self._before:
        variable.assign(old)
      guard._keep(guard._step < 0, number, batch)
      return tf.constant(False)

    return tf.cond(good, made, undone)


def _all_finite(values):
  """Whether squared norms are finite; on all replicas if it is so on each."""
  values = [tf.convert_to_tensor(v) for v in values if v is not None]
  norms = [tf.reduce_sum(tf.square(v)) for v in values]
  # So is their sum, by which clipping divides.
  widest = max((norm.dtype for norm in norms), key=lambda dtype: dtype.size)
  # A product of vectors, as XLA fuses a sum of scalars into each of its many users,
  # and computes it there anew.
  norms = tf.stack([tf.cast(norm, widest) for norm in norms])
  norms = tf.concat([norms, [tf.reduce_sum(norms)]], axis=0)
  bad = tf.cast(~tf.math.is_finite(norms), tf.float32)
  finite = tf.tensordot(bad, bad, axes=1) < 0.5
  if _num_replicas() == 1:
    return finite
  bad = 1.0 - tf.cast(finite, tf.float32)
  context = tf.distribute.get_replica_context()
  return context.all_reduce(tf.distribute.ReduceOp.SUM, bad) < 0.5


def _num_replicas():
  return tf.distribute.get_strategy().num_replicas_in_sync


def _replicated(name):
  """A number that each replica stores for itself, and all alike."""
  return tf.Variable(
    tf.constant(_NONE, tf.int64),
    trainable=False,
    synchronization=tf.VariableSynchronization.ON_READ,
    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    name=name,
  )


def _slot(tensor):
  rows, *row = tensor.shape
  if rows is None:
    size = max(1, math.prod(row) * tensor.dtype.size)
    rows = max(1, min(_MOST_ROWS, _MOST_BYTES // size))
  return tf.Variable(tf.zeros([rows, *row], tensor.dtype), trainable=False)


def _filled_up(tensor, shape):
  """`tensor` with as many rows as `shape`: XLA keeps the shapes of variables."""
  if tensor.shape == shape:
    return tensor
  tensor = tensor[: shape[0]]
  missing = shape[0] - tf.shape(tensor)[0]
  paddings = [[0, missing], *[[0, 0]] * (shape.rank - 1)]
  return tf.ensure_shape(tf.pad(tensor, paddings), shape)


def _outside_of_functions(make):
  """`make()`, which may create variables though a `tf.function` is being traced."""
  # Only the first trace may create some; another thread knows of no trace.
  with concurrent.futures.ThreadPoolExecutor(1) as executor:
    return executor.submit(make).result()


def _restore_unless(good, pairs):
  """Gives the variables of `pairs` their values again, on each replica."""

  def restore(strategy, good, *values):
    for (variable, _), value in zip(pairs, values):
      strategy.extended.update(
        variable,
        lambda v, value, good: v.assign(tf.where(good, v, value)),
        args=(value, good),
        group=False,
      )

  def is_own(variable):
    on_read = tf.VariableSynchronization.ON_READ
    return _num_replicas() == 1 or variable.synchronization == on_read

  for variable, value in pairs:
    if is_own(variable):
      variable.assign(tf.where(good, variable, value))
  pairs = [p for p in pairs if not is_own(p[0])]
  if pairs:
    context = tf.distribute.get_replica_context()
    context.merge_call(restore, args=(good, *(value for _, value in pairs)))
