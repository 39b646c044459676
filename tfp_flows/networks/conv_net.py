"""Glow's convolutional network."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal import checks
from tfp_flows.internal import shapes
from tfp_flows.math import convolution
from tfp_flows.math import normalization
from tfp_flows.networks import activations
from tfp_flows.networks import condition as condition_lib
from tfp_flows.networks import initializers
from tfp_flows.networks import network

__all__ = ['ConvNet']


class ConvNet(network.Network):
  """3x3, 1x1 and 3x3 convolutions [(Kingma and Dhariwal, 2018)][1].

  Maps `[..., H, W, C]`, with `condition` of `[..., K]` if `condition_size=K`, to
  `[..., H, W, channels]`. The last convolution starts at zero. `condition` adds
  a linear map of itself to the channels of the first hidden layer, at every
  pixel; batch shapes of `x` and `condition` broadcast.

  With `act_norm` each hidden convolution is followed by a scale and shift per
  channel instead of a bias, which `adapt` sets as `ActNorm` does.

  #### References

  [1]: Diederik P. Kingma and Prafulla Dhariwal. Glow: Generative Flow with
       Invertible 1x1 Convolutions, section 5. In _NeurIPS_, 2018.
       https://arxiv.org/abs/1807.03039
  """

  def __init__(
    self,
    input_shape: Sequence[int],
    channels: int,
    width: int = 128,
    kernel_sizes: Sequence[int] = (3, 1, 3),
    activation: str = 'relu',
    act_norm: bool = False,
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
      kernel_sizes: one per convolution; `(3,)` is a linear map.
      activation: of the hidden layers, by its Keras name.
      act_norm: whether hidden layers are normalised, see above.
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
    shapes.as_event_shape(input_shape, 'ConvNet')
    for size in (channels, width, *kernel_sizes):
      checks.as_count(size, 'size', owner='ConvNet')
    *hidden, last = kernel_sizes
    self._activation = activations.activation(activation)
    self._hidden: list[keras.layers.Layer] = [
      SameConv2D(
        width,
        size,
        use_bias=not act_norm,
        kernel_initializer=seeds.he_normal(),
        dtype=policy,
      )
      for size in hidden
    ]
    self._norms = [ScaleAndShift(dtype=policy) for _ in hidden if act_norm]
    fan_in = last**2 * (width if hidden else input_shape[-1])
    self._scale_output(fan_in, depth, of_images=True)
    self._output: keras.layers.Layer = SameConv2D(
      channels, last, kernel_initializer='zeros', dtype=policy
    )
    self._dropout = keras.layers.SpatialDropout2D(dropout, seed=seeds(), dtype=policy)
    shape = (None, *input_shape)
    for layer in self._hidden:
      layer.build(shape)
      shape = (*shape[:-1], width)
    for norm in self._norms:
      norm.build(shape)
    self._output.build(shape)
    self.condition_size = condition_size
    if condition_size is not None:
      self._add_condition = condition_lib.AddCondition(
        condition_size,
        width if hidden else channels,
        event_ndims=3,
        initializer=seeds.he_normal() if hidden else 'zeros',
        dtype=policy,
      )
    self.built = True

  def adapt(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> None:
    """Normalises the hidden layers over the batch `x`, if `act_norm`."""
    if self._norms:
      self._run(x, condition, adapt=True)

  def call(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
    return self._run(x, condition)

  def _run(self, x, condition, adapt=False):
    last = functools.partial(self._output, **self._scaled(self._output))
    for i, layer in enumerate([*self._hidden, last]):
      x = shapes.with_flat_batch(layer, x, 3)
      if i == 0 and self.condition_size is not None:
        x = self._add_condition(x, condition)
      if i < len(self._hidden):
        if self._norms:
          if adapt:
            self._norms[i].adapt(x)
          x = self._norms[i](x)
        x = shapes.with_flat_batch(self._dropout, self._activation(x), 3)
    return x


class SameConv2D(keras.layers.Conv2D):
  """A 'same' convolution by `math.conv2d`."""

  def __init__(
    self,
    filters: int,
    kernel_size: int,
    kernel_initializer: Any,
    use_bias: bool = True,
    **kwargs: Any,
  ):
    super().__init__(
      filters,
      kernel_size,
      padding='same',
      use_bias=use_bias,
      kernel_initializer=kernel_initializer,
      **kwargs,
    )

  def call(
    self, x: tf.Tensor, kernel: tf.Tensor | None = None, bias: tf.Tensor | None = None
  ) -> tf.Tensor:
    """With other weights than its own, if they are given."""
    if kernel is not None:
      return convolution.conv2d(x, kernel) + bias
    y = convolution.conv2d(x, tf.convert_to_tensor(self.kernel))
    return y + self.bias if self.use_bias else y


class ScaleAndShift(keras.layers.Layer):
  """`(x + shift) * exp(log_scale)` per channel, inside a network."""

  def build(self, input_shape: Sequence[int | None]) -> None:
    shape = input_shape[-1:]
    self.shift = self.add_weight(shape=shape, initializer='zeros', name='shift')
    self.log_scale = self.add_weight(shape=shape, initializer='zeros', name='log_scale')

  def adapt(self, x: tf.Tensor) -> None:
    axes = list(range(x.shape.rank - 1))
    mean, variance = tf.nn.moments(tf.cast(x, self.variable_dtype), axes)
    self.shift.assign(-mean)
    self.log_scale.assign(normalization.log_scale_of(tf.sqrt(variance), mean))

  def call(self, x: tf.Tensor) -> tf.Tensor:
    return (x + self.shift) * keras.ops.exp(self.log_scale)
