"""Residual flow."""

import warnings
from collections.abc import Sequence
from typing import Any
from typing import Protocol
from typing import runtime_checkable

import tensorflow as tf

from tfp_flows.bijectors import flow_bijector
from tfp_flows.bijectors import log_det_estimators
from tfp_flows.internal import checks
from tfp_flows.internal import conditions
from tfp_flows.internal import first_order
from tfp_flows.internal import seeds
from tfp_flows.internal import shapes
from tfp_flows.internal import tf_private
from tfp_flows.internal import weight_values
from tfp_flows.math import fixed_point

__all__ = ['Bounded', 'Branch', 'BranchAt', 'Normed', 'ResidualFlow']

_SECOND_ORDER = (
  'The inverse of a residual flow has no second derivatives and none in forward mode: '
  'a gradient of its gradient, or a `tf.autodiff.ForwardAccumulator` was asked for. '
  'Use `forward`, or finite differences.'
)
_FORWARD_MODE = (
  'Of a residual flow `tf.autodiff.ForwardAccumulator` can follow `forward` only, in '
  'eager mode or around a `tf.function`; it was asked for `inverse`, or opened inside '
  'of a `tf.function`. Use a `tf.GradientTape`.'
)


class Branch(Protocol):
  """The function `g` of a residual flow.

  `branch(x)`, or `branch(x, condition)` if it has a `condition_size`: from
  `[*batch, *event]` to the same shape, example by example, with `Lip(g) < 1`. A Keras
  layer must be built. What else a branch says of itself is taken into account: see
  `Bounded` and `Normed`. `LipschitzMLP` and `LipschitzConvNet` are both.
  """

  def __call__(self, *args: Any, **kwargs: Any) -> tf.Tensor:
    """`g(x)`."""


@runtime_checkable
class Bounded(Protocol):
  """A branch that says how much it stretches at most.

  Attributes:
    lipschitz: a bound of its Lipschitz constant, whatever its weights are.
  """

  @property
  def lipschitz(self) -> float: ...


@runtime_checkable
class Normed(Protocol):
  """A branch that divides its weights by norms, which it measures."""

  def update_norms(self, tolerance: float, max_iterations: int) -> None:
    """Brings the norms up to date with the weights."""

  def norm_bounds(self) -> list[tf.Tensor]:
    """The norm of each linear layer, as it is applied."""

  def lipschitz_bound(self) -> tf.Tensor:
    """A bound of the Lipschitz constant, for the weights as they are."""

  def normalized(self) -> Branch:
    """The same function, whose weights are divided once for several calls."""


