"""The only use of private Keras names, and what Keras does not see."""

import warnings
import weakref
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common import global_state

__all__ = [
  'ARE_SWAPPED',
  'averages',
  'is_validation',
  'learning_rate',
  'made_under',
  'own_strategy',
  'own_variables',
  'take_gradients_as_sums',
  'warn_unless_owned',
  'with_sublayers',
]

# The attribute by which `SwapEMAWeights` remembers that averages are in the model.
ARE_SWAPPED = '_ema_weights_in_model'

_checked: weakref.WeakSet[keras.Model] = weakref.WeakSet()


def warn_unless_owned(module: tf.Module) -> None:
  """Warns if a Keras model calls `module` and does not have its weights.

  Keras takes the layers and variables that are attributes of a model for its weights,
  and passes over bijectors and distributions without a word. Each model is looked at
  once, in its first call.
  """
  context = global_state.get_global_attribute('current_call_ctx')
  model = getattr(context, 'entry_layer', None)
  if not isinstance(model, keras.Model) or model in _checked:
    return
  _checked.add(model)
  own = {id(v.value) for v in model.variables}
  unseen = [v for v in module.trainable_variables if id(v) not in own]
  if unseen:
    warnings.warn(
      f'Expected the weights of {module.name} among those of the Keras model '
      f'{model.name!r} that calls it; Keras does not see {len(unseen)} of them, and '
      f'neither trains nor saves them. Make `tff.FlowModel(distribution)` an attribute '
      f'of the model instead of the distribution or the bijector.',
      UserWarning,
      stacklevel=4,
    )


def with_sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
  """`layer` and all layers inside of it, of which Keras names the first level alone."""
  return list(layer._flatten_layers())


def own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
  """The variables of `layer` without those of layers inside, in their order in files.

  `layer.variables` are those of all.
  """
  return [*layer._trainable_variables, *layer._non_trainable_variables]


def own_strategy(model: keras.Model) -> tf.distribute.Strategy | None:
  """The strategy in whose scope `model` was made, or None if there was none.

  `model.distribute_strategy` is then the default one, as if it were in its scope.
  """
  return model._distribute_strategy


def is_validation(keywords: Mapping[str, Any]) -> bool:
  """Whether Keras calls `evaluate` with these, from inside of `fit`."""
  return bool(keywords.get('_use_cached_eval_dataset'))


def made_under(
  optimizer: keras.optimizers.Optimizer, strategy: tf.distribute.Strategy
) -> bool:
  """Whether `optimizer` was made in the scope of `strategy`, which it does not say."""
  return optimizer._distribution_strategy is strategy


def take_gradients_as_sums(optimizer: keras.optimizers.Optimizer) -> None:
  """Keeps `optimizer` from adding gradients up over replicas, which have been."""
  optimizer._all_reduce_sum_gradients = list


def averages(optimizer: keras.optimizers.Optimizer) -> Sequence[keras.Variable]:
  """The averages of an optimizer with `use_ema`, one for each weight that it trains.

  Among `optimizer.variables` nothing tells them from others.
  """
  return optimizer._model_variables_moving_average


def learning_rate(optimizer: keras.optimizers.Optimizer) -> object:
  """The schedule of `optimizer`, or its variable.

  `optimizer.learning_rate` is its value at the present step.
  """
  return optimizer._learning_rate
