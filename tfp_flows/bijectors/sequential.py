"""Composition in reading order."""

import itertools
from collections.abc import Sequence

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import flow_bijector

__all__ = ['Sequential']

tfb = tfp.bijectors


class Sequential(flow_bijector.FlowBijector):
  """Applies bijectors one after the other, from data to latent.

    forward: `y = f_n(...f_2(f_1(x)))`
    log-det: the sum of the log-dets, each at its own input   (nats)

  Unlike `tfb.Chain`, which lists its parts right to left and addresses keyword
  arguments to each by name, it reads in the order of the data and passes
  `condition` on to every `FlowBijector`. Its parts may be any `tfb.Bijector`s
  whose minimal event ranks are at most those of the event.
  """

  def __init__(self, bijectors: Sequence[tfb.Bijector], name: str = 'sequential'):
    """Creates the composition.

    Args:
      bijectors: at least one; the first is applied first to the data.
      name: name of the composition.

    Raises:
      ValueError: if there is none.
    """
    parameters = dict(locals())
    if not bijectors:
      raise ValueError('Sequential expects at least one bijector; received none.')
    self._bijectors = list(bijectors)
    *self._ranks, inverse_rank = _event_ranks(self._bijectors)
    with tf.name_scope(name) as scope:
      super().__init__(
        forward_min_event_ndims=self._ranks[0],
        inverse_min_event_ndims=inverse_rank,
        dtype=next(filter(None, (b.dtype for b in self._bijectors)), None),
        parameters=parameters,
        name=scope,
      )

  @property
  def bijectors(self) -> list[tfb.Bijector]:
    return list(self._bijectors)

  @property
  def takes_condition(self) -> bool:
    return any(getattr(b, 'takes_condition', False) for b in self._bijectors)

  def _forward_event_shape(self, shape):
    for bijector in self._bijectors:
      shape = bijector.forward_event_shape(shape)
    return shape

  def _inverse_event_shape(self, shape):
    for bijector in reversed(self._bijectors):
      shape = bijector.inverse_event_shape(shape)
    return shape

  def _forward_and_log_det(self, x, condition=None):
    total = tf.zeros([], x.dtype)
    for bijector, rank in zip(self._bijectors, self._ranks):
      x, log_det = flow_bijector.forward_and_log_det(bijector, x, rank, condition)
      total += log_det
    return x, total

  def _inverse_and_log_det(self, y, condition=None):
    total = tf.zeros([], tf.nest.flatten(y)[0].dtype)
    ranks = [*self._ranks[1:], self.inverse_min_event_ndims]
    for bijector, rank in zip(reversed(self._bijectors), reversed(ranks)):
      y, log_det = flow_bijector.inverse_and_log_det(bijector, y, rank, condition)
      total += log_det
    return y, total

  def _adapt(self, x, condition):
    for bijector in self._bijectors:
      x = flow_bijector.adapt(bijector, x, condition)
    return x


def _event_ranks(bijectors):
  """Event rank of the input of each bijector, and of the last one's output."""
  *inner, last = bijectors
  gains = [b.inverse_min_event_ndims - b.forward_min_event_ndims for b in inner]
  offsets = list(itertools.accumulate(gains, initial=0))
  needs = [b.forward_min_event_ndims - o for b, o in zip(bijectors, offsets)]
  ranks = [max(needs) + offset for offset in offsets]
  # The output of the last alone may be a structure, as that of `Multiscale`.
  extra = ranks[-1] - last.forward_min_event_ndims
  output = tf.nest.map_structure(lambda n: n + extra, last.inverse_min_event_ndims)
  return [*ranks, output]
