"""Activations whose slope is at most 1."""

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.math import operator_norms
from tfp_flows.networks import lipschitz_layers

__all__ = ['ClipSwish', 'LipSwish', 'lipschitz_activation']

# The slopes of `x * sigmoid(x)` lie in [1 - s, s], and those at `x` and at `-x`
# add up to 1; s is this, rounded up.
_SWISH_SLOPE = 1.09984


def lipschitz_activation(
  name: str,
  order: float | lipschitz_layers.LearnedOrder = 2.0,
  dtype: Any = None,
) -> keras.layers.Layer:
  """Creates a map of Lipschitz constant at most 1 in the norm of `order`.

    'lip_swish'    x * sigmoid(beta * x) / 1.1, see `LipSwish`
    'clip_swish'   LipSwish of [x, -x], twice the channels, see `ClipSwish`
    'elu'          x for x > 0, else exp(x) - 1
    'softplus'     log(1 + exp(x))
    'tanh'         tanh(x)
    'relu'         max(x, 0)

  The gradient of a residual flow's log-det goes through the *second* derivative:
  that of 'relu' is zero, so the log-det teaches the layers before it nothing;
  that of 'elu' is zero for x > 0.

  Args:
    name: one of the above.
    order: of the norm in which it must not stretch; only 'clip_swish' needs it.
    dtype: Keras dtype.

  Returns:
    Built Keras layer of `[..., C]` to `[..., width_factor * C]`, elementwise but
    for 'clip_swish'; its attribute `width_factor` is 1, or 2 for 'clip_swish'.

  Raises:
    ValueError: for an unknown name.
  """
  if name == 'lip_swish':
    return LipSwish(dtype=dtype)
  if name == 'clip_swish':
    return ClipSwish(order, dtype=dtype)
  if name in _FUNCTIONS:
    return _Elementwise(name, dtype=dtype)
  names = ', '.join(repr(n) for n in ('lip_swish', 'clip_swish', *_FUNCTIONS))
  raise ValueError(f'Expected an activation among {names}; received {name!r}.')


class LipSwish(keras.layers.Layer):
  """Swish, scaled to slopes in [-0.091, 1] [(Chen et al., 2019)][1].

    f(x) = x * sigmoid(beta * x) / 1.1,   beta = softplus(b)

  The trainable scalar `b` starts at 0.5, `beta` at 0.974. The largest slope of
  swish is 1.0998 for every `beta`.

  #### References

  [1]: Ricky T. Q. Chen, Jens Behrmann, David Duvenaud and Joern-Henrik
       Jacobsen. Residual Flows for Invertible Generative Modeling, section
       3.3. In _NeurIPS_, 2019. https://arxiv.org/abs/1906.02735
  """

  width_factor = 1

  def __init__(self, dtype: Any = None, name: str | None = None):
    super().__init__(dtype=dtype, name=name)
    self.b = _add_b(self)
    self.built = True

  def call(self, x: tf.Tensor) -> tf.Tensor:
    return _swish(x, self.b) * (1.0 / 1.1)


class ClipSwish(keras.layers.Layer):
  """Swish of `x` and of `-x`: twice the channels [(Perugachi-Diaz et al., 2021)][1].

    f(x) = [swish(x), swish(-x)] / c,   swish(x) = x * sigmoid(beta * x)
    c = (s^p + (s - 1)^p)^(1/p),        s = max swish' = 1.0998

  with `beta` as in `LipSwish`. `c` makes the Lipschitz constant 1 from `[..., C]`
  to `[..., 2 * C]`, both in the norm of order `p`; for `p = 2` it is 1.1044, the
  paper's 1.1 * 1.004.

  #### References

  [1]: Yura Perugachi-Diaz, Jakub M. Tomczak and Sandjai Bhulai. Invertible
       DenseNets with Concatenated LipSwish, section 3.3. In _NeurIPS_, 2021.
       https://arxiv.org/abs/2102.02694
  """

  width_factor = 2

  def __init__(
    self,
    order: float | lipschitz_layers.LearnedOrder = 2.0,
    dtype: Any = None,
    name: str | None = None,
  ):
    super().__init__(dtype=dtype, name=name)
    self._order = order
    self.b = _add_b(self)
    self.built = True

  def call(self, x: tf.Tensor) -> tf.Tensor:
    slopes = tf.constant([_SWISH_SLOPE, _SWISH_SLOPE - 1.0], x.dtype)
    order = lipschitz_layers.order_value(self._order)
    y = _swish(tf.concat([x, -x], axis=-1), self.b)
    return y / operator_norms.p_norm(slopes, order)


class _Elementwise(keras.layers.Layer):
  """A function of `_FUNCTIONS` as a layer."""

  width_factor = 1

  def __init__(self, function, **kwargs):
    super().__init__(**kwargs)
    self._function = _FUNCTIONS[function]
    self.built = True

  def call(self, x):
    return self._function(x)


_FUNCTIONS = {
  'elu': tf.nn.elu,
  'softplus': tf.nn.softplus,
  'tanh': tf.tanh,
  'relu': tf.nn.relu,
}


def _add_b(layer):
  start = keras.initializers.Constant(0.5)
  return layer.add_weight(shape=(), initializer=start, name='b')


def _swish(x, b):
  return _scaled_swish(x, tf.nn.softplus(tf.convert_to_tensor(b)))


# Loops keep what gradients need. Of `x * sigmoid(beta * x)` and of its gradient that
# would be several arrays, and is `x` and what comes from behind.


def _scaled_swish(x, beta):
  @tf.custom_gradient
  def swish(*_):
    def grad(y):
      s = tf.sigmoid(beta * x)
      of_beta = tf.reduce_sum(y * (x * (x * (s * (1.0 - s)))))
      return _times_slope(y, x, beta), of_beta

    return x * tf.sigmoid(beta * x), grad

  return swish(x, beta)


def _times_slope(y, x, beta):
  """`y` times the derivative of `x * sigmoid(beta * x)` in `x`."""

  def slope():
    s = tf.sigmoid(beta * x)
    return s + beta * x * (s * (1.0 - s))

  @tf.custom_gradient
  def product(*_):
    def grad(z):
      s = tf.sigmoid(beta * x)
      change = z * y * (s * (1.0 - s)) * (2.0 + beta * x * (1.0 - 2.0 * s))
      return z * slope(), beta * change, tf.reduce_sum(x * change)

    return y * slope(), grad

  return product(y, x, beta)
