"""RealNVP's residual network."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal import checks
from tfp_flows.internal import shapes
from tfp_flows.math import convolution
from tfp_flows.networks import condition as condition_lib
from tfp_flows.networks import conv_net
from tfp_flows.networks import initializers
from tfp_flows.networks import network

__all__ = ['ResNet']


class ResNet(network.Network):
  """Residual blocks of weight-normalised convolutions [(Dinh et al., 2017)][1].

  Maps `[..., H, W, C]`, with `condition` of `[..., K]` if `condition_size=K`, to
  `[..., H, W, channels]`:

    h = conv3x3([relu(x), relu(-x)])
    h = h + conv3x3(relu(conv3x3(relu(h))))       for each block
    output = conv1x1(relu(h))                     starts at zero

  Kernels are `g * v / |v|` per output channel [(Salimans and Kingma, 2016)][2],
  the last one excepted. The paper's batch normalisation inside the network,
  which makes an example's density depend on its batch, is left out.

  #### References

  [1]: Laurent Dinh, Jascha Sohl-Dickstein and Samy Bengio. Density estimation
       using Real NVP, section 4.1 and appendix. In _ICLR_, 2017.
       https://arxiv.org/abs/1605.08803
  [2]: Tim Salimans and Diederik P. Kingma. Weight Normalization, equation 2.
       In _NeurIPS_, 2016. https://arxiv.org/abs/1602.07868
  """

  _renamed = dict(blocks='num_blocks')

  def __init__(
    self,
    input_shape: Sequence[int],
    channels: int,
    width: int = 64,
    num_blocks: int = 2,
    condition_size: int | None = None,
    dropout: float = 0.0,
    seed: int | None = None,
    dtype: Any = None,
    depth: int | None = 16,
    name: str | None = None,
  ):
    """Creates and builds the network.

    Args:
      input_shape: `[H, W, C]`.
      channels: channels of the output.
      width: channels of the hidden layers.
      num_blocks: number of residual blocks.
      condition_size: `K`, or None for a network without condition.
      dropout: fraction of the hidden channels dropped in training, per image.
      seed: int, of the initial weights and of dropout.
      dtype: Keras dtype or policy.
      depth: number of networks that the flow applies one after the other, for the
        size of its first steps, see `output_scale`; None does not scale the output.
      name: name of the layer.
    """
    super().__init__(name=name, dtype=dtype)
    seeds = initializers.SeedStream(seed)
    policy = self.dtype_policy
    shapes.as_event_shape(input_shape, 'ResNet')
    for size in (channels, width):
      checks.as_count(size, 'size', owner='ResNet')

    def conv(kernel_size):
      return _WeightNormConv2D(width, kernel_size, seeds.he_normal(), dtype=policy)

    self._input = conv(3)
    self._blocks = [(conv(3), conv(3)) for _ in range(num_blocks)]
    self._scale_output(width, depth, of_images=True)
    self._output = conv_net.SameConv2D(
      channels, 1, kernel_initializer='zeros', dtype=policy
    )
    self._dropout = keras.layers.SpatialDropout2D(dropout, seed=seeds(), dtype=policy)
    *space, depth = input_shape
    self._input.build((None, *space, 2 * depth))
    hidden = (None, *space, width)
    for first, second in self._blocks:
      first.build(hidden)
      second.build(hidden)
      # Each block starts as a tenth of itself: depth does not blow up `h`.
      second.gain.assign(0.1 * second.gain)
    self._output.build(hidden)
    self.condition_size = condition_size
    if condition_size is not None:
      self._add_condition = condition_lib.AddCondition(
        condition_size, width, 3, seeds.he_normal(), dtype=policy
      )
    self.built = True

  def call(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
    x = tf.concat([x, -x], axis=-1)
    h = shapes.with_flat_batch(self._input, tf.nn.relu(x), 3)
    if self.condition_size is not None:
      h = self._add_condition(h, condition)
    return shapes.with_flat_batch(self._residual, h, 3)

  def _residual(self, h):
    for first, second in self._blocks:
      h += second(self._dropout(tf.nn.relu(first(tf.nn.relu(h)))))
    return self._output(tf.nn.relu(h), **self._scaled(self._output))


class _WeightNormConv2D(keras.layers.Layer):
  """A 'same' convolution whose kernel is `gain * v / |v|` per channel."""

  def __init__(self, channels, kernel_size, initializer, **kwargs):
    # In mixed precision norms are those of the weights as they are, not rounded: all
    # outputs of a layer would be too large, or too small.
    # A SavedModel needs names that do not begin with an underscore.
    super().__init__(autocast=False, name='weight_norm_conv2d', **kwargs)
    self._channels, self._size = channels, kernel_size
    self._initializer = initializer

  def build(self, input_shape):
    channels = (self._channels,)
    self.v = self.add_weight(
      shape=(self._size, self._size, input_shape[-1], *channels),
      initializer=self._initializer,
      name='v',
    )
    self.gain = self.add_weight(shape=channels, name='gain')
    self.gain.assign(tf.sqrt(tf.reduce_sum(self.v.value**2, axis=[0, 1, 2])))
    self.bias = self.add_weight(shape=channels, initializer='zeros', name='bias')

  def call(self, x):
    direction = tf.math.l2_normalize(self.v, axis=[0, 1, 2])
    kernel = direction * tf.convert_to_tensor(self.gain)
    x, kernel, bias = (tf.cast(t, self.compute_dtype) for t in (x, kernel, self.bias))
    return convolution.conv2d(x, kernel) + bias
