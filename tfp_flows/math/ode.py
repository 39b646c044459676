"""Solutions of differential equations, with gradients by the adjoint method."""

import contextlib
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.internal import first_order
from tfp_flows.internal import shapes
from tfp_flows.internal import tf_private
from tfp_flows.math import ode_solvers

__all__ = ['OdeSolution', 'SECOND_ORDER', 'check_solved', 'integrate']

# So small that a part of the state has no say in the error of a step.
_UNCONTROLLED = 2.0**-40

SECOND_ORDER = (
  'The adjoint method of `integrate` has no second derivatives and none in forward '
  'mode: a gradient of its gradient, or a `tf.autodiff.ForwardAccumulator` was asked '
  'for. Use finite differences of the gradient, or backpropagate through steps of '
  'your own; for forward mode, a `tf.GradientTape`.'
)


class OdeSolution(NamedTuple):
  """What `integrate` returns.

  Attributes:
    x: the state at the final time.
    integrals: of the integrands, a tuple.
    num_evaluations: of the right-hand side, an int32 scalar.
    status: int32 scalar, 0 or, if the solver failed and the rest is NaN, -1.
  """

  x: tf.Tensor
  integrals: tuple[tf.Tensor, ...]
  num_evaluations: tf.Tensor
  status: tf.Tensor


def check_solved(solution: OdeSolution, name: str) -> None:
  """Raises `ValueError` in eager mode if the solver of the layer `name` failed."""
  if not tf.executing_eagerly() or solution.status >= 0:
    return
  raise ValueError(
    f'{name} expects a field that its solver can follow; it failed after '
    f'{int(solution.num_evaluations)} evaluations. Look for NaN or very large '
    f'weights, raise the tolerances or the largest number of steps, or take a solver '
    f'of stiff equations, `tfp.math.ode.BDF`.'
  )


