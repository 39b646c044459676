"""Every public bijector, once per way of using it."""

import pathlib
import runpy
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tfp_flows.networks import bottleneck

CONDITION_SIZE = 3


class Spec(NamedTuple):
  """How to build and feed one bijector.

  Attributes:
    name: of the test.
    build: dtype -> bijector, seeded; the harness perturbs its weights.
    event_shape: of the data side.
    conditional: whether it depends on a condition `[..., CONDITION_SIZE]`.
    pixels: None, or the number of values of a pixel: the support is [0, pixels).
    has_weights: whether there is anything to train.
  """

  name: str
  build: Callable[[str], tfp.bijectors.Bijector]
  event_shape: tuple[int, ...]
  conditional: bool = False
  pixels: int | None = None
  has_weights: bool = True

  def make(self, dtype: str = 'float64', scale: float = 0.1):
    bijector = self.build(dtype)
    test_util.perturb(bijector, scale)
    tff.update_norms(bijector)
    return bijector

  def shared(self, dtype: str = 'float64'):
    """That of `make`, made once for all tests that do not change it."""
    return _shared(self, dtype)

  def data(self, batch=(3,), dtype: str = 'float64', seed: int = 1):
    x = test_util.normal((*batch, *self.event_shape), dtype, seed)
    return x if self.pixels is None else self.pixels * tf.sigmoid(x)

  def condition(self, batch=(3,), dtype: str = 'float64', seed: int = 2):
    """Keyword arguments of a call."""
    if not self.conditional:
      return {}
    return {'condition': test_util.normal((*batch, CONDITION_SIZE), dtype, seed)}


_SHARED = {}


def _shared(spec, dtype):
  if (spec.name, dtype) not in _SHARED:
    bijector = spec.make(dtype)
    _SHARED[spec.name, dtype] = bijector, [v.numpy() for v in bijector.variables]
  return _SHARED[spec.name, dtype][0]


def changed() -> list[tuple[str, str]]:
  """Names and dtypes of the `shared` whose weights are not those of `make`."""
  return [
    key
    for key, (bijector, start) in _SHARED.items()
    if any((v.numpy() != w).any() for v, w in zip(bijector.variables, start))
  ]


def mlp(mask, per_dim, dtype, conditional=False):
  return tff.MLP(
    mask.kept_shape,
    per_dim * mask.changed_shape[-1],
    hidden=(8,),
    activation='tanh',
    condition_size=CONDITION_SIZE if conditional else None,
    seed=0,
    dtype=dtype,
  )


def conv(mask, per_dim, dtype, conditional=False, **options):
  return tff.ConvNet(
    mask.kept_shape,
    per_dim * mask.changed_shape[-1],
    width=6,
    activation='tanh',
    condition_size=CONDITION_SIZE if conditional else None,
    seed=0,
    dtype=dtype,
    **options,
  )


def res(mask, per_dim, dtype, conditional=False):
  return tff.ResNet(
    mask.kept_shape,
    per_dim * mask.changed_shape[-1],
    width=6,
    num_blocks=1,
    condition_size=CONDITION_SIZE if conditional else None,
    seed=0,
    dtype=dtype,
  )


def affine(mask, network, scale='sigmoid', **options):
  def build(dtype):
    return tff.AffineCoupling(
      mask, network(mask, 2, dtype, **options), scale=scale, dtype=dtype
    )

  return build


def additive(mask, network, **options):
  def build(dtype):
    return tff.AdditiveCoupling(mask, network(mask, 1, dtype, **options), dtype=dtype)

  return build


def elementwise(make, mask, network):
  def build(dtype):
    fn = make()
    return tff.Coupling(mask, network(mask, fn.params_per_dim, dtype), fn, dtype=dtype)

  return build


def spline(mask, network):
  return elementwise(
    lambda: tff.RationalQuadratic(num_bins=4, bound=3.0), mask, network
  )


def linear(outputs):
  def build(dtype):
    return tff.MLP(CONDITION_SIZE, outputs, hidden=(), seed=0, dtype=dtype)

  return build


def sequential(dtype):
  mask = tff.ChannelMask([2, 2, 4])
  return tff.Sequential(
    [
      tff.Squeeze(),
      tff.ActNorm([2, 2, 4], dtype=dtype),
      tff.AffineCoupling(mask, conv(mask, 2, dtype, conditional=True), dtype=dtype),
      tfp.bijectors.Reshape([16], [2, 2, 4]),
      tff.Invertible1x1ConvLU([16], seed=0, dtype=dtype),
    ]
  )


def standardized(dtype):
  flow = tff.Sequential(sequential(dtype).bijectors, condition_size=CONDITION_SIZE)
  scale, shift = flow.condition_variables[::-1]
  scale.assign([0.5, 2.0, 1.0])
  shift.assign([[1.0, -2.0, 0.0], [0.0, 1e-3, 0.0]])
  return flow


