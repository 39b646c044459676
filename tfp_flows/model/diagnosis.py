"""Which layer made a training step not finite."""

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.bijectors import layer_paths
from tfp_flows.internal import inspection
from tfp_flows.internal import reports
from tfp_flows.model import finiteness

__all__ = ['NonFiniteError', 'SolverError', 'diagnose', 'log_error', 'weight_error']


class NonFiniteError(ValueError):
  """Training met a number that is NaN or infinite.

  Attributes:
    step: the number of the training step, from 1; None outside of training.
    layer: where it came up first, as `'level 1 / step 3 / coupling'`: numbers count
      from 1, in the order of the data. `'the batch'`, the name of the base
      distribution, or `''` if it is unknown.
    what: `'batch'`, `'weight'`, `'value'`, `'log-det'`, `'base'` (the density of the
      latents), `'penalty'`, `'gradient'`, `'solver'`, `'validation'` or `'unknown'`.
  """

  def __init__(
    self, message: str, step: int | None = None, layer: str = '', what: str = 'unknown'
  ):
    super().__init__(message)
    self.step, self.layer, self.what = step, layer, what

  def at_step(self, step: int) -> 'NonFiniteError':
    """The same error, met in a training step."""
    text = f'{self} This was {self.layer} of training step {step}.'
    return type(self)(text, step, self.layer, self.what)


class SolverError(NonFiniteError):
  """A solver of a continuous flow failed."""


_SMALLER_STEPS = (
  'Go back to an earlier checkpoint and lower the learning rate, or clip gradients '
  '(`global_clipnorm` of the optimizer).'
)
_REMEDIES = dict(
  batch='Remove or impute it in the data.',
  weight=_SMALLER_STEPS,
  solver=(
    'It took more than max_num_steps steps, or the field became NaN. Lower the '
    'learning rate, clip gradients, raise the tolerances (rtol, atol) or max_num_steps '
    'of the solver, or add `tff.Penalties`.'
  ),
  unknown=(
    'No weight is, and without XLA the same step is finite, or its batch was not kept, '
    f'as several replicas keep none. {_SMALLER_STEPS}'
  ),
)


def diagnose(
  model: Any, step: int, batch: tuple[Any, Any, Any] | None = None
) -> NonFiniteError:
  """Repeats a training step that was not finite, and says what was so first.

  The model is left as it is. The step is repeated in a graph without XLA.

  Args:
    model: a `FlowModel` with the weights and seeds from before the step.
    step: its number.
    batch: examples, condition and weights of the step, the last two of which may be
      None. Without it only the weights can be looked at.

  Returns:
    The error, which is not raised.
  """
  found = _of_batch(batch) or _of_weights(model)
  if found is None and batch is not None:
    with _restored(model):
      found = _of_forward_pass(model, batch) or _of_gradients(model, batch)
  if found is None:
    text = 'the loss, a gradient or the sum of all squared ones was NaN or infinite'
    found = 'unknown', '', text
  return _error(step, *found)


def weight_error(model: Any, step: int) -> NonFiniteError | None:
  """The error of the first weight that is not finite after `step`, if there is one."""
  found = _of_weights(model)
  if found is None:
    return None
  what, layer, text = found
  return NonFiniteError(
    f'Expected finite numbers; after training step {step} {text}. {_SMALLER_STEPS}',
    step,
    layer,
    what,
  )


def outside_of_support(
  rows: Sequence[int] | np.ndarray = (), total: int = 0
) -> NonFiniteError:
  """The error of log-likelihoods that are NaN, those of `rows` of `total` if given."""
  of_rows = ''
  if len(rows):
    of_rows = f' for {len(rows)} of {total} examples, {_listed(rows)}'
  return NonFiniteError(
    f'Expected log-likelihoods that are numbers; received NaN{of_rows}. Such examples '
    f'lie outside of the support of a layer, as of a logit, or the model has diverged: '
    f'remove them, move the data inside, or train again.',
    what='value',
  )


def _listed(rows):
  return ', '.join(map(str, rows[:5])) + (', ...' if len(rows) > 5 else '')


def log_error(step: int, names: Sequence[str]) -> NonFiniteError:
  """The error of logs that are not finite though all training steps were."""
  return NonFiniteError(
    f'Expected finite numbers; after training step {step} {", ".join(names)} became '
    f'NaN or infinite, though loss and gradients of all steps were finite: the model '
    f'overflows on other examples. {_SMALLER_STEPS}',
    step,
    '',
    'validation',
  )


def _error(step, what, layer, text):
  kind, expected = NonFiniteError, 'finite numbers'
  if what == 'solver':
    kind, expected = SolverError, 'fields that their solvers can follow'
  message = (
    f'Expected {expected}; in training step {step} {text}. The model and the '
    f'optimizer are as they were before that step. '
    f'{_REMEDIES.get(what, _SMALLER_STEPS)}'
  )
  return kind(message, step, layer, what)


def _of_batch(batch):
  names = 'examples', 'condition', 'sample weights'
  for name, value in zip(names, batch or ()):
    if value is None or not tf.as_dtype(value.dtype).is_floating:
      continue
    bad = ~np.isfinite(np.asarray(value))
    if bad.any():
      rows = np.unique(np.nonzero(bad)[0])
      text = f'the {name} of the batch are NaN or infinite in row {_listed(rows)}'
      return 'batch', 'the batch', text
  return None