@tf.autograph.experimental.do_not_convert
def integrate(
  rates: Callable[..., tuple[tf.Tensor, tuple[tf.Tensor, ...]]],
  x: tf.Tensor,
  initial_time: Any,
  final_time: Any,
  solver: tfp.math.ode.Solver,
  adjoint_solver: tfp.math.ode.Solver | None = None,
  integrals: Sequence[tf.Tensor] = (),
  inputs: Sequence[tf.Tensor] = (),
  controlled: Sequence[bool] | bool = True,
  probe: tf.Tensor | None = None,
) -> OdeSolution:
  """Solves `dx/dt = f(t, x)` and integrates along the solution.

    x(t0) = x,   dx/dt = f(t, x(t)),   I_k = I_k(t0) + int_{t0}^{t1} q_k(t, x(t)) dt

  with `f` and the `q_k` from one call of `rates(t, x, *inputs)`. Time may run in
  either direction.

  Gradients are those of the adjoint method [(Chen et al., 2018)][1], appendix B:
  with the upstream gradients `a(t1)` of `x(t1)` and `b_k` of `I_k`, from t1 back to
  t0 and together with x itself,

    da/dt       = -a df/dx      - sum_k b_k dq_k/dx
    dL/dtheta   = int_{t0}^{t1} (a df/dtheta + sum_k b_k dq_k/dtheta) dt
    dL/dt1      = a(t1) f(t1, x(t1)) + sum_k b_k q_k(t1, x(t1)),   dL/dt0 likewise, < 0

  so that memory does not depend on the number of steps. They reach x, `inputs`, the
  times if these are tensors or variables, and every variable that `rates` reads, but
  no tensor that it closes over. The integrals and dL/dtheta do not act on the rest of
  the equation: the `b_k` are constant, and the error of dL/dtheta has no part in the
  choice of steps [(Kidger et al., 2021)][2]. A field that contracts strongly expands
  on the way back: gradients of stiff fields fail, with NaN, over long times. Second
  derivatives raise `LookupError`. An outer tape in eager mode does keep what `rates`
  computes: train in a `tf.function`.

  Args:
    rates: a function of a scalar time, the state and `inputs`, that returns dx/dt of
      the shape of x and a tuple of integrands of any shape.
    x: the state at the initial time; its dtype is that of the whole equation.
    initial_time: scalar t0.
    final_time: scalar t1.
    solver: of the equation; any `tfp.math.ode.Solver`.
    adjoint_solver: of that of the adjoint; None is `solver`.
    integrals: constants `I_k(t0)` of the shapes and dtype of the integrands, usually
      zeros; no gradient reaches them.
    inputs: tensors that `rates` takes and that are differentiated.
    controlled: whether the errors of the integrals have a part in the choice of
      steps; for all, or for each.
    probe: a float scalar, whose "gradient" is the number of evaluations of the
      backward solve, or NaN if that failed.

  Raises:
    ValueError: unless there are as many integrals as integrands and as `controlled`.

  #### References

  [1]: Ricky T. Q. Chen, Yulia Rubanova, Jesse Bettencourt and David Duvenaud. Neural
       Ordinary Differential Equations. In _NeurIPS_, 2018.
       https://arxiv.org/abs/1806.07366
  [2]: Patrick Kidger, Ricky T. Q. Chen and Terry Lyons. "Hey, that's not an ODE":
       Faster ODE Adjoints via Seminorms. In _ICML_, 2021.
       https://arxiv.org/abs/2009.09457
  """
  adjoint_solver = adjoint_solver or solver
  x = tf.convert_to_tensor(x)
  inputs = tuple(tf.convert_to_tensor(v) for v in inputs)
  moving = tuple(_is_tensor(t) for t in (initial_time, final_time))
  times = tuple(_as_time(t, x.dtype) for t in (initial_time, final_time))
  if tf_private.has_tangents([x, inputs, times]):
    raise LookupError(SECOND_ORDER)
  probe = tf.zeros([]) if probe is None else probe
  flags = [controlled] * len(integrals) if isinstance(controlled, bool) else controlled
  if len(flags) != len(integrals):
    raise ValueError(
      f'Expected `controlled` to be one bool, or one for each of the '
      f'{len(integrals)} integrals; received {len(flags)}.'
    )
  scales = [1.0 if flag else _UNCONTROLLED for flag in flags]

  @tf.custom_gradient
  def solution(x, start, end, probe, *inputs):
    def augmented(t, state):
      value, integrands = rates(t, state[0], *inputs)
      if len(integrands) != len(integrals):
        raise ValueError(
          f'Expected a start of each of the {len(integrands)} integrals; received '
          f'{len(integrals)}.'
        )
      return value, _scaled(integrands, scales)

    (last, results), count, status, step = _solve(
      solver, augmented, (x, _scaled(integrals, scales)), start, end
    )
    results = _scaled(results, [1 / scale for scale in scales])

    def gradient(upstream, *rest, variables=()):
      values = (*inputs, *variables)
      # The adjoint is linear in these, but the tolerance is not: without a common
      # scale the precision of gradients would depend on that of the loss.
      size = _size([upstream, *rest[: len(scales)]])
      a, *b = [v / size for v in (upstream, *rest[: len(scales)])]

      def total(t, x, a):
        """`a f + sum b q`, of which the gradients are taken, and `f`."""
        value, integrands = rates(t, x, *inputs)
        parts = [a * value, *(v * q for v, q in zip(b, integrands))]
        return value, tf.add_n([tf.reduce_sum(part) for part in parts])

      def adjoint(t, state):
        x, a, _ = state
        with tf.GradientTape(watch_accessed_variables=False) as tape:
          tape.watch([x, *values])
          value, scalar = total(t, x, a)
        of_x, *of_values = tape.gradient(
          scalar, [x, *values], unconnected_gradients='zero'
        )
        return value, -of_x, -_UNCONTROLLED * packed(of_values, x.dtype)

      packed, unpacked, size_of_values = _packing(values)
      of_end = total(end, last, a)[1] if moving[1] else tf.zeros_like(end)
      (_, a, of_values), backward, failed, _ = _solve(
        _beginning_with(adjoint_solver, step),
        adjoint,
        (last, a, tf.zeros([size_of_values], x.dtype)),
        end,
        start,
      )
      of_start = -total(start, x, a)[1] if moving[0] else tf.zeros_like(start)
      a, of_start, of_end = a * size, of_start * size, of_end * size
      of_values = unpacked(of_values / _UNCONTROLLED * size)
      evaluations = tf.cast(backward, probe.dtype)
      nan = tf.constant(np.nan, probe.dtype)
      evaluations = tf.where(failed < 0, nan, evaluations)
      arguments = [a, of_start, of_end, evaluations, *of_values[: len(inputs)]]
      arguments, of_variables = first_order.without_gradient(
        (arguments, of_values[len(inputs) :]),
        [x, start, end, upstream, *rest[: len(scales)], *values],
        SECOND_ORDER,
      )
      return (arguments, of_variables) if variables else arguments

    return (last, *results, count, status), gradient

  last, *results, evaluations, status = solution(x, *times, probe, *inputs)
  return OdeSolution(last, tuple(results), evaluations, status)


