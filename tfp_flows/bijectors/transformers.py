"""Transformers: functions from a network's output to an elementwise bijector.

Each is the `transformer` of a `Coupling`, and says in `params_per_dim` how many
numbers it needs for each changed one, and in `params_first` whether all of the first
kind come first or all of the first changed one. `sensitivity` is how much more a small
change of all its parameters does than one of an affine map: builders give that many
times the `depth` to networks.
"""

import math
from typing import Any
from typing import NamedTuple
from typing import Protocol
from typing import runtime_checkable

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import flow_bijector
from tfp_flows.internal import checks
from tfp_flows.internal import configurable
from tfp_flows.internal import inspection
from tfp_flows.internal import weight_values
from tfp_flows.math import scales

__all__ = ['Additive', 'Affine', 'RationalQuadratic', 'SCALES', 'Transformer']

tfb = tfp.bijectors


class Transformer(Protocol):
  """A function from what a network returns to an elementwise bijector.

  Any callable will do. What else a transformer says of itself is taken into account:
  `params_per_dim`, see `Sized`; `params_first`, see `LaidOut`; and `of_one`, see
  `OneByOne`. Those of this library have all three. To be saved, it is a function or an
  object of a class that Keras can serialize.
  """

  def __call__(self, params: tf.Tensor, /) -> tfb.Bijector:
    """The bijector of parameters `[..., params_per_dim * C]` for `C` channels."""


@runtime_checkable
class Sized(Protocol):
  """A transformer that says how many parameters it needs.

  Attributes:
    params_per_dim: for each changed number; the network is then checked for it.
  """

  @property
  def params_per_dim(self) -> int: ...


@runtime_checkable
class LaidOut(Protocol):
  """A transformer, or a network, that says in which layout parameters are.

  Attributes:
    params_first: whether all of the first kind come first, `[P, C]` flattened, or all
      of the first changed number, `[C, P]`; None if both are the same.
  """

  @property
  def params_first(self) -> bool | None: ...


@runtime_checkable
class OneByOne(Protocol):
  """A transformer whose map of one number can be computed without the others."""

  def of_one(self, params: tf.Tensor, axis: Any) -> tfb.Bijector:
    """The bijector of the number at `axis` alone, from its `[..., params_per_dim]`."""


def params_per_dim(transformer: Transformer) -> int | None:
  """The number of parameters for each changed number, if `transformer` says it."""
  return transformer.params_per_dim if isinstance(transformer, Sized) else None


def params_first(owner: Any) -> bool | None:
  """The layout of parameters, if a transformer or a network says it."""
  return owner.params_first if isinstance(owner, LaidOut) else None


SCALES = ('sigmoid', 'tanh', 'clamp')


class _ShiftAndScale(flow_bijector.FlowBijector):
  """`y = (x + shift) * exp(log_scale)`, elementwise."""

  def __init__(self, shift, log_scale, name='shift_and_scale'):
    self._shift, self._log_scale = shift, log_scale
    super().__init__(forward_min_event_ndims=0, dtype=shift.dtype, name=name)

  def _forward_and_log_det(self, x, condition=None):
    return (x + self._shift) * tf.exp(self._log_scale), self._log_scale

  def _inverse_and_log_det(self, y, condition=None):
    return y * tf.exp(-self._log_scale) - self._shift, -self._log_scale


class _Shift(flow_bijector.FlowBijector):
  """`y = x + shift`, elementwise."""

  def __init__(self, shift, name='shift'):
    self._shift = shift
    super().__init__(forward_min_event_ndims=0, dtype=shift.dtype, name=name)

  def _forward_and_log_det(self, x, condition=None):
    return x + self._shift, tf.zeros([], x.dtype)

  def _inverse_and_log_det(self, y, condition=None):
    return y - self._shift, tf.zeros([], y.dtype)


class _Bin(NamedTuple):
  """The bin that a number is in: its lower corner, its size and the slopes there."""

  x: tf.Tensor
  y: tf.Tensor
  width: tf.Tensor
  height: tf.Tensor
  left: tf.Tensor
  right: tf.Tensor

  @property
  def slope(self) -> tf.Tensor:
    return self.height / self.width

  @property
  def bend(self) -> tf.Tensor:
    return self.right + self.left - 2 * self.slope


