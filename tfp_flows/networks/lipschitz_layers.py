"""Linear layers with a bound on their operator norm."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.internal import shapes
from tfp_flows.math import convolution
from tfp_flows.math import operator_norms
from tfp_flows.networks import initializers

__all__ = ['LearnedOrder', 'LipschitzConv2D', 'LipschitzDense', 'order_value']


class LearnedOrder(keras.layers.Layer):
  """The trainable order of a norm [(Chen et al., 2019)][1].

    p = 1 + 4 * sigmoid(theta - log(3))

  in (1, 5); 2 at the start `theta = 0`. One object shared by the layer whose
  codomain and by the layer whose domain it is, keeps their norms alike.

  #### References

  [1]: Ricky T. Q. Chen, Jens Behrmann, David Duvenaud and Joern-Henrik
       Jacobsen. Residual Flows for Invertible Generative Modeling, appendix D.
       In _NeurIPS_, 2019. https://arxiv.org/abs/1906.02735
  """

  def __init__(self, dtype: Any = None, name: str | None = None):
    super().__init__(dtype=dtype, name=name)
    self.theta = self.add_weight(shape=(), initializer='zeros', name='theta')
    self.built = True

  def value(self) -> tf.Tensor:
    """`p`, a scalar tensor."""
    return 1.0 + 4.0 * tf.sigmoid(tf.convert_to_tensor(self.theta) - math.log(3.0))


def order_value(order: float | LearnedOrder) -> float | tf.Tensor:
  """The number that `order` is now."""
  return order.value() if isinstance(order, LearnedOrder) else float(order)


class _LipschitzLayer(keras.layers.Layer):
  """`y = A x + b` with the norm of `A` held at `lipschitz` or below.

  Subclasses say how a kernel acts: `_linear`, its `_transpose`, and the number
  of `_pixels` that a matrix acts on alike.
  """

  def __init__(
    self,
    kernel_shape,
    v_shape,
    lipschitz,
    domain,
    codomain,
    kernel_initializer,
    seed,
    dtype,
    name,
  ):
    super().__init__(dtype=dtype, name=name)
    _check_dtype(self)
    _check_lipschitz(lipschitz)
    operator_norms.check_orders(order_value(domain), order_value(codomain))
    self.lipschitz, self._domain, self._codomain = lipschitz, domain, codomain
    seeds = initializers.SeedStream(seed)
    # The same uniform law as other implementations of residual flows start from.
    uniform = keras.initializers.VarianceScaling(
      1.0 / 3.0, 'fan_in', 'uniform', seed=seeds()
    )
    self.kernel = self.add_weight(
      shape=kernel_shape, initializer=kernel_initializer or uniform, name='kernel'
    )
    self.bias = self.add_weight(
      shape=kernel_shape[-1:], initializer='zeros', name='bias'
    )
    self.v = self.add_weight(
      shape=v_shape,
      initializer=keras.initializers.RandomNormal(stddev=1.0, seed=seeds()),
      trainable=False,
      name='v',
    )
    self.v.assign(self._first_v())
    if not (self._is_matrix and domain == codomain == 2.0):
      self.update_norm(max_iterations=200)
    self.built = True

  def update_norm(self, tolerance: float = 1e-3, max_iterations: int = 50) -> None:
    """Brings `v`, by which the norm is measured, up to date with the kernel.

    To be called whenever the kernel has changed; goes on from the present `v`
    (see `tfp_flows.math.power_iteration`). Nothing to do for orders with a closed
    form.
    """
    domain, codomain = self._orders()
    if operator_norms.has_closed_form(domain, codomain):
      return
    kernel = tf.convert_to_tensor(self.kernel)
    self.v.assign(
      operator_norms.power_iteration(
        lambda v: self._linear(v, kernel),
        lambda u: self._transpose(u, kernel),
        tf.convert_to_tensor(self.v),
        domain,
        codomain,
        tolerance,
        max_iterations,
      )
    )

  def norm(self) -> tf.Tensor:
    """Norm of the unconstrained kernel; scalar, differentiable."""
    return self._norm_of(tf.convert_to_tensor(self.kernel))

  def lipschitz_bound(self) -> tf.Tensor:
    """Norm of the effective kernel, `min(norm, lipschitz)`; scalar."""
    return tf.minimum(self.norm(), self.lipschitz)

  def effective_kernel(self) -> tf.Tensor:
    """`kernel / max(1, norm / lipschitz)`."""
    kernel = tf.convert_to_tensor(self.kernel)
    return kernel / tf.maximum(self._norm_of(kernel) / self.lipschitz, 1.0)

  def call(self, x, kernel=None):
    """Applies the layer; `kernel` is `effective_kernel()`, if that is at hand."""
    if kernel is None:
      kernel = self.effective_kernel()
    return tf.nn.bias_add(self._linear(x, kernel), tf.convert_to_tensor(self.bias))

  def _orders(self):
    return order_value(self._domain), order_value(self._codomain)

  def _norm_of(self, kernel):
    domain, codomain = self._orders()
    if operator_norms.has_closed_form(domain, codomain):
      return operator_norms.kernel_norm(kernel, domain, codomain)
    v = tf.convert_to_tensor(self.v)
    norm = operator_norms.operator_norm(
      lambda v: self._linear(v, kernel), v, domain, codomain
    )
    return norm * _spread(self._pixels, domain, codomain, norm.dtype)

  def _first_v(self):
    """The top singular vector of a matrix, the random start otherwise."""
    kernel = np.asarray(self.kernel.numpy(), np.float64)
    matrix = kernel.reshape(kernel.shape[-2:]) if self._is_matrix else None
    if matrix is None or not matrix.any():
      return self.v.numpy() / np.linalg.norm(self.v.numpy())
    vectors = np.linalg.eigh(matrix @ matrix.T)[1]
    return vectors[:, -1].reshape(self.v.shape)


class LipschitzDense(_LipschitzLayer):
  """`y = x W + b` on the last axis, with a bounded norm of `W`.

  The norm is that from the p-norm to the q-norm, `p = domain`, `q = codomain`:

    sigma = max over v of |v kernel|_q / |v|_p
    W = kernel / max(1, sigma / lipschitz)

  as in [(Gouk et al., 2018)][1] and, for other orders than 2,
  [(Chen et al., 2019)][2]. Small kernels are left as they are; the kernel itself
  is never overwritten, and the gradient goes through `sigma`.

  `sigma` is measured at the non-trainable unit vector `v`, which only
  `update_norm` changes: call it after each change of the kernel. It is saved with
  the weights. For `p = q = 2` it starts exact, and `update_norm` converges to the
  norm from below. `p = 1` or `q = inf` are exact always. For all other orders
  `sigma` is the norm's lower bound at a local maximum: `W` may stretch by more
  than `lipschitz`.

  #### References

  [1]: Henry Gouk, Eibe Frank, Bernhard Pfahringer and Michael J. Cree.
       Regularisation of neural networks by enforcing Lipschitz continuity,
       section 3. In _Machine Learning_ 110, 2021.
       https://arxiv.org/abs/1804.04368
  [2]: Ricky T. Q. Chen, Jens Behrmann, David Duvenaud and Joern-Henrik
       Jacobsen. Residual Flows for Invertible Generative Modeling, appendix D.
       In _NeurIPS_, 2019. https://arxiv.org/abs/1906.02735
  """

  _is_matrix = True
  _pixels = 1

  def __init__(
    self,
    units: int,
    input_shape: int | Sequence[int],
    lipschitz: float = 0.97,
    domain: float | LearnedOrder = 2.0,
    codomain: float | LearnedOrder = 2.0,
    kernel_initializer: Any = None,
    seed: int | None = None,
    dtype: Any = None,
    name: str | None = None,
  ):
    """Creates and builds the layer.

    Args:
      units: size of the last axis of the output.
      input_shape: `D` or `[D]`, the last axis of the input.
      lipschitz: largest norm of `W`, positive.
      domain: `p`.
      codomain: `q`.
      kernel_initializer: of Keras; by default uniform of variance
        `1 / (3 * fan_in)`.
      seed: int, of the default initializer and of the first `v`.
      dtype: 'float32' or 'float64'.
      name: name of the layer.

    Raises:
      ValueError: if `lipschitz` is not positive, the dtype another one, or the norm
        for these orders cannot be computed (`domain` infinity or `codomain` 1,
        unless `domain` is 1 or `codomain` infinity).
    """
    size = shapes.last_size(input_shape)
    super().__init__(
      kernel_shape=(size, units),
      v_shape=(1, size),
      lipschitz=lipschitz,
      domain=domain,
      codomain=codomain,
      kernel_initializer=kernel_initializer,
      seed=seed,
      dtype=dtype,
      name=name,
    )

  def _linear(self, x, kernel):
    return _on_last_axis(x, kernel)

  def _transpose(self, u, kernel):
    return _on_last_axis(u, kernel, transpose_b=True)


class LipschitzConv2D(_LipschitzLayer):
  """Convolution, 'same' padding and stride 1, with a bounded operator norm.

  As `LipschitzDense`, with `kernel` of `[height, width, C, filters]` and `A` the
  convolution at the true image size: its norm is not that of the kernel reshaped
  to a matrix, and depends on `[H, W]`. `v` is an image `[1, H, W, C]`.

  1x1 kernels are the same matrix at all `N = H * W` pixels. The norm of that is
  known from the matrix's, and `v` is `[1, 1, 1, C]`:

    sigma = |matrix|_{p -> q} * N^max(0, 1/q - 1/p)

  For `p = 1` or `q = inf`, where the norm has a closed form, it is too large on
  images smaller than the kernel.
  """

  def __init__(
    self,
    filters: int,
    kernel_size: int | Sequence[int],
    input_shape: Sequence[int],
    lipschitz: float = 0.97,
    domain: float | LearnedOrder = 2.0,
    codomain: float | LearnedOrder = 2.0,
    kernel_initializer: Any = None,
    seed: int | None = None,
    dtype: Any = None,
    name: str | None = None,
  ):
    """Creates and builds the layer.

    Args:
      filters: channels of the output.
      kernel_size: int, or height and width.
      input_shape: `[H, W, C]`.
      lipschitz: as for `LipschitzDense`, like all that follow.
      domain: `p`.
      codomain: `q`.
      kernel_initializer: of Keras.
      seed: int.
      dtype: 'float32' or 'float64'.
      name: name of the layer.

    Raises:
      ValueError: as `LipschitzDense`.
    """
    if isinstance(kernel_size, int):
      kernel_size = (kernel_size, kernel_size)
    *space, channels = input_shape
    self._is_matrix = tuple(kernel_size) == (1, 1)
    self._pixels = math.prod(space) if self._is_matrix else 1
    super().__init__(
      kernel_shape=(*kernel_size, channels, filters),
      v_shape=(1, 1, 1, channels) if self._is_matrix else (1, *space, channels),
      lipschitz=lipschitz,
      domain=domain,
      codomain=codomain,
      kernel_initializer=kernel_initializer,
      seed=seed,
      dtype=dtype,
      name=name,
    )

  def _linear(self, x, kernel):
    return convolution.conv2d(x, kernel)

  def _transpose(self, u, kernel):
    if self._is_matrix:
      return _on_last_axis(u, kernel[0, 0], transpose_b=True)
    return tf.nn.conv2d_transpose(u, kernel, self.v.shape, strides=1, padding='SAME')


def _on_last_axis(x, matrix, transpose_b=False):
  # A batched product would repeat the matrix for every pixel under XLA.
  return shapes.with_flat_batch(
    lambda x: tf.linalg.matmul(x, matrix, transpose_b=transpose_b), x, 1
  )


def _spread(pixels, domain, codomain, dtype):
  """Norm, over the matrix's, of one matrix at each of `pixels` pixels."""
  if pixels == 1:
    return tf.ones([], dtype)
  excess = tf.cast(1.0 / codomain - 1.0 / domain, dtype)
  return tf.cast(pixels, dtype) ** tf.nn.relu(excess)


def _check_dtype(layer):
  if layer.compute_dtype not in ('float32', 'float64') or (
    layer.compute_dtype != layer.variable_dtype
  ):
    raise ValueError(
      f"Expected dtype 'float32' or 'float64'; received {layer.dtype_policy.name!r}, "
      f'which rounds more than the bound on the norm allows. Keep the Lipschitz '
      f"layers in 'float32'."
    )


def _check_lipschitz(lipschitz):
  if not lipschitz > 0:
    raise ValueError(
      f'Expected lipschitz > 0; received {lipschitz}. The usual is 0.97.'
    )
