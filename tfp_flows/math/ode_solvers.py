"""Explicit Runge-Kutta solvers behind the interface of `tfp.math.ode`."""

import collections
import copy
import math
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.internal import configurable
from tfp_flows.internal import tfp_private

__all__ = ['DormandPrince', 'RungeKutta4']


class DormandPrince(tfp.math.ode.DormandPrince, configurable.Configurable):
  """TFP's `tfp.math.ode.DormandPrince`, with other control of its steps.

  The method, its dense output and its interface are those of TFP. Differences:

  * The stages of a step are a loop, so that XLA compiles the field once and not
    six times.
  * The error of a step is the largest of the root mean squares of
    `error / (atol + rtol |y|)` over each part of the state, and the next step has
    `h * safety_factor * error^(-1/5)`. TFP squares the error twice, so that its
    factor is `error^(-1/3)`: at loose tolerances a third of its steps is rejected.
  * The coefficients are exact in float64, where those of TFP pass through float32, and
    its errors stop at about 1e-9.
  * `first_step_size=None` chooses the first step as Hairer, Norsett and Wanner,
    Solving Ordinary Differential Equations I, section II.4, for one evaluation.
  * It always ends. After `max_num_steps`, if a step no longer moves the time, or
    if the error is not finite however small the step, the state is NaN and
    `diagnostics.status` -1; TFP asserts, which XLA leaves out, or runs for ever.

  As with TFP the last step may go beyond the last solution time, which is then
  interpolated: the field must be defined there, too.

  `diagnostics.num_ode_fn_evaluations` counts all evaluations.
  """

  def __init__(
    self,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    first_step_size: float | None = None,
    max_num_steps: int = 1000,
    name: str = 'dormand_prince',
    **kwargs: Any,
  ):
    """Creates the solver.

    Args:
      rtol: relative tolerance of the error of a step.
      atol: absolute tolerance.
      first_step_size: in units of time; None chooses it.
      max_num_steps: including rejected ones.
      name: prefix of operations.
      **kwargs: of `tfp.math.ode.DormandPrince`.

    Raises:
      ValueError: unless tolerances, step and number of steps are positive.
    """
    _check_positive(rtol=rtol, atol=atol, max_num_steps=max_num_steps)
    if first_step_size is not None:
      _check_positive(first_step_size=first_step_size)
    self._tolerances = rtol, atol
    self._given_first_step_size = first_step_size
    self._evaluates_to_validate = bool(kwargs.get('validate_args', False))
    options = dict(rtol=rtol, atol=atol, max_num_steps=max_num_steps, name=name)
    super().__init__(first_step_size=first_step_size or 1e-3, **options, **kwargs)

  @property
  def chooses_first_step(self) -> bool:
    """Whether `first_step_size` was left to the solver."""
    return self._given_first_step_size is None

  def starting_with(self, step_size: tf.Tensor) -> 'DormandPrince':
    """This solver with another first step, which may be a tensor."""
    other = copy.copy(self)
    other._given_first_step_size = step_size
    tfp_private.set_first_step_size(other, step_size)
    return other

  def _initialize_solver_internal_state(self, ode_fn, initial_time, initial_state):
    state = super()._initialize_solver_internal_state(
      ode_fn, initial_time, initial_state
    )
    if self.chooses_first_step:
      state = state._replace(step_size=self._first_step(ode_fn, state))
    return state

  def _first_step(self, ode_fn, state):
    y, f, t = state.current_state, state.current_derivative, state.current_time
    scale = _map(lambda y: self._tolerance(tf.abs(y)), y)
    size, slope = _norm(y, scale), _norm(f, scale)
    small = tf.cast(1e-5, t.dtype)
    first = tf.where(
      (size < small) | (slope < small),
      tf.cast(1e-6, t.dtype),
      0.01 * tf.math.divide_no_nan(size, slope),
    )
    stepped = ode_fn(t + first, _add(y, f, first))
    bend = _norm(_map(lambda a, b: a - b, stepped, f), scale) / first
    largest = tf.maximum(slope, bend)
    second = tf.where(
      largest <= 1e-15,
      tf.maximum(tf.cast(1e-6, t.dtype), 1e-3 * first),
      (0.01 / tf.maximum(largest, tf.cast(1e-15, t.dtype))) ** (1 / self.ORDER),
    )
    step = tf.minimum(100 * first, second)
    return tf.where(tf.math.is_finite(step), step, small)

  def _tolerance(self, size):
    rtol, atol = (tf.cast(t, size.dtype) for t in self._tolerances)
    return atol + rtol * size

  def _step(
    self,
    solver_state,
    diagnostics,
    max_ode_fn_evals,
    ode_fn,
    atol,
    rtol,
    safety,
    ifactor,
    dfactor,
  ):
    """One attempted step; called by TFP's loop."""
    y0, f0, _, t0, dt, coefficients = solver_state
    y1, slopes = _stages(ode_fn, y0, f0, t0, dt)
    error = _combine(tfp_private.DORMAND_PRINCE.c_error, slopes)
    error = _map(lambda e: tf.cast(dt, e.dtype) * e, error)
    scale = _map(lambda a, b: self._tolerance(tf.maximum(abs(a), abs(b))), y0, y1)
    ratio = _norm(error, scale)
    finite = tf.math.is_finite(ratio)
    accept = finite & (ratio <= 1.0)
    factor = tf.clip_by_value(safety * ratio ** (-1 / self.ORDER), dfactor, ifactor)
    next_dt = dt * tf.where(finite, factor, dfactor)

    # Of the evaluations before the first step TFP counts that of `validate_args`.
    start = 1 + self.chooses_first_step + self._evaluates_to_validate
    before = tf.maximum(diagnostics.num_ode_fn_evaluations, start)
    evaluations = before + self.ODE_FN_EVALS_PER_STEP
    failed = ~accept & (t0 + next_dt <= t0) | ~_all_finite(f0)
    failed |= evaluations > start + max_ode_fn_evals

    def choose(new, old):
      kept = tf.where(accept, new, old)
      return tf.where(failed, tf.constant(np.nan, new.dtype), kept)

    infinity = tf.constant(np.inf, t0.dtype)
    solver_state = solver_state._replace(
      current_state=_map(choose, y1, y0),
      current_derivative=_map(choose, _map(lambda k: k[-1], slopes), f0),
      last_step_start=t0,
      # A time beyond all others ends TFP's loop.
      current_time=tf.where(failed, infinity, tf.where(accept, t0 + dt, t0)),
      step_size=next_dt,
      interpolating_coefficients=_map(
        choose, _interpolation(y0, y1, slopes, dt), coefficients
      ),
    )
    return solver_state, diagnostics._replace(
      num_ode_fn_evaluations=evaluations, status=tf.where(failed, -1, 0)
    )


