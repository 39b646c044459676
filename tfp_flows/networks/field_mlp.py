"""Multilayer perceptron that depends on the time: the field of a continuous flow."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfp_flows.networks import time_layers

__all__ = ['FieldMLP']


class FieldMLP(time_layers.FieldNetwork):
  """`dx/dt = f(t, x)` of vectors [(Grathwohl et al., 2019)][1].

  Maps `(t, x)`, a scalar and `[..., D]`, with `condition` of `[..., K]` if
  `condition_size=K`, to `[..., D]`. Batch shapes of `x` and `condition` broadcast;
  `t` is one for the whole batch, of any dtype, and cast to that of the layer; a Python
  number must be given by name, as to any Keras layer.

    h_0 = x
    h_1 = activation(layer_1(t, h_0) + V condition)
    h_i = activation(layer_i(t, h_{i-1}))                    for i = 2, ..., n
    f(t, x) = layer_{n+1}(t, h_n)

  with one of these layers, where `[h, t]` has `t` as one more feature and `w_g`,
  `b_g`, `w_b` are vectors like `b`:

    'concat'        layer(t, h) = W [h, t] + b
    'concatsquash'  layer(t, h) = (W h + b) * sigmoid(w_g t + b_g) + w_b t

  Weights start Glorot uniform, biases at zero. With `zero_last` all weights of
  `layer_{n+1}` start at zero, and the flow as the identity.

  A solver's error, and the divergence of `f` in the log-det, need a smooth
  activation: 'tanh' and 'softplus' are usual. 'relu' has kinks at which the solver
  shrinks its steps, and a second derivative that teaches the divergence nothing.

  #### References

  [1]: Will Grathwohl, Ricky T. Q. Chen, Jesse Bettencourt, Ilya Sutskever and David
       Duvenaud. FFJORD: Free-form Continuous Dynamics for Scalable Reversible
       Generative Models. In _ICLR_, 2019. https://arxiv.org/abs/1810.01367
  """

  _renamed = dict(input_size='input_shape')

  def __init__(
    self,
    input_shape: int | Sequence[int],
    hidden: Sequence[int] = (64, 64, 64),
    activation: str = 'tanh',
    time: str = 'concatsquash',
    condition_size: int | None = None,
    zero_last: bool = False,
    seed: int | None = None,
    dtype: Any = None,
    depth: int | None = None,
    name: str | None = None,
  ):
    """Creates and builds the network.

    Args:
      input_shape: `D` or `[D]`.
      hidden: widths of the hidden layers; empty for a field affine in `x`.
      activation: of the hidden layers, by its Keras name.
      time: 'concat' or 'concatsquash'.
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
      ValueError: if a size is less than 1, `input_shape` a shape of another rank, or
        `time` unknown; when called, if `t` is not a scalar or the last axis of `x`
        not `D`.
    """
    shape = [input_shape] if isinstance(input_shape, int) else list(input_shape)
    if len(shape) != 1:
      raise ValueError(
        f'Expected input_shape D or [D]; received {shape}. For images [H, W, C] there '
        f'is `FieldConvNet`.'
      )
    time_layers.check_sizes('input_shape', shape)
    time_layers.check_sizes('hidden', hidden)
    super().__init__(
      event_shape=shape,
      widths=hidden,
      linear=tf.matmul,
      taps=(),
      activation=activation,
      time=time,
      condition_size=condition_size,
      zero_last=zero_last,
      seed=seed,
      dtype=dtype,
      depth=depth,
      name=name,
    )
