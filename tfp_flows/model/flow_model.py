"""The Keras model over a distribution."""

from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors
from tfp_flows.internal import keras_parameters
from tfp_flows.model import dequantization as dequantization_lib
from tfp_flows.model import diagnosis
from tfp_flows.model import fitting
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


class FlowModel(
  fitting.Fitting, steps.Steps, inference.Inference, saving.Saving, keras.Model
):
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
    self._record(FlowModel, dequantization=likelihood.dequantization)
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

  @property
  def condition_variables(self) -> list[keras.Variable]:
    """Shift and scale of the condition."""
    parts = [self.distribution, *self.distribution.submodules]
    layers = [part for part in parts if isinstance(part, bijectors.Sequential)]
    ids = {id(v) for layer in layers for v in layer.condition_variables}
    return [v for v in self._flow_variables if id(v.value) in ids]