class RungeKutta4(tfp.math.ode.Solver, configurable.Configurable):
  """The classical Runge-Kutta method of order 4 with equal steps: a constant cost.

  Four evaluations per step; no control of the error.
  """

  def __init__(self, num_steps: int = 20, name: str = 'runge_kutta_4', **kwargs: Any):
    """Creates the solver.

    Args:
      num_steps: from each solution time to the next.
      name: prefix of operations.
      **kwargs: `make_adjoint_solver_fn` of `tfp.math.ode.Solver`.

    Raises:
      ValueError: unless `num_steps` is positive.
    """
    _check_positive(num_steps=num_steps)
    self._num_steps = num_steps
    make_adjoint_solver_fn = kwargs.pop('make_adjoint_solver_fn', None)
    super().__init__(make_adjoint_solver_fn, False, name, **kwargs)

  def _solve(
    self,
    ode_fn,
    initial_time,
    initial_state,
    solution_times,
    jacobian_fn=None,
    jacobian_sparsity=None,
    batch_ndims=None,
    previous_solver_internal_state=None,
  ):
    del jacobian_fn, jacobian_sparsity, batch_ndims, previous_solver_internal_state
    if isinstance(solution_times, tfp.math.ode.ChosenBySolver):
      solution_times = [solution_times.final_time]
    state = tf.nest.map_structure(tf.convert_to_tensor, initial_state)
    dtype = tf.nest.flatten(state)[0].dtype
    times = tf.cast(solution_times, dtype)
    time, states = tf.cast(initial_time, dtype), []
    for end in tf.unstack(times):
      state = self._advance(ode_fn, time, end, state)
      time = end
      states.append(state)
    count = 4 * self._num_steps * len(states)
    return tfp.math.ode.Results(
      times=times,
      states=_map(lambda *parts: tf.stack(parts), *states),
      diagnostics=_Diagnostics(tf.constant(count), 0, 0, tf.constant(0)),
      solver_internal_state=(),
    )

  def _advance(self, ode_fn, time, end, state):
    """One loop over all stages, so that XLA compiles the field once."""
    step = (end - time) / self._num_steps
    offsets, shares = ([0, 0.5, 0.5, 1], [1 / 6, 1 / 3, 1 / 3, 1 / 6])

    def stage(i, y, total, slope):
      offset = tf.gather(tf.constant(offsets, step.dtype), i % 4)
      share = tf.gather(tf.constant(shares, step.dtype), i % 4)
      now = time + step * (tf.cast(i // 4, step.dtype) + offset)
      slope = ode_fn(now, _add(y, slope, step * offset))
      total = _add(total, slope, step * share)
      y = _map(lambda new, old: tf.where(i % 4 == 3, new, old), total, y)
      return i + 1, y, total, slope

    zero = _map(tf.zeros_like, state)
    start = (tf.constant(0), state, state, zero)
    return tf.while_loop(lambda i, *_: i < 4 * self._num_steps, stage, start)[1]

  def _initialize_solver_internal_state(self, ode_fn, initial_time, initial_state):
    del ode_fn, initial_time, initial_state
    return ()


class _Diagnostics(
  collections.namedtuple(
    '_Diagnostics',
    [
      'num_ode_fn_evaluations',
      'num_jacobian_evaluations',
      'num_matrix_factorizations',
      'status',
    ],
  ),
  tfp.math.ode.Diagnostics,
):
  __slots__ = ()


_map = tf.nest.map_structure


def _add(y, slope, factor):
  return _map(lambda y, k: y + tf.cast(factor, y.dtype) * k, y, slope)


def _stages(ode_fn, y0, f0, t0, dt):
  """The end of the step, and the slopes of all stages along a first axis."""
  tableau = tfp_private.DORMAND_PRINCE
  count = len(tableau.b) + 1
  times = tf.constant(tableau.a, t0.dtype)
  weights = np.zeros([count - 1, count])
  for i, row in enumerate(tableau.b):
    weights[i, : len(row)] = row

  def end(i, slopes):
    row = tf.gather(tf.constant(weights, t0.dtype), i)
    return _add(y0, _combine(row, slopes), dt)

  def stage(i, _, slopes):
    y = end(i, slopes)
    slope = ode_fn(t0 + tf.gather(times, i) * dt, y)
    return i + 1, y, _map(lambda k, f: _with_row(k, i + 1, f), slopes, slope)

  first = _map(lambda f: tf.stack([f, *[tf.zeros_like(f)] * (count - 1)]), f0)
  _, y1, slopes = tf.while_loop(
    lambda i, *_: i < count - 1, stage, (tf.constant(0), y0, first)
  )
  return y1, slopes


def _as(value, dtype):
  """`value` in another dtype; Python's numbers without a detour over float32."""
  if tf.is_tensor(value):
    return tf.cast(value, dtype)
  return tf.convert_to_tensor(value, dtype)


def _with_row(rows, i, row):
  chosen = tf.equal(tf.range(rows.shape[0]), i)
  return tf.where(_column(chosen, row), row, rows)


def _combine(weights, slopes):
  def combine(slopes):
    column = _column(_as(weights, slopes.dtype), slopes[0])
    return tf.reduce_sum(column * slopes, axis=0)

  return _map(combine, slopes)


def _column(values, like):
  return tf.reshape(values, [-1, *[1] * like.shape.rank])


def _interpolation(y0, y1, slopes, dt):
  # TFP casts the coefficients, which takes Python's numbers over float32.
  middle = [tf.constant(c, tf.float64) for c in tfp_private.DORMAND_PRINCE.c_mid]
  tableau = tfp_private.DORMAND_PRINCE._replace(c_mid=middle)
  stages = [_map(lambda k, j=j: k[j], slopes) for j in range(len(middle))]
  return tfp_private.dense_output(y0, y1, stages, dt, tableau)


def _norm(parts, scale):
  """The largest root mean square of `part / scale`; 0 of an empty part."""

  def mean(x, s):
    count = tf.cast(tf.maximum(tf.size(x), 1), x.dtype)
    return tf.reduce_sum((x / s) ** 2) / count

  means = _map(mean, parts, scale)
  return tf.sqrt(tf.reduce_max(tf.stack(tf.nest.flatten(means))))


def _all_finite(parts):
  finite = _map(lambda x: tf.reduce_all(tf.math.is_finite(x)), parts)
  return tf.reduce_all(tf.stack(tf.nest.flatten(finite)))


def _check_positive(**values: Any) -> None:
  for name, value in values.items():
    if value is None or not 0 < value < math.inf:
      raise ValueError(f'Expected a finite {name} > 0; received {value}.')
