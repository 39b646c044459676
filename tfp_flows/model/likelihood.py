"""The distribution of data as they come: integers or real numbers."""

import functools
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors
from tfp_flows.bijectors import calls
from tfp_flows.bijectors import flow_bijector
from tfp_flows.bijectors import preprocess
from tfp_flows.flows import density as density_lib
from tfp_flows.internal import estimation
from tfp_flows.internal import example_keys
from tfp_flows.internal import keras_parameters
from tfp_flows.internal import shapes
from tfp_flows.model import dequantization as dequantization_lib

__all__ = ['Likelihood']

tfd = tfp.distributions


class Likelihood:
  """A density and, for integers, its dequantization. Pure functions of tensors.

  Attributes:
    distribution: of the data, with noise if they are integers.
    density: that as base and bijector.
    dequantization: or None for continuous data.
  """

  def __init__(
    self,
    distribution: tfd.Distribution,
    dequantization: dequantization_lib.UniformDequantization | None = None,
  ):
    """By default the dequantization is what a `Preprocess` layer says."""
    if not isinstance(distribution.event_shape, tf.TensorShape):
      raise ValueError(
        f'Expected a distribution of one tensor; received {distribution.name!r}, '
        f'whose events are a structure. Fit its parts, or flatten it with '
        f'`tfb.Split` and `tfb.JointMap`.'
      )
    if any(shape.rank for shape in tf.nest.flatten(distribution.batch_shape)):
      raise ValueError(
        f'Expected one distribution for all examples, of batch shape []; received '
        f'{distribution.batch_shape} of {distribution.name!r}. Axes of an example '
        f'belong to its event: `tfd.Independent(distribution, '
        f'{distribution.batch_shape.rank})`. To have one of several, index them: '
        f'`distribution[0]`.'
      )
    self.distribution, self.density = distribution, density_lib.Density(distribution)
    self.dequantization = dequantization or _default_dequantization(distribution)
    self._condition_size = keras_parameters.condition_size(distribution)
    # Continuous and residual flows know it.
    self._has_estimates = bool(flow_bijector.estimating_layers(distribution))
    self._layers = [
      m for m in distribution.submodules if isinstance(m, flow_bijector.FlowBijector)
    ]

  @property
  def num_bins(self) -> int | None:
    """Number of values of a pixel, or None for continuous data."""
    return self.dequantization and self.dequantization.num_bins

  def log_prob(
    self,
    x: tf.Tensor,
    condition: tf.Tensor | None,
    seed: tf.Tensor,
    num_samples: int = 1,
    estimator: bijectors.Estimator | None = None,
    training: bool = False,
  ) -> tf.Tensor:
    """Log-likelihood of each example, or its bound, in nats.

    Outside of training the noise belongs to the example, whatever its place in the
    batch is, see `tff.example_keys`.
    """
    x, keys = (x, None) if training else self._with_keys(x, condition)
    if keys is not None and num_samples > 1 and self.dequantization is not None:
      keys = _of_samples(keys, num_samples)
    with _estimation(seed, training, estimator, keys):
      if self.dequantization is None:
        return self.density.log_prob(self.dequantized(x, seed), condition)
      return self.dequantization.log_prob(
        self.density, x, seed, num_samples, keys, **_given(condition)
      )

  def log_prob_dequantized(
    self,
    v: tf.Tensor,
    condition: tf.Tensor | None,
    seed: tf.Tensor,
    estimator: bijectors.Estimator | None = None,
  ) -> tf.Tensor:
    """The logarithm of the density at `v`, in nats."""
    v, keys = self._with_keys(v, condition)
    with _estimation(seed, estimator=estimator, keys=keys):
      return self.density.log_prob(v, condition)

  def sample(
    self,
    condition: tf.Tensor | None,
    seed: tf.Tensor,
    shape: tf.Tensor,
    temperature: float | tf.Tensor = 1.0,
  ) -> tf.Tensor:
    """Draws of the density, from latents scaled about their centre.

    Args:
      condition: `[*batch, K]` or None.
      seed: stateless.
      shape: of the draws for each row of the condition.
      temperature: see `latents`.

    Returns:
      `[*shape, *batch, *event_shape]`.
    """
    if not self.has_latents:
      return self.density.sample(shape, seed, condition)
    return self.decode(self.latents(condition, seed, shape, temperature), condition)

  @property
  def has_latents(self) -> bool:
    """Whether the distribution is a transformed one."""
    return self.density.base is not None

  @functools.cached_property
  def has_temperature(self) -> bool:
    """Whether there are latents whose distribution has a centre."""
    if not self.has_latents:
      return False
    try:
      with tf.init_scope():  # Numbers, also while a function is traced.
        centre = _centre(self.density.base)
    except NotImplementedError:
      return False
    return all(np.isfinite(part).all() for part in tf.nest.flatten(centre))

  def latents(
    self,
    condition: tf.Tensor | None,
    seed: tf.Tensor,
    shape: tf.Tensor,
    temperature: float | tf.Tensor = 1.0,
  ) -> Any:
    """Draws of the base, `[*shape, *batch, ...]`, scaled about its centre.

    That is its mean or, where there is none as of a Cauchy distribution, its mode.
    """
    z = self._latent_density().latents(shape, seed, condition)
    if not tf.is_tensor(temperature) and temperature == 1.0:
      return z
    centre = _centre(self.density.base)
    return tf.nest.map_structure(
      lambda z, centre: _scaled(z, centre, tf.cast(temperature, z.dtype)), z, centre
    )

  def sample_and_log_prob(
    self, condition: tf.Tensor | None, seed: tf.Tensor, shape: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws of the density and its logarithm there."""
    if self.has_latents:
      z = self.latents(condition, seed, shape)
      return self.decode_and_log_prob(z, condition, seed)
    x = self.density.sample(shape, seed, condition)
    return x, self.density.log_prob(x, condition)

  def encode(self, x: tf.Tensor, condition: tf.Tensor | None, seed: tf.Tensor) -> Any:
    """Latents of examples."""
    x, keys = self._with_keys(x, condition)
    return self.encode_dequantized(self.dequantized(x, seed, keys), condition)

  def encode_dequantized(self, v: tf.Tensor, condition: tf.Tensor | None) -> Any:
    """Latents of what the density is of."""
    return self._latent_density().inverse(v, condition)

  def decode(self, z: Any, condition: tf.Tensor | None) -> tf.Tensor:
    """What the latents stand for, not quantized."""
    return self._latent_density().forward(z, condition)

  def decode_and_log_prob(
    self, z: Any, condition: tf.Tensor | None, seed: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """What the latents stand for, and the logarithm of the density there."""
    with _estimation(seed):
      return self._latent_density().forward_and_log_prob(z, condition)

  def adapt(
    self,
    x: np.ndarray | tf.Tensor,
    condition: np.ndarray | tf.Tensor | None,
    seed: tf.Tensor,
  ) -> None:
    """Initialises every layer from a batch of examples.

    Raises:
      ValueError: if a layer that adapts is not on the way from data to latent, or if
        a latent is not finite; nothing is changed then.
    """
    bijectors = self._latent_density().bijectors
    kept = [(v, tf.identity(v)) for v in self.distribution.variables]
    x = self.dequantized(x, seed)
    for bijector in bijectors:
      x = calls.adapt(bijector, x, condition, inverted=True)
    if not all(np.isfinite(part).all() for part in tf.nest.flatten(x)):
      for variable, value in kept:
        variable.assign(value)
      raise ValueError(
        'Expected examples whose latents are finite; received some that a layer maps '
        'to NaN or infinity, as a logit does at an exact 0 or 1. Nothing was adapted. '
        'Move the data inside of the support, or change the layer at their end.'
      )
    left = [m.name for m in self._layers if not m.adapted]
    if left:
      raise ValueError(
        f'Expected every layer that adapts to lie on the way from data to latent; '
        f'{left} are passed through their inverse, or hidden in another bijector.'
      )

  @property
  def takes_condition(self) -> bool:
    """Whether a layer depends on a condition."""
    return self.density.takes_condition

  def check_condition(
    self, condition: Any, per_example: bool = False, is_needed: bool = False
  ) -> None:
    """Raises `ValueError` if there is a condition that the layers cannot take.

    Args:
      condition: a tensor, array or spec, or None.
      per_example: whether it must be there, `[N, K]`, if a layer takes one, or else may
        also be one for all, `[K]`.
      is_needed: whether it must be there, in either shape, if a layer takes one.
    """
    given = condition is not None and not isinstance(condition, tf.NoneTensorSpec)
    if given and self._layers and not self.takes_condition:
      raise ValueError(
        'Expected no condition, as no layer of the model takes one; received one. '
        'Build the model with `condition_size`, or pass the examples alone: labels '
        'stand where a flow has its condition.'
      )
    size = self._condition_size
    if not given:
      if per_example and size is not None:
        raise ValueError(
          f'Expected a condition of shape [N, {size}] beside the examples; received '
          f'none. Pass it as `y`, where Keras has labels.'
        )
      if is_needed and size is not None:
        raise ValueError(
          f'Expected a condition of shape [{size}] for all examples or [N, {size}]; '
          f'received none. Pass it as `condition`.'
        )
      return
    if not hasattr(condition, 'dtype'):
      condition = np.asarray(condition)
    shape = tf.TensorShape(condition.shape)
    if shape.rank is not None:
      is_floating = tf.as_dtype(condition.dtype).is_floating
      self._check_condition_shape(shape, per_example, is_floating)

  def _check_condition_shape(self, shape, per_example, is_floating):
    size = self._condition_size
    # Integers in one row are labels, whatever their number is.
    is_row = shape.rank < 2 and (per_example or not is_floating)
    is_other = size is not None and not shape[-1:].is_compatible_with([size])
    if is_row or is_other:
      expected = 'N, K' if size is None else f'N, {size}'
      raise ValueError(
        f'Expected a condition of shape [{expected}]; received {shape.as_list()}. '
        f'Numbers enter as columns, labels as `tf.one_hot(labels, '
        f'{size or "num_classes"})`.'
      )

  def _with_keys(self, x, condition):
    """`x` of the batch shape of both, and its keys, None if nothing is drawn for it.

    The same example has the same noise under each condition: conditions compare.
    """
    if self.dequantization is None and not self._has_estimates:
      return x, None
    dtype, event_ndims = self.distribution.dtype, len(self.distribution.event_shape)
    x = tf.convert_to_tensor(x)
    if condition is not None:
      x = shapes.broadcast_batch(x, event_ndims, condition)
    return x, example_keys.example_keys(tf.cast(x, dtype), event_ndims=event_ndims)

  def dequantized(
    self, x: np.ndarray | tf.Tensor, seed: tf.Tensor, keys: tf.Tensor | None = None
  ) -> tf.Tensor:
    """Examples as the density takes them: with noise, if they are integers."""
    if self.dequantization is None:
      return tf.cast(x, self.distribution.dtype)
    return self.dequantization.dequantize(x, seed, self.distribution.dtype, keys)

  def check_num_samples(
    self, num_samples: int, estimator: bijectors.Estimator | None = None
  ) -> None:
    """Raises `ValueError` unless `log_prob` with so many samples is a bound."""
    with estimation.estimation(0, estimator=estimator):
      dequantization_lib.check_num_samples(self.distribution, num_samples)

  def dequantized_often(
    self, x: tf.Tensor, seed: tf.Tensor, count: tf.Tensor
  ) -> tf.Tensor:
    """`count` times `dequantized`, with other noise each time."""
    x, keys = self._with_keys(x, None)
    keys = keys if keys is None else _of_samples(keys, count)
    x = tf.broadcast_to(x, tf.concat([[count], tf.shape(x)], axis=0))
    return self.dequantized(x, seed, keys)

  def _latent_density(self):
    if not self.has_latents:
      raise ValueError(
        f'Expected a tfd.TransformedDistribution, which has latents; received '
        f'{type(self.distribution).__name__}. What consists of several, as a mixture, '
        f'has none: take its parts one by one, each in a `FlowModel` of its own.'
      )
    return self.density


def _of_samples(keys, count):
  """Keys of `count` samples of each example, `[count, *batch, 2]`."""
  samples = tf.range(count)[(..., *[tf.newaxis] * (keys.shape.rank - 1))]
  return example_keys.fold_in(keys, samples)


def _centre(base):
  """The mean of a distribution, or its mode where there is no mean."""
  try:
    mean = base.mean()
  except NotImplementedError:
    return base.mode()
  try:
    mode = base.mode()
  except NotImplementedError:
    return mean
  return tf.nest.map_structure(
    lambda mean, mode: tf.where(tf.math.is_nan(mean), mode, mean), mean, mode
  )


def _scaled(z, centre, temperature):
  # At 1 this is `z` itself.
  return z + (temperature - 1.0) * (z - centre)


def _estimation(seed, training=False, estimator=None, keys=None):
  """Stochastic log-dets have a seed apart from that of the dequantization."""
  return estimation.estimation(
    tf.random.experimental.stateless_fold_in(seed, 1, alg='philox'),
    training,
    estimator,
    keys,
  )


def _given(condition):
  return {} if condition is None else dict(condition=condition)


def _default_dequantization(distribution):
  layers = [m for m in distribution.submodules if isinstance(m, preprocess.Preprocess)]
  if not layers:
    return None
  return dequantization_lib.UniformDequantization(layers[0].num_bins)
