"""Where in a flow a layer stands, in words: `level 1 / step 3 / coupling`."""

import collections
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import tensorflow_probability as tfp

from tfp_flows.bijectors import multiscale
from tfp_flows.bijectors import repeated
from tfp_flows.bijectors import sequential
from tfp_flows.internal import keras_parameters
from tfp_flows.internal import tfp_private

__all__ = ['Place', 'join', 'parts', 'places']

tfb = tfp.bijectors


class Place(NamedTuple):
  """Of a variable in a flow.

  Attributes:
    path: of its layer, with `{}` for the number of each `Repeated` step.
    name: its own name, inside of the layer.
    num_steps: how many of its first axes are those of `Repeated` steps.
  """

  path: str
  name: str
  num_steps: int = 0

  def layer(self, index: Sequence[int]) -> str:
    """The path of the layer that has the entry at `index`."""
    return self.path.format(*(i + 1 for i in index[: self.num_steps]))


def join(labels: Iterable[str]) -> str:
  """A path of labels, of which some are empty."""
  return ' / '.join(filter(None, labels))


def parts(bijector: tfb.Bijector) -> list[tuple[str, tfb.Bijector]]:
  """What a composition consists of, with labels; empty for other bijectors.

  Numbers count from 1, in the order of the data. What has numbered parts itself, as
  `Multiscale`, has no label if there is but one, nor has a composition that is alone
  in another. A `tfb.Invert` is left out.
  """
  if isinstance(bijector, tfp_private.Invert):
    return parts(bijector.bijector)
  if isinstance(bijector, multiscale.Multiscale):
    levels = [_uninverted(level) for level in bijector.levels]
    labels = [f'level {i + 1}' for i in range(len(levels))]
    return [(join([s, _own_name(b)]), b) for s, b in zip(labels, levels)]
  if isinstance(bijector, repeated.Repeated):
    template = _uninverted(bijector.template)
    return [(_own_name(template), template)]
  if isinstance(bijector, (sequential.Sequential, tfp_private.Blockwise)):
    return _labelled(bijector.bijectors)
  if isinstance(bijector, tfp_private.Chain):
    return _labelled(reversed(bijector.bijectors))
  return []


def places(bijector: tfb.Bijector) -> dict[int, Place]:
  """The place of each variable of `bijector`, by its `id`."""
  return _places(bijector, _own_name(bijector))


def _places(bijector, path):
  pairs = keras_parameters.keras_variables(bijector)
  names = {id(value): variable.path for variable, value in pairs}
  found = {
    id(v): Place(path, names.get(id(v), v.name.split(':')[0].split('/')[-1]))
    for v in bijector.variables
  }
  for label, part in parts(bijector):
    if isinstance(bijector, repeated.Repeated):
      inner = _places(part, join([path, 'step {}', label]))
      for stacked, own in bijector.stacked:
        place = inner[id(own)]
        found[id(stacked)] = place._replace(num_steps=place.num_steps + 1)
    else:
      found |= _places(part, join([path, label]))
  return found


def _uninverted(bijector):
  while isinstance(bijector, tfp_private.Invert):
    bijector = bijector.bijector
  return bijector


def _own_name(bijector):
  """Of what has a number already: a composition needs no name then."""
  return '' if parts(bijector) else bijector.name


def _label_of(bijector):
  numbered = (multiscale.Multiscale, repeated.Repeated)
  return type(bijector) if isinstance(bijector, numbered) else bijector.name


def _labelled(bijectors):
  bijectors = [_uninverted(b) for b in bijectors]
  counts = collections.Counter(_label_of(b) for b in bijectors)
  seen: collections.Counter[Any] = collections.Counter()
  found = []
  for bijector in bijectors:
    key = _label_of(bijector)
    seen[key] += 1
    label = bijector.name
    if counts[key] > 1:
      label = f'{label} {seen[key]}'
    elif key != label or (len(bijectors) == 1 and parts(bijector)):
      label = ''
    found.append((label, bijector))
  return found
