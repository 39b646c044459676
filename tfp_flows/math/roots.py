"""Roots of increasing functions, and derivatives of what solves an equation."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.internal import shapes
from tfp_flows.internal import tf_private

__all__ = ['find_root', 'implicit', 'with_slope']

# The most evaluations. Halving alone takes 30 and 60 if the root is about as large as
# the bracket is wide, and more for a root that is small beside it.
_MAX_ITERATIONS = {tf.float32: 100, tf.float64: 200}


def find_root(
  fn: Callable[..., tuple[tf.Tensor, tf.Tensor]],
  target: tf.Tensor,
  low: tf.Tensor,
  high: tf.Tensor,
  parameters: Any = (),
) -> tf.Tensor:
  """Solves `f(a; parameters) = target` for each number of a tensor.

  `f` acts on each number by itself and increases strictly. The root is enclosed by a
  bracket, which an evaluation at any point inside of it makes smaller. The point is
  that of Newton's method, moved past the root by the tolerance so that both ends close
  in, and the middle where that leaves the bracket or does not gain on halving it.

  The iteration stops where each bracket is as narrow as rounding allows,
  `high - low <= 4 eps max(|a|, |target| / f'(a))`, not where `f(a)` is near `target`,
  which tells nothing where `f` is flat: `|target| / f'(a)` counts up to 32 times the
  larger end of the first bracket. It stops after 100 evaluations in float32 and 200 in
  float64 at the latest. A last step of Newton's method stays inside of the bracket.

  Derivatives are those of the implicit function theorem, also with respect to the
  parameters and of higher order, see `implicit`:

    d a = (d target - (df / dparameters) d parameters) / f'(a)

  Args:
    fn: callable `(a, parameters) -> (f(a), f'(a))`. What else it depends on has no
      gradient. `with_slope` makes one of `f`.
    target: float32 or float64, of any shape.
    low: of that shape; `f(low) <= target`.
    high: likewise; `f(high) >= target`.
    parameters: a structure of tensors that `f` depends on, as `fn` takes them.

  Returns:
    `a`, of the shape of `target`: inside of the bracket, whatever `f` is. Where
    `target` is NaN, so is `a`.

  Raises:
    ValueError: for another dtype.
  """
  target = tf.convert_to_tensor(target)
  if target.dtype not in _MAX_ITERATIONS:
    raise ValueError(
      f'Expected a target of float32 or float64; received {target.dtype.name}. Cast it.'
    )
  low, high = (tf.convert_to_tensor(v, target.dtype) for v in (low, high))
  flat = [tf.convert_to_tensor(p) for p in tf.nest.flatten(parameters)]

  def call(a, *values):
    return fn(a, tf.nest.pack_sequence_as(parameters, values))

  def equation(a, target, *values):
    return call(a, *values)[0] - target

  def solve(a, right, adjoint, _, *values):
    del adjoint  # The Jacobian is diagonal.
    return right / call(a, *values)[1]

  arguments = [tf.stop_gradient(v) for v in (target, low, high, *flat)]
  with tf_private.stop_recording():
    root = _search(call, *arguments)
  return implicit(root, equation, solve, [target, *flat])


def with_slope(f: Callable[..., tf.Tensor]) -> Callable[..., Any]:
  """`(a, parameters) -> (f(a), f'(a))`, of an elementwise `f(a, parameters)`.

  The derivative is that of a tape, and takes as much as two more evaluations.
  """

  def call(a, parameters):
    # The search is hidden from tapes, but not from this one.
    with tf_private.recording():
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(a)
        value = f(a, parameters)
    # Each value depends on its number alone: the gradient of their sum.
    return value, tape.gradient(value, a)

  return call


def implicit(
  root: tf.Tensor,
  equation: Callable[..., tf.Tensor],
  solve: Callable[..., tf.Tensor],
  arguments: Sequence[tf.Tensor],
) -> tf.Tensor:
  """`root`, which solves an equation, with derivatives wrt. its arguments.

  For `F(root, *arguments) = 0` the implicit function theorem has

    d root = -J^-1 (dF / darguments) d arguments,   J = dF / droot

  Nothing of how the root was found is differentiated. Derivatives are right up to the
  fourth order, in forward mode to the third.

  Args:
    root: a tensor without gradients.
    equation: `F`, `(root, *arguments) -> tensor` of the shape of `root`.
    solve: `(root, right, adjoint, *arguments) -> w` with `J w = right`, or with
      `J' w = right` if `adjoint`.
    arguments: tensors. What else `F` depends on has no gradient.
  """
  root = tf.stop_gradient(root)

  def differentiable(arguments):
    # Steps of Newton's method, which do not move it. The first makes first derivatives
    # right, the second those to the third order.
    x = root
    for _ in range(2):
      x -= solve(x, equation(x, *arguments), False, *arguments)
    return x

  if tf_private.has_tangents(arguments):
    # There TensorFlow follows what a custom gradient is computed from instead.
    return differentiable(arguments)

  @tf.custom_gradient
  def solution(*arguments):
    def gradient(upstream):
      at = differentiable(arguments)
      weights = solve(at, upstream, True, *arguments)
      # In the gradient of a loop a tape does not know what is from outside of it.
      inner = [tf.identity(v) for v in arguments]
      # `at` is from before the tape: one of the arguments, as it were.
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inner)
        value = equation(at, *inner)
      return tape.gradient(value, inner, -weights, unconnected_gradients='zero')

    return tf.identity(root), gradient

  return solution(*arguments)


def _search(fn, target, low, high, *values):
  """The root without gradients; `fn(a, *values)` returns value and slope."""
  eps = float(np.finfo(target.dtype.as_numpy_dtype).eps)
  zero = tf.zeros_like(target)
  low, high = low + zero, high + zero  # Of one shape, also if they are numbers.
  reach = 32.0 * tf.maximum(tf.abs(low), tf.abs(high))

  def step(a, low, high, width, _):
    value, slope = fn(a, *values)
    error = value - target
    low, high = tf.where(error <= 0, a, low), tf.where(error >= 0, a, high)
    move = -error / slope
    # Where `f` is flat, the root may be elsewhere, and the bracket goes on to close in.
    rounding = tf.minimum(tf.abs(tf.math.divide_no_nan(target, slope)), reach)
    tolerance = 2.0 * eps * tf.maximum(tf.abs(a), rounding)
    trial = a + move + tf.sign(move) * tolerance
    left = high - low
    gains = (2.0 * left < width) | (4.0 * tf.abs(trial - a) < left)
    is_taken = gains & (low < trial) & (trial < high)
    a = tf.where(is_taken, trial, low + 0.5 * left)
    state = (a, low, high, left, tolerance)
    return tuple(shapes.ensure(t, target.shape) for t in state)

  def unfinished(a, low, high, width, tolerance):
    return tf.reduce_any(width > 2.0 * tolerance)

  width = high - low
  a, low, high, *_ = tf.while_loop(
    unfinished,
    step,
    (low + 0.5 * width, low, high, 4.0 * width, zero),
    maximum_iterations=_MAX_ITERATIONS[target.dtype],
  )
  value, slope = fn(a, *values)
  move = tf.where(tf.equal(value, target), zero, (target - value) / slope)
  a = tf.where(tf.math.is_finite(move), a + move, a + 0.0 * value)
  a = tf.where(a < low, low, tf.where(a > high, high, a))
  return tf.where(tf.math.is_nan(target), target, a)