def _of_weights(model):
  places = _places(model)
  for variable in model.variables:
    value = variable.value
    if not value.dtype.is_floating or tf.reduce_all(tf.math.is_finite(value)):
      continue
    first = np.argwhere(~np.isfinite(value.numpy()))[0]
    layer, name, index = _named(model, places, variable, first)
    at = f'[{", ".join(map(str, index))}]' if index else ''
    return 'weight', layer, f'the weight {name}{at} of {layer} is NaN or infinite'
  return None


def _places(model):
  found: dict[int, layer_paths.Place] = {}
  for flow in _flows(model.distribution):
    found |= layer_paths.places(flow)
  return found


def _named(model, places, variable, index):
  """Layer and name of the weight that has the entry `index`, and its index there."""
  place = places.get(id(variable.value))
  index = [int(i) for i in index]
  if place is None:
    return model.distribution.name, variable.path, index
  return place.layer(index), place.name, index[place.num_steps :]


def _flows(distribution):
  """The bijectors from the data to the base, as they are called."""
  while hasattr(distribution, 'bijector'):
    yield distribution.bijector
    distribution = distribution.distribution


def _base_of(distribution):
  while hasattr(distribution, 'bijector'):
    distribution = distribution.distribution
  return distribution


@contextlib.contextmanager
def _restored(model):
  """Brings back what a training step changes beside the weights."""
  before = [(v, v.value.numpy()) for v in model.non_trainable_variables]
  try:
    yield
  finally:
    for variable, value in before:
      variable.assign(value)


def _of_forward_pass(model, batch):
  """The first layer whose value or log-det is not finite."""

  def run():
    observer = finiteness.FinitenessObserver()
    with reports.flow_report() as report, inspection.observed_by(observer):
      _, log_prob, penalties = model.training_loss(report, *batch)
    base = _base_of(model.distribution).name
    observer.add(finiteness.Event('base', base, 'log-probability'), log_prob)
    for name, value in penalties.items():
      observer.add(finiteness.Event('penalty', 'the loss', f'penalty {name}'), value)
    failures = [tf.reduce_any(f) for f in report.failures]
    failed = tf.reduce_any(tf.stack([tf.constant(False), *failures]))
    return observer, (failed, tf.math.is_finite(log_prob))

  event, (failed, finite) = finiteness.first_event(run)
  if event is None:
    return None
  if failed and event.what in ('value', 'log-det'):
    return 'solver', event.layer, f'the solver of {event.layer} failed'
  text = f'the {event.thing} of {event.layer} is NaN or infinite first'
  bad = np.flatnonzero(~finite.numpy())
  if 0 < len(bad) < finite.shape.num_elements():
    text += (
      f', and for some examples of the batch alone, {_listed(bad)}: if these are '
      f'outside of the support of that layer, remove them or move the data inside'
    )
  return event.what, event.layer, text


def _of_gradients(model, batch):
  """The first layer whose gradients are not finite, from the base to the data."""

  def run():
    observer = finiteness.FinitenessObserver(with_gradients=True)
    with reports.flow_report() as report, tf.GradientTape() as tape:
      tape.watch(report.probe)
      with inspection.observed_by(observer):
        loss, *_ = model.training_loss(report, *batch)
    *gradients, backward = tape.gradient(
      loss,
      [*(v.value for v in model.trainable_variables), report.probe],
      unconnected_gradients='zero',
    )
    gradients = [tf.convert_to_tensor(g) for g in gradients]
    return observer, (gradients, tf.math.is_nan(backward))

  event, (gradients, failed) = finiteness.first_event(run)
  weights = _bad_gradients(model, gradients)
  if event is None and not weights:
    return None
  layer = weights[0][0] if event is None else event.layer
  if failed:
    return 'solver', layer, f'the solver of the gradient of {layer} failed'
  if event is None:
    text = f'the gradient of the weight {weights[0][1]} of {layer}'
    others = weights[1:]
  else:
    text = f'the gradient at the {event.thing} of {layer}'
    others = weights
  listed = ', '.join(f'{name} of {layer}' for layer, name in others[:3])
  more = f' and {len(others) - 3} more' if len(others) > 3 else ''
  tail = f'; then those of the weights {listed}{more}' if others else ''
  return 'gradient', layer, f'{text} is NaN, infinite or too large to square{tail}'


def _bad_gradients(model, gradients):
  """Layer and name of each weight whose gradient is not finite, or its square."""
  places, found = _places(model), []
  for variable, gradient in zip(model.trainable_variables, gradients):
    with np.errstate(over='ignore', invalid='ignore'):
      squares = np.square(gradient.numpy())
      # A squared norm may overflow where no square does.
      bad = ~np.isfinite(squares)
      if not np.isfinite(squares.sum(dtype=squares.dtype)):
        index = np.unravel_index(np.argmax(bad | (squares == squares.max())), bad.shape)
        found.append(_named(model, places, variable, index)[:2])
  return found
