"""The fully invertible classifier."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors import i_rev_net_block
from tfp_flows.bijectors import reversible
from tfp_flows.bijectors import sequential
from tfp_flows.bijectors import squeeze
from tfp_flows.internal import checks
from tfp_flows.internal import configurable
from tfp_flows.internal import seeds as seeds_lib
from tfp_flows.networks import activations
from tfp_flows.networks import bottleneck
from tfp_flows.networks import i_rev_net_shapes
from tfp_flows.networks import initializers
from tfp_flows.networks import replayed

__all__ = ['IRevNet']


class IRevNet(configurable.ConfigurableLayer, keras.Model):
  """A classifier that loses nothing before its logits [(Jacobsen et al., 2018)][1].

  Maps images `[N, H, W, C]` to logits `[N, num_classes]`. Between a first `S` of
  `initial_squeeze` and the head, each block cuts the channels in halves `x1, x2`:

    y1 = S(x2)
    y2 = S(x1) + f(x2)

  `S` is space to depth, in the order of `tf.nn.space_to_depth`, for the first block of
  a stage with a stride, else nothing. `f` has three 3x3 convolutions, each after norm
  and activation but the very first; the first has the stride, and dropout comes after
  the second. The last activations are the code `z`. The head is

    logits = dense(mean over pixels of act(norm(z)))

  A `keras.Model` with `compile`, `fit` and `.keras` files, and a Keras layer of other
  models.

  #### Two variants

  * `channels=None`, the bijective one: channels grow by `S` alone, and `z` has as many
    numbers as the image. Any `z` has an image. `bijector` is the part before the head
    as a `tfb.Bijector`, whose log-det is 0.
  * With `channels`, the injective one: zeros are appended to the channels before they
    are cut in halves, where a stage needs more. `z` has more numbers than the image,
    and `invert` takes only what has zeros in these places. There is no density:
    `bijector` raises.

  #### Inverse

  `invert(features(x)[k], stage=k)` is `x` up to rounding, as both have
  `training=False`: batch normalization then has its moving statistics, and there is no
  dropout. The error grows with depth and with the size of the activations: for models
  trained like that of `examples/irevnet_digits.py`, with pixels of -1 to 1, it is at
  most 2e-5 in float32 and 4e-14 in float64 after 18 blocks, half of that after 9.

  #### Memory

  With `memory='reversible'` training keeps the code and no activations: the input of
  each block is recovered from its output, by one more evaluation of `f`. That goes with
  batch normalization and dropout, too: `f` sees `x2`, a permutation of what is kept,
  with the same statistics of the batch and, by the same seeds, the same dropout;
  moving statistics move once. Gradients equal those of backpropagation up to the
  rounding of the inverse; second derivatives raise `LookupError`. Where zeros are
  appended the activations before them are kept, too.

  The state between the blocks has at least the precision of float32, whatever the
  policy, and so has `z`.

  #### Differences from the code of the paper

  Convolutions with a stride are padded as TensorFlow's `'same'`, at the lower right
  alone for images of even size, and moving variances are those of the batch, not
  multiplied by `n / (n - 1)`.

  #### Examples

  ```python
  model = tff.IRevNet(
    [8, 8, 1], 10, num_blocks=[4, 4], strides=[1, 2], hidden=[32, 64],
    initial_squeeze=2, seed=0)
  x = tf.random.normal([16, 8, 8, 1])
  z = model.features(x)[-1]                                 # [16, 2, 2, 16]
  error = tf.reduce_max(tf.abs(model.invert(z) - x))
  ```

  #### References

  [1]: Jorn-Henrik Jacobsen, Arnold Smeulders and Edouard Oyallon. i-RevNet: Deep
       Invertible Networks, section 3. In _ICLR_, 2018.
       https://arxiv.org/abs/1802.07088
  """

  def __init__(
    self,
    input_shape: Sequence[int],
    num_classes: int,
    num_blocks: Sequence[int],
    strides: Sequence[int],
    channels: Sequence[int] | None = None,
    hidden: Sequence[int] | None = None,
    initial_squeeze: int = 1,
    norm: str | None = 'batch',
    momentum: float = 0.9,
    activation: str = 'relu',
    dropout: float = 0.0,
    memory: str = 'reversible',
    seed: int | None = None,
    name: str | None = None,
    dtype: Any = None,
  ):
    """Creates and builds the model.

    Args:
      input_shape: `[H, W, C]`; all strides together divide `H` and `W`.
      num_classes: number of logits.
      num_blocks: number of blocks of each stage.
      strides: stride of the first block of each stage.
      channels: channels of each half after each stage, or None, see above. After a
        stride they are what `S` makes of those before, and so cannot be chosen.
      hidden: channels inside of `f` for each stage; None is a quarter of a half after
        the stage, as in the paper, which is little for small images.
      initial_squeeze: side of the blocks of the first `S`; 1 for none.
      norm: `'batch'`, `'layer'` (over height, width and channels of an example), or
        None, where each `f` starts at zero.
      momentum: share of the old moving statistics in the new. The paper's 0.9 of
        PyTorch is 0.1 here: nearly those of the last batch, which should be large then.
      activation: by its Keras name.
      dropout: fraction of hidden numbers dropped in training.
      memory: `'reversible'`, or `'stored'` for ordinary backpropagation.
      seed: int, of the initial weights and of dropout.
      name: name of the model.
      dtype: Keras dtype or policy.

    Raises:
      ValueError: if lists have different lengths, a stride does not divide the images,
        channels cannot be cut in halves or are fewer than what comes in, or an option
        is not known.
    """
    super().__init__(name=name, dtype=dtype)
    seed = seeds_lib.default_seed(seed)
    self._record(IRevNet, seed=seed)
    self._plan = i_rev_net_shapes.block_shapes(
      input_shape, num_blocks, strides, channels, hidden, initial_squeeze
    )
    _check_options(norm, momentum, dropout)
    reversible.check_memory(memory, [])
    checks.as_count(num_classes, 'num_classes', owner='IRevNet')
    self.memory = memory
    self._image_shape, self._initial = tuple(input_shape), initial_squeeze
    stream, policy = initializers.SeedStream(seed), self.dtype_policy
    self._branches = [
      bottleneck.Bottleneck(
        (*block.event_shape[:-1], block.event_shape[-1] // 2),
        block.output_shape[-1] // 2,
        block.hidden,
        block.stride,
        i == 0,
        norm,
        momentum,
        activation,
        dropout,
        stream(),
        policy,
      )
      for i, block in enumerate(self._plan)
    ]
    self._head = [
      *bottleneck.normalization(norm, momentum, policy),
      keras.layers.Activation(activations.activation(activation), dtype=policy),
      keras.layers.GlobalAveragePooling2D(dtype=policy),
      keras.layers.Dense(
        num_classes, kernel_initializer=stream.glorot_uniform(), dtype=policy
      ),
    ]
    shape = (None, *self._plan[-1].output_shape)
    for layer in self._head:
      layer.build(shape)
      shape = layer.compute_output_shape(shape)
    self.built = True

  @property
  def is_bijective(self) -> bool:
    """Whether no zeros are appended."""
    return not any(block.padding for block in self._plan)

  @property
  def feature_shapes(self) -> list[tuple[int, int, int]]:
    """`(H, W, C)` of the activations after each stage."""
    return [self._plan[i].output_shape for i in self._last_blocks]

  def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    return self.logits(self._code(self._squeezed(x), bool(training)), training)

  def compute_output_shape(
    self, input_shape: Sequence[int | None]
  ) -> tuple[int | None, ...]:
    return input_shape[0], self._head[-1].units

  def logits(self, z: Any, training: bool | None = False) -> tf.Tensor:
    """The logits of a code, `[N, *feature_shapes[-1]]`."""
    y = tf.cast(z, self.compute_dtype)
    for layer in self._head:
      takes_mode = isinstance(layer, keras.layers.BatchNormalization)
      y = layer(y, training=training) if takes_mode else layer(y)
    return y

  def features(self, x: Any, each: str = 'stage') -> list[tf.Tensor]:
    """The activations in inference.

    Args:
      x: images `[N, H, W, C]`.
      each: `'stage'`, or `'block'` for those after every block.
    """
    ends = self._ends(each)
    x, found = self._squeezed(x), []
    for start, end in zip([0, *(e + 1 for e in ends)], ends):
      x = self._code(x, False, start, end + 1)
      found.append(x)
    return found

  def invert(
    self,
    z: Any,
    stage: int | None = None,
    block: int | None = None,
    tolerance: float | None = 1e-3,
  ) -> tf.Tensor:
    """The images of activations, in inference.

    Args:
      z: `[N, H, W, C]` of the shape of those of `features`.
      stage: index of the stage after which `z` is; None is the last. As in lists, -1
        is the last, too.
      block: instead, index of the block after which it is, of all blocks.
      tolerance: the injective variant takes channels away that are zero for the code of
        an image. It takes them for zero if they are at most that times the largest
        activation beside them, or 1. None takes away whatever is there: the
        code of what is returned is then another one.

    Returns:
      images `[N, H, W, C]` with at least the precision of float32.

    Raises:
      ValueError: if there is no such stage or block, or `z` has another shape; in eager
        mode, if channels that are to be taken away are not zero. In graphs, where
        nothing can be raised, the images are then NaN.
    """
    count = self._index(stage, block) + 1
    x = tf.cast(z, self._state_dtype)
    expected = self._plan[count - 1].output_shape
    if not x.shape[1:].is_compatible_with(expected) or x.shape.rank != 4:
      raise ValueError(
        f'{self.name}.invert expects activations of shape {(None, *expected)} here; '
        f'received {tuple(x.shape)}. Pass `features(x)[stage]`, and the same stage.'
      )
    for padding, branches, blocks in reversed(self._segments(0, count)):
      networks = [functools.partial(b, training=False) for b in branches]
      x, _ = self._flow(networks, blocks).inverse_and_log_det(x)
      if padding:
        x = self._without_padding(x, padding, tolerance)
    if self._initial > 1:
      x = tf.nn.depth_to_space(x, self._initial)
    return x

  @property
  def bijector(self) -> sequential.Sequential:
    """What comes before the head, from images to codes, with log-det 0.

    In inference; it shares the weights of the model. As it keeps volumes, the density
    of images is that of their codes: `tff.Flow(base, tfb.Invert(model.bijector))`.

    Raises:
      ValueError: for the injective variant.
    """
    if not self.is_bijective:
      padded = sum(block.padding for block in self._plan)
      raise ValueError(
        f'{self.name}.bijector expects as many numbers in the code as in the image; '
        f'received channels that append {padded} channels of zeros, and the log-det of '
        f'an injective map is not defined. Use channels=None and an initial_squeeze.'
      )
    first = []
    if self._initial > 1:
      first = [squeeze.Squeeze(self._initial, 'space_to_depth')]
    blocks = self._blocks(self._branches, self._plan)
    return sequential.Sequential([*first, *blocks], name=f'{self.name}_bijector')

  @property
  def _state_dtype(self):
    return keras.backend.result_type(self.variable_dtype, 'float32')

  @property
  def _last_blocks(self):
    stages = itertools.groupby(range(len(self._plan)), lambda i: self._plan[i].stage)
    return [max(blocks) for _, blocks in stages]

  def _squeezed(self, x):
    x = tf.cast(x, self._state_dtype)
    if x.shape.rank != 4 or not x.shape[1:].is_compatible_with(self._image_shape):
      raise ValueError(
        f'{self.name} expects images of shape {(None, *self._image_shape)}; received '
        f'{tuple(x.shape)}. Build the model for the shape of your images.'
      )
    return tf.nn.space_to_depth(x, self._initial) if self._initial > 1 else x

  def _code(self, x, training, start=0, end=None):
    """The activations after block `end - 1`, of those before block `start`."""
    for padding, branches, blocks in self._segments(start, end):
      if padding:
        x = tf.pad(x, [[0, 0], [0, 0], [0, 0], [0, padding]])
      networks = [replayed.Replayed(branch, training) for branch in branches]
      x, _ = self._flow(networks, blocks).forward_and_log_det(x)
      for network in networks:
        network.commit()
    return x

  def _segments(self, start, end):
    """Blocks between which no zeros are appended: padding, branches, shapes."""
    plan = self._plan[:end]
    cuts = [i for i in range(start, len(plan)) if i == start or plan[i].padding]
    return [
      (plan[i].padding, self._branches[i:j], plan[i:j])
      for i, j in zip(cuts, [*cuts[1:], len(plan)])
    ]

  def _flow(self, networks, blocks):
    return sequential.Sequential(self._blocks(networks, blocks), self.memory)

  def _blocks(self, networks, blocks):
    return [
      i_rev_net_block.IRevNetBlock(
        network, block.event_shape, block.stride, 'stored', self._state_dtype
      )
      for network, block in zip(networks, blocks)
    ]

  def _ends(self, each):
    if each not in ('stage', 'block'):
      raise ValueError(
        f"{self.name}.features expects each='stage' or 'block'; received {each!r}."
      )
    return self._last_blocks if each == 'stage' else list(range(len(self._plan)))

  def _index(self, stage, block):
    if stage is not None and block is not None:
      raise ValueError(
        f'{self.name}.invert expects a stage or a block; received stage={stage} and '
        f'block={block}. Leave one out.'
      )
    name, value = ('stage', stage) if block is None else ('block', block)
    ends = self._ends(name)
    value = -1 if value is None else value
    if not -len(ends) <= value < len(ends):
      raise ValueError(
        f'{self.name}.invert expects {name} from 0 to {len(ends) - 1}; received '
        f'{value}.'
      )
    return ends[value]

  def _without_padding(self, x, padding, tolerance):
    kept, zeros = tf.split(x, [x.shape[-1] - padding, padding], axis=-1)
    if tolerance is None:
      return kept
    largest = tf.reduce_max(tf.abs(zeros))
    limit = tolerance * tf.maximum(tf.reduce_max(tf.abs(kept)), 1.0)
    if not tf.executing_eagerly():
      return tf.where(largest <= limit, kept, float('nan'))
    if not largest <= limit:
      raise ValueError(
        f'{self.name}.invert expects activations of an image, where the {padding} '
        f'channels that were appended are 0 up to {limit:.1e}; received some with '
        f'{largest:.1e} there. Pass what `features` returns; or take away what is '
        f'there, by tolerance=None; or use the bijective variant, where all '
        f'activations have an image.'
      )
    return kept


def _check_options(norm, momentum, dropout):
  if norm not in bottleneck.NORMS:
    raise ValueError(
      f'IRevNet expects norm to be one of {bottleneck.NORMS}; received {norm!r}.'
    )
  for name, value in dict(momentum=momentum, dropout=dropout).items():
    if not 0.0 <= value < 1.0:
      raise ValueError(f'IRevNet expects {name} in [0, 1); received {value}.')