def _solve(solver, rates, state, start, end):
  """The state at `end`, the number of evaluations, and 0 or, with NaN, -1."""
  # TFP's solvers run forward in time only.
  sign = tf.sign(end - start)

  def rates_of_distance(distance, state):
    with tf_private.recording():
      values = rates(start + sign * distance, state)
    return tf.nest.map_structure(lambda r: tf.cast(sign, r.dtype) * r, values)

  zero = tf.zeros([], start.dtype)
  times = tf.reshape(tf.abs(end - start), [1])
  with _recording_of(solver):
    results = solver.solve(rates_of_distance, zero, state, times)
  state = tf.nest.map_structure(lambda s: s[0], results.states)
  # Not every solver says that it failed, or leaves NaN where it did.
  solved = tf.equal(tf.convert_to_tensor(results.diagnostics.status), 0)
  for part in tf.nest.flatten(state):
    solved &= tf.reduce_all(tf.math.is_finite(part))
  state = tf.nest.map_structure(
    lambda s: tf.where(solved, s, tf.constant(np.nan, s.dtype)), state
  )
  count = tf.convert_to_tensor(results.diagnostics.num_ode_fn_evaluations)
  return state, count, tf.where(solved, 0, -1), _last_step(results)


def _last_step(results):
  internal = results.solver_internal_state
  if not hasattr(internal, 'last_step_start'):
    return None
  return internal.current_time - internal.last_step_start


def _beginning_with(solver, step):
  """`solver`, which begins as the way there ended, if it may choose."""
  can_choose = isinstance(solver, ode_solvers.DormandPrince)
  if step is None or not can_choose or not solver.chooses_first_step:
    return solver
  good = tf.math.is_finite(step) & (step > 0.0)
  # A step that is refused costs as much as one that is taken.
  return solver.starting_with(tf.where(good, 0.75 * step, tf.cast(1e-3, step.dtype)))


def _recording_of(solver):
  """No tape need see these solvers; others find Jacobians by tapes of their own."""
  explicit = (tfp.math.ode.DormandPrince, ode_solvers.RungeKutta4)
  if isinstance(solver, explicit):
    return tf_private.stop_recording()
  return contextlib.nullcontext()


def _size(parts):
  """The largest root mean square of a part; 1 if all are zero."""
  most = tf.reduce_max([tf.reduce_max(tf.abs(part)) for part in parts])
  most = tf.where(most > 0, most, tf.ones_like(most))
  squares = [tf.reduce_mean((part / most) ** 2) for part in parts]
  size = most * tf.sqrt(tf.reduce_max(squares))
  return tf.where(size > 0, size, tf.ones_like(size))


def _packing(tensors):
  """Functions from tensors like these to one vector, and back, and its size.

  To a solver each part of a state is work for itself, in its program, too.
  """
  like = [shapes.static_or_dynamic(t) for t in tensors]
  sizes = [t.shape.num_elements() for t in tensors]
  if None in sizes:
    sizes = tf.stack([tf.size(t) for t in tensors])

  def pack(tensors, dtype):
    # Gradients of look-ups are not dense.
    parts = [tf.cast(tf.convert_to_tensor(t), dtype) for t in tensors]
    return tf.concat([tf.zeros([0], dtype), *(tf.reshape(t, [-1]) for t in parts)], 0)

  def unpack(vector):
    parts = tf.split(vector, sizes) if tensors else []
    return [
      tf.cast(tf.reshape(part, shape), t.dtype)
      for part, shape, t in zip(parts, like, tensors)
    ]

  return pack, unpack, sum(sizes) if isinstance(sizes, list) else tf.reduce_sum(sizes)


def _scaled(values, scales):
  return tuple(v * tf.cast(s, v.dtype) for v, s in zip(values, scales))


def _is_tensor(value):
  return tf.is_tensor(value) or isinstance(value, (tf.Variable, tf.Module))


def _as_time(value, dtype):
  # A cast of a Python number goes over float32.
  if _is_tensor(value):
    return tf.cast(value, dtype)
  return tf.convert_to_tensor(value, dtype)
