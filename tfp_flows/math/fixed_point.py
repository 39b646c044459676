"""Fixed points of contractions: for inverses that have no formula."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

__all__ = ['FixedPoint', 'solve_fixed_point']

# For events of up to 64 numbers.
_TOLERANCES = {tf.float32: 3e-7, tf.float64: 1e-13}


class FixedPoint(NamedTuple):
  """Where `solve_fixed_point` stopped.

  Attributes:
    x: `[*batch, *event]`, the last accepted point of each example.
    residual: `[*batch]`, `max |fn(x) - x|` over the event, at this `x`.
    converged: `[*batch]` bool, whether `residual` is within the tolerance.
    iterations: int32 scalar, evaluations of `fn`.
  """

  x: tf.Tensor
  residual: tf.Tensor
  converged: tf.Tensor
  iterations: tf.Tensor


# Below, what is one number per example has shape [*batch, 1, ..., 1].


class _Point(NamedTuple):
  x: tf.Tensor
  image: tf.Tensor  # fn(x)
  norm: tf.Tensor  # Euclidean, of image - x


class _Secants(NamedTuple):
  """Differences of evaluated points, divided by the norm of `residuals`."""

  images: tf.Tensor  # [m, *batch, *event]
  residuals: tf.Tensor
  gram: tf.Tensor  # [m, m, *batch, 1, ..., 1], of `residuals`


class _State(NamedTuple):
  count: tf.Tensor
  trial: tf.Tensor  # where fn is evaluated next
  plain: tf.Tensor  # whether that is a plain step
  rate: tf.Tensor  # the factor of the norm in the last plain step
  active: tf.Tensor
  point: _Point
  secants: _Secants | tuple[()]


def solve_fixed_point(
  fn: Callable[[tf.Tensor], tf.Tensor],
  start: tf.Tensor,
  event_ndims: int,
  tolerance: float | None = None,
  max_iterations: int = 1000,
  memory: int = 5,
) -> FixedPoint:
  """Solves `x = fn(x)` for a contraction `fn`, for each example of a batch.

  The plain iteration is `x <- fn(x)`. With the Lipschitz constant `L < 1`,

    |x_n - x*| <= L^n / (1 - L) * |x_1 - x_0|.

  Anderson acceleration of type II [(Walker and Ni, 2011)][1] is a secant method.
  With the residual `r = fn(x) - x`, and the last `m` differences `dR_i` of
  residuals and `dG_i` of images,

    x <- fn(x) - sum_i gamma_i dG_i,  gamma = argmin |r - sum_i gamma_i dR_i|^2.

  Alone it may diverge, so it is safeguarded. An accelerated point that does not
  lessen the Euclidean `|r|` is dropped, and the next evaluation is a plain step
  from the last point that was kept. So it is after an accelerated point that was
  kept but gained less than the last plain step did. Of two evaluations in
  succession at least one multiplies `|r|` by `L` or less: at worst, this takes
  twice the evaluations of the plain iteration. All of this in the Euclidean norm;
  what contracts in another one has no such bound.

  An example stops where `max |r| <= tolerance * max(1, max |x|)`, and stays there.
  Its Euclidean distance to the solution is then at most `|r| / (1 - L)`: at
  `L = 0.99`, two digits less. An example whose residual is not finite stops as
  not converged. None depends on the others of its batch, if none does in `fn`.

  No gradient passes. Callers have it from the implicit function theorem,
  `dx = (I - dfn/dx)^-1 dfn`, in a `tf.custom_gradient`, where an eager tape does
  not record the evaluations.

  Args:
    fn: maps `[*batch, *event]` to the same shape. Traced once.
    start: float32 or float64 `[*batch, *event]`.
    event_ndims: number of dimensions of one example.
    tolerance: bound of the residual; `None` is 3e-7 in float32 and 1e-13 in
      float64, times `sqrt(D) / 8` for events of `D > 64` numbers. The rounding
      errors of `fn` must be below it: those of TensorFloat on a GPU, 1e-3, are not.
      With `memory = 0` they must be below `1 - L` times it.
    max_iterations: bound of the evaluations of `fn`.
    memory: `m`, or 0 for the plain iteration; it takes the space of `2 m` copies
      of `start`.

  Returns:
    `FixedPoint`.

  Raises:
    ValueError: if an argument is out of range, if the dtype has no default
      tolerance, or if `fn` changes the shape or the dtype.

  #### References

  [1]: Homer F. Walker and Peng Ni. Anderson acceleration for fixed-point
       iterations. In _SIAM Journal on Numerical Analysis_, 49(4), 2011.
  """
  start = tf.convert_to_tensor(start)
  _check_arguments(start, event_ndims, max_iterations, memory)
  event = tuple(range(-event_ndims, 0))
  tolerance = _checked_tolerance(tolerance, start, event)

  def unfinished(state):
    return (state.count < max_iterations) & tf.reduce_any(state.active)

  def step(state):
    image = tf.convert_to_tensor(fn(state.trial))
    _check_image(image, start)
    return (_step(state, image, event, tolerance),)

  (state,) = tf.while_loop(unfinished, step, [_initial_state(start, event, memory)])
  residual, converged = _convergence(state.point, event, tolerance)
  return FixedPoint(
    tf.stop_gradient(state.point.x),
    tf.stop_gradient(tf.squeeze(residual, event)),
    tf.squeeze(converged, event),
    state.count,
  )


def _initial_state(start, event, memory):
  """Before the first evaluation, which is a plain step from infinitely far."""
  zero = tf.reduce_sum(tf.zeros_like(start), event, keepdims=True)
  true = tf.ones_like(zero, tf.bool)
  nowhere = tf.zeros_like(start)
  return _State(
    count=tf.constant(0),
    trial=start,
    plain=true,
    rate=zero,
    active=true,
    point=_Point(nowhere, nowhere, zero + np.inf),
    secants=_empty_secants(nowhere, zero, memory) if memory else (),
  )


def _empty_secants(nowhere, zero, memory):
  differences = tf.stack([nowhere] * memory)
  return _Secants(
    differences, differences, tf.stack([tf.stack([zero] * memory)] * memory)
  )


def _step(state, image, event, tolerance):
  old = state.point
  norm = tf.sqrt(tf.reduce_sum((image - state.trial) ** 2, event, keepdims=True))
  new = _Point(state.trial, image, norm)
  factor = new.norm / old.norm
  kept = state.plain | (new.norm < old.norm)
  point = _select(state.active & kept, new, old)
  residual, converged = _convergence(point, event, tolerance)
  active = tf.math.is_finite(residual) & ~converged
  secants, accelerated = state.secants, point.image
  if secants:
    secants = _with_secant(secants, state.count, new, old, event)
    accelerated = _accelerated(secants, point, event)
    # After the first evaluation there is no secant yet.
    first = tf.math.is_inf(old.norm)
    plain = tf.where(state.plain, first, ~kept | (factor > state.rate))
  else:
    plain = state.plain
  return _State(
    count=state.count + 1,
    trial=tf.where(plain, point.image, accelerated),
    plain=plain,
    rate=tf.where(state.plain, factor, state.rate),
    active=active,
    point=point,
    secants=secants,
  )


def _select(condition, new, old):
  return _Point(*(tf.where(condition, n, o) for n, o in zip(new, old)))


def _convergence(point, event, tolerance):
  residual = tf.reduce_max(tf.abs(point.image - point.x), event, keepdims=True)
  scale = tf.reduce_max(tf.abs(point.x), event, keepdims=True)
  small = residual <= tolerance * tf.maximum(scale, 1.0)
  return residual, small & tf.math.is_finite(residual)


def _with_secant(secants, count, new, old, event):
  """Puts the difference of two points in the place of the oldest one."""
  image = new.image - old.image
  residual = image - (new.x - old.x)
  norm = tf.sqrt(tf.reduce_sum(residual**2, event, keepdims=True))
  # Zeros where a point is missing or is not finite, or where nothing moved.
  valid = tf.math.is_finite(norm) & tf.math.is_finite(old.norm) & (norm > 0.0)
  image, residual = (tf.where(valid, v / norm, 0.0) for v in (image, residual))
  memory = secants.images.shape[0]
  slot = tf.range(memory) == count % memory
  images = tf.where(_leading(slot, image), image, secants.images)
  residuals = tf.where(_leading(slot, residual), residual, secants.residuals)
  row = tf.reduce_sum(residuals * residual, event, keepdims=True)
  gram = tf.where(_leading(slot, row), row, secants.gram)
  gram = tf.where(_leading(slot, image), row[:, tf.newaxis], gram)
  return _Secants(images, residuals, gram)


def _leading(vector, like):
  """Reshapes `[m, ...]` to broadcast against `[m, *like.shape]`."""
  return tf.reshape(vector, [*vector.shape, *[1] * like.shape.rank])


def _accelerated(secants, point, event):
  residual = point.image - point.x
  right = tf.reduce_sum(secants.residuals * residual, event, keepdims=True)
  gamma = _solve(secants.gram, right)
  return point.image - tf.reduce_sum(gamma * secants.images, 0)


def _solve(gram, right):
  """Solves `(gram + ridge * I) gamma = right` over the leading axes.

  Gauss-Jordan elimination, of all examples at once: `tf.linalg.solve` raises if one
  of the matrices is singular. It needs no pivots: they are positive definite.
  """
  ridge = 100.0 * np.finfo(right.dtype.as_numpy_dtype).eps
  identity = _leading(tf.eye(right.shape[0], dtype=right.dtype), right[0])
  rows = tf.concat([gram + ridge * identity, right[:, tf.newaxis]], 1)
  for i in range(right.shape[0]):
    pivot = rows[i] / rows[i, i]
    rows -= (rows[:, i] - identity[:, i])[:, tf.newaxis] * pivot
  return rows[:, -1]


def _checked_tolerance(tolerance, start, event):
  dtype = start.dtype
  if tolerance is None and dtype in _TOLERANCES:
    # The rounding errors of sums grow with the root of their length.
    size = tf.TensorShape([start.shape[axis] for axis in event]).num_elements()
    return _TOLERANCES[dtype] * max(1.0, (size or 64) ** 0.5 / 8.0)
  if tolerance is None:
    raise ValueError(
      f'Expected a start of float32 or float64; received {dtype.name}, which has no '
      f'default tolerance: pass one, or cast the start.'
    )
  if not tolerance > 0:
    raise ValueError(
      f'Expected tolerance > 0; received {tolerance}. Pass None for a small one that '
      f'rounding errors allow.'
    )
  return float(tolerance)


def _check_arguments(start, event_ndims, max_iterations, memory):
  rank = start.shape.rank
  if rank is None or not 1 <= event_ndims <= rank:
    raise ValueError(
      f'Expected event_ndims from 1 to the rank of start; received {event_ndims} and '
      f'a start of shape {start.shape}. Give a vector of numbers that are '
      f'independent an axis of size 1.'
    )
  if max_iterations < 1:
    raise ValueError(f'Expected max_iterations >= 1; received {max_iterations}.')
  if memory < 0:
    raise ValueError(
      f'Expected memory >= 0; received {memory}. 0 is the plain iteration.'
    )


def _check_image(image, start):
  same = image.shape.is_compatible_with(start.shape)
  if not same or image.dtype != start.dtype:
    raise ValueError(
      f'Expected fn to return {start.dtype.name} of shape {start.shape}, as it '
      f'takes; received {image.dtype.name} of shape {image.shape}.'
    )
