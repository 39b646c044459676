"""What the builders share."""

import dataclasses
import math
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors
from tfp_flows import networks
from tfp_flows.flows.flow import Flow
from tfp_flows.internal import checks
from tfp_flows.internal import keras_parameters
from tfp_flows.internal import shapes

__all__ = [
  'Couplings',
  'alternating_mask',
  'check_divisible',
  'check_dimensions',
  'check_positive',
  'check_transformer',
  'flow_dtype',
  'network_policy',
  'normalizing_flow',
  'preprocessing',
  'repeated',
  'repeated_pairs',
  'vector_shape',
  'transformer_of',
]

tfb = tfp.bijectors
tfd = tfp.distributions

BASES = {'normal': tfd.Normal, 'logistic': tfd.Logistic}


@dataclasses.dataclass
class Couplings:
  """Makes the coupling layers of one model.

  Attributes:
    kind: `'affine'`, `'additive'`, `'spline'` or `'mixture'`.
    scale: of affine transformers, see `Affine`.
    condition_size: size of the condition, or None.
    dropout: of the networks.
    dtype: of the flow.
    seeds: source of the seeds of all weights.
    depth: number of couplings of the flow.
    precision: of the networks, see `network_policy`.
  """

  kind: str
  scale: str
  condition_size: int | None
  dropout: float
  dtype: tf.DType
  seeds: networks.SeedStream
  depth: int
  precision: str | None = None

  def __post_init__(self):
    check_transformer(self.kind, ('affine', 'additive', 'spline', 'mixture'))

  def network_options(self, **others: Any) -> dict[str, Any]:
    """Arguments that every conditioner takes, and `others`, which may replace them."""
    options = dict(
      condition_size=self.condition_size,
      dropout=self.dropout,
      seed=self.seeds(),
      depth=self.depth,
      **network_policy(self.dtype, self.precision),
    )
    return options | others

  def transformer(self, channels: int) -> Any:
    return transformer_of(self.kind, channels, self.scale, self.dtype)

  def __call__(
    self,
    mask: bijectors.Mask,
    network: Callable[..., keras.layers.Layer],
    **options: Any,
  ) -> bijectors.Coupling:
    """A coupling whose conditioner is `network(shape, outputs, **options)`."""
    channels = mask.changed_shape[-1]
    transformer = self.transformer(channels)
    options = dict(depth=self.depth * transformer.sensitivity) | options
    net = network(
      mask.kept_shape,
      channels * transformer.params_per_dim,
      **self.network_options(**options),
    )
    return bijectors.Coupling(mask, net, transformer, self.dtype)


def check_transformer(kind: str, kinds: Sequence[str]) -> None:
  """Raises `ValueError` unless the name of a transformer is one of `kinds`."""
  if kind not in kinds:
    *first, last = map(repr, kinds)
    raise ValueError(
      f'Expected transformer to be {", ".join(first)} or {last}; received {kind!r}.'
    )


def transformer_of(
  kind: str, channels: int, scale: str, dtype: tf.DType
) -> (
  bijectors.Affine
  | bijectors.Additive
  | bijectors.RationalQuadratic
  | bijectors.MixtureCDF
):
  """The transformer of a name, for so many channels; `scale` is of affine ones."""
  if kind == 'affine':
    return bijectors.Affine(channels, scale, dtype)
  if kind == 'additive':
    return bijectors.Additive()
  if kind == 'spline':
    return bijectors.RationalQuadratic()
  return bijectors.MixtureCDF()


def network_policy(dtype: tf.DType, precision: str | None = None) -> dict[str, Any]:
  """The `dtype` of the networks of a flow of `dtype`, as their keyword argument.

  With `'mixed_bfloat16'` the networks alone compute in bfloat16: their weights, what
  they return to the flow and all of its arithmetic have `dtype`.

  Args:
    dtype: of the flow.
    precision: the name of `dtype`, `'mixed_bfloat16'`, or None for Keras's global
      policy, if its variables have `dtype`.

  Raises:
    ValueError: for another precision, or mixed precision of float64.
  """
  if precision is None:
    policy = keras.config.dtype_policy()
    return dict(dtype=policy if policy.variable_dtype == dtype.name else dtype.name)
  allowed = {'float32': ('float32', 'mixed_bfloat16'), 'float64': ('float64',)}
  if precision not in allowed[dtype.name]:
    raise ValueError(
      f'Expected precision {" or ".join(allowed[dtype.name])} for a flow of dtype '
      f'{dtype.name}; received {precision!r} with {dtype.name}.'
    )
  return dict(dtype=keras.DTypePolicy(precision))


def flow_dtype(dtype: Any, owner: str) -> tf.DType:
  """`dtype` if a whole flow can have it, else a `ValueError`."""
  return checks.as_dtype(dtype, owner, (tf.float32, tf.float64))


