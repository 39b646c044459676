"""Networks with a Lipschitz constant below 1, for residual flows."""

import functools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.internal import shapes
from tfp_flows.networks import condition as condition_lib
from tfp_flows.networks import initializers
from tfp_flows.networks import lipschitz_activations
from tfp_flows.networks import lipschitz_layers
from tfp_flows.networks import network

__all__ = ['LipschitzConvNet', 'LipschitzMLP']

_OF_LAYER = 0.97
_HIDDEN, _KERNEL_SIZES = (128, 128, 128), (3, 1, 3)


class _LipschitzNetwork(network.Network):
  """Activations and linear layers of bounded norm in turn."""

  _renamed = dict(coeff='lipschitz', input_size='input_shape', orders='norms')

  def __init__(
    self,
    sizes,
    event_ndims,
    make_layer,
    activation,
    lipschitz,
    norms,
    input_activation,
    condition_size,
    zero_last,
    seed,
    dtype,
    name,
  ):
    """Creates and builds the network.

    Args:
      sizes: channels of the input, of the hidden layers and of the output.
      event_ndims: 1 for vectors, 3 for images.
      make_layer: callable `(index, inputs, outputs, **options) -> layer`.
      activation: as documented in the public classes, like all that follow.
      lipschitz: number or None.
      norms: number, sequence or 'learned'.
      input_activation: bool.
      condition_size: int or None.
      zero_last: bool.
      seed: int or None.
      dtype: Keras dtype.
      name: str or None.
    """
    super().__init__(name=name, dtype=dtype)
    depth = len(sizes) - 1
    of_layer = _of_layer(lipschitz, depth)
    seeds = initializers.SeedStream(seed)
    policy = self.dtype_policy
    chain = _chain(norms, depth, policy)
    self._activations, self._linears = [], []
    for i in range(depth):
      size = sizes[i]
      if i > 0 or input_activation:
        phi = lipschitz_activations.lipschitz_activation(activation, chain[i], policy)
        self._activations.append(phi)
        size *= phi.width_factor
      layer = make_layer(
        i,
        size,
        sizes[i + 1],
        lipschitz=of_layer,
        domain=chain[i],
        codomain=chain[i + 1],
        kernel_initializer='zeros' if zero_last and i == depth - 1 else None,
        seed=seeds(),
        dtype=policy,
      )
      self._linears.append(layer)
    self._input_activation, self._event_ndims = input_activation, event_ndims
    self.lipschitz = of_layer**depth if lipschitz is None else lipschitz
    self.condition_size = condition_size
    if condition_size is not None:
      self._add_condition = condition_lib.AddCondition(
        condition_size,
        sizes[1],
        event_ndims,
        initializer=seeds.he_normal() if depth > 1 or not zero_last else 'zeros',
        dtype=policy,
      )
    self.built = True

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> '_LipschitzNetwork':
    """Also of versions that had the bound of each layer, `coeff`."""
    if 'coeff' in config:
      bound = _of_network(config['coeff'], cls._depth_of(config))
      config = dict(config, coeff=bound)
    return super().from_config(config)

  @classmethod
  def _depth_of(cls, config):
    """The number of linear layers of the network of a configuration."""
    raise NotImplementedError

  def update_norms(self, tolerance: float = 1e-3, max_iterations: int = 50) -> None:
    """Brings the measured norms up to date with the weights.

    To be called after every training step and after weights were replaced, as by
    a moving average; runs in eager mode, in graphs and under XLA. Each layer's
    power iteration goes on from where it was and stops when its unit vector moves
    by less than `tolerance`. At these defaults the norms of a small MLP in training
    were too small by 1e-4 mostly and by 3e-2 at worst, when one singular value
    overtakes another.
    """
    for layer in self._linears:
      layer.update_norm(tolerance, max_iterations)

  def norm_bounds(self) -> list[tf.Tensor]:
    """The norm of each effective linear map, scalars."""
    return [layer.lipschitz_bound() for layer in self._linears]

  def lipschitz_bound(self) -> tf.Tensor:
    """Their product: the bound on the network's Lipschitz constant; scalar."""
    return functools.reduce(tf.multiply, self.norm_bounds())

  def normalized(self) -> Callable[..., tf.Tensor]:
    """Returns `g(x, condition=None)` with all kernels normalised once.

    What `call` does at each call. `g` is for many evaluations at the same weights,
    and inside the same `tf.function`.
    """
    kernels = [layer.effective_kernel() for layer in self._linears]

    def g(x, condition=None):
      activations = list(self._activations)
      if not self._input_activation:
        activations.insert(0, tf.identity)
      for i, (phi, layer) in enumerate(zip(activations, self._linears)):
        linear = functools.partial(layer, kernel=kernels[i])
        x = shapes.with_flat_batch(linear, phi(x), self._event_ndims)
        if i == 0 and self.condition_size is not None:
          x = self._add_condition(x, condition)
      return x

    return g

  def call(self, x, condition=None):
    return self.normalized()(x, condition)


