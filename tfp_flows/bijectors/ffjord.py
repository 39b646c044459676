"""Continuous flow."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any
from typing import Protocol

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import flow_bijector
from tfp_flows.bijectors import trace_estimators
from tfp_flows.internal import conditions
from tfp_flows.internal import estimation
from tfp_flows.internal import reports
from tfp_flows.internal import seeds
from tfp_flows.internal import shapes
from tfp_flows.internal import tf_private
from tfp_flows.internal import weight_values
from tfp_flows.math import ode
from tfp_flows.math import ode_solvers

__all__ = ['FFJORD', 'Field', 'Penalties']


class Field(Protocol):
  """The vector field `f` of a continuous flow.

  `field(t, x)`, or `field(t, x, condition)` if it has a `condition_size`: of a scalar
  time and `x`, `[*batch, *event]`, to the same shape, example by example. It should be
  smooth. A Keras layer must be built, as `FieldMLP` and `FieldConvNet` are.
  """

  def __call__(self, *args: Any, **kwargs: Any) -> tf.Tensor:
    """`f(t, x)`."""


@dataclasses.dataclass(frozen=True)
class Penalties:
  """Regularizers of a continuous flow [(Finlay et al., 2020)][1].

    kinetic * int |f|^2 dt + jacobian * int |df/dx|_F^2 dt

  along the path of each example from data to latents, in the solve of the log-det
  and with its noise: calls of `forward` in a training block report them, so that
  `log_prob` must go through `tfb.Invert`. `FlowModel` adds their means over the batch
  to its loss, in nats per example, and logs them. They make fields that need fewer
  evaluations.

  Attributes:
    kinetic: weight of the first term, at least 0.
    jacobian: weight of the second, likewise.

  #### References

  [1]: Chris Finlay, Joern-Henrik Jacobsen, Levon Nurbekyan and Adam M. Oberman. How
       to Train Your Neural ODE: the World of Jacobian and Kinetic Regularization. In
       _ICML_, 2020. https://arxiv.org/abs/2002.02798
  """

  kinetic: float = 0.0
  jacobian: float = 0.0

  def __post_init__(self):
    for name, weight in dataclasses.asdict(self).items():
      if not weight >= 0.0:
        raise ValueError(f'Expected the penalty {name} >= 0; received {weight}.')

  def weights(self) -> dict[str, float]:
    """The weights that are not zero."""
    return {k: v for k, v in dataclasses.asdict(self).items() if v}


class FFJORD(flow_bijector.FlowBijector):
  """Moves points along a vector field [(Grathwohl et al., 2019)][1].

    dx/dt = f(t, x(t))
    forward: x(t0) -> x(t1)         (data at t0, latents at t1)
    inverse: x(t1) -> x(t0), the same equation with the times exchanged
    log-det: log|det dy/dx| = int_{t0}^{t1} tr(df/dx) dt   (eq. 2 of the paper; nats)

  for any t0 and t1. The trace is exact, or an unbiased estimate whose noise is drawn
  once per solve and is the same for forward, inverse and both log-dets inside one
  `tff.estimation` block, see `Trace`. Round trips and log-dets are as good as the
  tolerance of the solver, gradients likewise.

  Gradients are those of the adjoint method, in memory that does not depend on the
  number of steps, see `tfp_flows.math.integrate`: for x, condition, the times if they
  are variables or tensors, and every variable that the field reads, but no tensor
  that it closes over. Second derivatives raise `LookupError`. Under XLA a training
  run compiles once. In eager mode an outer tape keeps what the field computes, and
  memory grows with the steps: train in a `tf.function`.

  Steps are chosen for the whole batch: the likelihood of an example depends, within
  the tolerance, on the others beside it. The log-det enters the error of a step as
  one number per example.

  TFP's `forward` and `inverse` solve for value and log-det at once, as both are kept.
  `forward_value`, `inverse_value`, samples of `tff.Flow` and samples, `encode` and
  `decode` of `FlowModel` solve for the value alone, without trace and penalties: that
  takes other steps, and gives the same numbers within the tolerance of the solver.

  If the solver fails, because it needs too many steps or the field is not finite, an
  eager call raises `ValueError`; in graphs, where nothing can be raised, values and
  log-dets are NaN, and `FlowModel` raises: `fit` after the epoch.

  #### Examples

  ```python
  field = tff.FieldMLP(2, [64, 64, 64])
  flow = tfd.TransformedDistribution(
    tfd.Sample(tfd.Normal(0., 1.), 2), tfb.Invert(tff.FFJORD(field, [2])))
  ```

  #### References

  [1]: Will Grathwohl, Ricky T. Q. Chen, Jesse Bettencourt, Ilya Sutskever and
       David Duvenaud. FFJORD: Free-form Continuous Dynamics for Scalable
       Reversible Generative Models. In _ICLR_, 2019.
       https://arxiv.org/abs/1810.01367
  """

  def __init__(
    self,
    field: Field,
    event_shape: Sequence[int],
    trace: trace_estimators.Trace | None = None,
    solver: tfp.math.ode.Solver | None = None,
    evaluation_solver: tfp.math.ode.Solver | None = None,
    adjoint_solver: tfp.math.ode.Solver | None = None,
    initial_time: Any = 0.0,
    final_time: Any = 1.0,
    penalties: Penalties | None = None,
    log_det_in_error: bool = True,
    seed: int | None = None,
    dtype: Any = tf.float32,
    name: str = 'ffjord',
  ):
    """Creates the layer.

    Args:
      field: `f`, a callable of a scalar time and `x`, and of `condition` if it has a
        `condition_size`; a Keras layer must be built. It should be smooth.
      event_shape: `[D]` or `[H, W, C]`.
      trace: the estimators; None is `Trace()`.
      solver: any `tfp.math.ode.Solver`; None is `DormandPrince(1e-5, 1e-5)`.
      evaluation_solver: outside of training; None is `solver`.
      adjoint_solver: of gradients; None is the solver of the value.
      initial_time: t0, of the data; a number, scalar tensor or variable.
      final_time: t1, of the latents; likewise.
      penalties: added to the loss of `FlowModel`; None for none.
      log_det_in_error: whether the error of the log-det has a part in the choice of
        steps.
      seed: int, tells the noise of this layer from that of others; None draws
        one, which `keras.utils.set_random_seed` fixes.
      dtype: of `x`.
      name: name of the layer.

    Raises:
      ValueError: if `event_shape` is not static or of another rank.
    """
    self._event = shapes.as_event_shape(event_shape, 'FFJORD')
    self._trace = trace or trace_estimators.Trace()
    self._solver = solver or ode_solvers.DormandPrince()
    self._evaluation_solver = evaluation_solver or self._solver
    self._adjoint_solver = adjoint_solver
    self._initial_time, self._final_time = initial_time, final_time
    self._penalties = penalties or Penalties()
    self._log_det_in_error = log_det_in_error
    seed = seeds.default_seed(seed)
    self._record(FFJORD, seed=seed)
    self._salt = weight_values.Salt(seed)
    with tf.name_scope(name) as scope:
      super().__init__(
        forward_min_event_ndims=len(self._event),
        dtype=dtype,
        name=scope,
      )
      self._field = self._expose(field)

  @property
  def field(self) -> Field:
    """`f`."""
    return self._field

  @property
  def initial_time(self) -> Any:
    """t0."""
    return self._initial_time

  @property
  def final_time(self) -> Any:
    """t1."""
    return self._final_time

  @property
  def penalties(self) -> Penalties:
    """The regularizers."""
    return self._penalties

  @property
  def is_estimated(self) -> bool:
    """Whether evaluation, too, is stochastic."""
    num_dims = tf.TensorShape(self._event).num_elements()
    evaluation = self._trace.evaluation_of(num_dims)
    return not isinstance(evaluation, trace_estimators.ExactTrace)

  @property
  def is_recomputable(self) -> bool:
    return False

  @property
  def takes_condition(self) -> bool:
    return conditions.size_of(self._field) is not None

  def _event_shape_or_none(self):
    return self._event

  @property
  def log_det_costs(self) -> bool:
    return True

  def _forward_value(self, x, condition=None):
    return self._run(x, condition, False, None)[0]

  def _inverse_value(self, y, condition=None):
    return self._run(y, condition, True, None)[0]

  def _forward_and_log_det(self, x, condition=None):
    names = self._penalties.weights() if estimation.current().training else {}
    return self._run(x, condition, False, tuple(names))

  def _inverse_and_log_det(self, y, condition=None):
    return self._run(y, condition, True, ())

  def _run(self, x, condition, inverted, penalties):
    """Solves with the estimator of the current block, and reports.

    Returns value and log-det; with `penalties=None` the value alone, and None.
    """
    self._check_condition(self._field, condition)
    weights = [weight_values.source(v) for v in self.trainable_variables]
    if tf_private.has_tangents([x, condition, weights]):
      raise LookupError(ode.SECOND_ORDER)
    current, report = estimation.current(), reports.innermost()
    rates, names = self._plain_rates, []
    if penalties is not None:
      rates, names = self._rates_with_trace(x, penalties), ['log_det', *penalties]
    condition = condition if self.takes_condition else None
    solution = self._solve(
      rates, names, current.training, inverted, x, condition, report.probe
    )
    ode.check_solved(solution, self.name)
    report.evaluations.append(solution.num_evaluations)
    report.failures.append(solution.status < 0)
    log_det, *values = solution.integrals or [None]
    for name, value in zip(names[1:], values):
      # Against the direction of time integrals are negative.
      report.add_penalty(name, self._penalties.weights()[name] * tf.abs(value))
    return solution.x, log_det

  def _plain_rates(self, t, x, *condition):
    return tf.cast(self._field(t, x, *condition), x.dtype), ()

  def _rates_with_trace(self, x, penalties):
    num_dims = tf.TensorShape(self._event).num_elements()
    seed = estimation.current().seed_of(weight_values.value(self._salt))
    field_at = self._trace.current(num_dims).draw(x, len(self._event), seed)

    def rates(t, x, *condition):
      at = field_at(lambda x: self._plain_rates(t, x, *condition)[0], x)
      return at.value, (at.divergence, *(_PENALTIES[p](at) for p in penalties))

    return rates

  def _solve(self, rates, integrals, training, inverted, x, condition, probe):
    conditions = [] if condition is None else [condition]
    # The solver differentiates the variables that it sees and its inputs, no others.
    weights = [weight_values.source(v) for v in self.variables]
    given = [i for i, v in enumerate(self.variables) if v is not weights[i]]
    trained = [i for i in given if weights[i].dtype.is_floating]

    def rates_of_inputs(t, x, *inputs):
      with contextlib.ExitStack() as stack:
        if given:
          own = list(weights)
          for i, tensor in zip(trained, inputs[len(conditions) :], strict=True):
            own[i] = tensor
          stack.enter_context(weight_values.substituted(self, own))
        return rates(t, x, *inputs[: len(conditions)])

    times = [_time(self._initial_time), _time(self._final_time)]
    zero = tf.zeros(shapes.batch_shape(x, len(self._event)), x.dtype)
    return ode.integrate(
      rates_of_inputs,
      x,
      *(reversed(times) if inverted else times),
      solver=self._solver if training else self._evaluation_solver,
      adjoint_solver=self._adjoint_solver,
      integrals=[zero] * len(integrals),
      inputs=[*conditions, *(weights[i] for i in trained)],
      controlled=[name == 'log_det' and self._log_det_in_error for name in integrals],
      probe=probe,
    )


def _time(time):
  """A time whose variable may have a substitute."""
  if isinstance(time, tf.Variable):
    return weight_values.source(time)
  if not isinstance(time, tfp.util.DeferredTensor):
    return time
  variable = time.pretransformed_input
  source = weight_values.source(variable)
  return time if source is variable else time.transform_fn(source)


def _kinetic(at):
  axes = list(range(at.divergence.shape.rank, at.value.shape.rank))
  return tf.reduce_sum(at.value**2, axis=axes)


_PENALTIES = dict(kinetic=_kinetic, jacobian=lambda at: at.squared_norm)
