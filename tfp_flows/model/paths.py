"""The way of a density from its base to the data."""

import tensorflow_probability as tfp

from tfp_flows import bijectors
from tfp_flows.internal import keras_parameters

__all__ = ['at_share', 'continuous_layers']

tfb, tfd = tfp.bijectors, tfp.distributions


def continuous_layers(distribution: tfd.Distribution) -> list[bijectors.FFJORD]:
  """The continuous flows of a distribution; of a `Repeated` those of its template."""
  parts = keras_parameters.parts(distribution)
  return [m for m in parts if isinstance(m, bijectors.FFJORD)]


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
  layers = _separate(distribution.bijector.bijector.bijectors)
  left = share * sum(_duration(layer) for layer in layers)
  passed: list[tfb.Bijector] = []
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


def _separate(layers):
  """The layers, with the steps of `Repeated` one by one."""
  found = []
  for layer in layers:
    if isinstance(layer, bijectors.Repeated):
      found += _separate(layer.separate())
    elif isinstance(layer, bijectors.Sequential):
      found += _separate(layer.bijectors)
    else:
      found.append(layer)
  return found


def _duration(layer):
  if not isinstance(layer, bijectors.FFJORD):
    return 0.0
  return abs(float(layer.final_time) - float(layer.initial_time))
