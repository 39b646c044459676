"""Composition in reading order."""

import itertools
from collections.abc import Sequence

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import flow_bijector
from tfp_flows.bijectors import reversible

__all__ = ['Sequential']

tfb = tfp.bijectors


class Sequential(reversible.Composition):
  """Applies bijectors one after the other, from data to latent.

    forward: `y = f_n(...f_2(f_1(x)))`
    log-det: the sum of the log-dets, each at its own input   (nats)

  Unlike `tfb.Chain`, which lists its parts right to left and addresses keyword
  arguments to each by name, it reads in the order of the data and passes
  `condition` on to every `FlowBijector`. Its parts may be any `tfb.Bijector`s
  whose minimal event ranks are at most those of the event.

  With `memory='reversible'` no activations are kept for gradients: the input of each
  part is recovered from its output, and the gradients of value and log-det are
  computed part by part [(Gomez et al., 2017)][1], so that memory does not grow with
  depth. A coupling evaluates its network once more, other parts themselves and their
  inverse. Gradients equal the ordinary ones up to the rounding of the inverses; second
  derivatives raise `LookupError`. Layers that are random, keep statistics, or are
  inverted by iterations are refused. Networks must own the variables that they read,
  be the same in training and else, and leave gradients to others: tensors that they
  close over, losses of activations, and gradients inside of a network get none.

  #### References

  [1]: Aidan N. Gomez, Mengye Ren, Raquel Urtasun and Roger B. Grosse. The Reversible
       Residual Network: Backpropagation Without Storing Activations, algorithm 1. In
       _NeurIPS_, 2017. https://arxiv.org/abs/1707.04585
  """

  def __init__(
    self,
    bijectors: Sequence[tfb.Bijector],
    memory: str = 'stored',
    name: str = 'sequential',
  ):
    """Creates the composition.

    Args:
      bijectors: at least one; the first is applied first to the data.
      memory: `'stored'` or `'reversible'`, see above.
      name: name of the composition.

    Raises:
      ValueError: if there is none, or one that `memory` does not allow.
    """
    parameters = dict(locals())
    flow_bijector.check_bijectors(bijectors, 'Sequential')
    if not bijectors:
      raise ValueError('Sequential expects at least one bijector; received none.')
    reversible.check_memory(memory, bijectors)
    self._bijectors, self._memory = list(bijectors), memory
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
    return any(flow_bijector.takes_condition(b) for b in self._bijectors)

  def _forward_event_shape(self, shape):
    for bijector in self._bijectors:
      shape = bijector.forward_event_shape(shape)
    return shape

  def _inverse_event_shape(self, shape):
    for bijector in reversed(self._bijectors):
      shape = bijector.inverse_event_shape(shape)
    return shape

  def _compose(self, x, condition, inverted):
    step = flow_bijector.forward_and_log_det
    if inverted:
      step = flow_bijector.inverse_and_log_det
    total = tf.zeros([], tf.nest.flatten(x)[0].dtype)
    for bijector, rank in self._path(inverted):
      x, log_det = step(bijector, x, rank, condition)
      total += log_det
    return x, total

  def _path(self, inverted):
    """Each bijector with the event rank of its input, in order of application."""
    if not inverted:
      return list(zip(self._bijectors, self._ranks))
    ranks = [*self._ranks[1:], self.inverse_min_event_ndims]
    return list(zip(reversed(self._bijectors), reversed(ranks)))

  def _pull_back(self, y, upstream, condition, tensors, inverted):
    totals, known = {}, tf.nest.flatten(upstream)
    for bijector, rank in reversed(self._path(inverted)):
      y, gradient, weights = reversible.pull_back(
        bijector,
        reversible.after(y, known),
        upstream,
        rank,
        condition,
        tensors,
        inverted,
      )
      upstream = upstream._replace(y=gradient)
      known = [*tf.nest.flatten(gradient), *weights.values()]
      for source, value in weights.items():
        totals[source] = totals[source] + value if source in totals else value
    return reversible.PullBack(y, upstream.y, totals)

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
