"""Masked autoencoder: one network for all conditionals."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.internal import checks
from tfp_flows.internal import shapes
from tfp_flows.networks import activations
from tfp_flows.networks import condition as condition_lib
from tfp_flows.networks import in_turn
from tfp_flows.networks import initializers
from tfp_flows.networks import network

__all__ = ['MADE']


class MADE(network.Network):
  """A perceptron whose outputs for `x_i` depend on what comes before `x_i` alone.

  Maps `[..., D]`, with `condition` of `[..., K]` if `condition_size=K`, to
  `[..., D * params_per_dim]`. Batch shapes of `x` and `condition` broadcast. The last
  layer starts at zero.

  Each kernel is multiplied by a mask of zeros and ones [(Germain et al., 2015)][1]. An
  input has its place in the order, 1 to D, as its degree, and a hidden unit has a
  degree `m`:

    a hidden unit sees the inputs and units of degree at most `m`
    the outputs for `x_i` see the units of degree less than the place of `x_i`

  The degrees of each hidden layer are spread evenly over 1 to D - 1, so that with D - 1
  units or more every allowed dependency is there. With a condition they start at 0:
  units that see nothing else, for the outputs of the first place; then it takes D
  units. All depend on the condition.

  The places are saved with the weights, so that a random order is not lost.

  #### References

  [1]: Mathieu Germain, Karol Gregor, Iain Murray and Hugo Larochelle. MADE: Masked
       Autoencoder for Distribution Estimation, sections 3 and 4.1. In _ICML_, 2015.
       https://arxiv.org/abs/1502.03509
  """

  _renamed = dict(size='input_shape')

  def __init__(
    self,
    input_shape: int | Sequence[int],
    params_per_dim: int,
    hidden: Sequence[int] = (256, 256),
    activation: str = 'relu',
    order: str | Sequence[int] | None = None,
    condition_size: int | None = None,
    params_first: bool = True,
    seed: int | None = None,
    dtype: Any = None,
    depth: int | None = 16,
    name: str | None = None,
  ):
    """Creates and builds the network.

    Args:
      input_shape: `D` or `[D]`.
      params_per_dim: number `P` of outputs for each dimension.
      hidden: widths of the hidden layers; empty for a linear map.
      activation: of the hidden layers, by its Keras name.
      order: the dimensions from first to last, a permutation of 0 to D - 1; None is
        0, 1, ..., `'reversed'` is D - 1, D - 2, ..., and `'random'` draws one.
      condition_size: `K`, or None for a network without condition.
      params_first: whether the output is a flattened `[P, D]`, as `Affine` takes it,
        or `[D, P]`, as `RationalQuadratic` does.
      seed: int, of the initial weights and of a random order.
      dtype: Keras dtype or policy.
      depth: number of networks that the flow applies one after the other, for the
        size of its first steps, see `output_scale`; None does not scale the output.
      name: name of the layer.

    Raises:
      ValueError: if `order` is no permutation, a size is less than 1, or the
        activation mixes units.
    """
    super().__init__(name=name, dtype=dtype)
    size = checks.as_count(shapes.last_size(input_shape), 'size')
    checks.as_count(params_per_dim, 'params_per_dim')
    for width in hidden:
      checks.as_count(width, 'width in hidden')
    seeds = initializers.SeedStream(seed)
    self.condition_size, self.params_first = condition_size, params_first
    self._params_per_dim = params_per_dim
    self._activation = activations.activation(activation, elementwise=True)
    # On a GPU, variables of int32 are not where XLA looks for them.
    self.places = self.add_weight(
      shape=[size], initializer='zeros', dtype='int64', trainable=False, name='places'
    )
    self.places.assign(1 + np.argsort(_permutation(order, size, seeds())))
    self._degrees = [
      _hidden_degrees(width, size, condition_size is not None) for width in hidden
    ]
    self._dense: list[keras.layers.Layer] = [
      MaskedDense(mask, initializer, dtype=self.dtype_policy)
      for mask, initializer in itertools.zip_longest(
        self._masks(), [seeds.he_normal() for _ in hidden], fillvalue='zeros'
      )
    ]
    fan_in = hidden[-1] if hidden else size
    self._scale_output(fan_in, depth)
    if condition_size is not None:
      self._add_condition = condition_lib.AddCondition(
        condition_size,
        self._dense[0].units,
        event_ndims=1,
        initializer=seeds.he_normal() if hidden else 'zeros',
        dtype=self.dtype_policy,
      )
    self.built = True

  @property
  def order(self) -> list[int]:
    """The dimensions, from first to last."""
    return np.argsort(self.places.numpy()).tolist()

  def call(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
    for i, (layer, mask) in enumerate(zip(self._dense, self._masks())):
      own = self._scaled(layer) if i == len(self._degrees) else {}
      x = shapes.with_flat_batch(functools.partial(layer, visible=mask, **own), x, 1)
      if i == 0 and self.condition_size is not None:
        x = self._add_condition(x, condition)
      if i < len(self._degrees):
        x = self._activation(x)
    return x

  @property
  def constant_weights(self) -> list[keras.Variable]:
    return [*super().constant_weights, self.places]

  @property
  def output_sizes(self) -> tuple[int, int]:
    """`D` and `params_per_dim`."""
    return self.places.shape[0], self._params_per_dim

  @property
  def finds_in_turn(self) -> bool:
    """Whether `find_in_turn` computes what a call does, up to rounding."""
    # In bfloat16 sums in another order are no longer the same.
    is_precise = self.compute_dtype == self.variable_dtype
    return is_precise and type(self).call is MADE.call

  def find_in_turn(
    self,
    find: in_turn.Find,
    start: tf.Tensor,
    condition: tf.Tensor | None = None,
    unrolled: bool = False,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds each number from the outputs for it, which need those before it.

    All in all that takes about the work of one call, where calls of the whole network
    would have to be as many as numbers.

    Args:
      find: `(outputs, axis) -> (number, summand)`, for the outputs `[N, P]` of one
        number and its axis among the D: the number `[N]`, and what is summed over all
        of them, `[N]`.
      start: any tensor `[..., D]` of the batch shape and dtype of the numbers.
      condition: `[..., K]`, of a batch shape that broadcasts to that of the numbers.
      unrolled: whether graphs have all steps, for the forward mode of TensorFlow, and
        no loop.

    Returns:
      The numbers, `[..., D]`, and the sums, `[...]`.
    """
    places = tf.convert_to_tensor(self.places) - 1
    order = tf.argsort(places)
    batch = shapes.batch_shape(start, 1)
    flat = tf.reshape(start, [-1, start.shape[-1]])
    numbers, sums = in_turn.find_in_turn(
      self._rows(order, batch, condition),
      self._activation,
      lambda outputs, i: find(outputs, order[i]),
      tf.zeros_like(tf.transpose(flat)),
      unrolled,
    )
    numbers = tf.transpose(tf.gather(numbers, places))
    return shapes.reshape(numbers, batch, start.shape[-1:]), shapes.reshape(
      sums, batch, []
    )

  def _rows(self, order, batch, condition):
    """The layers by the steps of `find_in_turn`."""
    size, layers = order.shape[0], []
    # Along another axis than the first, the gradient of `tf.gather` is dense.
    inputs = functools.partial(tf.gather, indices=order, axis=1)
    for i, dense in enumerate(self._dense):
      if i == len(self._degrees):
        kernel, bias = self._scaled(dense).values()
      else:
        kernel, bias = map(tf.convert_to_tensor, (dense.kernel, dense.bias))
      if i == 0 and self.condition_size is not None:
        bias = self._add_condition(bias, condition)
      bias = _of_examples(bias, batch)
      units = functools.partial(self._outputs, order=order)
      kernel = inputs(tf.transpose(kernel))
      if i < len(self._degrees):
        blocks = in_turn.blocks_of(self._degrees[i], size)
        units = functools.partial(in_turn.padded, blocks=blocks, axis=0)
        flat = blocks.reshape(-1)
        inputs = functools.partial(in_turn.padded, blocks=flat, axis=1)
      layers.append(in_turn.Rows(units(kernel), units(bias)))
    return layers

  def _outputs(self, values, order):
    """`[outputs, ...]` as `[D, P, ...]`, in the order."""
    sizes = [self._params_per_dim, order.shape[0]]
    if not self.params_first:
      sizes.reverse()
    values = tf.reshape(values, tf.concat([sizes, tf.shape(values)[1:]], axis=0))
    return tf.gather(
      tf.experimental.numpy.moveaxis(values, int(self.params_first), 0), order
    )

  def _masks(self):
    """For each layer, whether an input (row) is seen by a unit (column)."""
    places = tf.convert_to_tensor(self.places)
    last = tf.tile if self.params_first else tf.repeat
    outputs = last(places - 1, [self._params_per_dim])
    degrees = [places, *self._degrees, outputs]
    return [a[:, np.newaxis] <= b for a, b in itertools.pairwise(degrees)]


