"""Training steps that are not finite leave nothing behind."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal import tf_private

__all__ = ['Guard']

_NONE = -1


class Guard:
  """Freezes a model at the first training step that is not finite.

  A step is finite if its loss is, and the squared norm of the gradient of each
  variable: optimizers and clipping compute it, too. The first step that is not, and
  all after it, leave weights, optimizer and its averages, moving statistics, norms and
  seeds as they were before that step, bit for bit. Its number and its batch are kept
  until `thaw`, so that the step can be repeated.

  Everything happens in the graph of the step, under XLA, too: a branch that is not
  taken, and no word to the host. All replicas of a strategy do the same.
  """

  def __init__(self):
    """Creates the guard, inside of the scope of a strategy if there is one."""
    self._step, self._kept = _replicated('step'), _replicated('kept')
    self._batches: dict[Any, list[tf.Variable]] = {}

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
    """`x`, condition and weights of that step; None if they were not kept.

    They are not under XLA if the size of the batch is unknown to the graph, nor with
    several replicas.
    """
    kept = int(self._kept.numpy())
    if kept == _NONE:
      return None
    batch = list(self._batches.values())[kept]
    return tuple(v if v is None else tf.identity(v) for v in batch)

  def begin(self, written: Iterable[tf.Variable]) -> '_Step':
    """To be called first in a step, with the variables that its loss may write."""
    return _Step(self, [(v, tf.identity(v)) for v in written])

  def _keeping(self, number, batch):
    """A function that keeps step and batch; of a tensor, unless that is true."""
    if _num_replicas() > 1:
      return lambda unless: self._step.assign(tf.where(unless, self._step, number))
    slots = self._slots(batch)

    def keep():
      self._step.assign(number)
      if slots is not None:
        index, variables = slots
        self._kept.assign(index)
        for slot, tensor in zip(variables, batch):
          if slot is not None:
            slot.assign(tensor)

    return keep

  def _slots(self, batch):
    """Index and variables for batches of this shape; None if there are none."""
    is_static = all(t.shape.is_fully_defined() for t in batch if t is not None)
    if tf_private.in_xla() and not is_static:
      return None
    key = tuple(t if t is None else (tuple(t.shape), t.dtype) for t in batch)
    if key not in self._batches:
      with tf.init_scope():
        self._batches[key] = tuple(t if t is None else _slot(t) for t in batch)
    return list(self._batches).index(key), self._batches[key]


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
    keep = guard._keeping(number, batch)
    if _num_replicas() > 1:
      # No branch may hold what replicas do together.
      updated = [v.value for v in (*model.trainable_variables, *optimizer.variables)]
      pairs = [*self._before, *((v, tf.identity(v)) for v in updated)]
      update()
      _restore_unless(good, pairs)
      keep(good | (guard._step >= 0))
      return good

    def made():
      update()
      return tf.constant(True)

    def undone():
      for variable, old in self._before:
        variable.assign(old)
      tf.cond(guard._step < 0, keep, lambda: None)
      return tf.constant(False)

    return tf.cond(good, made, undone)


def _all_finite(values):
  """Whether squared norms are finite; on all replicas if it is so on each."""
  values = [tf.convert_to_tensor(v) for v in values if v is not None]
  norms = [tf.reduce_sum(tf.square(v)) for v in values]
  finite = tf.reduce_all([tf.math.is_finite(norm) for norm in norms])
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
  shape = [n or 0 for n in tensor.shape]
  return tf.Variable(tf.zeros(shape, tensor.dtype), trainable=False, shape=tensor.shape)


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

  on_read = tf.VariableSynchronization.ON_READ
  for variable, value in pairs:
    if variable.synchronization == on_read:
      variable.assign(tf.where(good, variable, value))
  pairs = [p for p in pairs if p[0].synchronization != on_read]
  context = tf.distribute.get_replica_context()
  context.merge_call(restore, args=(good, *(value for _, value in pairs)))