class ResidualFlow(flow_bijector.FlowBijector):
  """Adds a contraction to its argument [(Chen et al., 2019)][1].

    forward: `y = x + g(x)`,   `Lip(g) < 1`   (eq. 1)
    inverse: the fixed point of `x = y - g(x)`
    log-det: `log|det dy/dx| = log det(I + J)`, `J = dg/dx`   (nats)

  The log-det is exact or an estimate, as `log_det` says; see `LogDet` and
  `tff.estimation`. An unbiased estimate is one of value and gradient: what is
  printed while training is a likelihood.

  The inverse is iterated, with Anderson acceleration, until
  `max|y - g(x) - x| <= tolerance * max(1, max|x|)` for each example; the error of
  `x` is then at most `1 / (1 - L)` times that. Where it is not reached within
  `max_iterations` evaluations, `inverse` raises `ValueError` in eager mode and
  returns NaN for that example in graphs; `solve` returns the residuals instead.
  Its gradients are those of the implicit function theorem,
  `dx = (I + J)^-1 (dy - dg)`, iterated likewise and NaN where that does not
  converge: sampling can be trained through.
  Second derivatives of the inverse are not available.

  TFP's `forward` and `inverse` compute the log-det, too, which graphs leave out where
  nobody asks for it; `forward_value`, `inverse_value`, samples of `tff.Flow` and of
  `FlowModel` never do.

  `g` is a callable on `[*batch, *event]`; those of this library, `LipschitzMLP`
  and `LipschitzConvNet`, are contractions. For others the caller answers for
  `Lip(g) < 1`.

  #### References

  [1]: Ricky T. Q. Chen, Jens Behrmann, David Duvenaud and Joern-Henrik
       Jacobsen. Residual Flows for Invertible Generative Modeling. In _NeurIPS_,
       2019. https://arxiv.org/abs/1906.02735
  """

  def __init__(
    self,
    branch: Branch,
    event_shape: Sequence[int],
    log_det: log_det_estimators.LogDet | None = None,
    tolerance: float | None = None,
    max_iterations: int = 1000,
    seed: int | None = None,
    dtype: Any = tf.float32,
    name: str = 'residual_flow',
  ):
    """Creates the layer.

    Args:
      branch: `g`, a callable of `x`, or of `x` and `condition` if it has a
        `condition_size`; a Keras layer must be built.
      event_shape: `[D]` or `[H, W, C]`.
      log_det: the estimators; None is `LogDet()`.
      tolerance: of the inverse, see above; None is that of `solve_fixed_point`, 3e-7
        in float32 and 1e-13 in float64 for up to 64 dimensions. Matrix products in
        TensorFloat, a GPU's default, do not reach it: see
        `tf.config.experimental.enable_tensor_float_32_execution`.
      max_iterations: most evaluations of `g` in one inverse.
      seed: int, tells the noise of this layer from that of others; None draws
        one, which `keras.utils.set_random_seed` fixes.
      dtype: of `x`.
      name: name of the layer.

    Raises:
      ValueError: if `event_shape` is not static or of another rank, or a number is
        out of range.

    Warns:
      UserWarning: if the branch has a `lipschitz` for which the variance of
        the log-det of training may be infinite.
    """
    self._event = shapes.as_event_shape(event_shape, 'ResidualFlow')
    self._log_det = log_det or log_det_estimators.LogDet()
    if tolerance is not None and not 0.0 < tolerance < 1.0:
      raise ValueError(
        f'ResidualFlow expects a tolerance in (0, 1), or None; received {tolerance}.'
      )
    checks.as_count(max_iterations, 'max_iterations', owner='ResidualFlow')
    self._tolerance, self._max_iterations = tolerance, max_iterations
    seed = seeds.default_seed(seed)
    self._record(ResidualFlow, seed=seed)
    self._salt = weight_values.Salt(seed)
    with tf.name_scope(name) as scope:
      super().__init__(
        forward_min_event_ndims=len(self._event),
        dtype=dtype,
        name=scope,
      )
      self._branch = self._expose(branch)
    self._warn_of_variance()

  @property
  def branch(self) -> Branch:
    """`g`."""
    return self._branch

  @property
  def log_det(self) -> log_det_estimators.LogDet:
    """The estimators."""
    return self._log_det

  @property
  def is_estimated(self) -> bool:
    """Whether evaluation, too, is stochastic."""
    num_dims = tf.TensorShape(self._event).num_elements()
    evaluation = self._log_det.evaluation_of(num_dims)
    return not isinstance(evaluation, log_det_estimators.ExactLogDet)

  @property
  def is_recomputable(self) -> bool:
    return False

  @property
  def takes_condition(self) -> bool:
    return conditions.size_of(self._branch) is not None

  def solve(
    self, y: tf.Tensor, condition: tf.Tensor | None = None
  ) -> fixed_point.FixedPoint:
    """The inverse of `y` with its residuals and number of iterations.

    Neither raises nor differentiates.
    """
    return self._solve(self._g(condition), tf.convert_to_tensor(y, self.dtype))

  def _solve(self, g, y):
    return fixed_point.solve_fixed_point(
      lambda x: y - g(x), y, len(self._event), self._tolerance, self._max_iterations
    )

  def _event_shape_or_none(self):
    return self._event

  def _g(self, condition):
    self._check_condition(self._branch, condition)
    return BranchAt(self._branch, condition if self.takes_condition else None)

  def _estimate(self, g, x):
    salt = weight_values.value(self._salt)
    return self._log_det(g, x, len(self._event), salt)

  def _check_forward_mode(self, x, condition, is_possible):
    weights = [weight_values.source(v) for v in self.trainable_variables]
    is_followed = tf_private.has_tangents([x, condition, weights])
    if is_followed and not is_possible:
      raise LookupError(_FORWARD_MODE)

  @property
  def log_det_costs(self) -> bool:
    return True

  def _forward_value(self, x, condition=None):
    return x + self._g(condition)(x)

  def _inverse_value(self, y, condition=None):
    return self._inverse_of(y, condition)[0]

  def _forward_and_log_det(self, x, condition=None):
    self._check_forward_mode(x, condition, is_possible=tf.executing_eagerly())
    estimate = self._estimate(self._g(condition), x)
    return x + estimate.value, estimate.log_det

  def _inverse_and_log_det(self, y, condition=None):
    x, g = self._inverse_of(y, condition)
    return x, -self._estimate(g, x).log_det

  def _inverse_of(self, y, condition):
    self._check_forward_mode(y, condition, is_possible=False)
    g = self._g(condition)
    return self._differentiable(g, y, self._checked(self._solve(g, y))), g

  def _checked(self, solution):
    if tf.executing_eagerly() and not tf.reduce_all(solution.converged):
      failed = tf.boolean_mask(solution.residual, ~solution.converged)
      raise ValueError(
        f'{self.name}.inverse expects g to be a contraction; after '
        f'{int(solution.iterations)} iterations {len(failed)} examples have '
        f'residuals up to {float(tf.reduce_max(failed)):.3g}. Update the norms of '
        f'the branch (`tff.update_norms`), lower its `lipschitz`, raise '
        f'max_iterations, or switch off TensorFloat; `solve` returns the residuals.'
      )
    return tf.stop_gradient(self._nan_unless_converged(solution))

  def _nan_unless_converged(self, solution):
    shape = tf.shape(solution.converged)
    ok = tf.reshape(
      solution.converged, tf.concat([shape, [1] * len(self._event)], axis=0)
    )
    return tf.where(ok, solution.x, tf.constant(float('nan'), self.dtype))

  def _differentiable(self, g, y, x):
    """The solution `x`, with the gradients of the implicit function theorem."""
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
      tape.watch(x)
      value = g(x)

    @tf.custom_gradient
    def solution(step):
      def gradient(upstream):
        axes = list(range(upstream.shape.rank - len(self._event), upstream.shape.rank))
        scale = tf.reduce_max(tf.abs(upstream), axis=axes, keepdims=True)
        scale = tf.where(scale > 0, scale, tf.ones_like(scale))
        start = upstream / scale

        def adjoint_step(w):
          product = tape.gradient(value, x, w, unconnected_gradients='zero')
          return shapes.ensure(start - product, start.shape)

        solved = fixed_point.solve_fixed_point(
          adjoint_step,
          start,
          len(self._event),
          self._tolerance,
          self._max_iterations,
        )
        found = self._nan_unless_converged(solved) * scale
        return first_order.without_gradient(found, [upstream, y, value], _SECOND_ORDER)

      return tf.identity(step), gradient

    # One more step: `x` itself depends on nothing, `y - g(x)` on y and the weights.
    return solution(y - value)

  def _warn_of_variance(self):
    if not isinstance(self._branch, Bounded):
      return
    num_dims = tf.TensorShape(self._event).num_elements()
    estimators = dict(
      training=self._log_det.estimator, evaluation=self._log_det.evaluation_of(num_dims)
    )
    for use, estimator in estimators.items():
      if isinstance(estimator, log_det_estimators.RouletteLogDet):
        problem = estimator.problem(self._branch.lipschitz)
        if problem:
          text = f'{self.name}, {use}: {problem}'
          # Behind the constructor stands the one that records it.
          warnings.warn(text, UserWarning, stacklevel=4)


class BranchAt:
  """`g` at one condition, its weights normalised once."""

  def __init__(self, branch: Branch, condition: tf.Tensor | None):
    self.branch, self._condition = branch, condition
    self._fn = branch.normalized() if isinstance(branch, Normed) else branch

  def __call__(self, x: tf.Tensor) -> tf.Tensor:
    return self._fn(x) if self._condition is None else self._fn(x, self._condition)
