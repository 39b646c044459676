"""`compile`, `fit`, `evaluate` and `predict`: what surrounds the steps of Keras."""

import contextlib
import random
from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.internal import keras_private
from tfp_flows.model import callbacks as callbacks_lib
from tfp_flows.model import diagnosis
from tfp_flows.model import inputs
from tfp_flows.model import model_inputs
from tfp_flows.model import replicas
from tfp_flows.model import steps

__all__ = ['Fitting']

if TYPE_CHECKING:
  from keras import Model as _Whole  # What the class is a part of.
else:
  _Whole = object


class Fitting(_Whole):
  """The part of `FlowModel` that brings data to its steps, and checks them."""

  _trained: list[int]

  def compile(
    self,
    optimizer: str | dict[str, Any] | keras.optimizers.Optimizer = 'adam',
    jit_compile: bool = True,
    **kwargs: Any,
  ) -> None:
    """Like `keras.Model.compile`, with XLA on and the loss given."""
    for option in ('loss', 'loss_weights', 'metrics', 'weighted_metrics'):
      if kwargs.get(option) is not None:
        raise ValueError(
          f'FlowModel has its loss and its metrics, the mean negative '
          f'log-likelihood and bits/dim; received {option}={kwargs[option]!r}.'
        )
    if kwargs.get('run_eagerly'):
      jit_compile = False
    self._compiled.clear()
    strategy = self._strategy
    if strategy is None:
      super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
      return
    with strategy.scope():
      super().compile(optimizer=optimizer, jit_compile=False, **kwargs)
    replicas.prepare_optimizer(self.optimizer, strategy)
    self._replica_jit = jit_compile and replicas.has_xla(self._distribution, strategy)

  def fit(
    self,
    x: Any = None,
    y: Any = None,
    batch_size: int | None = None,
    validation_data: Any = None,
    validation_split: float = 0.0,
    sample_weight: Any = None,
    shuffle: bool = True,
    **kwargs: Any,
  ) -> keras.callbacks.History:
    """Like `keras.Model.fit`, with checked data; `y` is the condition.

    Arrays are cut into batches of one shape, the last filled up with examples of
    weight 0: XLA compiles once, and no example is lost. A model that was not compiled
    is first, as `compile()` does: Adam with Keras' learning rate of 0.001, and XLA.

    Raises:
      ValueError: if the data are empty, of another shape, not finite, or pixels
        out of range.
      NonFiniteError: a `ValueError`, if loss or gradients became NaN or infinite, see
        `StopOnNonFinite`.
    """
    if kwargs.get('class_weight') is not None:
      raise ValueError(
        'Expected sample_weight, one weight per example; received class_weight: a flow '
        'has no classes.'
      )
    self._compile_by_default()
    self._check_trainable()
    is_array = self._inputs.is_array(x)
    if validation_split:
      if not is_array or validation_data is not None:
        raise ValueError(
          'Expected validation_split with arrays and without validation_data; '
          'split the tf.data.Dataset, or pass one of the two.'
        )
      x, y, sample_weight, validation_data = model_inputs.split(
        x, y, sample_weight, validation_split
      )
    if validation_data is not None:
      unpacked = [validation_data]
      if self._inputs.is_array(validation_data):
        unpacked = keras.utils.unpack_x_y_sample_weight(validation_data)
      size = kwargs.get('validation_batch_size') or batch_size
      validation_data = self._distributed(self._batches(*unpacked, batch_size=size))
    kwargs['callbacks'] = self._with_norms(kwargs.get('callbacks'))
    if self._work is not None:
      check = keras.callbacks.LambdaCallback(
        # The first to see an epoch, before validation forgets its failures.
        on_epoch_end=lambda epoch, logs: self._check_solvers(),
        on_test_begin=lambda logs: self._check_solvers(),
      )
      kwargs['callbacks'] = [check, *tf.nest.flatten(kwargs['callbacks'] or [])]
    kwargs['callbacks'] = callbacks_lib.with_guard(kwargs['callbacks'])
    order = self._shuffle_seed() if shuffle and is_array else None
    batches = self._batches(x, y, sample_weight, batch_size=batch_size, order=order)
    batches = self._distributed(batches, fill=False)
    if not self.optimizer.built:
      # A trace that creates variables starts over.
      with self.distribute_strategy.scope():
        self.optimizer.build(self.trainable_variables)
    with self._plain_data_errors(is_training=True):
      history = super().fit(
        batches, validation_data=validation_data, shuffle=False, **kwargs
      )
    self.check_finite()
    if history.epoch and not history.history:
      raise ValueError(inputs.EMPTY)
    return history

  def _check_solvers(self):
    if self._work is not None and self._work.failures:
      raise diagnosis.SolverError(
        f'Expected fields that their solvers can follow; {self._work.failures} '
        f'solves failed: they took more than max_num_steps steps, or the field '
        f'became NaN. Lower the learning rate, clip gradients, raise the tolerances '
        f'(rtol, atol) or max_num_steps of the solver, or add `tff.Penalties`.'
      )

  def _shuffle_seed(self):
    if self._seed is None:
      # Of the noise, so that several workers have the same.
      return random.Random(str(self._noise.state.numpy())).randrange(2**31)
    # A second `fit` goes on with other orders.
    return self._seed + int(self.optimizer.iterations.numpy())

  def evaluate(
    self,
    x: Any = None,
    y: Any = None,
    batch_size: int | None = None,
    sample_weight: Any = None,
    **kwargs: Any,
  ) -> float | list[float] | dict[str, float]:
    """Like `keras.Model.evaluate`; `y` is the condition."""
    self._compile_by_default()
    self._test_noise.state.assign(self._test_noise_start)
    kwargs['callbacks'] = self._with_norms(kwargs.get('callbacks'))
    is_validation = keras_private.is_validation(kwargs)
    if not is_validation:
      batches = self._batches(x, y, sample_weight, batch_size=batch_size)
      x = self._distributed(batches)
    with self._plain_data_errors():
      result = super().evaluate(x, **kwargs)
      if not is_validation:
        self._check_solvers()
    if isinstance(result, (list, dict)) and not result:
      raise ValueError(inputs.EMPTY)
    if not is_validation and np.isnan(float(self._nll.result())):
      raise diagnosis.outside_of_support()
    return result

  def predict(
    self, x: Any, y: Any = None, batch_size: int | None = None, **kwargs: Any
  ) -> np.ndarray:
    """The log-likelihood of each example, in nats; `y` is the condition."""
    self._test_noise.state.assign(self._test_noise_start)
    count = len(x) if self._inputs.is_array(x) else None
    batches = self._batches(x, y, batch_size=batch_size)
    batches = self._distributed(batches, own_weights=False)
    kwargs['callbacks'] = self._with_norms(kwargs.get('callbacks'))
    with self._plain_data_errors():
      found = super().predict(batches, **kwargs)
    if self._strategy is not None:
      found, weight = found
      found = found[weight > 0]
    return self._numbers(found[:count])

  def _distributed(self, batches, **options):
    if self._strategy is None:
      return batches
    return replicas.distribute(batches, self._strategy, **options)

  def _with_norms(self, callbacks):
    if not self._has_norms:
      return callbacks
    return callbacks_lib.with_norm_updates(callbacks, self.update_norms)

  def train_on_batch(
    self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any
  ) -> float | list[float] | dict[str, float]:
    """Like `keras.Model.train_on_batch`, with checked data; `y` is the condition."""
    self._compile_by_default()
    self._check_trainable()
    return super().train_on_batch(*self._inputs.batch(x, y, sample_weight), **kwargs)

  def test_on_batch(
    self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any
  ) -> float | list[float] | dict[str, float]:
    """Like `keras.Model.test_on_batch`, with checked data; `y` is the condition."""
    self._compile_by_default()
    return super().test_on_batch(*self._inputs.batch(x, y, sample_weight), **kwargs)

  def predict_on_batch(self, x: Any, y: Any = None) -> np.ndarray:
    """The log-likelihood of each example, in nats; `y` is the condition."""
    self.make_predict_function()
    found = self.predict_function([self._inputs.batch(x, y)])
    return self._numbers(np.asarray(found))

  def _compile_by_default(self):
    """Lets a model that nobody compiled train: its loss is known."""
    if not self.compiled:
      self.compile()

  def _check_trainable(self):
    """Raises if there is nothing to train; forgets steps of other weights."""
    if not self.trainable_variables:
      raise ValueError(
        'Expected weights to train; received a model whose weights are all frozen. Set '
        '`trainable = True` on it or on some of its layers, then compile it again.'
      )
    trained = [id(v) for v in self.trainable_variables]
    if trained != self._trained:
      self._trained, self.train_function = trained, None

  def _batches(self, x, condition=None, weight=None, *, batch_size=None, order=None):
    # A step of the user's own may not know of weights.
    fill = type(self).train_step is steps.Steps.train_step
    strategy = self._strategy
    replicas = self.distribute_strategy.num_replicas_in_sync
    return self._inputs.batches(
      x,
      condition,
      weight,
      batch_size,
      order,
      replicas,
      fill or replicas > 1,
      as_dataset=strategy is not None,
    )

  @contextlib.contextmanager
  def _plain_data_errors(self, is_training=False):
    self._inputs.checker.original = None
    try:
      yield
    except tf.errors.OpError:
      error = self._inputs.checker.original
      if error is None:
        raise
      if is_training and isinstance(error, diagnosis.NonFiniteError):
        # Batches come in their order: this is the one of the next step.
        error = error.at_step(int(self.optimizer.iterations.numpy()) + 1)
      raise error from None
