"""The base class: one method per direction."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import checked_calls
from tfp_flows.bijectors import copies
from tfp_flows.internal import checks
from tfp_flows.internal import configurable
from tfp_flows.internal import inspection
from tfp_flows.internal import keras_parameters
from tfp_flows.internal import keras_private
from tfp_flows.internal import shapes
from tfp_flows.internal import tf_private
from tfp_flows.internal import tfp_private
from tfp_flows.internal import weight_values

__all__ = [
  'FlowBijector',
  'check_bijectors',
  'estimating_layers',
  'set_trainable',
]

tfb = tfp.bijectors


class FlowBijector(
  copies.Copyable, checked_calls.CheckedCalls, configurable.Configurable
):
  """A `tfb.Bijector` whose subclasses write one method per direction.

  `forward` is the normalizing direction, data -> latent. TFP's four hooks are
  derived, and value and log-det come from *one* evaluation: a coupling runs its
  network once per `log_prob` and once per `sample`, also inside `tfb.Chain`,
  `tfb.Invert` and `tfd.TransformedDistribution`. TFP keys this cache by tensor
  identity: after a variable has changed, ask with a fresh tensor. An entry lives
  as long as its input.

  #### How to write a layer

  * Implement `_forward_and_log_det(x, condition=None)`, which returns `y` and
    `log|det dy/dx|`, and `_inverse_and_log_det(y, condition=None)`, which
    returns `x` and `log|det dx/dy|`. Log-dets are in nats, summed over the
    event; one that does not depend on `x` may leave out the batch shape.
  * If the value alone takes less work than both, and no compiler could find that out,
    implement `_forward_value` and `_inverse_value`, and let `log_det_costs` be True.
  * If the event shape changes, implement `_forward_event_shape` and
    `_inverse_event_shape` (on `tf.TensorShape`s).
  * If the layer can be initialised from data, override `_adapt(x, condition)`.
  * Hold Keras layers with `self._expose(layer)`, or TensorFlow will not see
    their weights.
  * Decorate the class with `@keras.saving.register_keras_serializable()`, and Keras
    saves it, by the arguments of its constructor, which are recorded. They may be all
    that `internal/serialization.py` knows.
  * Say what else others have to know, by the properties `takes_condition`,
    `is_estimated`, `moving_variables`, `is_recomputable` and `reduces_over_replicas`,
    and by a variable `adapted`, which `adapt` sets to True.
  * Add the layer to `tests/conformance/specs.py`.

  `condition` is a tensor `[..., K]` whose batch shape broadcasts against that
  of `x`; layers that have no use for it ignore it.
  """

  _cache = tfp_private.OneCallCache()
  _frozen: Any
  _is_trainable, _frozen = True, staticmethod(list)
  _keras_parameters: Sequence[Any] = ()

  # Whether nothing is left to `adapt`; a variable of layers that can be adapted.
  adapted: Any = True

  def __init__(
    self,
    forward_min_event_ndims: int,
    inverse_min_event_ndims: int | Sequence[int] | None = None,
    dtype: Any = None,
    validate_args: bool = False,
    parameters: dict[str, Any] | None = None,
    name: str | None = None,
  ):
    if inverse_min_event_ndims is None:
      inverse_min_event_ndims = forward_min_event_ndims
    super().__init__(
      forward_min_event_ndims=forward_min_event_ndims,
      inverse_min_event_ndims=inverse_min_event_ndims,
      dtype=None if dtype is None else checks.as_dtype(dtype, type(self).__name__),
      validate_args=validate_args,
      parameters=self._recorded_arguments() if parameters is None else parameters,
      name=name,
    )

  # Inside of a `tf.function` AutoGraph would rewrite all that these two call, which
  # takes seconds and changes nothing.
  @tf.autograph.experimental.do_not_convert
  def forward_and_log_det(
    self, x: tf.Tensor, condition: tf.Tensor | None = None
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `y` and `log|det dy/dx|` of the batch shape, from one call."""
    return self._with_log_det(x, condition, inverted=False)

  @tf.autograph.experimental.do_not_convert
  def inverse_and_log_det(
    self, y: tf.Tensor, condition: tf.Tensor | None = None
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `x` and `log|det dx/dy|` of the batch shape, from one call."""
    return self._with_log_det(y, condition, inverted=True)

  @tf.autograph.experimental.do_not_convert
  def forward_value(
    self, x: tf.Tensor, condition: tf.Tensor | None = None
  ) -> tf.Tensor:
    """Returns `y`, without the work of the log-det if `log_det_costs`.

    TFP's `forward` finds both, since it cannot know whether the log-det is asked for
    next. That of this value is not cached.
    """
    return self._without_log_det(x, condition, inverted=False)

  @tf.autograph.experimental.do_not_convert
  def inverse_value(
    self, y: tf.Tensor, condition: tf.Tensor | None = None
  ) -> tf.Tensor:
    """Returns `x`, as `forward_value` does `y`."""
    return self._without_log_det(y, condition, inverted=True)

  def adapt(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
    """Initialises from the batch `x` what can be; returns `forward(x)`.

    Explicit and eager: nothing is ever initialised as a side effect of
    `forward`. Calling it again starts over from the new batch.
    """
    if condition is not None:
      condition = self._as_condition(condition)
    return self._adapt(tf.convert_to_tensor(x, self.dtype), condition)

  # TFP compares bijectors by all of their parameters, and hashes those of each part for
  # each entry of the cache: a fifth of the time to trace a deep flow.

  def __eq__(self, other: object) -> bool:
    return self is other

  def __hash__(self) -> int:
    return id(self)

  @property
  def trainable(self) -> bool:
    """Whether the layer is trained; False freezes it and all layers inside of it.

    Its variables are then no `trainable_variables` of the layer, of a distribution or
    of a `FlowModel`, and tapes do not see them. Keras networks are frozen likewise, and
    may be frozen by themselves. Compile a `FlowModel` after such a change.
    """
    return self._is_trainable

  def __setattr__(self, name: str, value: Any) -> None:
    # TensorFlow calls no setter of a property that has the value already, though what
    # is inside may not have it.
    if name == 'trainable':
      set_trainable(self, bool(value))
    else:
      super().__setattr__(name, value)

  def _set_trainable(self, value):
    networks = keras_parameters.keras_layers(self)
    for network in networks:
      network.trainable = value
    own = self._frozen()
    if not value:
      of_networks = {id(v.value) for n in networks for v in n.variables}
      own += [v for v in self.trainable_variables if id(v) not in of_networks]
    for variable in own:
      tf_private.set_trainable(variable, value)
    # Behind a function, or the order of the variables would be another.
    self._frozen = lambda: [] if value else list(own)
    self._is_trainable = value

  def get_config(self) -> dict[str, Any]:
    config = super().get_config()
    salt = vars(self).get('_salt')
    if salt is not None and 'seed' not in config:  # A subclass has chosen it.
      config['salts'] = salt.numbers.tolist()
    return config if self._is_trainable else dict(config, trainable=False)

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> 'FlowBijector':
    config = dict(config)
    is_trainable, salts = config.pop('trainable', True), config.pop('salts', None)
    bijector = super().from_config(config)
    if salts is not None:
      bijector._salt.numbers = np.asarray(salts, np.int32)
    if not is_trainable:
      bijector.trainable = False
    return bijector

  # What TFP asks of a bijector for the cdf of a distribution.
  def _is_increasing(self, **kwargs):
    raise NotImplementedError(
      f'{self.name} does not say in which direction it increases: a flow has no `cdf`, '
      f'`quantile` or `survival_function`. Estimate them from samples, or for one '
      f'dimension from `bijector.inverse` and those of the base.'
    )

  # To be implemented.

  def _forward_and_log_det(self, x, condition=None):
    raise NotImplementedError(
      f'{type(self).__name__} must implement `_forward_and_log_det`.'
    )

  def _inverse_and_log_det(self, y, condition=None):
    raise NotImplementedError(
      f'{type(self).__name__} must implement `_inverse_and_log_det`.'
    )

  def _forward_value(self, x, condition=None):
    return self._forward_and_log_det(x, condition)[0]

  def _inverse_value(self, y, condition=None):
    return self._inverse_and_log_det(y, condition)[0]

  def _adapt(self, x, condition):
    return self._forward_value(x, condition)

  # Derived.

  def _expose(self, layer: Any) -> Any:
    """Returns `layer`; if it is a Keras layer, TensorFlow sees its weights."""
    self._keras_parameters = [
      *self._keras_parameters,
      *filter(None, [keras_parameters.expose(layer)]),
    ]
    return layer

  @property
  def takes_condition(self) -> bool:
    """Whether the layer, or one inside it, depends on `condition`."""
    return False

  @property
  def log_det_costs(self) -> bool:
    """Whether a value without its log-det takes less work, also in graphs."""
    return False

  @property
  def is_recomputable(self) -> bool:
    """Whether a call may be repeated for its gradient, from an exact inverse."""
    return True

  @property
  def is_estimated(self) -> bool | None:
    """Whether log-dets are estimates in evaluation, too; None if they never are."""
    return None

  @property
  def moving_variables(self) -> list[tf.Variable]:
    """Those that a call, or an update of norms, may assign to."""
    return []

  @property
  def reduces_over_replicas(self) -> bool:
    """Whether a call needs what other replicas of a `tf.distribute` strategy have."""
    return False

  def _as_condition(self, condition):
    condition = tf.convert_to_tensor(condition)
    return condition if self.dtype is None else tf.cast(condition, self.dtype)

  def _of_condition(self, network: Any, condition: tf.Tensor | None) -> tf.Tensor:
    """`network(condition)`, in the dtype of the layer."""
    if condition is None:
      raise ValueError(
        f'{self.name} expects `condition`; received none. Pass condition=c, with a row '
        f'for each event.'
      )
    return tf.cast(network(condition), self.dtype)

  def _weight(self, variable: Any) -> tf.Tensor:
    """The value of a variable of the layer, or what stands for it in this call."""
    return weight_values.value(variable)

  def _report(self, name: str, tensor: tf.Tensor) -> None:
    """Shows a tensor inside of the layer, as `'log_scale'`, to those who observe it."""
    inspection.report(name, tensor)

  def _without_log_det(self, x, condition, inverted):
    if not self.log_det_costs:
      kwargs = {} if condition is None else dict(condition=condition)
      return (self.inverse if inverted else self.forward)(x, **kwargs)
    x, condition = self._prepared(x, condition, inverted)
    return (self._inverse_value if inverted else self._forward_value)(x, condition)

  def _prepared(self, x, condition, inverted):
    keras_private.warn_unless_owned(self)
    self._check_dtype(x, 'inverse' if inverted else 'forward')
    x = tf.nest.map_structure(lambda t: tf.convert_to_tensor(t, self.dtype), x)
    event_ndims = self._min_event_ndims(inverted)
    self._check_event_shape(x, event_ndims, inverted)
    expected = self._event_shape_or_none()
    if tf.is_tensor(x) and expected is not None and len(expected) == event_ndims:
      batch = x.shape[: x.shape.rank - event_ndims]
      x = shapes.ensure(x, batch.concatenate(expected))
    if condition is not None:
      condition = self._as_condition(condition)
      if self.takes_condition:
        x = tf.nest.map_structure(
          lambda t, n: shapes.broadcast_batch(t, n, condition), x, event_ndims
        )
    return x, condition

  def _with_log_det(self, x, condition, inverted):
    x, condition = self._prepared(x, condition, inverted)
    run = self._inverse_and_log_det if inverted else self._forward_and_log_det
    y, log_det = inspection.observed(self, lambda x: run(x, condition), x)
    event_ndims = self._min_event_ndims(inverted)
    first, ndims = tf.nest.flatten(x)[0], tf.nest.flatten(event_ndims)[0]
    return y, tf.broadcast_to(log_det, shapes.batch_shape(first, ndims))

  def _augmented_forward(self, x, condition=None):
    y, log_det = self.forward_and_log_det(x, condition)
    return y, {'ildj': -log_det}

  def _augmented_inverse(self, y, condition=None):
    x, log_det = self.inverse_and_log_det(y, condition)
    return x, {'ildj': log_det}

  def _forward(self, x, condition=None):
    return self.forward_and_log_det(x, condition)[0]

  def _inverse(self, y, condition=None):
    return self.inverse_and_log_det(y, condition)[0]

  def _forward_log_det_jacobian(self, x, condition=None):
    return self.forward_and_log_det(x, condition)[1]

  def _inverse_log_det_jacobian(self, y, condition=None):
    return self.inverse_and_log_det(y, condition)[1]

  def _forward_event_shape_tensor(self, shape):
    return self._shape_tensor(self._forward_event_shape, shape)

  def _inverse_event_shape_tensor(self, shape):
    return self._shape_tensor(self._inverse_event_shape, shape)

  def _shape_tensor(self, fn, shape):
    static = tf.nest.map_structure(tf.get_static_value, shape)
    if any(s is None for s in tf.nest.flatten(static)):
      raise ValueError(f'{self.name} expects a static event shape.')
    result = fn(tf.nest.map_structure(tf.TensorShape, static))
    return tf.nest.map_structure(lambda s: tf.constant(s.as_list(), tf.int32), result)

  def _forward_dtype(self, dtype, **_):
    (first, *_) = tf.nest.flatten(dtype)
    return tf.nest.map_structure(lambda _: first, self.inverse_min_event_ndims)

  def _inverse_dtype(self, dtype, **_):
    (first, *_) = tf.nest.flatten(dtype)
    return tf.nest.map_structure(lambda _: first, self.forward_min_event_ndims)

  @classmethod
  def _parameter_properties(cls, dtype, num_classes=None):
    return {}  # No parameter of a flow layer has a batch shape.


def set_trainable(bijector: tfb.Bijector, value: bool) -> None:
  """Freezes or thaws `bijector` and each `FlowBijector` inside of it."""
  for part in reversed([bijector, *bijector.submodules]):  # The innermost first.
    if isinstance(part, FlowBijector):
      part._set_trainable(value)


def estimating_layers(module: tf.Module) -> list[FlowBijector]:
  """The layers inside a bijector or distribution that may estimate log-dets."""
  parts = keras_parameters.parts(module)
  layers = [part for part in parts if isinstance(part, FlowBijector)]
  return [layer for layer in layers if layer.is_estimated is not None]


def check_bijectors(bijectors: Any, owner: str) -> None:
  """Raises `ValueError` unless `bijectors` is a list of bijectors."""
  is_list = isinstance(bijectors, (list, tuple))
  strangers = (
    [b for b in bijectors if not isinstance(b, tfb.Bijector)] if is_list else []
  )
  if strangers or not is_list:
    raise ValueError(
      f'{owner} expects a list of bijectors; received '
      f'{type(strangers[0] if strangers else bijectors).__name__}.'
    )