def repeated(event_shape, memory, conditional=False):
  def step(seed, dtype):
    mask = tff.ChannelMask(event_shape)
    network = mlp if len(event_shape) == 1 else conv
    return tff.Sequential(
      [
        tff.ActNorm(event_shape, dtype=dtype),
        tff.Invertible1x1ConvLU(event_shape, seed=seed, dtype=dtype),
        tff.AffineCoupling(
          mask, network(mask, 2, dtype, conditional=conditional), 'tanh', dtype
        ),
      ]
    )

  def build(dtype):
    return tff.Repeated([step(seed, dtype) for seed in range(3)], memory)

  return build


def autoregressive(transformer, conditional=False, **options):
  def build(dtype):
    made = tff.MADE(
      5,
      transformer(dtype).params_per_dim,
      hidden=(8,),
      activation='tanh',
      condition_size=CONDITION_SIZE if conditional else None,
      seed=0,
      dtype=dtype,
      **options,
    )
    return tff.Autoregressive(made, transformer(dtype), VECTOR, dtype)

  return build


def rev_net(event_shape, memory, conditional=False):
  def build(dtype):
    f, g = tff.ChannelMask(event_shape, invert=True), tff.ChannelMask(event_shape)
    network = mlp if len(event_shape) == 1 else conv
    pair = (network(m, 1, dtype, conditional=conditional) for m in (f, g))
    return tff.RevNetBlock(*pair, event_shape, memory, dtype)

  return build


def i_rev_net(stride, memory):
  def build(dtype):
    f = bottleneck.Bottleneck(
      [4, 4, 1], stride**2, 4, stride, norm=None, activation='tanh', seed=0, dtype=dtype
    )
    return tff.IRevNetBlock(f, IMAGE, stride, memory, dtype)

  return build


def multiscale(dtype):
  def level(shape):
    mask = tff.ChannelMask(shape)
    return tff.Sequential(
      [
        tff.Squeeze(),
        tff.ActNorm(shape, dtype=dtype),
        tff.AffineCoupling(mask, conv(mask, 2, dtype), dtype=dtype),
      ]
    )

  levels = [level([2, 4, 4]), level([1, 2, 8])]
  return tff.Multiscale(levels, [4, 8, 1])


def residual(event_shape, conditional=False, **options):
  def build(dtype):
    network = tff.LipschitzMLP
    hidden = [6, 6]
    if len(event_shape) == 3:
      network, hidden = tff.LipschitzConvNet, 6
    branch = network(
      event_shape,
      hidden,
      lipschitz=0.8**2,
      condition_size=CONDITION_SIZE if conditional else None,
      seed=0,
      dtype=dtype,
      **options,
    )
    return tff.ResidualFlow(
      branch, event_shape, tff.LogDet(tff.ExactLogDet()), dtype=dtype
    )

  return build


def moving_batch_norm(event_shape):
  def build(dtype):
    layer = tff.MovingBatchNorm(event_shape, dtype=dtype)
    layer.adapt(3.0 * test_util.normal((4, *event_shape), dtype, seed=3) + 1.0)
    return layer

  return build


def ffjord(event_shape, conditional=False, **options):
  def build(dtype):
    network = tff.FieldMLP if len(event_shape) == 1 else tff.FieldConvNet
    field = network(
      event_shape,
      [4],
      condition_size=CONDITION_SIZE if conditional else None,
      seed=0,
      dtype=dtype,
    )
    return tff.FFJORD(
      field,
      event_shape,
      tff.Trace(tff.ExactTrace(), tff.ExactTrace()),
      # Few evaluations, and over so short a time an error of 1e-12.
      tff.RungeKutta4(5),
      dtype=dtype,
      **options,
    )

  return build


def flow(builder, event_shape, **options):
  def build(dtype):
    distribution = builder(event_shape, seed=0, dtype=dtype, **options)
    return distribution.bijector.bijector

  return build


VECTOR, IMAGE = [5], [4, 4, 2]
# The layer that the guide shows.
_EXAMPLE = pathlib.Path(__file__).parents[2] / 'examples' / 'own_layer.py'
Tails = runpy.run_path(str(_EXAMPLE))['Tails']

