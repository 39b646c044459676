"""The Keras model over a distribution."""

import contextlib
import random

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import flow_bijector
from tfp_flows.bijectors import preprocess
from tfp_flows.distributions import dequantization as dequantization_lib
from tfp_flows.internal import keras_parameters
from tfp_flows.internal import seeds
from tfp_flows.training import inputs
from tfp_flows.training import metrics

__all__ = ['FlowModel']

tfd = tfp.distributions


@keras.saving.register_keras_serializable('tfp_flows')
class FlowModel(keras.Model):
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

  #### Examples

  ```python
  model = tff.FlowModel(tff.glow([28, 28, 1]))
  model.compile(keras.optimizers.Adam(1e-3))
  model.adapt(images[:512])
  model.fit(images, batch_size=64, epochs=10)      # images: uint8
  model.sample(16, temperature=0.7, seed=0)        # uint8 [16, 28, 28, 1]
  ```
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
      distribution: with a static event shape; a `tfd.TransformedDistribution`
        for `encode`, `decode` and `adapt`. If it takes a condition, then by the
        keyword `condition`, as those of the builders do.
      dequantization: None: as the `Preprocess` layer in `distribution` says, if
        there is one.
      seed: int, of dequantization and of sampling; None draws one.
      name: name of the model.

    Raises:
      ValueError: if there is nothing to train.
    """
    super().__init__(name=name, dtype=distribution.dtype.name)
    self._distribution = distribution
    layers, variables = keras_parameters.keras_view(distribution)
    self._flow_layers, self._flow_variables = layers, variables
    if not self.trainable_variables:
      raise ValueError(
        f'Expected a distribution with trainable variables; received '
        f'{distribution.name!r}, which has none. A network inside a function '
        f'is invisible to TensorFlow: pass it as the conditioner itself.'
      )
    if dequantization is None:
      dequantization = _default_dequantization(distribution)
    self._dequantization = dequantization
    self._noise = keras.random.SeedGenerator(seed, name='noise')
    # Evaluation draws the same noise each time, so that epochs compare.
    self._test_noise = keras.random.SeedGenerator(
      0 if seed is None else seed + 1, name='test_noise'
    )
    self._test_noise_start = self._test_noise.state.numpy()
    self._nll = metrics.NegativeLogLikelihood()
    self._bits_per_dim = None
    if dequantization is not None:
      num_dims = distribution.event_shape.num_elements()
      self._bits_per_dim = metrics.BitsPerDim(num_dims)
    self._checker = inputs.Checker(distribution.event_shape, self._check)
    self._seed = seed
    self._compiled = {}
    self.built = True

  @property
  def distribution(self) -> tfd.Distribution:
    """The distribution; of dequantized pixels if there is dequantization."""
    return self._distribution

  @property
  def dequantization(self) -> dequantization_lib.UniformDequantization | None:
    return self._dequantization

  @property
  def num_bins(self) -> int | None:
    """Number of values of a pixel, or None for continuous data."""
    return self._dequantization and self._dequantization.num_bins

  # Training.

  def compile(self, optimizer='adam', jit_compile: bool = True, **kwargs):
    """Like `keras.Model.compile`, with XLA on and the loss given."""
    for option in ('loss', 'loss_weights', 'metrics', 'weighted_metrics'):
      if kwargs.get(option) is not None:
        raise ValueError(
          f'FlowModel has its loss and its metrics, the mean negative '
          f'log-likelihood and bits/dim; received {option}={kwargs[option]!r}.'
        )
    if kwargs.get('run_eagerly'):
      jit_compile = False
    super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)

  def call(self, x, condition=None, training=False):
    noise = self._noise if training else self._test_noise
    return self._log_prob(x, condition, self._next_seed(noise))

  def _next_seed(self, generator):
    return tf.cast(generator.next(), tf.int32)

  def _log_prob(self, x, condition, seed, num_samples=1):
    kwargs = {} if condition is None else dict(condition=condition)
    if self._dequantization is None:
      return self._distribution.log_prob(x, **kwargs)
    return self._dequantization.log_prob(
      self._distribution, x, seed, num_samples, **kwargs
    )

  def train_step(self, data):
    x, condition, weight = keras.utils.unpack_x_y_sample_weight(data)
    with tf.GradientTape() as tape:
      log_prob = self(x, condition, training=True)
      loss = _weighted_mean(-log_prob, weight)
      loss += sum(tf.cast(extra, loss.dtype) for extra in self.losses)
      scaled = self.optimizer.scale_loss(loss)
    self._check_all_seen(tape.watched_variables())
    weights = self.trainable_weights
    gradients = tape.gradient(scaled, weights)
    self.optimizer.apply_gradients(zip(gradients, weights))
    return self._update_metrics(log_prob, weight)

  def test_step(self, data):
    x, condition, weight = keras.utils.unpack_x_y_sample_weight(data)
    return self._update_metrics(self(x, condition, training=False), weight)

  def predict_step(self, data):
    x, condition, _ = keras.utils.unpack_x_y_sample_weight(data)
    return self(x, condition, training=False)

  def _check_all_seen(self, watched):
    known = {id(v.value) for v in self.variables}
    unseen = [v.name for v in watched if id(v) not in known]
    if unseen:
      raise ValueError(
        f'Expected every variable that `log_prob` reads to be a weight of the '
        f'model; {unseen} are not. A network inside a function is invisible to '
        f'TensorFlow: pass it as the conditioner itself.'
      )

  @property
  def metrics(self):
    return [m for m in (self._nll, self._bits_per_dim) if m is not None]

  def _update_metrics(self, log_prob, weight):
    for metric in self.metrics:
      metric.update_state(log_prob, sample_weight=weight)
    return {m.name: m.result() for m in self.metrics}

  def fit(
    self,
    x=None,
    y=None,
    batch_size: int | None = None,
    validation_data=None,
    validation_split: float = 0.0,
    sample_weight=None,
    shuffle: bool = True,
    **kwargs,
  ) -> keras.callbacks.History:
    """Like `keras.Model.fit`, with checked data; `y` is the condition.

    Arrays are cut into batches of one shape, the last filled up with examples of
    weight 0: XLA compiles once, and no example is lost.

    Raises:
      ValueError: if the data are empty, of another shape, not finite, or pixels
        out of range.
    """
    if validation_split and not isinstance(x, tf.data.Dataset):
      x, y, sample_weight, validation_data = _split(
        x, y, sample_weight, validation_split
      )
    if validation_data is not None:
      if isinstance(validation_data, tf.data.Dataset):
        validation_data = self._batches(validation_data, None, None, None)
      else:
        unpacked = keras.utils.unpack_x_y_sample_weight(validation_data)
        validation_data = self._batches(*unpacked, batch_size)
    order = self._shuffle_seed() if shuffle else None
    batches = self._batches(x, y, sample_weight, batch_size, order)
    with self._plain_data_errors():
      return super().fit(
        batches, validation_data=validation_data, shuffle=False, **kwargs
      )

  def _shuffle_seed(self):
    return random.randrange(2**31) if self._seed is None else self._seed

  def evaluate(self, x=None, y=None, batch_size=None, sample_weight=None, **kwargs):
    """Like `keras.Model.evaluate`; `y` is the condition."""
    self._test_noise.state.assign(self._test_noise_start)
    if not kwargs.get('_use_cached_eval_dataset'):
      x = self._batches(x, y, sample_weight, batch_size)
    with self._plain_data_errors():
      return super().evaluate(x, **kwargs)

  def _batches(self, x, condition, sample_weight, batch_size, order=None):
    if isinstance(x, tf.data.Dataset):
      return self._checker(_as_tuples(x))
    if not hasattr(x, '__array__') and not isinstance(x, (list, tuple)):
      raise ValueError(
        f'Expected arrays or a tf.data.Dataset; received {type(x).__name__}.'
      )
    x = self._check(x)
    if self._dequantization is None:
      x = x.astype(self._distribution.dtype.as_numpy_dtype)
    examples = inputs.array_examples(x, condition, sample_weight)
    return inputs.batches(examples, min(batch_size or 32, len(x)), order)

  def _check(self, x):
    shape = tuple(self._distribution.event_shape)
    return inputs.check_examples(x, shape, self.num_bins)

  @contextlib.contextmanager
  def _plain_data_errors(self):
    self._checker.original = None
    try:
      yield
    except tf.errors.OpError:
      if self._checker.original is None:
        raise
      raise self._checker.original from None

  def adapt(self, x, condition=None, num_examples: int = 1024) -> None:
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
      x, condition = _first_examples(_as_tuples(x), num_examples)
    x = self._check(x[:num_examples])
    condition = None if condition is None else condition[:num_examples]
    if self._dequantization is not None:
      x = self._dequantization.dequantize(
        x, self._next_seed(self._noise), self._distribution.dtype
      )
    else:
      x = tf.convert_to_tensor(x, self._distribution.dtype)
    flow_bijector.adapt(self._transformed().bijector, x, condition, inverted=True)

  # Inference.

  def log_prob(self, x, condition=None, seed=None, num_samples: int = 1):
    """Log-likelihood of each example, in nats.

    Args:
      x: examples; integers if the model dequantizes.
      condition: per example, or None.
      seed: int or stateless seed, of the dequantization; None draws one.
      num_samples: of the bound, see `UniformDequantization.log_prob`.

    Returns:
      Tensor of the batch shape.
    """
    return self._run('log_prob', num_samples)(
      self._as_tensor(x), condition, self._seed_of(seed)
    )

  def sample(
    self, n: int = 1, condition=None, temperature: float = 1.0, seed=None
  ) -> tf.Tensor:
    """Draws `n` examples; integers if the model dequantizes.

    Args:
      n: number of examples.
      condition: `[n, K]` or `[K]`, or None.
      temperature: scales the latents about their mean; below 1 for samples
        nearer to the mode, as in section 6 of the Glow paper.
      seed: int or stateless seed; None draws one.
    """
    x = self._run('sample', n, temperature)(condition, self._seed_of(seed))
    return self._quantized(x)

  def sample_and_log_prob(
    self, n: int = 1, condition=None, seed=None
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """`n` draws from the density and its logarithm there, from one pass.

    The draws are not quantized: the density is that of `distribution`.
    """
    return self._run('sample_and_log_prob', n)(condition, self._seed_of(seed))

  def encode(self, x, condition=None, seed=None) -> tf.Tensor:
    """The latents of examples, dequantized with `seed` if they are integers."""
    return self._run('encode')(self._as_tensor(x), condition, self._seed_of(seed))

  def decode(self, z, condition=None) -> tf.Tensor:
    """The examples of latents; integers if the model dequantizes."""
    return self._quantized(self._run('decode')(z, condition))

  def _as_tensor(self, x):
    if self._dequantization is None:
      return tf.convert_to_tensor(x, self._distribution.dtype)
    return tf.convert_to_tensor(x)

  def _quantized(self, x):
    return x if self._dequantization is None else self._dequantization.quantize(x)

  def _seed_of(self, seed):
    if seed is None:
      return self._next_seed(self._noise)
    return seeds.stateless_seed(seed)

  def _transformed(self):
    if not hasattr(self._distribution, 'bijector'):
      raise ValueError(
        f'Expected a tfd.TransformedDistribution, which has latents; received '
        f'{type(self._distribution).__name__}.'
      )
    return self._distribution

  def _run(self, method, *static):
    """The compiled function of an inference method, traced once per shape."""
    key = (method, *static)
    if key not in self._compiled:
      fn = getattr(self, f'_compute_{method}')
      jit_compile = self.jit_compile if self.compiled else True

      def compiled(*args):
        return fn(*static, *args)

      self._compiled[key] = tf.function(compiled, jit_compile=jit_compile)
    return self._compiled[key]

  def _compute_log_prob(self, num_samples, x, condition, seed):
    return self._log_prob(x, condition, seed, num_samples)

  def _compute_sample(self, n, temperature, condition, seed):
    if temperature == 1.0:
      return self._distribution.sample(n, seed=seed, **_given(condition))
    base = self._transformed().distribution
    z = tf.nest.map_structure(
      lambda z, mean: mean + tf.cast(temperature, z.dtype) * (z - mean),
      base.sample(n, seed=seed),
      base.mean(),
    )
    return self._distribution.bijector.forward(z, **_given(condition))

  def _compute_sample_and_log_prob(self, n, condition, seed):
    return self._distribution.experimental_sample_and_log_prob(
      n, seed=seed, **_given(condition)
    )

  def _compute_encode(self, x, condition, seed):
    if self._dequantization is not None:
      x = self._dequantization.dequantize(x, seed, self._distribution.dtype)
    return self._transformed().bijector.inverse(x, **_given(condition))

  def _compute_decode(self, z, condition):
    return self._transformed().bijector.forward(z, **_given(condition))


def _given(condition):
  return {} if condition is None else dict(condition=condition)


def _default_dequantization(distribution):
  layers = [m for m in distribution.submodules if isinstance(m, preprocess.Preprocess)]
  if not layers:
    return None
  return dequantization_lib.UniformDequantization(layers[0].num_bins)


def _weighted_mean(values, weights):
  if weights is None:
    return tf.reduce_mean(values)
  weights = tf.cast(weights, values.dtype)
  return tf.math.divide_no_nan(tf.reduce_sum(weights * values), tf.reduce_sum(weights))


def _as_tuples(dataset):
  if isinstance(dataset.element_spec, tuple):
    return dataset
  return dataset.map(lambda x: (x,))


def _first_examples(dataset, count):
  batches, total = [], 0
  for batch in dataset.as_numpy_iterator():
    batches.append(batch)
    total += len(batch[0])
    if total >= count:
      break
  if not batches:
    raise ValueError(inputs.EMPTY)
  parts = [None if p[0] is None else np.concatenate(p) for p in zip(*batches)]
  return parts[0], parts[1] if len(parts) > 1 else None


def _split(x, condition, sample_weight, fraction):
  x = np.asarray(x)
  start = int(len(x) * (1.0 - fraction))
  parts = [x, condition, sample_weight]
  train = [None if p is None else np.asarray(p)[:start] for p in parts]
  validation = [None if p is None else np.asarray(p)[start:] for p in parts]
  return *train, tuple(validation)