class LipschitzMLP(_LipschitzNetwork):
  """Dense layers whose composition has a Lipschitz constant below 1.

  The `g` of a residual flow `y = x + g(x)` [(Chen et al., 2019)][1]. Maps `[..., D]`,
  with `condition` of `[..., K]` if `condition_size=K`, to `[..., D]`:

    g(x) = W_n f(... W_2 f(W_1 f(x) + b_1 [+ V condition]) ...) + b_n

  with activations `f` of slopes up to 1 *before* each linear layer (the first one
  only if `input_activation`) and matrices of norm `<= lipschitz^(1/n)`, see
  `LipschitzDense`: so `|g(x) - g(x')| <= lipschitz |x - x'|`. `V` is free, since
  only the dependence on `x` matters. Batch shapes of `x` and `condition` broadcast.

  The norms are 2-norms, or for given `norms` `p_0, ..., p_n` those of `W_i` from
  the `p_{i-1}`-norm to the `p_i`-norm. The chain must close, `p_n = p_0`: the
  product of norms then bounds the Lipschitz constant in the `p_0`-norm. With
  `norms='learned'`, `p_0` to `p_{n-1}` are trained, see `LearnedOrder`.

  How far this is a guarantee: the norms are those at the last `update_norms()`,
  which must follow each change of the weights. For the order 2, it converges to the
  norm from below, and what is missing must be less than `lipschitz` leaves to 1. Orders
  all 1 or all infinity are exact. For all others the norm itself is unknown: what
  is found is a local maximum, a lower bound, and a Lipschitz constant below 1 is
  likely and not certain.

  #### References

  [1]: Ricky T. Q. Chen, Jens Behrmann, David Duvenaud and Joern-Henrik
       Jacobsen. Residual Flows for Invertible Generative Modeling, sections
       3.3 and 4 and appendix D. In _NeurIPS_, 2019.
       https://arxiv.org/abs/1906.02735
  """

  def __init__(
    self,
    input_shape: int | Sequence[int],
    hidden: Sequence[int] = _HIDDEN,
    activation: str = 'lip_swish',
    lipschitz: float | None = None,
    norms: float | str | Sequence[float] = 2.0,
    input_activation: bool = True,
    condition_size: int | None = None,
    zero_last: bool = True,
    seed: int | None = None,
    dtype: Any = None,
    name: str | None = None,
  ):
    """Creates and builds the network.

    Args:
      input_shape: `D` or `[D]`.
      hidden: widths of the hidden layers; empty for one linear layer.
      activation: a name of `lipschitz_activation`.
      lipschitz: bound of the Lipschitz constant of `g`, in (0, 1), of which each of
        the n linear layers has the n-th root; None is `0.97^n`.
      norms: their orders: a number in [1, inf], `len(hidden) + 2` numbers of which the
        last is the first, or 'learned'.
      input_activation: whether `x` goes through an activation first.
      condition_size: `K`, or None for a network without condition.
      zero_last: whether the last layer starts at zero, and `g` with it.
      seed: int, of the initial weights.
      dtype: 'float32' or 'float64'.
      name: name of the layer.

    Raises:
      ValueError: for an unknown activation, another dtype, `lipschitz` outside
        (0, 1), or `norms` that do not close or cannot be computed.
    """
    size = shapes.last_size(input_shape)

    def make_layer(index, inputs, outputs, **options):
      del index
      return lipschitz_layers.LipschitzDense(outputs, inputs, **options)

    super().__init__(
      sizes=[size, *hidden, size],
      event_ndims=1,
      make_layer=make_layer,
      activation=activation,
      lipschitz=lipschitz,
      norms=norms,
      input_activation=input_activation,
      condition_size=condition_size,
      zero_last=zero_last,
      seed=seed,
      dtype=dtype,
      name=name,
    )

  @classmethod
  def _depth_of(cls, config):
    return len(config.get('hidden', _HIDDEN)) + 1