SPECS = [
  Spec('own_layer', lambda t: Tails([2, 3], dtype=t), (2, 3)),
  Spec('act_norm_vector', lambda t: tff.ActNorm(VECTOR, dtype=t), (5,)),
  Spec('act_norm_image', lambda t: tff.ActNorm(IMAGE, dtype=t), (4, 4, 2)),
  Spec(
    'act_norm_conditional',
    lambda t: tff.ActNorm(IMAGE, linear(4)(t), dtype=t),
    (4, 4, 2),
    conditional=True,
  ),
  Spec('moving_batch_norm_vector', moving_batch_norm(VECTOR), (5,)),
  Spec('moving_batch_norm_image', moving_batch_norm(IMAGE), (4, 4, 2)),
  Spec('conv_vector', lambda t: tff.Invertible1x1ConvLU(VECTOR, seed=1, dtype=t), (5,)),
  Spec(
    'conv_image',
    lambda t: tff.Invertible1x1ConvLU([4, 2, 4], seed=1, dtype=t),
    (4, 2, 4),
  ),
  Spec(
    'conv_conditional',
    lambda t: tff.Invertible1x1ConvLU(IMAGE, linear(4)(t), seed=1, dtype=t),
    (4, 4, 2),
    conditional=True,
  ),
  Spec(
    'conv_conditional_vector',
    lambda t: tff.Invertible1x1ConvLU(VECTOR, linear(25)(t), seed=1, dtype=t),
    (5,),
    conditional=True,
  ),
  Spec('affine_sigmoid', affine(tff.ChannelMask(VECTOR), mlp), (5,)),
  Spec('affine_tanh', affine(tff.ChannelMask(VECTOR, True), mlp, 'tanh'), (5,)),
  Spec('affine_clamp', affine(tff.ChannelMask(IMAGE), conv, 'clamp'), (4, 4, 2)),
  Spec(
    'affine_act_norm_net',
    affine(tff.ChannelMask(IMAGE), conv, act_norm=True),
    (4, 4, 2),
  ),
  Spec('affine_res_net', affine(tff.ChannelMask(IMAGE), res, 'tanh'), (4, 4, 2)),
  Spec('affine_checkerboard', affine(tff.CheckerboardMask(IMAGE), conv), (4, 4, 2)),
  Spec(
    'affine_checkerboard_odd',
    affine(tff.CheckerboardMask([4, 6, 1], True), conv),
    (4, 6, 1),
  ),
  Spec(
    'affine_index',
    affine(tff.IndexMask([True, False, False, True, False]), mlp),
    (5,),
  ),
  Spec(
    'affine_conditional',
    affine(tff.ChannelMask(IMAGE), conv, conditional=True),
    (4, 4, 2),
    conditional=True,
  ),
  Spec(
    'affine_res_conditional',
    affine(tff.CheckerboardMask(IMAGE), res, conditional=True),
    (4, 4, 2),
    conditional=True,
  ),
  Spec(
    'affine_mlp_conditional',
    affine(tff.ChannelMask(VECTOR), mlp, conditional=True),
    (5,),
    conditional=True,
  ),
  Spec('additive_vector', additive(tff.ChannelMask(VECTOR), mlp), (5,)),
  Spec('additive_image', additive(tff.CheckerboardMask(IMAGE), conv), (4, 4, 2)),
  Spec(
    'additive_conditional',
    additive(tff.ChannelMask(VECTOR), mlp, conditional=True),
    (5,),
    conditional=True,
  ),
  Spec('spline_vector', spline(tff.ChannelMask(VECTOR), mlp), (5,)),
  Spec('spline_image', spline(tff.ChannelMask(IMAGE), conv), (4, 4, 2)),
  Spec(
    'autoregressive_affine',
    autoregressive(lambda t: tff.Affine(5, 'tanh', t), conditional=True),
    (5,),
    conditional=True,
  ),
  Spec(
    'autoregressive_spline',
    autoregressive(
      lambda t: tff.RationalQuadratic(num_bins=4, bound=3.0),
      order='random',
      params_first=False,
    ),
    (5,),
  ),
  Spec(
    'mixture_image',
    elementwise(lambda: tff.MixtureCDF(3), tff.ChannelMask(IMAGE), conv),
    (4, 4, 2),
  ),
  Spec(
    'autoregressive_mixture',
    autoregressive(
      lambda t: tff.MixtureCDF(4, outer_affine=False),
      conditional=True,
      params_first=False,
    ),
    (5,),
    conditional=True,
  ),
  Spec('residual_vector', residual(VECTOR), (5,)),
  Spec(
    'residual_learned_orders',
    residual(VECTOR, conditional=True, norms='learned'),
    (5,),
    conditional=True,
  ),
  Spec(
    'residual_image',
    residual(IMAGE, conditional=True, activation='clip_swish'),
    (4, 4, 2),
    conditional=True,
  ),
  Spec('ffjord_vector', ffjord([3], initial_time=0.7, final_time=0.6), (3,)),
  Spec(
    'ffjord_image',
    ffjord([2, 2, 1], conditional=True, final_time=0.1),
    (2, 2, 1),
    conditional=True,
  ),
  Spec('planar', lambda t: tff.Planar(VECTOR, seed=1, dtype=t), (5,)),
  Spec(
    'planar_leaky_conditional',
    lambda t: tff.Planar(VECTOR, 'leaky_relu', 0.3, linear(11)(t), seed=1, dtype=t),
    (5,),
    conditional=True,
  ),
  Spec(
    'radial', lambda t: tff.Radial(VECTOR, linear(7)(t), seed=1, dtype=t), (5,), True
  ),
  Spec(
    'sylvester_orthogonal',
    lambda t: tff.Sylvester(VECTOR, 3, conditioner=linear(30)(t), seed=1, dtype=t),
    (5,),
    conditional=True,
  ),
  Spec(
    'sylvester_householder',
    lambda t: tff.Sylvester(VECTOR, 2, 'householder', 3, seed=1, dtype=t),
    (5,),
  ),
  Spec(
    'sylvester_triangular',
    lambda t: tff.Sylvester(VECTOR, basis='triangular', flip=True, seed=1, dtype=t),
    (5,),
  ),
  Spec('squeeze_glow', lambda t: tff.Squeeze(), (4, 6, 3), has_weights=False),
  Spec(
    'squeeze_space_to_depth',
    lambda t: tff.Squeeze(pixel_order='space_to_depth'),
    (4, 6, 3),
    has_weights=False,
  ),
  Spec(
    'squeeze_real_nvp',
    lambda t: tff.Squeeze(pixel_order='real_nvp'),
    (4, 6, 3),
    has_weights=False,
  ),
  Spec(
    'squeeze_3',
    lambda t: tff.Squeeze(3, pixel_order='real_nvp'),
    (3, 6, 1),
    has_weights=False,
  ),
  Spec('sequential', sequential, (4, 4, 1), conditional=True),
  Spec('sequential_standardized', standardized, (4, 4, 1), conditional=True),
  Spec('repeated_vector', repeated(VECTOR, 'stored'), (5,)),
  Spec(
    'repeated_image',
    repeated(IMAGE, 'reversible', conditional=True),
    (4, 4, 2),
    conditional=True,
  ),
  Spec('additive_rev_net_vector', rev_net(VECTOR, 'stored'), (5,)),
  Spec(
    'additive_rev_net_image',
    rev_net(IMAGE, 'reversible', conditional=True),
    (4, 4, 2),
    conditional=True,
  ),
  Spec('i_rev_net', i_rev_net(1, 'stored'), (4, 4, 2)),
  Spec('i_rev_net_stride', i_rev_net(2, 'reversible'), (4, 4, 2)),
  Spec('multiscale', multiscale, (4, 8, 1)),
  Spec(
    'preprocess_logit',
    lambda t: tff.Preprocess(16, 0.05, dtype=t),
    (3,),
    pixels=16,
    has_weights=False,
  ),
  Spec(
    'preprocess_centre',
    lambda t: tff.Preprocess(16, dtype=t),
    (3,),
    pixels=16,
    has_weights=False,
  ),
  Spec('glow_vector', flow(tff.glow, [5], num_steps=2, width=6, num_levels=2), (5,)),
  Spec(
    'glow_image',
    flow(
      tff.glow,
      [4, 4, 1],
      num_steps=1,
      width=6,
      num_bins=16,
      alpha=0.05,
      condition_size=CONDITION_SIZE,
    ),
    (4, 4, 1),
    conditional=True,
    pixels=16,
  ),
  Spec('real_nvp_vector', flow(tff.real_nvp, [4], num_steps=3, width=6), (4,)),
  Spec(
    'real_nvp_image',
    flow(tff.real_nvp, [4, 4, 1], num_steps=1, width=4, num_blocks=1, num_bins=16),
    (4, 4, 1),
    pixels=16,
  ),
  Spec('maf', flow(tff.maf, [4], num_layers=2, hidden=[6], activation='tanh'), (4,)),
  Spec(
    'iaf',
    flow(
      tff.iaf,
      [3],
      num_layers=2,
      hidden=[6],
      activation='tanh',
      linear='lu',
      condition_size=CONDITION_SIZE,
    ),
    (3,),
    conditional=True,
  ),
  Spec(
    'nice',
    flow(tff.nice, [4, 4, 1], num_steps=2, width=6, num_bins=16, alpha=0.05),
    (4, 4, 1),
    pixels=16,
  ),
  Spec(
    'planar_flow',
    flow(
      tff.planar,
      [3],
      num_layers=2,
      direction='sampling',
      hidden=[],
      condition_size=CONDITION_SIZE,
    ),
    (3,),
    conditional=True,
  ),
  Spec(
    'residual_flow_image',
    flow(
      tff.residual_flow,
      [4, 4, 1],
      num_blocks=1,
      width=4,
      num_hidden=1,
      num_dense_blocks=1,
      dense_width=6,
      num_bins=16,
    ),
    (4, 4, 1),
    pixels=16,
  ),
]