class _Spline(flow_bijector.FlowBijector):
  """The elementwise spline of `RationalQuadratic`, of given bins and slopes.

  The formulas are those of `tfb.RationalQuadraticSpline`, which pads its knots with a
  constant that `tf.vectorized_map`, and so joint distributions of TFP, put a zero for.
  """

  def __init__(self, widths, heights, slopes, low, name='rational_quadratic_spline'):
    self._widths, self._heights, self._slopes, self._low = widths, heights, slopes, low
    super().__init__(forward_min_event_ndims=0, dtype=widths.dtype, name=name)

  def _forward_and_log_det(self, x, condition=None):
    is_outside, at = self._locate(x, of_outputs=False)
    r = tf.where(is_outside, tf.constant(0.5, x.dtype), (x - at.x) / at.width)
    rise = at.height * (at.slope * r**2 + at.left * r * (1 - r))
    y = at.y + rise / (at.slope + at.bend * r * (1 - r))
    return tf.where(is_outside, x, y), _log_derivative(is_outside, at, r)

  def _inverse_and_log_det(self, y, condition=None):
    is_outside, at = self._locate(y, of_outputs=True)
    rise = tf.where(is_outside, tf.zeros([], y.dtype), y - at.y)
    # `r` solves `a r^2 + b r + c = 0`; this form keeps its digits where `a c` is small.
    a = at.height * (at.slope - at.left) + rise * at.bend
    b = at.height * at.left - rise * at.bend
    c = -at.slope * rise
    # Rounding may take it below 0 at a knot, where a slope is large.
    discriminant = tf.maximum(b**2 - 4 * a * c, y.dtype.as_numpy_dtype(1e-30))
    root = (2 * c) / (-b - tf.sqrt(discriminant))
    x = tf.where(tf.equal(rise, 0), tf.zeros([], y.dtype), root) * at.width + at.x
    r = tf.where(is_outside, tf.constant(0.5, y.dtype), (x - at.x) / at.width)
    return tf.where(is_outside, y, x), -_log_derivative(is_outside, at, r)

  def _locate(self, value, of_outputs):
    """Whether `value` is in the tails, and its bin, there the first."""
    knots_x, knots_y = self._knots(self._widths), self._knots(self._heights)
    ones = tf.ones_like(self._slopes[..., :1])
    slopes = tf.concat([ones, self._slopes, ones], axis=-1)
    knots = knots_y if of_outputs else knots_x
    is_outside = (value <= knots[..., 0]) | (value >= knots[..., -1])
    # One number of each row, by a mask: its gradient, too, is compiled into one loop.
    count = knots.shape[-1] - 1
    passed = (value[..., tf.newaxis] >= knots[..., 1:-1]) & ~is_outside[..., tf.newaxis]
    index = tf.reduce_sum(tf.cast(passed, tf.int32), axis=-1)
    is_here = tf.one_hot(index, count, True, False)

    def pick(values):
      return tf.reduce_sum(tf.where(is_here, values, tf.zeros_like(values)), axis=-1)

    return is_outside, _Bin(
      pick(knots_x[..., :-1]),
      pick(knots_y[..., :-1]),
      pick(knots_x[..., 1:] - knots_x[..., :-1]),
      pick(knots_y[..., 1:] - knots_y[..., :-1]),
      pick(slopes[..., :-1]),
      pick(slopes[..., 1:]),
    )

  def _knots(self, sizes):
    inner = tf.cumsum(sizes, axis=-1) + self._low
    return tf.concat([tf.fill(tf.shape(inner[..., :1]), self._low), inner], axis=-1)


def _log_derivative(is_outside, at, r):
  s = at.slope
  log_det = (
    2 * tf.math.log(s)
    + tf.math.log(at.right * r**2 + 2 * s * r * (1 - r) + at.left * (1 - r) ** 2)
    - 2 * tf.math.log(at.bend * r * (1 - r) + s)
  )
  return tf.where(is_outside, tf.zeros([], r.dtype), log_det)


class Additive(configurable.Configurable):
  """`y = x + t` [(Dinh et al., 2014)][1]: log-det 0.

  #### References

  [1]: Laurent Dinh, David Krueger and Yoshua Bengio. NICE: Non-linear
       Independent Components Estimation, section 3.2. 2014.
       https://arxiv.org/abs/1410.8516
  """

  params_per_dim = 1
  sensitivity = 1

  def __call__(self, params: tf.Tensor) -> tfb.Bijector:
    return _Shift(params)

  def of_one(self, params: tf.Tensor, axis: Any) -> tfb.Bijector:
    """The bijector of the number at `axis` alone, from its `[..., 1]`."""
    return self(params)


