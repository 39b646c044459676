"""The residual branch of i-RevNet, and its normalizations."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal import checks
from tfp_flows.internal import shapes
from tfp_flows.networks import activations
from tfp_flows.networks import conv_net
from tfp_flows.networks import initializers
from tfp_flows.networks import network

__all__ = ['Bottleneck', 'NORMS', 'normalization']

NORMS = ('batch', 'layer', None)


def normalization(
  norm: str | None, momentum: float, dtype: Any
) -> list[keras.layers.Layer]:
  """The layer of that name, or none; `epsilon` is 1e-5.

  Args:
    norm: `'batch'`, `'layer'` (over height, width and channels) or None.
    momentum: share of the old statistics in the new.
    dtype: Keras dtype or policy.
  """
  if norm == 'batch':
    return [keras.layers.BatchNormalization(-1, momentum, 1e-5, dtype=dtype)]
  if norm == 'layer':
    return [keras.layers.GroupNormalization(1, epsilon=1e-5, dtype=dtype)]
  return []


class Bottleneck(network.Network):
  """Three 3x3 convolutions, each after a normalization [(Jacobsen et al., 2018)][1].

  Maps `[..., H, W, C]` to `[..., H / stride, W / stride, channels]`:

    h = conv3x3(act(norm(x)), stride)            to `hidden` channels
    h = conv3x3(act(norm(h)))                    to `hidden`
    h = conv3x3(act(norm(dropout(h))))           to `channels`

  With `is_first` the first line is `conv3x3(x, stride)`. Convolutions have no bias, as
  the normalization after them would take it out; with `norm=None` they have, and the
  last starts at zero.

  #### References

  [1]: Jorn-Henrik Jacobsen, Arnold Smeulders and Edouard Oyallon. i-RevNet: Deep
       Invertible Networks, section 3. In _ICLR_, 2018.
       https://arxiv.org/abs/1802.07088
  """

  def __init__(
    self,
    input_shape: Sequence[int],
    channels: int,
    hidden: int,
    stride: int = 1,
    is_first: bool = False,
    norm: str | None = 'batch',
    momentum: float = 0.9,
    activation: str = 'relu',
    dropout: float = 0.0,
    seed: int | None = None,
    dtype: Any = None,
    name: str | None = None,
  ):
    """Creates and builds the network.

    Args:
      input_shape: `[H, W, C]`.
      channels: channels of the output.
      hidden: channels of the hidden layers.
      stride: of the first convolution.
      is_first: whether it sees the input as it is.
      norm: `'batch'`, `'layer'` or None.
      momentum: share of the old moving statistics in the new, of `'batch'`.
      activation: by its Keras name.
      dropout: fraction of the hidden numbers dropped in training.
      seed: int, of the initial weights and of dropout.
      dtype: Keras dtype or policy.
      name: name of the layer.
    """
    super().__init__(name=name, dtype=dtype)
    for size in (channels, hidden, stride):
      checks.as_count(size, 'size', owner='Bottleneck')
    seeds, policy = initializers.SeedStream(seed), self.dtype_policy

    def before():
      act = keras.layers.Activation(activations.activation(activation), dtype=policy)
      return [*normalization(norm, momentum, policy), act]

    def conv(filters, size=1, is_last=False):
      start = seeds.he_normal()
      start = keras.initializers.Zeros() if is_last and norm is None else start
      options = dict(use_bias=norm is None, kernel_initializer=start, dtype=policy)
      if size == 1:
        return conv_net.SameConv2D(filters, 3, **options)
      return keras.layers.Conv2D(filters, 3, size, 'same', **options)

    drop = [keras.layers.Dropout(dropout, seed=seeds(), dtype=policy)]
    self._layers_in_order = [
      *([] if is_first else before()),
      conv(hidden, stride),
      *before(),
      conv(hidden),
      *(drop if dropout else []),
      *before(),
      conv(channels, is_last=True),
    ]
    shape = (None, *input_shape)
    for layer in self._layers_in_order:
      layer.build(shape)
      shape = layer.compute_output_shape(shape)
    self.built = True

  def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    return shapes.with_flat_batch(self._run, x, 3)

  def _run(self, x):
    for layer in self._layers_in_order:
      x = layer(x)  # Keras knows `training`.
    return x
