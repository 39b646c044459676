"""FFJORD."""

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors
from tfp_flows import math
from tfp_flows import networks
from tfp_flows.flows import arguments
from tfp_flows.flows import building
from tfp_flows.internal import renaming
from tfp_flows.internal import shapes

__all__ = ['ffjord']

tfd = tfp.distributions


@renaming.renamed(
  evaluation='evaluation_trace', num_steps='solver_steps', training='trace'
)
@arguments.checked
def ffjord(
  event_shape: Sequence[int],
  num_levels: int = 2,
  num_blocks: int | None = None,
  hidden: Sequence[int] = (64, 64, 64),
  activation: str | None = None,
  time: str | None = None,
  final_time: float = 1.0,
  trainable_time: bool = False,
  normalization: str | None = None,
  trace: str | Any = 'hutchinson',
  evaluation_trace: str | Any = None,
  solver: str | tfp.math.ode.Solver = 'dormand_prince',
  tolerance: float = 1e-5,
  evaluation_tolerance: float | None = None,
  adjoint_tolerance: float | None = None,
  solver_steps: int = 20,
  kinetic: float = 0.0,
  jacobian: float = 0.0,
  log_det_in_error: bool = True,
  num_bins: int | None = None,
  alpha: float | None = 1e-6,
  base: str = 'normal',
  flat_latents: bool = True,
  condition_size: int | None = None,
  loop: bool = True,
  seed: int | None = None,
  dtype: Any = tf.float32,
  name: str = 'ffjord',
) -> tfd.TransformedDistribution:
  """FFJORD [(Grathwohl et al., 2019)][1], for images and vectors.

  Vectors: `num_blocks` continuous flows, with a normalization before the first and
  after each. Images: so many on each level; after each level but the last a squeeze,
  after which half of the channels leave.

  Args:
    event_shape: `[D]` or `[H, W, C]`.
    num_levels: for images, number of levels. Height and width must be multiples of
      `2 ** (num_levels - 1)`.
    num_blocks: continuous flows per level; None is 1 for vectors and 2 for images.
    hidden: widths of the hidden layers of each field.
    activation: of the fields, by its Keras name; None is `'tanh'` for vectors and
      `'softplus'` for images.
    time: how the fields see the time, `'concat'` or `'concatsquash'`; None is the
      second for vectors and the first for images.
    final_time: t1 of each flow; t0 is 0.
    trainable_time: whether t1 is trained, positive, for each flow.
    normalization: `'act_norm'`, `'moving_batch_norm'` as in the paper's code, or
      `'none'`; None is the first for images and for more than one block.
    trace: how traces are found in training: `'exact'`, `'hutchinson'`, `'normal'`
      (Hutchinson's with normal noise), or such an estimator, or a `Trace` for training
      and evaluation.
    evaluation_trace: the same outside of training; None is exact up to 64 dimensions,
      and above as in training.
    solver: `'dormand_prince'`, `'bdf'`, `'rk4'`, or any `tfp.math.ode.Solver`, which
      brings its own tolerances. BDF solves with the Jacobian of the whole batch: for
      few examples and weights.
    tolerance: relative and absolute, of adaptive solvers given by name.
    evaluation_tolerance: the same outside of training; None is `tolerance`.
    adjoint_tolerance: the same of gradients; None is `tolerance`.
    solver_steps: of `'rk4'`.
    kinetic: weight of the kinetic penalty, see `Penalties`.
    jacobian: weight of the penalty of the Jacobian.
    log_det_in_error: see `FFJORD`.
    num_bins: number of values of a pixel; None is 256 for `[H, W, C]` and 0,
      continuous data, for `[D]`.
    alpha: of the logit, see `Preprocess`.
    base: `'normal'` or `'logistic'`.
    flat_latents: for images, whether the latents are one vector, or a list of one
      tensor per level, see `Multiscale`.
    condition_size: `K` for a distribution given `condition` of `[..., K]`.
    loop: whether graphs have equal flows in one loop, see `Repeated`, or, compiled for
      longer, one after the other.
    seed: int, of all initial weights and the noise of the layers.
    dtype: `tf.float32` or `tf.float64`. Fields follow Keras's policy, but solvers of
      small tolerances follow the rounding of bfloat16, too, in many steps: there is
      no argument for it.
    name: name of the distribution.

  Returns:
    A distribution of `event_shape`. Its `log_prob` and `sample` take `condition`;
    the noise of `log_prob` is that of the `tff.estimation` block around it.

  Raises:
    ValueError: if the image does not divide, or an option is unknown.

  #### References

  [1]: Will Grathwohl, Ricky T. Q. Chen, Jesse Bettencourt, Ilya Sutskever and
       David Duvenaud. FFJORD: Free-form Continuous Dynamics for Scalable
       Reversible Generative Models. In _ICLR_, 2019.
       https://arxiv.org/abs/1810.01367
  """
  event_shape = shapes.as_event_shape(event_shape, 'ffjord')
  dtype = building.flow_dtype(dtype, 'ffjord')
  is_image = len(event_shape) == 3
  if num_blocks is None:
    num_blocks = 2 if is_image else 1
  if normalization is None:
    normalization = 'act_norm' if is_image or num_blocks > 1 else 'none'
  building.check_positive(
    num_levels=num_levels, num_blocks=num_blocks, solver_steps=solver_steps
  )
  if evaluation_tolerance is None:
    evaluation_tolerance = tolerance
  if adjoint_tolerance is None:
    adjoint_tolerance = tolerance
  blocks = _Blocks(
    normalization=normalization,
    network_options=dict(
      activation=activation or ('softplus' if is_image else 'tanh'),
      time=time or ('concat' if is_image else 'concatsquash'),
      condition_size=condition_size,
    ),
    flow_options=dict(
      trace=_trace(trace, evaluation_trace),
      solver=_solver(solver, tolerance, solver_steps),
      evaluation_solver=_solver(solver, evaluation_tolerance, solver_steps),
      adjoint_solver=_solver(solver, adjoint_tolerance, solver_steps),
      penalties=bijectors.Penalties(kinetic, jacobian),
      log_det_in_error=log_det_in_error,
    ),
    hidden=tuple(hidden),
    final_time=final_time,
    trainable_time=trainable_time,
    seeds=networks.SeedStream(seed),
    dtype=dtype,
    loop=loop,
    depth=num_blocks * (num_levels if is_image else 1),
  )
  layers = building.preprocessing(event_shape, num_bins, alpha, dtype)
  if is_image:
    layers.append(
      _multiscale(event_shape, num_levels, num_blocks, flat_latents, blocks)
    )
  else:
    layers += blocks(event_shape, num_blocks)
  return building.normalizing_flow(layers, event_shape, base, dtype, name)


