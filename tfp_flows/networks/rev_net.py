"""Reversible residual networks."""

import functools
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors import masks
from tfp_flows.bijectors import rev_net_block
from tfp_flows.bijectors import reversible
from tfp_flows.bijectors import sequential
from tfp_flows.internal import configurable
from tfp_flows.internal import keras_parameters

__all__ = ['RevNet']

_HALVES = (
  'A network takes one half of the channels and returns as many as the other has; f '
  'takes the second half, the larger one of an odd number.'
)


class RevNet(configurable.ConfigurableLayer, keras.layers.Layer):
  """Residual blocks that keep no activations [(Gomez et al., 2017)][1].

  For the two halves `x1, x2` of the channels, block after block:

    y1 = x1 + f(x2)
    y2 = x2 + g(y1)

  Maps `[N, ..., C]` to the same shape: `f` maps `[N, ..., C2]` to `[N, ..., C1]` and
  `g` the other way, where `C1 = C // 2` and `C2 = C - C1`. What lies between, such as
  height and width, may be unknown.

  A Keras layer like others, in functional and sequential models, in eager mode and
  under XLA. For gradients only the output is kept: the input of each block is recovered
  from its output by one more evaluation of its networks, so that memory does not grow
  with depth. Gradients equal those of backpropagation up to the rounding of the
  inverses: for x, and every variable that the networks read, but no tensor that they
  close over. Second derivatives raise `LookupError`.

  In training the networks must be functions of their input alone: no dropout, no
  moments of a batch, no losses from activations. Those are refused; layer and group
  normalization are not, and with `memory='stored'` nothing is.

  The state between the blocks has at least the precision of float32, whatever the
  policy; only the output is then cast to `compute_dtype`. The networks may have a
  lower one.

  Layers can be saved whose networks are registered with Keras.

  #### Examples

  ```python
  def network():
    return keras.Sequential([
      keras.Input([8]), keras.layers.Dense(32, 'relu'), keras.layers.Dense(8)])

  model = keras.Sequential([
    keras.Input([2]),
    keras.layers.Dense(16),
    tff.RevNet([(network(), network()) for _ in range(8)]),
    keras.layers.Dense(10)])
  ```

  #### References

  [1]: Aidan N. Gomez, Mengye Ren, Raquel Urtasun and Roger B. Grosse. The Reversible
       Residual Network: Backpropagation Without Storing Activations, section 3. In
       _NeurIPS_, 2017. https://arxiv.org/abs/1707.04585
  """

  def __init__(
    self,
    networks: Sequence[tuple[keras.layers.Layer, keras.layers.Layer]],
    memory: str = 'reversible',
    name: str | None = None,
    dtype: Any = None,
  ):
    """Creates the layer.

    Args:
      networks: at least one pair `(f, g)` of built Keras layers; the first is applied
        first. A network in several places shares its weights.
      memory: `'reversible'`, or `'stored'` for ordinary backpropagation.
      name: name of the layer.
      dtype: Keras dtype or policy.

    Raises:
      ValueError: if there is no pair, or a network that is not built, or one with
        dropout where `memory='reversible'`. When the layer is built: if there is but
        one channel, if a network returns another shape than that of its half, or if
        `memory` does not allow what it does in training.
    """
    super().__init__(name=name, dtype=dtype)
    pairs = list(networks)
    _check_pairs(pairs)
    self._networks = [network for pair in pairs for network in pair]
    self.memory = memory
    owner = keras_parameters.KerasParameters(*self._networks, name=self.name)
    reversible.check_memory(memory, [owner])

  @property
  def networks(self) -> list[tuple[keras.layers.Layer, keras.layers.Layer]]:
    """The pairs `(f, g)`."""
    return list(zip(self._networks[::2], self._networks[1::2]))

  def build(self, input_shape: Sequence[int | None]) -> None:
    *outer, channels = input_shape
    if channels is None:
      raise ValueError(
        f'{self.name} expects a known number of channels; received inputs of shape '
        f'{tuple(input_shape)}. Give the last axis a size.'
      )
    mask = masks.ChannelMask([channels])
    first, second = (*outer, *mask.kept_shape), (*outer, *mask.changed_shape)
    for i, (f, g) in enumerate(self.networks):
      self._check_network(f, f'f of block {i}', second, first)
      self._check_network(g, f'g of block {i}', first, second)
    self.input_spec = keras.InputSpec(min_ndim=2, axes={-1: channels})

  def call(
    self, x: tf.Tensor, training: bool | None = None, inverted: bool = False
  ) -> tf.Tensor:
    flow = self._flow(x.shape[-1], training)
    run = flow.inverse_and_log_det if inverted else flow.forward_and_log_det
    y, _ = run(tf.cast(x, self._state_dtype))
    return tf.cast(y, self.compute_dtype)

  def inverse(self, y: Any) -> tf.Tensor:
    """The input whose output is `y`; the same as `layer(y, inverted=True)`."""
    return self(y, inverted=True)

  def compute_output_shape(
    self, input_shape: Sequence[int | None]
  ) -> tuple[int | None, ...]:
    return tuple(input_shape)

  @property
  def _state_dtype(self):
    return keras.backend.result_type(self.variable_dtype, 'float32')

  def _flow(self, channels, training):
    # Gradients are computed after the call, when Keras no longer knows `training`.
    networks = [functools.partial(n, training=training) for n in self._networks]
    blocks = [
      rev_net_block.RevNetBlock(f, g, [channels], 'stored', self._state_dtype)
      for f, g in zip(networks[::2], networks[1::2])
    ]
    return sequential.Sequential(blocks, self.memory)

  def _check_network(self, network, role, input_shape, output_shape):
    try:
      shape, effects = _outcome(network, input_shape, self._state_dtype)
    except ValueError as error:
      raise ValueError(
        f'{self.name} expects {role} to map {input_shape} to {output_shape}; '
        f'{network.name} does not take this input. {_HALVES}'
      ) from error
    if not shape.is_compatible_with(output_shape):
      raise ValueError(
        f'{self.name} expects {role} to map {input_shape} to {output_shape}; received '
        f'{tuple(shape)} from {network.name}. {_HALVES}'
      )
    if effects and self.memory == 'reversible':
      raise ValueError(
        f"memory='reversible' computes each network again, and expects functions of "
        f'the input alone; {network.name}, {role} of {self.name}, has {effects} in '
        f'training. Use layer or group normalization for that of a batch, losses of '
        f"weights for those of activations, or memory='stored'."
      )


def _check_pairs(pairs):
  if not pairs:
    raise ValueError('RevNet expects at least one pair of networks; received none.')
  for pair in pairs:
    is_pair = isinstance(pair, list | tuple) and len(pair) == 2
    if not is_pair or not all(isinstance(n, keras.layers.Layer) for n in pair):
      raise ValueError(
        f'RevNet expects pairs (f, g) of Keras layers; received {pair}. A function '
        f'becomes one by keras.layers.Lambda.'
      )


def _outcome(network, shape, dtype):
  """Shape that `network` returns in training, and in words what else it does."""

  def trace():
    call = tf.function(lambda x: network(x, training=True), autograph=False)
    with keras.StatelessScope(collect_losses=True) as scope:
      output = call.get_concrete_function(tf.TensorSpec(shape, dtype)).output_shapes
    return output, scope

  # From a thread, as Keras would pass `training` on to the layers after this one.
  with futures.ThreadPoolExecutor(1) as executor:
    output, scope = executor.submit(trace).result()
  updated = [v for v in network.variables if scope.get_current_value(v) is not None]
  effects = [f'updates of {v.path}' for v in updated]
  if scope.losses:
    effects.append('a loss from activations')
  return output, ' and '.join(effects)
