"""The distribution of data as they come: integers or real numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import flow_bijector
from tfp_flows.bijectors import preprocess
from tfp_flows.distributions import dequantization as dequantization_lib
from tfp_flows.internal import estimation
from tfp_flows.internal import example_keys
from tfp_flows.internal import keras_parameters

__all__ = ['Likelihood']

tfd = tfp.distributions


class Likelihood:
  """A density and, for integers, its dequantization. Pure functions of tensors.

  Attributes:
    distribution: the density.
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
    self.distribution = distribution
    self.dequantization = dequantization or _default_dequantization(distribution)
    self._condition_size = keras_parameters.condition_size(distribution)
    # Those of continuous and of residual flows.
    self._is_estimated = any(
      hasattr(m, 'is_estimated') for m in distribution.submodules
    )
    self._layers = [
      m for m in distribution.submodules if isinstance(m, flow_bijector.FlowBijector)
    ]

  @property
  def num_bins(self) -> int | None:
    """Number of values of a pixel, or None for continuous data."""
    return self.dequantization and self.dequantization.num_bins

  def log_prob(
    self,
    x,
    condition,
    seed,
    num_samples: int = 1,
    estimator: Callable[..., Any] | None = None,
    training: bool = False,
  ) -> tf.Tensor:
    """Log-likelihood of each example, or its bound, in nats.

    Outside of training the noise belongs to the example, whatever its place in the
    batch is, see `tff.example_keys`.
    """
    keys = None if training else self._keys(x, condition, num_samples)
    with _estimation(seed, training, estimator, keys):
      if self.dequantization is None:
        return self.distribution.log_prob(x, **self._keywords(condition))
      return self.dequantization.log_prob(
        self.distribution, x, seed, num_samples, keys, **self._keywords(condition)
      )

  def sample(self, condition, seed, n: int, temperature: float = 1.0) -> tf.Tensor:
    """`n` draws of the density, from latents scaled about their mean."""
    if temperature == 1.0:
      return self.distribution.sample(n, seed=seed, **self._keywords(condition))
    return self.decode(self.latents(seed, n, temperature), condition)

  def latents(
    self, seed, n: int | tf.Tensor, temperature: float | tf.Tensor = 1.0
  ) -> Any:
    """`n` draws of the base, scaled about its mean."""
    base = self._transformed().distribution
    z = base.sample(n, seed=seed)
    if not tf.is_tensor(temperature) and temperature == 1.0:
      return z
    return tf.nest.map_structure(
      lambda z, mean: mean + tf.cast(temperature, z.dtype) * (z - mean), z, base.mean()
    )

  def sample_and_log_prob(self, condition, seed, n: int):
    """`n` draws of the density and its logarithm there."""
    with _estimation(seed):
      return self.distribution.experimental_sample_and_log_prob(
        n, seed=seed, **self._keywords(condition)
      )

  def encode(self, x, condition, seed) -> Any:
    """Latents of examples."""
    v = self.dequantized(x, seed, self._keys(x, condition))
    return self.encode_dequantized(v, condition)

  def encode_dequantized(self, v, condition) -> Any:
    """Latents of what the density is of."""
    return self._transformed().bijector.inverse(v, **_given(condition))

  def decode(self, z, condition) -> tf.Tensor:
    """What the latents stand for, not quantized."""
    return self._transformed().bijector.forward(z, **_given(condition))

  def adapt(self, x, condition, seed) -> None:
    """Initialises every layer from a batch of examples.

    Raises:
      ValueError: if a layer that adapts is not on the way from data to latent.
    """
    x, distribution = self.dequantized(x, seed), self._transformed()
    while hasattr(distribution, 'bijector'):
      x = flow_bijector.adapt(distribution.bijector, x, condition, inverted=True)
      distribution = distribution.distribution
    left = [m.name for m in self._layers if not getattr(m, 'adapted', True)]
    if left:
      raise ValueError(
        f'Expected every layer that adapts to lie on the way from data to latent; '
        f'{left} are passed through their inverse, or hidden in another bijector.'
      )

  @property
  def takes_condition(self) -> bool:
    """Whether a layer depends on a condition."""
    return any(m.takes_condition for m in self._layers)

  def check_condition(self, condition: Any, per_example: bool = False) -> None:
    """Raises `ValueError` if there is a condition that the layers cannot take.

    Args:
      condition: a tensor, array or spec, or None.
      per_example: whether it must be there, `[N, K]`, if a layer takes one, or else may
        also be one for all, `[K]`.
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
        f'Labels enter as `tf.one_hot(labels, {size or "num_classes"})`.'
      )

  def _keywords(self, condition):
    """The condition as the distribution takes it."""
    if condition is None:
      return {}
    split = self.distribution.parameters.get('kwargs_split_fn')
    if split is not None and 'condition' not in split({'condition': condition})[1]:
      # TFP's default: keywords of the bijector have a dictionary of their own.
      return dict(bijector_kwargs=dict(condition=condition))
    return dict(condition=condition)

  def _keys(self, x, condition, num_samples=1):
    """Keys of the examples, and of the samples of each; None if nothing is drawn."""
    if self.dequantization is None and not self._is_estimated:
      return None
    dtype = self.distribution.dtype
    x = tf.cast(x, dtype)
    if condition is not None:
      condition = tf.cast(condition, dtype)
    keys = example_keys.example_keys(x, condition, len(self.distribution.event_shape))
    if self.dequantization is None or num_samples == 1:
      return keys
    samples = tf.range(num_samples)[(..., *[tf.newaxis] * (keys.shape.rank - 1))]
    return example_keys.fold_in(keys, samples)

  def dequantized(self, x, seed, keys=None) -> tf.Tensor:
    """Examples as the density takes them: with noise, if they are integers."""
    if self.dequantization is None:
      return tf.convert_to_tensor(x, self.distribution.dtype)
    return self.dequantization.dequantize(x, seed, self.distribution.dtype, keys)

  def _transformed(self):
    if not hasattr(self.distribution, 'bijector'):
      raise ValueError(
        f'Expected a tfd.TransformedDistribution, which has latents; received '
        f'{type(self.distribution).__name__}.'
      )
    return self.distribution


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