def _multiscale(event_shape, num_levels, num_blocks, flat_latents, blocks):
  shape, levels = event_shape, []
  for i in range(num_levels):
    layers = list(blocks(shape, num_blocks))
    if i < num_levels - 1:
      layers.append(bijectors.Squeeze())
      shape = tuple(layers[-1].forward_event_shape(shape))
      shape = bijectors.ChannelMask(shape).kept_shape
    levels.append(bijectors.Sequential(layers))
  return bijectors.Multiscale(levels, event_shape, flat_latents)


@dataclasses.dataclass
class _Blocks:
  """Makes the continuous flows of one model, with normalizations around them."""

  normalization: str
  network_options: dict[str, Any]
  flow_options: dict[str, Any]
  hidden: Sequence[int]
  final_time: float
  trainable_time: bool
  seeds: networks.SeedStream
  dtype: tf.DType
  loop: bool
  depth: int

  def __post_init__(self):
    if not self.final_time > 0.0:
      raise ValueError(f'Expected final_time > 0; received {self.final_time}.')
    if self.normalization not in ('act_norm', 'moving_batch_norm', 'none'):
      raise ValueError(
        f"Expected normalization 'act_norm', 'moving_batch_norm' or 'none'; received "
        f'{self.normalization!r}.'
      )

  def __call__(self, shape, count):
    steps = []
    for _ in range(count):
      flow = bijectors.FFJORD(
        self._field(shape),
        shape,
        final_time=self._time(),
        seed=self.seeds(),
        dtype=self.dtype,
        **self.flow_options,
      )
      steps.append([*self._normalization(shape), flow])
    layers = building.repeated(steps, loop=self.loop)
    return [*layers, *self._normalization(shape)]

  def _normalization(self, shape):
    if self.normalization == 'act_norm':
      yield bijectors.ActNorm(shape, dtype=self.dtype)
    elif self.normalization == 'moving_batch_norm':
      yield bijectors.MovingBatchNorm(shape, dtype=self.dtype)

  def _field(self, shape):
    network: Callable[..., Any] = networks.FieldMLP
    if len(shape) == 3:
      network = networks.FieldConvNet
    options = building.network_policy(self.dtype) | self.network_options
    return network(shape, self.hidden, seed=self.seeds(), depth=self.depth, **options)

  def _time(self):
    if not self.trainable_time:
      return self.final_time
    return tfp.util.TransformedVariable(
      self.final_time, tfp.bijectors.Softplus(), dtype=self.dtype, name='final_time'
    )


def _trace(trace, evaluation):
  if not isinstance(trace, bijectors.Trace):
    return bijectors.Trace(_estimator(trace), _estimator(evaluation))
  if evaluation is not None:
    raise ValueError(
      'Expected a Trace alone, which has the estimator of evaluation; received '
      'evaluation_trace beside it. Pass `Trace(...)` with both.'
    )
  return trace


def _estimator(name):
  """The estimator of a name; estimators and None are themselves."""
  if isinstance(name, str):
    return bijectors.trace_estimator(name)
  if name is not None and not isinstance(name, bijectors.TraceEstimator):
    raise ValueError(f'Expected an estimator of traces or its name; received {name!r}.')
  return name


def _solver(name, tolerance, solver_steps):
  if not isinstance(name, str):
    return name
  makers = dict(
    dormand_prince=lambda: math.DormandPrince(tolerance, tolerance),
    bdf=lambda: tfp.math.ode.BDF(tolerance, tolerance, max_num_steps=1000),
    rk4=lambda: math.RungeKutta4(solver_steps),
  )
  if name not in makers:
    raise ValueError(f'Expected solver to be one of {list(makers)}; received {name!r}.')
  return makers[name]()