class LipschitzConvNet(_LipschitzNetwork):
  """Convolutions whose composition has a Lipschitz constant below 1.

  As `LipschitzMLP`, of `[..., H, W, C]` to `[..., H, W, C]`, with the convolutions of
  `LipschitzConv2D`, whose norms are those of the operators at the size `[H, W]`.
  `condition` adds the same to all pixels.
  """

  def __init__(
    self,
    input_shape: Sequence[int],
    width: int = 512,
    kernel_sizes: Sequence[int] = _KERNEL_SIZES,
    activation: str = 'lip_swish',
    lipschitz: float | None = None,
    norms: float | str | Sequence[float] = 2.0,
    input_activation: bool = True,
    condition_size: int | None = None,
    zero_last: bool = True,
    seed: int | None = None,
    dtype: Any = None,
    name: str | None = None,
  ):
    """Creates and builds the network.

    Args:
      input_shape: `[H, W, C]`.
      width: channels of the hidden layers.
      kernel_sizes: one per convolution.
      activation: as for `LipschitzMLP`, like all that follow.
      lipschitz: in (0, 1), or None.
      norms: a number, `len(kernel_sizes) + 1` numbers, or 'learned'.
      input_activation: whether `x` goes through an activation first.
      condition_size: `K`, or None for a network without condition.
      zero_last: whether the last convolution starts at zero.
      seed: int, of the initial weights.
      dtype: 'float32' or 'float64'.
      name: name of the layer.

    Raises:
      ValueError: as `LipschitzMLP`.
    """
    *space, channels = input_shape

    def make_layer(index, inputs, outputs, **options):
      return lipschitz_layers.LipschitzConv2D(
        outputs, kernel_sizes[index], (*space, inputs), **options
      )

    super().__init__(
      sizes=[channels, *[width] * (len(kernel_sizes) - 1), channels],
      event_ndims=3,
      make_layer=make_layer,
      activation=activation,
      lipschitz=lipschitz,
      norms=norms,
      input_activation=input_activation,
      condition_size=condition_size,
      zero_last=zero_last,
      seed=seed,
      dtype=dtype,
      name=name,
    )

  @classmethod
  def _depth_of(cls, config):
    return len(config.get('kernel_sizes', _KERNEL_SIZES))


def _chain(norms, depth, dtype):
  """The orders at the ends and joints of `depth` layers; the last is the first."""
  if norms == 'learned':
    learned = [lipschitz_layers.LearnedOrder(dtype=dtype) for _ in range(depth)]
    return [*learned, learned[0]]
  if isinstance(norms, int | float):
    return [float(norms)] * (depth + 1)
  if isinstance(norms, str):
    raise ValueError(
      f"Expected norms to be a number, a sequence or 'learned'; received {norms!r}."
    )
  chain = [float(order) for order in norms]
  if len(chain) != depth + 1 or chain[0] != chain[-1]:
    raise ValueError(
      f'Expected {depth + 1} norms for {depth} linear layers, of which the last is '
      f'the first: the product of norms bounds a Lipschitz constant only if input '
      f'and output are measured alike. Received {chain}. Close the chain, or give '
      f'one number for all.'
    )
  return chain


def _of_layer(lipschitz, depth):
  """The bound of each of `depth` linear layers."""
  if lipschitz is None:
    return _OF_LAYER
  if not 0 < lipschitz < 1:
    raise ValueError(
      f'Expected lipschitz in (0, 1), so that x + g(x) is invertible; received '
      f'{lipschitz}. The usual is 0.9, and less with few iterations per update.'
    )
  return lipschitz ** (1 / depth)


def _of_network(norm, depth):
  """The bound whose `depth`-th root is `norm`, to the last bit."""
  bound = norm**depth
  candidates = [bound]
  for direction in (0.0, 1.0):
    other = bound
    for _ in range(2 * depth):
      other = float(np.nextafter(other, direction))
      candidates.append(other)
  return next((c for c in candidates if _of_layer(c, depth) == norm), bound)
