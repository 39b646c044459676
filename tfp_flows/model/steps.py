"""What `fit`, `evaluate` and `predict` do with one batch."""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

import tensorflow as tf

from tfp_flows import bijectors
from tfp_flows.internal import keras_private
from tfp_flows.internal import reports
from tfp_flows.model import diagnosis
from tfp_flows.model import metrics
from tfp_flows.model import replicas
from tfp_flows.model import sizes

__all__ = ['Steps']

if TYPE_CHECKING:
  from keras import Model as _Whole  # What the class is a part of.
else:
  _Whole = object


class _Step(NamedTuple):
  """What one step of training found.

  Attributes:
    loss: scalar, with penalties and regularization.
    gradients: of the trainable weights.
    log_prob: of the batch.
    penalties: name -> weighted mean.
    evaluations, failures: of the solvers, see `reports.Report`.
    backward: number of evaluations of fields for gradients, or None.
  """

  loss: tf.Tensor
  gradients: list[tf.Tensor | None]
  log_prob: tf.Tensor
  penalties: dict[str, tf.Tensor]
  evaluations: list[tf.Tensor]
  failures: list[tf.Tensor]
  backward: tf.Tensor | None


class Steps(_Whole):
  """The part of `FlowModel` that computes and follows gradients."""

  predict_function: Any

  @property
  def _strategy(self):
    return keras_private.own_strategy(self)

  def train_step(self, data: Any) -> dict[str, tf.Tensor]:
    x, condition, weight = batch = replicas.unpack(data)
    guarded = self._guard.begin(v.value for v in self.non_trainable_variables)
    total = replicas.global_weight(weight)
    step = self._on_replica(self._gradients)(x, condition, weight, None, total)
    gradients = replicas.sum_over_replicas(step.gradients)
    made = guarded.finish(
      [step.loss, *gradients], lambda: self._update(gradients), self, batch
    )
    logs = self._update_metrics(step.log_prob, weight, made)
    if self._work is not None:
      logs |= self._work.update(step, step.penalties, step.backward, made)
    return replicas.as_logs(logs)

  def _on_replica(self, fn):
    """`fn`, compiled for each replica if there are several, as Keras does not."""
    if not self._replica_jit:
      return fn
    return tf.function(fn, autograph=False, jit_compile=True)

  def gradient_step(
    self,
    x: tf.Tensor,
    condition: tf.Tensor | None = None,
    weight: tf.Tensor | None = None,
    seed: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """One step of the optimizer, as `fit` makes it, without metrics and guard.

    Args:
      x: a batch.
      condition: per example, or None.
      weight: per example, or None.
      seed: stateless seed of dequantization and stochastic log-dets; None takes the
        next of the model.

    Returns:
      The loss, a scalar.
    """
    step = self._gradients(x, condition, weight, seed)
    self._update(step.gradients)
    return step.loss

  def _gradients(self, x, condition, weight, seed=None, total=None):
    with reports.flow_report() as report, tf.GradientTape() as tape:
      tape.watch(report.probe)
      loss, log_prob, penalties = self.training_loss(
        report, x, condition, weight, seed, total
      )
      scaled = self.optimizer.scale_loss(loss)
    self._check_all_seen(tape.watched_variables())
    *gradients, backward = tape.gradient(
      scaled, [*self.trainable_weights, report.probe], unconnected_gradients='none'
    )
    return _Step(
      loss,
      gradients,
      log_prob,
      penalties,
      report.evaluations,
      report.failures,
      backward,
    )

  def training_loss(
    self,
    report: reports.Report,
    x: tf.Tensor,
    condition: tf.Tensor | None = None,
    weight: tf.Tensor | None = None,
    seed: tf.Tensor | None = None,
    total: tf.Tensor | None = None,
  ) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
    """The loss of a batch, its log-likelihoods, and the penalties in its loss.

    Moves seeds and moving statistics on.

    Args:
      report: that of the `flow_report` block around the call.
      x: a batch.
      condition: per example, or None.
      weight: per example, or None.
      seed: as for `gradient_step`.
      total: the weight of the batches of all replicas, if there are several: the loss
        is then the part of this one, and the losses of all add up.
    """
    replicas = 1
    if total is not None:
      replicas = tf.distribute.get_strategy().num_replicas_in_sync
    log_prob = self(x, condition, training=True, seed=seed)
    loss = _weighted_mean(-log_prob, weight, total)
    penalties = {
      name: _weighted_mean(tf.add_n(values), weight, total)
      for name, values in report.penalties.items()
    }
    # What is the same in all replicas counts once.
    extras = [*(e / replicas for e in self.losses), *penalties.values()]
    loss += sum(tf.cast(extra, loss.dtype) for extra in extras)
    return loss, log_prob, {k: replicas * v for k, v in penalties.items()}

  def _update(self, gradients):
    self.optimizer.apply_gradients(zip(gradients, self.trainable_weights))
    self._on_replica(self._follow_norms)()

  def _follow_norms(self):
    # From step to step the norms change little, and few iterations follow them.
    bijectors.update_norms(self.distribution, tolerance=1e-3, max_iterations=50)

  @property
  def is_frozen(self) -> bool:
    """Whether a training step was not finite, and no more of them changes the model."""
    return self._guard.step is not None

  def check_finite(self) -> None:
    """Raises `NonFiniteError` if a training step was not finite, and names the layer.

    The first such step and all after it change nothing, see `StopOnNonFinite`.
    """
    if self.is_frozen:
      raise diagnosis.diagnose(self, self._guard.step, self._guard.batch())

  def thaw(self) -> None:
    """Lets training steps change the model again after one that was not finite."""
    self._guard.thaw()

  def test_step(self, data: Any) -> dict[str, tf.Tensor]:
    find = self._on_replica(self._test_logs)
    return replicas.as_logs(find(*replicas.unpack(data)))

  def _test_logs(self, x, condition, weight):
    with reports.flow_report() as report:
      log_prob = self(x, condition, training=False)
    logs = self._update_metrics(log_prob, weight)
    return logs if self._work is None else logs | self._work.update(report)

  def predict_step(self, data: Any) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor | None]:
    x, condition, weight = replicas.unpack(data)
    log_prob = self(x, condition, training=False)
    # Of several replicas each may have examples of weight 0, not to be returned.
    return log_prob if self._strategy is None else (log_prob, weight)

  # Keras's own functions trace one graph for all sizes of batches.

  def _make_function(self, step_function):
    if self._strategy is not None or self.run_eagerly:
      return super()._make_function(step_function)
    own = getattr(step_function, '__func__', None)
    is_ours = own in (Steps.train_step, Steps.test_step)
    step = sizes.Sized(
      lambda *batch: step_function(batch), self.jit_compile, fills=is_ours
    )

    last: list[dict[str, tf.Tensor]] = [{}]  # The logs, for a batch without examples.

    def function(batches):
      given = list(itertools.islice(batches, self.steps_per_execution))
      if not given:
        raise StopIteration
      for batch in _not_empty(given, is_ours):
        last[0] = step(*batch)
      return last[0]

    return function

  def make_predict_function(self, force: bool = False) -> Callable[..., Any]:
    if self._strategy is not None or self.run_eagerly:
      return super().make_predict_function(force)
    if self.predict_function is None or force:
      is_ours = type(self).predict_step is Steps.predict_step
      jit_compile = self.jit_compile if self.compiled else True
      step = sizes.Sized(
        lambda *batch: self.predict_step(batch), jit_compile, is_ours, per_row=True
      )

      def function(batches):
        found = [step(*batch) for batch in _not_empty(batches, is_ours)]
        if not found:
          return tf.zeros([0], self.distribution.dtype)
        return tf.nest.map_structure(lambda *t: tf.concat(t, axis=0), *found)

      self.predict_function = function
    return self.predict_function

  def _maybe_symbolic_build(self, iterator=None, data_batch=None):
    """Builds the optimizer, all that is left; Keras would take a batch for it."""
    if self._strategy is not None and not self.optimizer.built:
      with self._strategy.scope():
        self.optimizer.build(self.trainable_variables)

  def _get_metrics_result_or_logs(self, logs):
    """The logs over all replicas; those of a step are means of what each has.

    What a step of the user's own logs without updating our metric stays as it is.
    """
    unseen = {m.name for m in self.metrics if metrics.is_empty(m)}
    results = {k: v for k, v in self.get_metrics_result().items() if k not in unseen}
    return {name: results.get(name, value) for name, value in (logs or {}).items()}

  def _check_all_seen(self, watched):
    known = {id(v.value) for v in self.variables}
    unseen = [v.name for v in watched if id(v) not in known]
    if unseen:
      raise ValueError(
        f'Expected every variable that `log_prob` reads to be a weight of the '
        f'model; {unseen} are not. A network inside a function is invisible to '
        f'TensorFlow: pass it as the conditioner itself.'
      )

  def _update_metrics(self, log_prob, weight, made=None):
    if weight is not None:
      weight = tf.reshape(weight, tf.shape(log_prob))
      log_prob = _where_counted(log_prob, weight)
    log_prob, weight = metrics.counted(log_prob, weight, made)
    found = [m for m in (self._nll, self._bits_per_dim) if m is not None]
    for metric in found:
      metric.update_state(log_prob, sample_weight=weight)
    return {m.name: m.result() for m in found}


def _not_empty(batches, with_weights):
  """Those `batches` that have examples, as tuples; of three parts `with_weights`."""
  for data in batches:
    batch = replicas.unpack(data) if with_weights else data
    if not isinstance(batch, (tuple, list)):
      batch = (batch,)
    if len(batch[0]):
      yield batch


def _where_counted(values, weights):
  """0 for examples of weight 0, which may be infinite."""
  return tf.where(tf.equal(weights, 0), tf.zeros_like(values), values)


def _weighted_mean(values, weights, total=None):
  """The mean or, with the `total` weight of all replicas, this replica's part of it."""
  if weights is None:
    return tf.reduce_mean(values)
  weights = tf.reshape(tf.cast(weights, values.dtype), tf.shape(values))
  values = _where_counted(values, weights)
  total = tf.reduce_sum(weights) if total is None else tf.cast(total, values.dtype)
  return tf.math.divide_no_nan(tf.reduce_sum(weights * values), total)
