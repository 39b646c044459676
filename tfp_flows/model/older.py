"""Files of earlier versions: weights that they lack, and steps that were separate.

Earlier versions of the builders made each step for itself; now a `Repeated` has one
variable for all of them. `Older` is a model as it was then, into which old files fit,
and says which of its variables are the rows of which one now.
"""

import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors
from tfp_flows import flows
from tfp_flows.internal import tfp_private

__all__ = ['Older', 'has_older', 'lacking']

tfb = tfp.bijectors

# What networks multiply by, and whether the first layer of `nice` is adapted.
_ONE = re.compile(r'(output_scale|input_act_norm_adapted)(_\d+)?$')
_LU_ONE = re.compile(r'lu_scale(_\d+)?$')
# What that layer does, and what an optimizer has for it.
_ZERO = re.compile(r'input_act_norm_(shift|log_scale)')


def lacking(model: Any) -> list[dict[int, np.ndarray]]:
  """What files of earlier versions lack.

  Args:
    model: a `keras.Model`.

  Returns:
    For each set that one may lack, the values that these variables, by their `id`, had
    there.
  """
  optimizer = getattr(model, 'optimizer', None)
  variables = [*model.variables, *getattr(optimizer, 'variables', [])]
  scales = {id(v): np.ones(v.shape) for v in variables if _ONE.search(v.name)}
  scales |= {id(v): np.zeros(v.shape) for v in variables if _ZERO.search(v.name)}
  # The condition passes as it is; the shift has an axis more than the scale.
  conditions = {
    id(v): np.zeros(v.shape) if len(v.shape) == 2 else np.ones(v.shape)
    for v in (model.condition_variables if _is_ours(model) else [])
  }
  of_lu = {id(v): np.ones(v.shape) for v in variables if _LU_ONE.search(v.name)}
  # From the last version on; models without some of them have equal sets.
  sets = [of_lu, of_lu | scales, of_lu | scales | conditions]
  return [*sets, scales, scales | conditions, conditions]


def has_older(model: Any) -> bool:
  """Whether `model` is as those of builders and has a `Repeated`."""
  if not _is_ours(model) or not isinstance(model.distribution, flows.Flow):
    return False
  of_data = model.distribution.bijector
  is_built = isinstance(of_data, tfp_private.Invert) and isinstance(
    of_data.bijector, bijectors.Sequential
  )
  parts = model.distribution.submodules if is_built else ()
  return any(isinstance(part, bijectors.Repeated) for part in parts)


def _is_ours(model):
  from tfp_flows.model import flow_model  # It imports this module.

  return isinstance(model, flow_model.FlowModel)


class Older:
  """The model of a builder with its steps one by one.

  Attributes:
    model: a `FlowModel`, which shares all but the steps with the one of now.
  """

  def __init__(self, model: Any):
    self._new = model
    self._rows: dict[int, tuple[tf.Variable, ...]] = {}
    with model.distribute_strategy.scope():
      self.model = self._made()
      if model.compiled:
        cls, config = type(model.optimizer), model.optimizer.get_config()
        self.model.compile(cls.from_config(config), jit_compile=False)
        self.model.optimizer.build(self.model.trainable_variables)

  def _made(self):
    from tfp_flows.model import flow_model  # It imports this module.

    distribution = self._new.distribution
    (flow,) = self._separate(distribution.bijector.bijector)
    of_data = tfb.Invert(flow)
    separate = flows.Flow(distribution.distribution, of_data, name=distribution.name)
    # Subclasses may have other arguments.
    return flow_model.FlowModel(separate, self._new.dequantization, seed=0)

  def _separate(self, bijector) -> list[tfb.Bijector]:
    if isinstance(bijector, bijectors.Repeated):
      steps = bijector.separate()
      columns = zip(*(step.variables for step in steps))
      self._rows |= {id(v): rows for v, rows in zip(bijector.variables, columns)}
      return [part for step in steps for part in _parts(step)]
    if isinstance(bijector, bijectors.Multiscale):
      levels = [self._separate(level)[0] for level in bijector.levels]
      return [type(bijector)(**dict(bijector.parameters, levels=levels))]
    if not isinstance(bijector, bijectors.Sequential):
      return [bijector]
    layers = [part for b in bijector.bijectors for part in self._separate(b)]
    return [bijector.with_bijectors(layers)]

  def assign(self) -> None:
    """Gives the weights of `model` to the one of now, and the state of its optimizer.

    Which is left alone if `model` has made no step: files need not have one.
    """
    variables, older = list(self._new.variables), list(self.model.variables)
    if self._has_state():
      variables += self._new.optimizer.variables
      older += self.model.optimizer.variables
    for variable, sources in self._pairs(variables, older):
      variable.assign(_stacked([np.asarray(s) for s in sources], variable))

  def _has_state(self):
    optimizer = self._new.optimizer if self._new.compiled else None
    if optimizer is None or not optimizer.built:
      return False
    return int(self.model.optimizer.iterations) > 0

  def arrays(
    self,
    variables: Sequence[keras.Variable],
    older: Sequence[keras.Variable],
    arrays: Sequence[np.ndarray],
  ) -> list[np.ndarray]:
    """What a checkpoint of `variables` has, if one of `older` has `arrays`.

    Args:
      variables: of the model of now, with those of its optimizer and its metrics.
      older: of `model`, likewise.
      arrays: one for each of `older`.
    """
    found = {id(v): array for v, array in zip(older, arrays, strict=True)}
    return [
      _stacked([found[id(s)] for s in sources], variable)
      for variable, sources in self._pairs(variables, older)
    ]

  def _pairs(self, variables, older):
    """Each of `variables` with the older ones that are its rows, or it itself."""
    rows = {id(own) for rows in self._rows.values() for own in rows}
    shared = {id(v.value) for v in variables} & {id(v.value) for v in older}
    by_value = {id(v.value): v for v in older}
    sources = {}
    for v in variables:
      if id(v.value) in self._rows:
        sources[id(v)] = [by_value[id(own)] for own in self._rows[id(v.value)]]
      elif id(v.value) in shared:
        sources[id(v)] = [by_value[id(v.value)]]
    if self._new.compiled:
      sources |= self._of_slots(sources)
    used = {id(s) for found in sources.values() for s in found}
    left = iter(v for v in older if id(v) not in used and id(v.value) not in rows)
    return [(v, sources.get(id(v)) or [next(left)]) for v in variables]

  def _of_slots(self, sources):
    """The same for what an optimizer has for each weight that it trains."""
    new, old = self._new.optimizer, self.model.optimizer
    trained, found = self._new.trainable_variables, {}
    index = {id(v): i for i, v in enumerate(self.model.trainable_variables)}
    for name, slots in vars(new).items():
      if not _are_slots(slots, trained):
        continue
      of_old = getattr(old, name)
      for variable, slot in zip(trained, slots):
        if id(variable) in sources:
          found[id(slot)] = [of_old[index[id(s)]] for s in sources[id(variable)]]
    return found


def _are_slots(values, trained):
  return (
    isinstance(values, list)
    and len(values) == len(trained)
    and all(isinstance(v, keras.Variable) for v in values)
    and not any(a is b for a, b in zip(values, trained))
  )


def _parts(step):
  """The layers of one step."""
  is_step = isinstance(step, bijectors.Sequential) and step.name.startswith('step')
  return step.bijectors if is_step else [step]


def _stacked(arrays, variable):
  return arrays[0] if arrays[0].shape == variable.shape else np.stack(arrays)
