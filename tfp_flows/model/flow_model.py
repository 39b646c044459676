"""The Keras model over a distribution."""

import contextlib
import random
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors
from tfp_flows.internal import keras_parameters
from tfp_flows.model import callbacks as callbacks_lib
from tfp_flows.model import dequantization as dequantization_lib
from tfp_flows.model import diagnosis
from tfp_flows.model import guard
from tfp_flows.model import inference
from tfp_flows.model import inputs
from tfp_flows.model import likelihood as likelihood_lib
from tfp_flows.model import metrics
from tfp_flows.model import model_inputs
from tfp_flows.model import paths
from tfp_flows.model import replicas
from tfp_flows.model import saving
from tfp_flows.model import steps

__all__ = ['FlowModel', 'NonFiniteError', 'SamplingError', 'SolverError']

tfd = tfp.distributions
NonFiniteError, SolverError = diagnosis.NonFiniteError, diagnosis.SolverError
SamplingError = inference.SamplingError


@keras.saving.register_keras_serializable('tfp_flows')
class FlowModel(steps.Steps, inference.Inference, saving.Saving, keras.Model):
  """Fits any TFP distribution to data by maximum likelihood.

  The loss is the mean negative log-likelihood, in nats per example. Every
  variable of `distribution` is a weight of the model, whether it belongs to a
  Keras layer, to a layer of this library or to a stock TFP object; optimizers,
  callbacks, `save_weights` and `tf.train.Checkpoint` see one set.

  Integer data, as `uint8` images, are dequantized inside: `log_prob` is then a
  stochastic lower bound of the log-probability of the integers, `bits_per_dim`
  is reported beside `loss`, and `sample` returns integers. This is so if the
  distribution begins with a `Preprocess` layer, as those of the builders for
  images do, or if `dequantization` is passed.

  Data are arrays or a `tf.data.Dataset` of `x`, `(x, condition)` or
  `(x, condition, sample_weight)`: where Keras has labels, a flow has the
  condition. With weights the loss is the weighted mean.

  Made and compiled in the scope of a `tf.distribute` strategy, the model shares each
  batch among the replicas, equally, and trains as one would with the whole batch:
  noise, clipping, weights and metrics are those of all. XLA compiles what each
  replica computes by itself.

  #### Examples

  ```python
  model = tff.FlowModel(tff.glow([28, 28, 1]))
  model.compile(keras.optimizers.Adam(1e-3))
  model.adapt(images[:512])
  model.fit(images, batch_size=64, epochs=10)      # images: uint8
  model.sample(16, temperature=0.7, seed=0)        # uint8 [16, 28, 28, 1]
  ```

  `save` writes distribution, weights and optimizer, if the distribution is made of
  what has a name: see `get_config`.
  """

  def __init__(
    self,
    distribution: tfd.Distribution,
    dequantization: dequantization_lib.UniformDequantization | None = None,
    seed: int | None = None,
    name: str | None = None,
  ):
    """Creates the model.

    Args:
      distribution: of batch shape [], with a static event shape; a
        `tfd.TransformedDistribution` for `encode`, `decode` and `adapt`.
        If it takes a condition, then by the keyword `condition`, as those of the
        builders do.
      dequantization: None: as the `Preprocess` layer in `distribution` says, if
        there is one.
      seed: int, of dequantization and of sampling; None draws one.
      name: name of the model.

    Raises:
      ValueError: if there is nothing to train.
    """
    likelihood = likelihood_lib.Likelihood(distribution, dequantization)
    super().__init__(name=name, dtype=distribution.dtype.name)
    self._distribution = distribution  # As an attribute, so that checkpoints see it.
    self._likelihood = likelihood
    layers, variables = keras_parameters.keras_view(distribution)
    self._flow_layers, self._flow_variables = layers, variables
    self._has_norms = bool(bijectors.networks_with_norms(distribution))
    # What is frozen may be thawed.
    if not (self.trainable_variables or layers or variables):
      raise ValueError(
        f'Expected a distribution with trainable variables; received '
        f'{distribution.name!r}, which has none. A network inside a function '
        f'is invisible to TensorFlow: pass it as the conditioner itself.'
      )
    self._noise = keras.random.SeedGenerator(seed, name='noise')
    # Evaluation draws the same noise each time, so that epochs compare.
    self._test_noise = keras.random.SeedGenerator(
      0 if seed is None else seed + 1, name='test_noise'
    )
    self._test_noise_start = self._test_noise.state.numpy()
    self._nll = metrics.NegativeLogLikelihood(dtype=self.dtype)
    self._bits_per_dim = None
    if self.dequantization is not None:
      num_dims = distribution.event_shape.num_elements()
      self._bits_per_dim = metrics.BitsPerDim(num_dims, dtype=self.dtype)
    self._work = self._solver_work()
    self._guard = guard.Guard()
    self._inputs = model_inputs.ModelInputs(likelihood)
    self._seed = seed
    self._compiled = inference.Compiled()
    self._trained: list[int] = []
    self._replica_jit = False
    self.built = True

  def _solver_work(self):
    flows = paths.continuous_layers(self.distribution)
    if not flows:
      return None
    penalties = {name for flow in flows for name in flow.penalties.weights()}
    return metrics.SolverWork(sorted(penalties), self.dtype)

  @property
  def distribution(self) -> tfd.Distribution:
    """The distribution; of dequantized pixels if there is dequantization."""
    return self._distribution

  @property
  def dequantization(self) -> dequantization_lib.UniformDequantization | None:
    return self._likelihood.dequantization

  @property
  def likelihood(self) -> likelihood_lib.Likelihood:
    """The distribution of the data as they come, as functions of tensors."""
    return self._likelihood

  @property
  def num_bins(self) -> int | None:
    """Number of values of a pixel, or None for continuous data."""
    return self._likelihood.num_bins

  # Training.

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

  def follow_trainable(self) -> None:
    """Lets tapes watch what is trainable now, as Keras and `trainable` say."""
    # To look for the variables of modules brings those that follow others up to date.
    _ = self._distribution.trainable_variables

  def call(
    self,
    x: Any,
    condition: Any = None,
    training: bool = False,
    seed: tf.Tensor | None = None,
  ) -> tf.Tensor:
    self.follow_trainable()
    if seed is None:
      # In evaluation examples differ in their noise, and batches do not.
      state = self._test_noise.state
      seed = self._next_seed(self._noise) if training else tf.cast(state, tf.int32)
    return self._likelihood.log_prob(x, condition, seed, training=bool(training))

  def _next_seed(self, generator):
    return tf.cast(generator.next(), tf.int32)

  def update_norms(self) -> None:
    """Brings the norms of Lipschitz networks up to date, see `tff.update_norms`.

    To be called after the weights were changed by other means than `fit`,
    `evaluate` and `load_weights`.
    """
    if self._has_norms:
      # Compiling it takes longer than it runs.
      self._run_as(
        False, 'update_norms', lambda: bijectors.update_norms(self.distribution)
      )

  @property
  def metrics(self) -> list[keras.metrics.Metric]:
    found = [m for m in (self._nll, self._bits_per_dim) if m is not None]
    return found + (self._work.metrics if self._work is not None else [])

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
      raise SolverError(
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
    is_validation = kwargs.get('_use_cached_eval_dataset')
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

  def adapt(self, x: Any, condition: Any = None, num_examples: int = 1024) -> None:
    """Initialises the layers from data: `ActNorm`s to mean 0 and variance 1.

    Explicit, before `fit`, on one batch, layer after layer; calling it again
    starts over.

    Args:
      x: examples, or a `tf.data.Dataset`.
      condition: per example, if the distribution takes one and `x` is an array.
      num_examples: how many examples are used, the first ones.

    Raises:
      ValueError: if the data are not what `fit` accepts.
    """
    if isinstance(x, tf.data.Dataset):
      x = self._inputs.as_tuples(x)
      inputs.check_shape(x.element_spec[0].shape, self.distribution.event_shape)
      x, condition = model_inputs.first_examples(x, num_examples)
    x = self._inputs.check(x[:num_examples])
    condition = None if condition is None else condition[:num_examples]
    condition = self._inputs.check_condition(condition)
    self._likelihood.adapt(x, condition, self._next_seed(self._noise))
    replicas.synchronize(self.distribution.variables, self.distribute_strategy)

  # Saving.

  @property
  def condition_variables(self) -> list[keras.Variable]:
    """Shift and scale of the condition."""
    parts = [self.distribution, *self.distribution.submodules]
    found = [getattr(part, 'condition_variables', []) for part in parts]
    ids = {id(v) for variables in found for v in variables}
    return [v for v in self._flow_variables if id(v.value) in ids]
