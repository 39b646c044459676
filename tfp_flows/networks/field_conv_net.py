"""Convolutional network that depends on the time: the field of a continuous flow."""

from collections.abc import Sequence
from typing import Any

from tfp_flows.math import convolution
from tfp_flows.networks import time_layers

__all__ = ['FieldConvNet']


class FieldConvNet(time_layers.FieldNetwork):
  """`dx/dt = f(t, x)` of images [(Grathwohl et al., 2019)][1].

  Maps `(t, x)`, a scalar and `[..., H, W, C]`, with `condition` of `[..., K]` if
  `condition_size=K`, to `[..., H, W, C]`. As `FieldMLP`, with convolutions of stride 1
  and 'same' padding for `W`, and all vectors one number per channel:

    'concat'        layer(t, h) = conv([h, t]) + b
    'concatsquash'  layer(t, h) = (conv(h) + b) * sigmoid(w_g t + b_g) + w_b t

  In the first, `t` is one more channel: a constant image, which the padding
  surrounds with zeros as it does the others. `condition` adds the same to all
  pixels of the first hidden layer.

  #### References

  [1]: Will Grathwohl, Ricky T. Q. Chen, Jesse Bettencourt, Ilya Sutskever and David
       Duvenaud. FFJORD: Free-form Continuous Dynamics for Scalable Reversible
       Generative Models. In _ICLR_, 2019. https://arxiv.org/abs/1810.01367
  """

  def __init__(
    self,
    input_shape: Sequence[int],
    widths: Sequence[int] = (64, 64, 64),
    activation: str = 'softplus',
    time: str = 'concat',
    kernel_size: int = 3,
    condition_size: int | None = None,
    zero_last: bool = False,
    seed: int | None = None,
    dtype: Any = None,
    depth: int | None = None,
    name: str | None = None,
  ):
    """Creates and builds the network.

    Args:
      input_shape: `[H, W, C]`.
      widths: channels of the hidden layers; empty for a field affine in `x`.
      activation: of the hidden layers, by its Keras name; a smooth one, see
        `FieldMLP`.
      time: 'concat' or 'concatsquash'.
      kernel_size: height and width of every kernel.
      condition_size: `K`, or None for a field without condition.
      zero_last: whether the field starts at zero.
      seed: int, of the initial weights; None is fixed by
        `keras.utils.set_random_seed`.
      dtype: Keras dtype or policy.
      depth: number of fields that the flow integrates one after the other, for the size
        of its first steps: kernels and biases of all layers but the first are
        multiplied by a constant, see `output_scale`, and kernels begin as much larger.
        None is no constant.
      name: name of the layer.

    Raises:
      ValueError: if a size is less than 1, `input_shape` not `[H, W, C]`, or `time`
        unknown; when called, if `t` is not a scalar or `x` not `[..., H, W, C]`.
    """
    shape = list(input_shape)
    if len(shape) != 3:
      raise ValueError(
        f'Expected input_shape [H, W, C]; received {shape}. For vectors there is '
        f'`FieldMLP`.'
      )
    time_layers.check_sizes('input_shape', shape)
    time_layers.check_sizes('widths', widths)
    time_layers.check_sizes('kernel_size', [kernel_size])
    super().__init__(
      event_shape=shape,
      widths=widths,
      linear=convolution.conv2d,
      taps=(kernel_size, kernel_size),
      activation=activation,
      time=time,
      condition_size=condition_size,
      zero_last=zero_last,
      seed=seed,
      dtype=dtype,
      depth=depth,
      name=name,
    )
