"""Linear layers that depend on the time, and the networks made of them."""

import functools
import math
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal import shapes
from tfp_flows.networks import activations
from tfp_flows.networks import condition as condition_lib
from tfp_flows.networks import initializers
from tfp_flows.networks import network

__all__ = ['FieldNetwork', 'TimeLinear']


class TimeLinear(keras.layers.Layer):
  """`y(t, x)`, affine in `x`, with weights that depend on the time `t`.

  With `A(x, kernel)` a linear map of the channels `[N, ..., C]` to `[N, ..., F]`:

    'concat'        y = A([x, t], kernel) + bias
    'concatsquash'  y = (A(x, kernel) + bias) * sigmoid(gate_kernel * t + gate_bias)
                        + shift * t

  In the first, `t` is the last of `C + 1` channels, a constant image, and so
  `y = A(x, kernel[:C]) + (t * A(1, kernel[C:]) + bias)`, which is how it is computed:
  what depends on `t` is the same for the whole batch. In the second, all weights
  but `kernel` are one number per output channel.
  """

  def __init__(
    self,
    linear: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    kernel_shape: Sequence[int],
    time: str,
    zero: bool,
    seeds: initializers.SeedStream,
    dtype: Any = None,
  ):
    """Creates and builds the layer.

    Args:
      linear: `A`.
      kernel_shape: `[..., C, F]`, without the channel of the time.
      time: 'concat' or 'concatsquash'.
      zero: whether all weights start at zero, or the biases only and the others
        Glorot uniform.
      seeds: of the initial weights.
      dtype: Keras dtype or policy.

    Raises:
      ValueError: for another `time`.
    """
    super().__init__(dtype=dtype)
    if time not in ('concat', 'concatsquash'):
      raise ValueError(
        f"Expected time to be 'concat' or 'concatsquash'; received {time!r}. FFJORD "
        f"uses 'concatsquash' for vectors and 'concat' for images."
      )
    self._linear, self._concat = linear, time == 'concat'
    *taps, inputs, outputs = kernel_shape

    def add(name, *shape):
      initializer = 'zeros' if zero else seeds.glorot_uniform()
      return self.add_weight(shape=shape, initializer=initializer, name=name)

    def add_bias(name):
      return self.add_weight(shape=(outputs,), initializer='zeros', name=name)

    self.kernel = add('kernel', *taps, inputs + self._concat, outputs)
    self.bias = add_bias('bias')
    if not self._concat:
      self.gate_kernel = add('gate_kernel', 1, outputs)
      self.gate_bias = add_bias('gate_bias')
      self.shift = add('shift', 1, outputs)
    self.built = True

  def call(
    self, t: tf.Tensor, x: tf.Tensor, scale: tf.Tensor | None = None
  ) -> tf.Tensor:
    kernel, bias = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
    if scale is not None:
      scale = tf.cast(scale, kernel.dtype)
      kernel, bias = scale * kernel, scale * bias
    if self._concat:
      ones = tf.ones([1, *x.shape[1:-1], 1], x.dtype)
      response = self._linear(ones, kernel[..., -1:, :])
      return self._linear(x, kernel[..., :-1, :]) + (t * response + bias)
    gate = tf.sigmoid(t * self.gate_kernel + self.gate_bias)
    return (self._linear(x, kernel) + bias) * gate + t * self.shift


class FieldNetwork(network.Network):
  """`TimeLinear` layers with an activation between them; as many channels out as in."""

  def __init__(
    self,
    event_shape: Sequence[int],
    widths: Sequence[int],
    linear: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    taps: Sequence[int],
    activation: str,
    time: str,
    condition_size: int | None,
    zero_last: bool,
    seed: int | None,
    dtype: Any,
    depth: int | None,
    name: str | None,
  ):
    """Creates and builds the network; see its subclasses.

    Args:
      event_shape: `[D]` or `[H, W, C]`.
      widths: channels of the hidden layers.
      linear: of each `TimeLinear`.
      taps: the shape of a kernel before its channels.
      activation: of the hidden layers.
      time: of each `TimeLinear`.
      condition_size: `K` or None.
      zero_last: whether the last layer starts at zero.
      seed: int.
      dtype: Keras dtype or policy.
      depth: number of fields of the flow, or None.
      name: name of the layer.
    """
    super().__init__(name=name, dtype=dtype)
    seeds = initializers.SeedStream(seed)
    policy = self.dtype_policy
    self._event_shape = tuple(event_shape)
    channels = self._event_shape[-1]
    sizes = [channels, *widths, channels]
    self._activation = activations.activation(activation)
    self._linears: list[keras.layers.Layer] = [
      TimeLinear(
        linear,
        (*taps, *sizes[i : i + 2]),
        time,
        zero=zero_last and i == len(widths),
        seeds=seeds,
        dtype=policy,
      )
      for i in range(len(widths) + 1)
    ]
    # All layers but the first: each of them moves what the next one sees.
    fan_in = math.prod(taps) * max(widths, default=channels)
    self._scale_output(fan_in, depth if widths else None, from_zero=False)
    for layer in self._linears[1:]:
      layer.kernel.assign(layer.kernel / self.output_scale)
    self.condition_size = condition_size
    if condition_size is not None:
      check_sizes('condition_size', [condition_size])
      zero = zero_last and not widths
      self._add_condition = condition_lib.AddCondition(
        condition_size,
        sizes[1],
        event_ndims=len(self._event_shape),
        initializer='zeros' if zero else seeds.glorot_uniform(),
        dtype=policy,
      )
    self.built = True

  def call(
    self, t: tf.Tensor, x: tf.Tensor, condition: tf.Tensor | None = None
  ) -> tf.Tensor:
    t = tf.cast(t, self.compute_dtype)
    self._check_arguments(t, x)
    for i, layer in enumerate(self._linears):
      own = dict(scale=self.output_scale) if i else {}
      at_t = functools.partial(layer, t, **own)
      x = shapes.with_flat_batch(at_t, x, len(self._event_shape))
      if i == 0 and self.condition_size is not None:
        x = self._add_condition(x, condition)
      if i < len(self._linears) - 1:
        x = self._activation(x)
    return x

  def _check_arguments(self, t, x):
    if t.shape.rank:
      raise ValueError(
        f'Expected a scalar t, the time of the whole batch; received shape {t.shape}. '
        f'The order of the arguments is t, x, condition.'
      )
    if not x.shape[-len(self._event_shape) :].is_compatible_with(self._event_shape):
      raise ValueError(
        f'Expected x of shape [..., {str(list(self._event_shape))[1:]}; received '
        f'{x.shape}. Build the network for the event shape of the data.'
      )


def check_sizes(argument: str, sizes: Sequence[int]) -> None:
  """Raises a ValueError that names the argument unless all sizes are positive."""
  if any(size < 1 for size in sizes):
    raise ValueError(
      f'Expected sizes of at least 1 in {argument}; received {list(sizes)}.'
    )
