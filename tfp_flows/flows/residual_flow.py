"""Residual flow."""

import dataclasses
import itertools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors
from tfp_flows import networks
from tfp_flows.flows import arguments
from tfp_flows.flows import building
from tfp_flows.internal import renaming
from tfp_flows.internal import shapes

__all__ = ['residual_flow']

tfb, tfd = tfp.bijectors, tfp.distributions


@renaming.renamed(evaluation='evaluation_log_det', orders='norms', training='log_det')
@arguments.checked
def residual_flow(
  event_shape: Sequence[int],
  num_levels: int = 2,
  num_blocks: int | None = None,
  width: int | None = None,
  num_hidden: int = 3,
  num_dense_blocks: int = 4,
  dense_width: int = 128,
  activation: str = 'lip_swish',
  lipschitz: float = 0.7,
  norms: float | str | Sequence[float] = 2.0,
  log_det: str | Callable[..., Any] | None = None,
  num_terms: int | None = None,
  evaluation_log_det: str | Callable[..., Any] | None = None,
  factor_out: bool = False,
  flat_latents: bool = True,
  tolerance: float | None = None,
  zero_last: bool = True,
  num_bins: int | None = None,
  alpha: float | None = 0.05,
  base: str = 'normal',
  condition_size: int | None = None,
  loop: bool = True,
  seed: int | None = None,
  dtype: Any = tf.float32,
  name: str = 'residual_flow',
) -> tfd.TransformedDistribution:
  """Residual Flow [(Chen et al., 2019)][1], for images and vectors.

  Vectors: `num_blocks` blocks `x + g(x)` with an `ActNorm` before the first and
  after each; `g` has `num_hidden` hidden layers. Images: so many blocks on each
  level, with 3x3, 1x1 and 3x3 convolutions, a squeeze between the levels, and at
  the end `num_dense_blocks` blocks on the vector of all latents. The first `g` of an
  image does not begin with an activation.

  The i-ResNet of [(Behrmann et al., 2019)][2], whose likelihood is biased, is
  `log_det='truncated'`, `activation='elu'`, `num_dense_blocks=0`.

  Args:
    event_shape: `[D]` or `[H, W, C]`.
    num_levels: for images, number of levels, 3 in the paper. Height and width
      must be multiples of `2 ** (num_levels - 1)`, or of `2 ** num_levels` with
      `factor_out`.
    num_blocks: per level, 16 in the paper; None is 16 for vectors and 4 for images.
    width: of the hidden layers of `g`, 512 in the paper for images; None is 128
      for vectors and 64 for images.
    num_hidden: hidden layers of `g` for vectors and of dense blocks.
    num_dense_blocks: for images, blocks on the vector of all latents.
    dense_width: of the hidden layers of dense blocks.
    activation: see `LipschitzMLP`.
    lipschitz: bound of the Lipschitz constant of each `g`, in (0, 1); that of its
      n linear layers is the n-th root. With the default the variance of the
      roulette is finite. The paper has 0.98^3 = 0.94 for images.
    norms: their orders, see `LipschitzMLP`: a number, `'learned'`, or a sequence
      that fits each network (for images three layers; `num_hidden + 1` in dense
      blocks).
    log_det: how log-dets are estimated in training: `'roulette'`, `'poisson'`,
      `'truncated'`, `'exact'` (see `RouletteLogDet` and the others), or such an
      estimator, or a `LogDet` for training and evaluation. None is exact for one
      dimension, which takes one product instead of several and has no noise, and else
      a roulette.
    num_terms: of `log_det` by its name: the terms that are always computed; None is 2
      for roulettes and 5 for the truncated series.
    evaluation_log_det: the same outside of training, series by their name with 20
      terms; None is exact up to 64 dimensions, and above a roulette after 20 terms.
    factor_out: whether half of the channels leave after each level but the last;
      each level, also the first, then begins with a squeeze.
    flat_latents: whether the latents are one vector, or, with `factor_out` and no dense
      blocks, a list of one tensor per level, see `Multiscale`.
    tolerance: of the inverse, see `ResidualFlow`.
    zero_last: whether each `g` starts at zero.
    num_bins: number of values of a pixel; None is 256 for `[H, W, C]` and 0,
      continuous data, for `[D]`.
    alpha: of the logit, see `Preprocess`; the paper has 0.05, and 1e-6 for MNIST.
    base: `'normal'` or `'logistic'`.
    condition_size: `K` for a distribution given `condition` of `[..., K]`.
    loop: whether graphs have equal blocks in one loop, see `Repeated`, or, compiled
      for longer, one after the other: for long training of images on a CPU, where
      steps are a fifth shorter then.
    seed: int, of all initial weights and the noise of the layers.
    dtype: `tf.float32` or `tf.float64`. Networks compute in it, whatever Keras's
      policy: norms and iterated inverses need its digits.
    name: name of the distribution.

  Returns:
    A distribution of `event_shape`. Its `log_prob` and `sample` take `condition`;
    the noise of `log_prob` is that of the `tff.estimation` block around it.

  Raises:
    ValueError: if the image does not divide, or an option is unknown.

  #### References

  [1]: Ricky T. Q. Chen, Jens Behrmann, David Duvenaud and Joern-Henrik
       Jacobsen. Residual Flows for Invertible Generative Modeling. In _NeurIPS_,
       2019. https://arxiv.org/abs/1906.02735
  [2]: Jens Behrmann, Will Grathwohl, Ricky T. Q. Chen, David Duvenaud and
       Joern-Henrik Jacobsen. Invertible Residual Networks. In _ICML_, 2019.
       https://arxiv.org/abs/1811.00995
  """
  event_shape = shapes.as_event_shape(event_shape, 'residual_flow')
  dtype = building.flow_dtype(dtype, 'residual_flow')
  is_image = len(event_shape) == 3
  if num_blocks is None:
    num_blocks = 4 if is_image else 16
  if width is None:
    width = 64 if is_image else 128
  if not 0.0 < lipschitz < 1.0:
    raise ValueError(
      f'Expected lipschitz in (0, 1), or a block would not be invertible; received '
      f'{lipschitz}.'
    )
  building.check_positive(
    num_levels=num_levels,
    num_blocks=num_blocks,
    width=width,
    num_hidden=num_hidden,
    dense_width=dense_width,
  )
  building.check_positive(0, num_dense_blocks=num_dense_blocks)
  if not flat_latents and (num_dense_blocks or not (factor_out and is_image)):
    raise ValueError(
      'Expected flat_latents=False with factor_out=True and num_dense_blocks=0, of an '
      'image: other latents are one tensor. Pass these, or flat_latents=True.'
    )
  if log_det is None:
    is_exact = np.prod(event_shape) == 1 and num_terms is None
    log_det = 'exact' if is_exact else 'roulette'
  blocks = _Blocks(
    _log_det(log_det, num_terms, evaluation_log_det),
    lipschitz,
    tolerance,
    networks.SeedStream(seed),
    dict(
      activation=activation,
      norms=norms,
      condition_size=condition_size,
      zero_last=zero_last,
      dtype=dtype.name,
    ),
    loop,
  )
  layers = building.preprocessing(event_shape, num_bins, alpha, dtype)
  if is_image:
    layers += _convolutional(
      event_shape, num_levels, num_blocks, width, factor_out, flat_latents, blocks
    )
    num_blocks, width = num_dense_blocks, dense_width
  if num_blocks:
    latent = tf.TensorShape(event_shape)
    for layer in layers:
      latent = layer.forward_event_shape(latent)
    size = [latent.num_elements()]
    if latent.rank > 1:
      layers.append(tfb.Reshape(size, latent))
    layers += blocks(size, num_blocks, networks.LipschitzMLP, [width] * num_hidden)
  return building.normalizing_flow(layers, event_shape, base, dtype, name)


