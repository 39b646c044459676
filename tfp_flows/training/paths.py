"""The way of a density from its base to the data."""

import tensorflow_probability as tfp

from tfp_flows import bijectors

__all__ = ['at_share', 'continuous_layers']

tfb, tfd = tfp.bijectors, tfp.distributions


def continuous_layers(distribution: tfd.Distribution) -> list[bijectors.FFJORD]:
  """The continuous flows inside of a distribution."""
  return [m for m in distribution.submodules if isinstance(m, bijectors.FFJORD)]


def at_share(
  distribution: tfd.TransformedDistribution, share: float
) -> tfd.TransformedDistribution:
  """The distribution after a share of the time from the base to the data.

  Args:
    distribution: of a builder, for vectors; its layers stand one after the other,
      and each `FFJORD` takes its own time.
    share: in [0, 1]: 0 is the base, with what lies behind the last `FFJORD`; 1 is
      `distribution`.
  """
  if share == 1.0:
    return distribution
  layers = list(distribution.bijector.bijector.bijectors)
  left = share * sum(_duration(layer) for layer in layers)
  passed = []
  for layer in reversed(layers):
    duration = _duration(layer)
    if duration > left:
      # Only the end of this flow, which the way from the base meets first.
      way = layer.final_time - layer.initial_time
      start = layer.final_time - way * left / duration
      passed.insert(0, layer.copy(initial_time=start))
      break
    left -= duration
    passed.insert(0, layer)
  return tfd.TransformedDistribution(
    distribution.distribution,
    tfb.Invert(bijectors.Sequential(passed)),
    kwargs_split_fn=lambda kwargs: ({}, kwargs),
  )


def _duration(layer):
  if not isinstance(layer, bijectors.FFJORD):
    return 0.0
  return abs(float(layer.final_time) - float(layer.initial_time))
