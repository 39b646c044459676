"""The only import of private Keras names, and what Keras does not see."""

import warnings
import weakref

import keras
import tensorflow as tf
from keras.src.backend.common import global_state

__all__ = ['warn_unless_owned']

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
