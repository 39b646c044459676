"""The only use of private TensorFlow Probability names."""

import copyreg
import inspect
from typing import Any

import tensorflow_probability as tfp
from tensorflow_probability.python.bijectors import blockwise
from tensorflow_probability.python.bijectors import chain
from tensorflow_probability.python.bijectors import invert
from tensorflow_probability.python.bijectors import joint_map
from tensorflow_probability.python.distributions import joint_distribution_sequential
from tensorflow_probability.python.distributions import sample
from tensorflow_probability.python.distributions import transformed_distribution
from tensorflow_probability.python.internal import cache_util
from tensorflow_probability.python.math.ode import dormand_prince
from tensorflow_probability.python.math.ode import runge_kutta_util

from tfp_flows.internal import estimation

__all__ = [
  'Blockwise',
  'Chain',
  'DORMAND_PRINCE',
  'Invert',
  'JointMap',
  'OneCallCache',
  'TransformedDistribution',
  'COMMON_ATTRIBUTES',
  'dense_output',
  'hooks',
  'is_injective',
  'set_first_step_size',
  'solver_arguments',
]

# What `tfb.Chain(...)` and the like make of parts that are no composite tensors is
# an instance of these, and not of `tfb.Chain`.
Blockwise = blockwise._Blockwise
Chain = chain._Chain
Invert = invert._Invert
JointMap = joint_map._JointMap
TransformedDistribution = transformed_distribution._TransformedDistribution

# What all bijectors have, whatever they compute.
COMMON_ATTRIBUTES = frozenset(vars(tfp.bijectors.Identity())) | {'_parameters'}

# The coefficients of the method, and its interpolation inside of a step.
DORMAND_PRINCE = dormand_prince._TABLEAU
dense_output = runge_kutta_util.rk_fourth_order_interpolation_coefficients


def is_injective(bijector: Any) -> bool:
  """Whether its inverse is one value, and not several."""
  return bijector._is_injective


def hooks(bijector: Any) -> list[Any]:
  """The methods of a bijector that TFP calls with its keywords; None for one it lacks.

  The public ones pass on whatever they are given.
  """
  names = ('forward', 'inverse', 'forward_log_det_jacobian', 'inverse_log_det_jacobian')
  return [getattr(bijector, f'_{name}', None) for name in names]


def set_first_step_size(solver: Any, step_size: Any) -> None:
  """Gives `solver` another first step, without making it again."""
  solver._first_step_size = step_size


def solver_arguments(solver: Any, cls: Any) -> dict[str, Any]:
  """Arguments with which `cls` would make `solver`: solvers record none."""
  names = inspect.signature(cls.__init__).parameters
  found = {k: getattr(solver, f'_{k}') for k in names if hasattr(solver, f'_{k}')}
  # What a solver puts in the place of a None refers to itself.
  own = getattr(found.get('make_adjoint_solver_fn'), '__module__', None) or ''
  return {
    k: v
    for k, v in found.items()
    if k != 'make_adjoint_solver_fn' or not own.startswith('tensorflow_probability.')
  }


def _reduced(distribution: Any) -> tuple[Any, ...]:
  parameters = {k: v for k, v in distribution.parameters.items() if k != 'parameters'}
  return _made, (type(distribution), parameters)


def _made(cls, parameters):
  return cls(**parameters)


# Their constructors look at their arguments, which Python's deep copies and pickles
# leave out: these raise `TypeError`, and are made by the arguments instead.
for _module, _name in (
  (joint_distribution_sequential, 'JointDistributionSequential'),
  (sample, 'Sample'),
  (transformed_distribution, 'TransformedDistribution'),
):
  copyreg.pickle(getattr(_module, _name), _reduced)
  copyreg.pickle(getattr(_module, f'_{_name}'), _reduced)


class _ByIdentity:
  """A value that compares by identity, as tensors do not."""

  def __init__(self, value: Any):
    self.value = value

  def __eq__(self, other: object) -> bool:
    return isinstance(other, _ByIdentity) and self.value is other.value

  def __hash__(self) -> int:
    return id(self.value)


# Under this keyword the key of an entry holds the `estimation` block of the call.
_BLOCK = 'estimation'


def _wrap(kwargs: dict[str, Any]) -> dict[str, _ByIdentity]:
  kwargs = kwargs | {_BLOCK: estimation.innermost()}
  return {k: _ByIdentity(v) for k, v in kwargs.items() if v is not None}


class OneCallCache(cache_util.BijectorCacheWithGreedyAttrs):
  """Keeps value and log-det of one call, keyed by input, condition and noise.

  TFP compares the keyword arguments of cached calls with `==`, which tensors
  answer elementwise: the same `x` with two conditions would raise.
  """

  def __init__(self, **kwargs: Any):
    kwargs.setdefault('forward_name', '_augmented_forward')
    kwargs.setdefault('inverse_name', '_augmented_inverse')
    super().__init__(**kwargs)

  def forward(self, x: Any, **kwargs: Any) -> Any:
    return super().forward(x, **_wrap(kwargs))

  def inverse(self, y: Any, **kwargs: Any) -> Any:
    return super().inverse(y, **_wrap(kwargs))

  def forward_attributes(self, x: Any, **kwargs: Any) -> Any:
    return super().forward_attributes(x, **_wrap(kwargs))

  def inverse_attributes(self, y: Any, **kwargs: Any) -> Any:
    return super().inverse_attributes(y, **_wrap(kwargs))

  def _invoke(self, input, fn_name, kwargs, attributes):  # noqa: A002
    unwrapped = {k: v.value for k, v in kwargs.items() if k != _BLOCK}
    return super()._invoke(input, fn_name, unwrapped, attributes)
