"""Gradients of bijectors from their outputs alone."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import calls
from tfp_flows.bijectors import flow_bijector
from tfp_flows.bijectors import masks
from tfp_flows.internal import first_order
from tfp_flows.internal import keras_parameters
from tfp_flows.internal import keras_private
from tfp_flows.internal import shapes
from tfp_flows.internal import tf_private
from tfp_flows.internal import tfp_private

__all__ = [
  'Composition',
  'MEMORY',
  'PullBack',
  'Reversible',
  'Upstream',
  'after',
  'check_memory',
  'differentiate',
  'is_recomputable',
  'pull_back',
  'with_batch_shape',
  'with_pull_back',
]

tfb = tfp.bijectors

MEMORY = ('stored', 'reversible')

_WITH_STATISTICS = (
  keras.layers.BatchNormalization,
  keras.layers.SpectralNormalization,
)

_SECOND_ORDER = (
  "Gradients under memory='reversible' have no second derivatives and none in forward "
  'mode: a gradient of a gradient, or a `tf.autodiff.ForwardAccumulator` around a '
  "`tf.function`, was asked for. Use memory='stored'."
)


class Upstream(NamedTuple):
  """Gradients of the loss with respect to value and log-det of a bijector."""

  y: tf.Tensor
  log_det: tf.Tensor


class PullBack(NamedTuple):
  """What is known at the input of a bijector.

  Attributes:
    x: the input, recovered from the output.
    gradient: of the loss with respect to it.
    weights: the gradients of weights by their `ref()`: of the tensors that were asked
      for, and of each variable that the bijector has read.
  """

  x: tf.Tensor
  gradient: tf.Tensor
  weights: dict[Any, tf.Tensor]


class Reversible(flow_bijector.FlowBijector):
  """A layer that shares work between its input, recovered, and the gradients there."""

  def _pull_back(self, y, upstream, condition, tensors, inverted):
    """What `pull_back` returns, with the same arguments but `event_ndims`."""
    raise NotImplementedError(f'{type(self).__name__} must implement `_pull_back`.')


class Composition(Reversible):
  """Parts one after the other, with or without stored activations.

  Subclasses have `_memory`, `_compose(x, condition, inverted)`, which returns value and
  log-det, and `_pull_back`.
  """

  _memory: str

  @property
  def memory(self) -> str:
    """`'stored'` or `'reversible'`: where gradients have the activations from."""
    return self._memory

  def _forward_and_log_det(self, x, condition=None):
    return self._run(x, condition, inverted=False)

  def _inverse_and_log_det(self, y, condition=None):
    return self._run(y, condition, inverted=True)

  def _run(self, x, condition, inverted):
    def compose(x, condition=None):
      return self._compose(x, condition, inverted)

    if self._memory == 'stored':
      return compose(x, condition)
    return with_pull_back(self, compose, x, condition, inverted)


def check_memory(memory: str, bijectors: Sequence[tfb.Bijector]) -> None:
  """Raises `ValueError` unless `bijectors` can do with `memory`."""
  if memory not in MEMORY:
    raise ValueError(f'Expected memory to be one of {MEMORY}; received {memory!r}.')
  if memory == 'stored':
    return
  for bijector in bijectors:
    problem = _problem(bijector)
    if problem:
      raise ValueError(f"{problem}, or use memory='stored'.")


def is_recomputable(bijector: tfb.Bijector) -> bool:
  """Whether `memory='reversible'` is possible."""
  return _problem(bijector) is None


def _problem(bijector):
  """Why a bijector cannot be computed again from its output, and what to do."""
  for part in (bijector, *bijector.submodules):
    if isinstance(part, flow_bijector.FlowBijector) and not part.is_recomputable:
      return (
        f"memory='reversible' expects to compute each layer again from its output, "
        f'which {part.name} does not allow; received it among the layers. Keep it '
        f'apart'
      )
  for layer in keras_parameters.keras_layers(bijector):
    has_statistics = any(
      isinstance(part, _WITH_STATISTICS) for part in keras_private.with_sublayers(layer)
    )
    if has_statistics or len(layer.variables) > len(layer.weights):
      return (
        f"memory='reversible' computes each network again, and expects the same "
        f'values; received {layer.name} in {bijector.name}, which draws noise or '
        f'keeps statistics, as dropout and batch normalization do. Take that out'
      )
  return None


def with_pull_back(
  bijector: Reversible,
  run: Callable[..., tuple[tf.Tensor, tf.Tensor]],
  x: tf.Tensor,
  condition: tf.Tensor | None,
  inverted: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
  """`run(x, condition)`, value and log-det, with the gradients of `pull_back`.

  Nothing is kept for them but the output. Second derivatives raise `LookupError`.

  Args:
    bijector: the layer.
    run: one direction of `bijector`.
    x: its input.
    condition: see `FlowBijector`.
    inverted: whether the direction is the inverse.
  """
  conditions = [] if condition is None else [condition]
  if tf_private.has_tangents([x, *conditions, *bijector.trainable_variables]):
    return run(x, *conditions)  # Forward mode keeps no activations, either.

  @tf.custom_gradient
  def call(x, *conditions):
    # What is recorded here would be kept for a gradient that no one takes.
    with tf_private.stop_recording():
      # Another tensor: TFP's cache would keep what no tape has seen for the old one.
      y, log_det = run(tf.nest.map_structure(tf.identity, x), *conditions)

    def gradient(*upstream, variables=()):
      upstream = Upstream(*tf.nest.pack_sequence_as((y, log_det), upstream))
      (given,) = conditions or [None]
      found = bijector._pull_back(y, upstream, given, list(conditions), inverted)
      of_others = [found.weights[s.ref()] for s in (*conditions, *variables)]
      gradients = (tf.nest.flatten(found.gradient), of_others)
      sources = [*tf.nest.flatten((y, upstream)), *conditions, *variables]
      of_x, of_others = first_order.without_gradient(gradients, sources, _SECOND_ORDER)
      arguments = [*of_x, *of_others[: len(conditions)]]
      return (arguments, of_others[len(conditions) :]) if variables else arguments

    return (y, log_det), gradient

  return call(x, *conditions)


def pull_back(
  bijector: tfb.Bijector,
  y: tf.Tensor,
  upstream: Upstream,
  event_ndims: int,
  condition: tf.Tensor | None,
  tensors: Sequence[tf.Tensor],
  inverted: bool = False,
) -> PullBack:
  """The vector-Jacobian product of a bijector whose input nobody kept.

  The input is recovered by the other direction; then value and log-det are computed
  once more and differentiated. A bijector that can share work between the two, as a
  coupling its network, is `Reversible`.

  Args:
    bijector: any; a `FlowBijector` gets the condition.
    y: its output.
    upstream: gradients at its output.
    event_ndims: of its input.
    condition: see `FlowBijector`.
    tensors: what else to differentiate with respect to, such as the condition.
    inverted: whether `y` came from `bijector.inverse` instead.
  """
  if isinstance(bijector, tfp_private.Invert):
    return pull_back(
      bijector.bijector, y, upstream, event_ndims, condition, tensors, not inverted
    )
  # Another tensor: TFP's cache would return the very input that is to be forgotten.
  y = tf.nest.map_structure(tf.identity, y)
  ranks = bijector.forward_min_event_ndims, bijector.inverse_min_event_ndims
  own, out = reversed(ranks) if inverted else ranks
  extra = tf.nest.flatten(event_ndims)[0] - tf.nest.flatten(own)[0]
  if isinstance(bijector, Reversible):
    log_det = _for_smaller_events(upstream.log_det, y, out, extra)
    upstream = upstream._replace(log_det=log_det)
    return bijector._pull_back(y, upstream, condition, tensors, inverted)
  event_ndims_of_y = tf.nest.map_structure(lambda n: n + extra, out)
  x, _ = calls.apply(bijector, y, event_ndims_of_y, condition, not inverted)
  x = tf.nest.map_structure(tf.identity, x)
  with tf.GradientTape() as tape:
    tape.watch([x, *tensors])
    outputs = calls.apply(bijector, x, event_ndims, condition, inverted)
    outputs = with_batch_shape(outputs, upstream)
  (gradient,), weights = differentiate(tape, outputs, upstream, [x], tensors)
  return PullBack(x, gradient, weights)


def pull_back_of_coupling(
  mask: masks.Mask,
  inner: Callable[[tf.Tensor], tfb.Bijector],
  y: tf.Tensor,
  upstream: Upstream,
  tensors: Sequence[tf.Tensor],
  inverted: bool,
) -> PullBack:
  """That of a coupling, whose network is evaluated but once, for input and gradient.

  Args:
    mask: of the coupling.
    inner: from what is kept to the bijector of what is changed.
    y: see `pull_back`.
    upstream: likewise.
    tensors: likewise.
    inverted: likewise.
  """
  event_ndims = len(mask.event_shape)
  kept, changed = mask.split(y)
  of_kept, of_changed = mask.split(upstream.y)
  with tf.GradientTape() as tape:
    tape.watch([kept, *tensors])
    bijector = inner(kept)
    with tape.stop_recording():
      x, _ = calls.apply(bijector, changed, event_ndims, inverted=not inverted)
      x = tf.identity(x)
    tape.watch(x)
    outputs = calls.apply(bijector, x, event_ndims, inverted=inverted)
    outputs = with_batch_shape(outputs, upstream)
  (more_of_kept, of_x), weights = differentiate(
    tape, outputs, (of_changed, upstream.log_det), [kept, x], tensors
  )
  return PullBack(
    mask.merge(kept, x), mask.merge(of_kept + more_of_kept, of_x), weights
  )


def with_batch_shape(
  outputs: tuple[tf.Tensor, tf.Tensor], upstream: Upstream
) -> tuple[tf.Tensor, tf.Tensor]:
  """`outputs` with a log-det of the batch shape, which those of TFP may lack."""
  y, log_det = outputs
  return y, tf.broadcast_to(log_det, tf.shape(upstream.log_det))


def _for_smaller_events(of_log_det, y, event_ndims, extra):
  """The upstream gradient of a log-det that will be summed over `extra` axes."""
  if not extra:
    return of_log_det
  first, ndims = tf.nest.flatten(y)[0], tf.nest.flatten(event_ndims)[0]
  ones = tf.ones(shapes.batch_shape(first, ndims), of_log_det.dtype)
  return of_log_det[(..., *[tf.newaxis] * extra)] * ones


def differentiate(
  tape: tf.GradientTape,
  outputs: Sequence[tf.Tensor],
  upstream: Sequence[tf.Tensor],
  inputs: Sequence[tf.Tensor],
  tensors: Sequence[tf.Tensor],
) -> tuple[list[tf.Tensor], dict[Any, tf.Tensor]]:
  """Gradients with respect to `inputs`, and to weights by their `ref()`."""
  sources = [*tensors, *tape.watched_variables()]
  gradients = tape.gradient(
    outputs,
    [*inputs, *sources],
    output_gradients=tf.nest.flatten(tuple(upstream)),
    unconnected_gradients='zero',
  )
  count = len(inputs)
  # Gradients of look-ups are not dense, and could not be added.
  of_weights = {
    s.ref(): tf.convert_to_tensor(g) for s, g in zip(sources, gradients[count:])
  }
  return gradients[:count], of_weights


def after(y: Any, known: Sequence[tf.Tensor]) -> Any:
  """`y`, but not before all of `known` is.

  Without this dependency a compiler may recover all inputs first and keep them, or put
  off the gradients of weights and keep what these need, or find that something was
  computed before.
  """
  first = [tf.reduce_sum(tf.reshape(t, [-1])[:1]) for t in known]
  flag = tf.add_n([tf.cast(t, tf.float32) for t in first])
  # Zero, but no compiler may say so. If it is NaN, so are the gradients.
  zero = tf.where(flag == flag, 0.0, flag)
  return tf.nest.map_structure(lambda t: t + tf.cast(zero, t.dtype), y)