def vector_shape(event_shape: Sequence[int], owner: str) -> tuple[int, ...]:
  """`event_shape` as a tuple if it is `[D]`, else a `ValueError`."""
  shape = shapes.as_event_shape(event_shape, owner)
  if len(shape) != 1:
    raise ValueError(
      f'{owner} expects an event shape [D]; received {list(shape)}. Use `glow` or '
      f'`real_nvp` for images, or flatten them.'
    )
  return shape


def check_dimensions(event_shape: Sequence[int], owner: str) -> None:
  """Raises `ValueError` unless there are two dimensions, as couplings need."""
  if math.prod(event_shape) < 2:
    raise ValueError(
      f'{owner} expects at least 2 dimensions, as a coupling keeps one and changes the '
      f'other; received the event shape {list(event_shape)}. In one dimension use '
      f'`tff.maf`, `tff.residual_flow` or `tff.ffjord`, with event shape [1].'
    )


def check_positive(least: int = 1, **sizes: int) -> None:
  """Raises `ValueError` unless every size is an integer of at least `least`.

  Sizes that no computer has the memory or the time for are refused, too, so that a
  slip ends in a message and not in hours of waiting.
  """
  for name, size in sizes.items():
    checks.as_count(size, name, least, 10_000 if name.startswith('num_') else 2**20)


def check_divisible(event_shape: Sequence[int], num_levels: int, owner: str) -> None:
  """Raises `ValueError` unless an image can be squeezed on each of its levels."""
  factor = 2**num_levels
  if len(event_shape) == 3 and any(size % factor for size in event_shape[:2]):
    raise ValueError(
      f'{owner} with num_levels={num_levels} expects images whose height and width are '
      f'multiples of {factor}; received {list(event_shape)}. Pad or crop the images, '
      f'use fewer levels, or `nice`, which takes any size.'
    )


def preprocessing(
  event_shape: Sequence[int],
  num_bins: int | None,
  alpha: float | None,
  dtype: tf.DType,
) -> list[bijectors.Preprocess]:
  """The first layer for pixels; nothing for continuous data."""
  if num_bins is None:
    num_bins = 256 if len(event_shape) == 3 else 0
  if not num_bins:
    return []
  return [bijectors.Preprocess(num_bins, alpha, dtype)]


def normalizing_flow(
  layers: Sequence[tfb.Bijector],
  event_shape: Sequence[int],
  base: str,
  dtype: tf.DType,
  name: str,
  condition_size: int | None = None,
) -> Flow:
  """The distribution of `x` if `layers`, data to latent, make it `base`.

  Args:
    layers: bijectors, the first of which is applied first to the data.
    event_shape: of the data.
    base: a name of `BASES`.
    dtype: of the flow.
    name: of the distribution.
    condition_size: of the condition, where no network of `layers` says it.
  """
  if base not in BASES:
    raise ValueError(f'Expected base to be one of {list(BASES)}; received {base!r}.')
  sizes = filter(None, [condition_size, *map(keras_parameters.condition_size, layers)])
  flow = bijectors.Sequential(
    layers, name=f'{name}_flow', condition_size=max(sizes, default=None)
  )
  latent = flow.forward_event_shape(event_shape)
  zero, one = np.array([0, 1], dtype.as_numpy_dtype)
  return Flow(
    _base_of(BASES[base](zero, one), latent),
    # TFP's bijectors map the base to the data; our layers read data to latent.
    tfb.Invert(flow),
    name=name,
  )


def repeated(
  steps: Sequence[Sequence[tfb.Bijector]], memory: str = 'stored', loop: bool = True
) -> list[tfb.Bijector]:
  """The layers of equal steps, in one `Repeated` if there are several."""
  if len(steps) < 2:
    return [layer for step in steps for layer in step]
  joined = [
    step[0] if len(step) == 1 else bijectors.Sequential(step, name='step')
    for step in steps
  ]
  return [bijectors.Repeated(joined, memory, loop)]


def repeated_pairs(
  steps: Sequence[Sequence[tfb.Bijector]], memory: str = 'stored', loop: bool = True
) -> list[tfb.Bijector]:
  """`repeated` of steps of which every second one has another mask."""
  even = len(steps) // 2 * 2
  pairs = [[*steps[i], *steps[i + 1]] for i in range(0, even, 2)]
  last = [layer for step in steps[even:] for layer in step]
  return [*repeated(pairs, memory, loop), *last]


def alternating_mask(size: int, step: int) -> bijectors.IndexMask:
  """Keeps the even entries of a vector at even steps, the odd ones at odd."""
  if size < 2:
    raise ValueError(
      f'A coupling flow expects at least 2 dimensions, one to keep and one to '
      f'change; received {size}.'
    )
  return bijectors.IndexMask(np.arange(size) % 2 == step % 2)


def _base_of(scalar, shape):
  if isinstance(shape, tf.TensorShape):
    return tfd.Sample(scalar, shape)
  return tfd.JointDistributionSequential([tfd.Sample(scalar, s) for s in shape])
