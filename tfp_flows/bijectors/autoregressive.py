"""Autoregressive layers."""

from collections.abc import Sequence
from typing import Any
from typing import Protocol
from typing import runtime_checkable

import tensorflow as tf

from tfp_flows.bijectors import calls
from tfp_flows.bijectors import conditioned
from tfp_flows.bijectors import coupling
from tfp_flows.bijectors import transformers
from tfp_flows.internal import first_order
from tfp_flows.internal import inspection
from tfp_flows.internal import shapes
from tfp_flows.internal import tf_private

__all__ = ['Autoregressive']

_SECOND_ORDER = (
  'The inverse of an autoregressive layer was traced without a tape, and has no second '
  'derivatives then. Open the tapes inside of the `tf.function`, or take a `tff.MADE`.'
)


@runtime_checkable
class InTurn(Protocol):
  """A conditioner that finds numbers in turn, each of its units computed but once.

  Attributes:
    finds_in_turn: whether `find_in_turn` computes what a call does, up to rounding.
    output_sizes: `(D, P)`, numbers and parameters for each.
  """

  @property
  def finds_in_turn(self) -> bool: ...

  @property
  def output_sizes(self) -> tuple[int, int]: ...

  def find_in_turn(
    self, find: Any, like: tf.Tensor, condition: tf.Tensor | None, unrolled: bool
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """All numbers `[..., D]`, and sums over them; see `MADE`."""


class Autoregressive(conditioned.Conditioned):
  """Transforms each number by those before it [(Papamakarios et al., 2017)][1].

  For `x` of shape `[..., D]` and a conditioner whose outputs for `x_i` depend on what
  comes before `x_i` in some order, and on nothing else:

    forward: `y = transformer(p(x)).forward(x)`, with `p(x) = conditioner(x, condition)`
    inverse: number after number, as each needs those before it
    log-det: of `transformer(p(x))` at `x`, summed over it   (nats)

  With `Affine` this is equations 4 and 5. `forward`, and so the density of data, takes
  one evaluation of the network.

  `inverse`, and so samples, takes D steps one after the other. With a `MADE` and a
  transformer of this library each step computes the units that the next number needs,
  and its map alone: all steps together take about the work of one evaluation, and
  gradients that of theirs. The numbers are those of the whole network up to rounding.

  Any other network, and a `MADE` in bfloat16, is evaluated as a whole in passes
  `x <- transformer(p(x)).inverse(y)`, of which pass i finds the i-th number: D times,
  or fewer if a pass changes nothing, bit by bit, so that no other could. Under a tape
  it is D times, as derivatives may change where values do not. What was traced without
  a tape has the gradients of all passes, but second derivatives raise `LookupError`.

  `tfb.Invert(tff.Autoregressive(...))`, data -> latent, is the
  inverse autoregressive flow [(Kingma et al., 2016)][2]: fast samples with their
  densities, and slow densities of data.

  The Jacobian is triangular only if the conditioner keeps its promise, and it does so
  in the layout of its outputs that the transformer takes: `MADE(params_first=True)` for
  `Affine`, `False` for `RationalQuadratic`.

  #### Examples

  ```python
  layer = tff.Autoregressive(tff.MADE(6, 2), tff.Affine(6, 'clamp'), [6])

  spline = tff.RationalQuadratic(num_bins=8)
  made = tff.MADE(6, spline.params_per_dim, order='reversed', params_first=False)
  layer = tff.Autoregressive(made, spline, [6])
  ```

  #### References

  [1]: George Papamakarios, Theo Pavlakou and Iain Murray. Masked Autoregressive Flow
       for Density Estimation, section 3. In _NeurIPS_, 2017.
       https://arxiv.org/abs/1705.07057
  [2]: Diederik P. Kingma, Tim Salimans, Rafal Jozefowicz, Xi Chen, Ilya Sutskever and
       Max Welling. Improving Variational Inference with Inverse Autoregressive Flow.
       In _NeurIPS_, 2016. https://arxiv.org/abs/1606.04934
  """

  _renamed = dict(bijector_fn='transformer')

  def __init__(
    self,
    conditioner: coupling.Conditioner,
    transformer: transformers.Transformer,
    event_shape: Sequence[int],
    dtype: Any = tf.float32,
    name: str = 'autoregressive',
  ):
    """Creates the layer.

    Args:
      conditioner: `MADE`, or another callable `(x) -> p`, or `(x, condition=...) -> p`
        if its signature has that name; a Keras layer must be built.
      transformer: callable `p -> tfb.Bijector` that acts elementwise on `[..., D]`.
      event_shape: `[D]`.
      dtype: of `x`.
      name: name of the layer.

    Raises:
      ValueError: if `event_shape` is not `[D]`, or if conditioner and transformer say
        in `params_first` that their layouts differ.
    """
    self._event = shapes.as_event_shape(event_shape, 'Autoregressive')
    if len(self._event) != 1:
      raise ValueError(
        f'Autoregressive expects an event shape [D]; received {list(self._event)}. '
        f'Flatten the events with `tfb.Reshape`.'
      )
    with tf.name_scope(name) as scope:
      super().__init__(forward_min_event_ndims=1, dtype=dtype, name=scope)
      self._set_conditioner(conditioner, transformer, self._event)
    self._check_layout()

  @property
  def is_recomputable(self) -> bool:
    # The input of a layer would be found by D evaluations of the network, for each
    # step of training.
    return False

  def _event_shape_or_none(self):
    return self._event

  def _forward_and_log_det(self, x, condition=None):
    return calls.apply(self._inner(x, condition), x, 1)

  def _inverse_and_log_det(self, y, condition=None):
    # XLA cannot compile the gradient of what is broadcast inside of a loop to a size
    # unknown to the graph.
    is_known = y.shape.is_fully_defined() or not tf_private.in_xla()
    if is_known and self._finds_in_turn():
      return self._in_turn(y, condition)
    return self._by_passes(y, condition)

  def _finds_in_turn(self):
    if not isinstance(self._conditioner, InTurn) or not self._conditioner.finds_in_turn:
      return False
    per_dim = transformers.params_per_dim(self._bijector_fn)
    fits = self._conditioner.output_sizes == (self._event[0], per_dim)
    # An observer is shown the whole network.
    is_observed = inspection.innermost() is not None
    can_go = isinstance(self._bijector_fn, transformers.OneByOne)
    return fits and can_go and not is_observed

  def _in_turn(self, y, condition):
    self._check_condition(self._conditioner, condition)
    size = self._event[0]
    columns = tf.transpose(tf.reshape(y, [-1, size]))

    def find(params, axis):
      inner = self._bijector_fn.of_one(tf.cast(params, self.dtype), axis)
      column = columns[axis][:, tf.newaxis]
      x, log_det = calls.apply(inner, column, 1, inverted=True)
      return x[:, 0], log_det

    unrolled = tf_private.has_tangents([y, condition, self.trainable_variables])
    return self._conditioner.find_in_turn(find, y, condition, unrolled)

  def _by_passes(self, y, condition):
    def improve(x):
      return shapes.ensure(self._inner(x, condition).inverse(y), y.shape)

    # All numbers but the last one in the order, whatever the order is.
    x, count = tf.zeros_like(y), self._event[0] - 1
    if tf_private.has_tangents([y, condition, self.trainable_variables]):
      for _ in range(count):  # TensorFlow's forward mode knows no loops.
        x = improve(x)
    elif tf_private.is_recording():
      # Where the values have settled, derivatives may not have.
      x = _repeated(improve, x, count)
    elif count:
      x = _until_settled(improve, x, count)
      if not tf.executing_eagerly():  # A tape may come around the graph.
        x = _differentiable(improve, x, count)
    return calls.apply(self._inner(x, condition), y, 1, inverted=True)

  def _check_layout(self):
    given = transformers.params_first(self._conditioner)
    taken = transformers.params_first(self._bijector_fn)
    if None not in (given, taken) and given != taken:
      raise ValueError(
        f'{self.name} expects a conditioner with params_first={taken}, as its '
        f'transformer takes them; received {given}: the Jacobian would not be '
        f'triangular. Build the conditioner with params_first={taken}.'
      )


def _repeated(fn, x, count):
  """`fn(...fn(x))`, with the derivatives of all calls."""
  if not count:
    return x
  (x,) = tf.while_loop(lambda _: True, lambda x: [fn(x)], [x], maximum_iterations=count)
  return x


def _until_settled(fn, x, count):
  """`fn(...fn(x))`, until a call changes nothing; at most `count` times.

  More calls would not change anything, either.
  """

  def step(i, x, _):
    y = fn(x)
    same = tf.equal(x, y) | (tf.math.is_nan(x) & tf.math.is_nan(y))
    return i + 1, y, tf.reduce_all(same)

  _, x, _ = tf.while_loop(
    lambda i, _, settled: (i < count) & ~settled, step, (0, x, False)
  )
  return x


def _differentiable(fn, x, count):
  """The solution `x = fn(x)`, with the derivatives that `count` calls would have.

  With the strictly triangular `A = dfn/dx` an upstream gradient `g` is that of
  `g + A' g + A' A' g + ...` at one call of `fn`.
  """
  x = tf.stop_gradient(x)
  with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
    tape.watch(x)
    value = fn(x)

  @tf.custom_gradient
  def solution(_):
    def gradient(upstream):
      def step(g):
        product = tape.gradient(value, x, g, unconnected_gradients='zero')
        return shapes.ensure(upstream + product, upstream.shape)

      found = _until_settled(step, upstream, count)
      return first_order.without_gradient(found, [upstream, value], _SECOND_ORDER)

    return tf.identity(x), gradient

  return solution(value)
