"""Multilayer perceptron."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal import checks
from tfp_flows.internal import shapes
from tfp_flows.networks import activations
from tfp_flows.networks import condition as condition_lib
from tfp_flows.networks import initializers
from tfp_flows.networks import network

__all__ = ['MLP']


class MLP(network.Network):
  """Dense layers on the last axis; the last one starts at zero.

  Maps `[..., D]`, with `condition` of `[..., K]` if `condition_size=K`, to
  `[..., output_size]`. Batch shapes of `x` and `condition` broadcast.
  """

  _renamed = dict(input_size='input_shape')

  def __init__(
    self,
    input_shape: int | Sequence[int],
    output_size: int,
    hidden: Sequence[int] = (128, 128),
    activation: str = 'relu',
    condition_size: int | None = None,
    dropout: float = 0.0,
    seed: int | None = None,
    dtype: Any = None,
    depth: int | None = 16,
    name: str | None = None,
  ):
    """Creates and builds the network.

    Args:
      input_shape: `D` or `[D]`.
      output_size: size of the last axis of the output.
      hidden: widths of the hidden layers; empty for a linear map.
      activation: of the hidden layers, by its Keras name.
      condition_size: `K`, or None for a network without condition.
      dropout: fraction of the hidden units dropped in training.
      seed: int, of the initial weights and of dropout.
      dtype: Keras dtype or policy.
      depth: number of networks that the flow applies one after the other, for the
        size of its first steps, see `output_scale`; None does not scale the output.
      name: name of the layer.
    """
    super().__init__(name=name, dtype=dtype)
    seeds = initializers.SeedStream(seed)
    policy = self.dtype_policy
    widths = [shapes.last_size(input_shape), *hidden]
    for size in (*widths, output_size):
      checks.as_count(size, 'size', owner='MLP')
    self._activation = activations.activation(activation)
    self._hidden: list[keras.layers.Layer] = [
      Dense(n, kernel_initializer=seeds.he_normal(), dtype=policy) for n in hidden
    ]
    self._scale_output(widths[-1], depth)
    self._output: keras.layers.Layer = Dense(
      output_size, kernel_initializer='zeros', dtype=policy
    )
    self._dropout = keras.layers.Dropout(dropout, seed=seeds(), dtype=policy)
    for layer, width in zip([*self._hidden, self._output], widths):
      layer.build((None, width))
    self.condition_size = condition_size
    if condition_size is not None:
      self._add_condition = condition_lib.AddCondition(
        condition_size,
        hidden[0] if hidden else output_size,
        event_ndims=1,
        initializer=seeds.he_normal() if hidden else 'zeros',
        dtype=policy,
      )
    self.built = True

  def call(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
    last = functools.partial(self._output, **self._scaled(self._output))
    for i, layer in enumerate([*self._hidden, last]):
      x = shapes.with_flat_batch(layer, x, 1)
      if i == 0 and self.condition_size is not None:
        x = self._add_condition(x, condition)
      if i < len(self._hidden):
        x = self._dropout(self._activation(x))
    return x


class Dense(keras.layers.Dense):
  """Keras's layer, with other weights than its own if a call is given some.

  The gradient of a bias in bfloat16 is a sum in float32.
  """

  def call(
    self, x: tf.Tensor, kernel: tf.Tensor | None = None, bias: tf.Tensor | None = None
  ) -> tf.Tensor:
    if kernel is not None:
      return tf.matmul(x, kernel) + bias
    if self.compute_dtype != 'bfloat16':
      return super().call(x)
    # The gradient of `tf.nn.bias_add` is off by half in batches of thousands.
    return tf.matmul(x, tf.convert_to_tensor(self.kernel)) + self.bias
