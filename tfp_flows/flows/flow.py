"""The distribution of a flow, and that of a flow given a condition."""

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import calls
from tfp_flows.flows import density as density_lib
from tfp_flows.internal import configurable
from tfp_flows.internal import names
from tfp_flows.internal import tfp_private

__all__ = ['Flow', 'given']

tfb, tfd = tfp.bijectors, tfp.distributions
_KL_DRAWS = 1000


class Flow(density_lib.Transformed, configurable.Configurable):
  """A `tfd.TransformedDistribution` with draws of their own for each condition.

  `log_prob` and the like take `condition`, `[*batch, K]`. It reaches every layer that
  takes one: in `bijector`, also inside of `tfb.Chain`, `tfb.Blockwise`, `tfb.JointMap`
  and `tfb.Invert`, and in `distribution`, if that is transformed itself.

    sample(n, condition=c) -> [*n, *batch, *event_shape]

  are independent draws, `n` for each row of the condition, where those of
  `tfd.TransformedDistribution` share one latent over all rows.

  The builders return it. `tff.given(flow, c)` is the distribution of batch shape
  `batch`, for what takes no keywords.
  """

  def __init__(
    self,
    distribution: tfd.Distribution,
    bijector: tfb.Bijector,
    validate_args: bool = False,
    name: str | None = None,
  ):
    """Creates the distribution.

    Args:
      distribution: the base, of the latents.
      bijector: from latents to data: `tfb.Invert` of a layer of this library.
      validate_args: as in TFP.
      name: name of the distribution.
    """
    super().__init__(
      distribution,
      bijector,
      kwargs_split_fn=_all_to_bijector,
      validate_args=validate_args,
      parameters=self._recorded_arguments(),
      name=name,
    )

  @classmethod
  def _parameter_properties(cls, dtype, num_classes=None):
    # TFP warns of a constructor whose parameters are those of another class.
    return super()._parameter_properties(dtype, num_classes)

  @property
  def density(self) -> density_lib.Density:
    """Base and bijector, if `distribution` is nested those of all."""
    if not hasattr(self, '_density'):
      self._density = density_lib.Density(self)
    return self._density

  def _log_prob(self, y, condition=None):
    if self.density.is_composed:
      return self.density.composed_log_prob(y, condition)
    return super()._log_prob(y, **_keywords(condition))

  def _call_sample_n(self, sample_shape, seed, condition=None):
    if condition is None and not calls.log_det_costs(self.bijector):
      return super()._call_sample_n(sample_shape, seed)
    if condition is not None:
      condition = tf.convert_to_tensor(condition)
    return self.density.sample(sample_shape, seed, condition)

  def _sample_and_log_prob(self, sample_shape, seed, condition=None):
    if condition is None:
      return super()._sample_and_log_prob(sample_shape, seed)
    condition = tf.convert_to_tensor(condition)
    z = self.density.latents(sample_shape, seed, condition)
    return self.density.forward_and_log_prob(z, condition)


def given(distribution: tfd.Distribution, condition: Any) -> tfd.Distribution:
  """The distribution of `x` given `condition`, of its batch shape.

  ```python
  flow = tff.maf([2], condition_size=3)
  tff.given(flow, c).sample(5)            # c: [N, 3]; [5, N, 2], independent

  @tfd.JointDistributionCoroutine
  def model():
    c = yield tfd.Sample(tfd.Normal(0.0, 1.0), 3, name='c')
    yield tff.given(flow, c)
  ```

  `log_prob`, `sample` and `experimental_sample_and_log_prob` need no keyword then, as
  joint distributions, `tfp.mcmc` and `tfp.vi` expect it; gradients reach the condition.
  It is sliced and copied like any distribution. `tfd.kl_divergence` from or to it is a
  Monte Carlo estimate, of 1,000 new draws at each call.

  Args:
    distribution: a `tfd.TransformedDistribution`, as those of the builders, whose base
      may be transformed itself; takes a condition.
    condition: `[*batch, K]`.

  Raises:
    ValueError: if it has no latents, or takes no condition.
  """
  return _Given(distribution, condition)


class _Given(tfp_private.TransformedDistribution, configurable.Configurable):
  """What `given` returns."""

  def __init__(self, distribution, condition, validate_args=False, name=None):
    self._density = density_lib.Density(distribution)
    _check(self._density)
    condition = tf.convert_to_tensor(condition)
    if condition.shape.rank == 0:
      raise ValueError('Expected a condition [..., K]; received a scalar.')
    self._condition = condition
    super().__init__(
      self._density.base,
      density_lib.Bound(
        self._density.bijectors, self._density.base.event_shape, self._condition
      ),
      validate_args=validate_args,
      parameters=self._recorded_arguments(),
      name=name or f'{distribution.name}_given',
    )

  @property
  def condition(self) -> tf.Tensor:
    """What is given."""
    return self._condition

  @classmethod
  def _parameter_properties(cls, dtype, num_classes=None):
    return dict(condition=tfp.util.ParameterProperties(event_ndims=1))

  def _batch_shape(self):
    return self._condition.shape[:-1]

  def _batch_shape_tensor(self):
    return tf.shape(self._condition)[:-1]

  def _call_sample_n(self, sample_shape, seed):
    z = self._density.latents(sample_shape, seed, self._condition)
    return self.bijector.forward_value(z)

  def _sample_and_log_prob(self, sample_shape, seed):
    z = self._density.latents(sample_shape, seed, self._condition)
    x = self.bijector.forward(z)
    log_det = self.bijector.forward_log_det_jacobian(z, self._density.event_ndims)
    return x, self.distribution.log_prob(z) - log_det


def _kl(a, b, name=None):
  """Of distributions of which one is given a condition."""
  with tf.name_scope(name or 'kl_given'):
    if a is b:
      return tf.zeros(a.batch_shape_tensor(), a.dtype)
    x, log_prob = a.experimental_sample_and_log_prob(_KL_DRAWS)
    return tf.reduce_mean(log_prob - b.log_prob(x), axis=0)


# TFP takes the first of those that fit equally well.
for pair in (
  (_Given, _Given),
  (_Given, tfp_private.TransformedDistribution),
  (tfp_private.TransformedDistribution, _Given),
  (_Given, tfd.Distribution),
  (tfd.Distribution, _Given),
):
  tfd.RegisterKL(*pair)(_kl)


def _check(density):
  if not isinstance(density.distribution, tfd.Distribution):
    raise ValueError(
      f'Expected a tfd.TransformedDistribution; received a '
      f'{type(density.distribution).__name__}. Pass the `distribution` of a model.'
    )
  name = density.distribution.name
  if density.base is None:
    raise ValueError(
      f'Expected a tfd.TransformedDistribution, which has latents; received {name!r}, '
      f'a {type(density.distribution).__name__}.'
    )
  if not density.takes_condition or density.base_takes_condition:
    raise ValueError(
      f'Expected a distribution whose bijectors take a condition; those of {name!r} do '
      f'not. Build it with `condition_size`.'
    )
  if any(s.rank for s in tf.nest.flatten(density.distribution.batch_shape)):
    raise ValueError(
      f'Expected a distribution of batch shape []; received '
      f'{density.distribution.batch_shape} of {name!r}.'
    )


@names.named  # Files of models that version 0.1 saved have it.
def _all_to_bijector(kwargs):
  return {}, kwargs


def _keywords(condition):
  return {} if condition is None else dict(condition=condition)