class MaskedDense(keras.layers.Dense):
  """A dense layer that starts with the variance of the inputs that are seen."""

  def __init__(self, visible: Any, initializer: Any, dtype: Any):
    inputs, units = visible.shape
    super().__init__(units, kernel_initializer=initializer, dtype=dtype)
    self.build((None, inputs))
    fan_in = np.maximum(np.sum(visible, axis=0), 1)
    self.kernel.assign(self.kernel * visible * np.sqrt(inputs / fan_in))

  def call(
    self,
    x: tf.Tensor,
    visible: tf.Tensor,
    kernel: tf.Tensor | None = None,
    bias: tf.Tensor | None = None,
  ) -> tf.Tensor:
    if kernel is None:
      kernel, bias = tf.convert_to_tensor(self.kernel), self.bias
    return tf.matmul(x, kernel * tf.cast(visible, kernel.dtype)) + bias


def _of_examples(bias, batch):
  """Biases `[..., units]` as `[units, 1]`, or `[units, N]` if they have a batch."""
  units = bias.shape[-1]
  if bias.shape.rank > 1:
    bias = tf.broadcast_to(bias, tf.concat([batch, [units]], axis=0))
  return tf.transpose(tf.reshape(bias, [-1, units]))


def _hidden_degrees(width, size, conditional):
  lowest = 0 if conditional or size == 1 else 1
  return lowest + np.arange(width) * (size - lowest) // width


def _permutation(order, size, seed):
  named = {
    None: np.arange(size),
    'reversed': np.arange(size)[::-1],
    'random': np.random.default_rng(seed).permutation(size),
  }
  is_name = order is None or isinstance(order, str)
  found = named.get(order) if is_name else np.asarray(order)
  if found is None or sorted(found.tolist()) != list(range(size)):
    raise ValueError(
      f"Expected order to be None, 'reversed', 'random' or a permutation of 0 to "
      f'{size - 1}; received {order!r}.'
    )
  return found