def _convolutional(
  shape, num_levels, num_blocks, width, factor_out, flat_latents, blocks
):
  """The layers on images: of all levels, or a `Multiscale` of them."""
  event_shape, levels = shape, []
  for i in range(num_levels):
    layers = [bijectors.Squeeze()] if i or factor_out else []
    if layers:
      shape = tuple(layers[0].forward_event_shape(shape))
    layers += blocks(
      shape, num_blocks, networks.LipschitzConvNet, width, is_first=not i
    )
    levels.append(layers)
    if factor_out and i < num_levels - 1:
      shape = bijectors.ChannelMask(shape).kept_shape
  if factor_out:
    levels = [bijectors.Sequential(layers) for layers in levels]
    return [bijectors.Multiscale(levels, event_shape, flat_latents)]
  return list(itertools.chain(*levels))


@dataclasses.dataclass
class _Blocks:
  """Makes the residual blocks of one model, with an `ActNorm` around each."""

  log_det: bijectors.LogDet
  lipschitz: float
  tolerance: float | None
  seeds: networks.SeedStream
  network_options: dict[str, Any]
  loop: bool

  def __call__(self, shape, count, network, width, is_first=False):
    """`count` blocks; the first of an image has no leading activation."""
    dtype = self.network_options['dtype']
    steps = []
    for i in range(count):
      branch = network(
        shape,
        width,
        lipschitz=self.lipschitz,
        input_activation=i > 0 or not is_first,
        seed=self.seeds(),
        **self.network_options,
      )
      flow = bijectors.ResidualFlow(
        branch, shape, self.log_det, self.tolerance, seed=self.seeds(), dtype=dtype
      )
      steps.append([bijectors.ActNorm(shape, dtype=dtype), flow])
    layers = steps.pop(0) if is_first else []
    layers += building.repeated(steps, loop=self.loop)
    return [*layers, bijectors.ActNorm(shape, dtype=dtype)]


def _log_det(log_det, num_terms, evaluation):
  if not isinstance(log_det, bijectors.LogDet):
    return bijectors.LogDet(_estimator(log_det, num_terms), _estimator(evaluation, 20))
  if num_terms is not None or evaluation is not None:
    raise ValueError(
      'Expected a LogDet alone, which has its number of terms and the estimator of '
      'evaluation; received num_terms or evaluation_log_det beside it. Pass them to it.'
    )
  return log_det


def _estimator(name, num_terms=None):
  """The estimator of a name; estimators and None are themselves."""
  if not isinstance(name, str):
    if name is not None and not callable(name):
      raise ValueError(f'Expected an estimator or its name; received {name!r}.')
    return name
  return bijectors.log_det_estimator(name, None if name == 'exact' else num_terms)