class Affine(tf.Module, configurable.Configurable):
  """`y = (x + t) * exp(log_scale(r))` with a bounded scale.

  `t` and `r` are the two halves of `params` along the last axis. The scale:

  * `'sigmoid'`: `sigmoid(r + 2)`, Glow's [(Kingma and Dhariwal, 2018)][2].
  * `'tanh'`: `exp(a * tanh(r))` with a trained `a` per channel, RealNVP's
    [(Dinh et al., 2017)][1].
  * `'clamp'`: `exp(2 * tanh(r / 2))`: as free as an exponential near 1, and
    never outside [0.135, 7.39].

  #### References

  [1]: Laurent Dinh, Jascha Sohl-Dickstein and Samy Bengio. Density estimation
       using Real NVP, sections 3.2 and 4.1. In _ICLR_, 2017.
       https://arxiv.org/abs/1605.08803
  [2]: Diederik P. Kingma and Prafulla Dhariwal. Glow: Generative Flow with
       Invertible 1x1 Convolutions, section 3.3. In _NeurIPS_, 2018.
       https://arxiv.org/abs/1807.03039
  """

  params_per_dim = 2
  params_first = True
  sensitivity = 1

  def __init__(
    self,
    num_channels: int,
    scale: str = 'sigmoid',
    dtype: Any = tf.float32,
    name: str = 'affine',
  ):
    """Creates the transformer.

    Args:
      num_channels: size of the last axis of what is changed.
      scale: `'sigmoid'`, `'tanh'` or `'clamp'`.
      dtype: of the variable `a`.
      name: name of the module.

    Raises:
      ValueError: for another scale.
    """
    super().__init__(name=name)
    if scale not in SCALES:
      raise ValueError(f'Expected scale to be one of {SCALES}; received {scale!r}.')
    dtype = checks.as_dtype(dtype, 'Affine')
    if scale == 'tanh':
      self.bound = tf.Variable(tf.ones([num_channels], dtype), name='bound')
    self._num_channels, self._scale, self._dtype = num_channels, scale, dtype

  def _log_scale(self, raw):
    if self._scale == 'tanh':
      return scales.tanh_log_scale(raw, weight_values.value(self.bound))
    if self._scale == 'clamp':
      return scales.clamped_log_scale(raw)
    return scales.sigmoid_log_scale(raw)

  def __call__(self, params: tf.Tensor) -> tfb.Bijector:
    shift, raw = tf.split(params, 2, axis=-1)
    log_scale = self._log_scale(raw)
    inspection.report('log_scale', log_scale)
    return _ShiftAndScale(shift, log_scale)

  def of_one(self, params: tf.Tensor, axis: Any) -> tfb.Bijector:
    """The bijector of the number at `axis` alone, from its `[..., 2]`."""
    if self._scale != 'tanh' or self.bound.shape[0] == 1:
      return self(params)
    bound = weight_values.value(self.bound)
    with weight_values.substituted(self, [bound[axis][tf.newaxis]]):
      return self(params)


class RationalQuadratic(configurable.Configurable):
  """Monotone rational-quadratic spline on [-bound, bound], identity outside.

  That of `tfb.RationalQuadraticSpline`, with `3 * num_bins - 1` parameters for each
  number; all zero gives the identity [(Durkan et al., 2019)][1].

  #### References

  [1]: Conor Durkan, Artur Bekasov, Iain Murray and George Papamakarios. Neural
       Spline Flows. In _NeurIPS_, 2019. https://arxiv.org/abs/1906.04032
  """

  params_first = False
  sensitivity = 4

  def __init__(self, num_bins: int = 8, bound: float = 5.0, min_bin_size: float = 1e-2):
    """Creates the transformer.

    Args:
      num_bins: number of bins, at least 2.
      bound: half of the width of the interval.
      min_bin_size: smallest width and height of a bin, as a fraction of the
        interval, and smallest slope.

    Raises:
      ValueError: if the bins do not fit into the interval.
    """
    num_bins = checks.as_count(num_bins, 'num_bins', 2)
    if not (0 < bound < math.inf and min_bin_size >= 0 and num_bins * min_bin_size < 1):
      raise ValueError(
        f'Expected num_bins >= 2, bound > 0 and num_bins * min_bin_size in [0, 1); '
        f'received {num_bins}, {bound} and {min_bin_size}.'
      )
    self.params_per_dim = 3 * num_bins - 1
    self._num_bins, self._bound, self._min = num_bins, bound, min_bin_size

  def _sizes(self, raw):
    free = 1.0 - self._num_bins * self._min
    return 2.0 * self._bound * (self._min + free * tf.nn.softmax(raw))

  def __call__(self, params: tf.Tensor) -> tfb.Bijector:
    k = self._num_bins
    params = tf.reshape(
      params,
      tf.concat([tf.shape(params)[:-1], [-1, self.params_per_dim]], axis=0),
    )
    widths, heights, slopes = tf.split(params, [k, k, k - 1], axis=-1)
    # softplus(0.5413...) = 1, so that zeros give the slope of the identity.
    slopes = self._min + (1.0 - self._min) * tf.nn.softplus(slopes + 0.54132485)
    low = tf.constant(-self._bound, params.dtype)
    return _Spline(self._sizes(widths), self._sizes(heights), slopes, low)

  def of_one(self, params: tf.Tensor, axis: Any) -> tfb.Bijector:
    """The bijector of the number at `axis` alone, from its `[..., P]`."""
    return self(params)
