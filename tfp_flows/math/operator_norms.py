"""Norms of linear maps between spaces with p- and q-norms."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = [
  'check_orders',
  'has_closed_form',
  'kernel_norm',
  'operator_norm',
  'p_norm',
  'power_iteration',
]


def p_norm(x: tf.Tensor, order: float | tf.Tensor = 2.0, axis: Any = None) -> tf.Tensor:
  """`(sum |x|^p)^(1/p)`, or `max |x|` for `order = inf`.

  For other orders than 2 no power overflows; the gradient at `x = 0` is 0.
  Differentiable in `order` too if that is a tensor.

  Args:
    x: floating-point tensor.
    order: `p` in [1, inf]; a tensor must be finite.
    axis: the axes to reduce; None for all.

  Returns:
    Tensor like `x` without the axes.
  """
  size = tf.abs(x)
  if _is(order, 1.0):
    return tf.reduce_sum(size, axis)
  if _is(order, math.inf):
    return tf.reduce_max(size, axis)
  if _is(order, 2.0):
    return tf.squeeze(_two_norm(x, axis), axis)
  # The norm is the same for every scale, so the scale needs no gradient.
  scale = tf.stop_gradient(tf.reduce_max(size, axis, keepdims=True))
  sums = tf.reduce_sum(_power(tf.math.divide_no_nan(size, scale), order), axis)
  scale = tf.reshape(scale, tf.shape(sums))
  safe = tf.where(scale > 0, sums, tf.ones_like(sums))
  return scale * safe ** (1.0 / order)


def operator_norm(
  apply: Callable[[tf.Tensor], tf.Tensor],
  v: tf.Tensor,
  domain: float | tf.Tensor = 2.0,
  codomain: float | tf.Tensor = 2.0,
) -> tf.Tensor:
  """How much the linear map `apply` stretches `v`.

    |A v|_q / |v|_p   <=   |A|_{p -> q} = max over v of the left side

  with `p = domain` and `q = codomain`: a lower bound of the induced norm, equal
  to it if `v` is a maximiser, as `power_iteration` looks for. `v` is a constant
  here; at a maximiser the gradient in the weights of `apply` and in the orders
  is that of the induced norm itself (envelope theorem). Where `A v = 0`, the
  value and its gradient are 0.

  Args:
    apply: linear map of a tensor like `v` to a tensor of any shape.
    v: floating-point tensor, not zero.
    domain: `p` in [1, inf], a float or a scalar tensor.
    codomain: `q` in [1, inf], a float or a scalar tensor.

  Returns:
    Scalar tensor like `v`.
  """
  v = tf.stop_gradient(v)
  return p_norm(apply(v), codomain) / _size(v, domain)


def power_iteration(
  apply: Callable[[tf.Tensor], tf.Tensor],
  transpose: Callable[[tf.Tensor], tf.Tensor],
  v: tf.Tensor,
  domain: float | tf.Tensor = 2.0,
  codomain: float | tf.Tensor = 2.0,
  tolerance: float = 1e-3,
  max_iterations: int = 50,
) -> tf.Tensor:
  """Looks for the `v` that a linear map `A` stretches most [(Boyd, 1974)][1].

  With `p = domain` and `q = codomain`, an iteration is

    u = sign(A v) |A v|^(q - 1)
    z = A^T u,   v = sign(z) |z|^(1 / (p - 1)),   v = v / |v|_p

  which never lessens `|A v|_q`. For `p = q = 2` it is the power method for
  `A^T A` and finds the induced norm, unless `v` starts orthogonal to the
  maximiser. For other orders it finds a *local* maximum.

  It stops when an iteration moves `v` by less than `tolerance`. The growth of
  `|A v|_q` would be a worse sign: it is of second order, and vanishes too while
  `v` leaves a direction that another one has just overtaken.

  Works in eager mode, in graphs and under XLA.

  Args:
    apply: `A`, of a tensor like `v` to a tensor of any shape.
    transpose: its transpose.
    v: floating-point tensor to start from, not zero.
    domain: `p` in (1, inf), a float or a scalar tensor.
    codomain: `q` in (1, inf), a float or a scalar tensor.
    tolerance: in the p-norm, where `|v|_p = 1`.
    max_iterations: most iterations.

  Returns:
    The new `v`, with `|v|_p = 1`; the given one, scaled, if `A v = 0`. Never one
    with a smaller `|A v|_q`, but for rounding.

  #### References

  [1]: David W. Boyd. The power method for l^p norms. In _Linear Algebra and
       its Applications_ 9, 1974.
  """

  def unfinished(i, v, image, move):
    del v, image
    return tf.logical_and(i < max_iterations, move > tolerance)

  def step(i, v, image, move):
    del move
    dual = _signed_power(image, codomain - 1.0)
    new_v = _unit(_signed_power(transpose(dual), 1.0 / (domain - 1.0)), domain)
    return i + 1, new_v, apply(new_v), _size(new_v - v, domain)

  v = _unit(v, domain)
  image = apply(v)
  norm = _size(image, codomain)
  move = tf.where(norm > 0, tf.ones_like(norm), tf.zeros_like(norm))
  tolerance = tf.cast(tolerance, move.dtype)
  _, new_v, new_image, _ = tf.while_loop(unfinished, step, (0, v, image, move))
  rounding = 10.0 * np.finfo(v.dtype.as_numpy_dtype).eps
  # NaN compares as false.
  is_better = _size(new_image, codomain) >= (1.0 - rounding) * norm
  return tf.stop_gradient(tf.where(is_better, new_v, v))


def has_closed_form(domain: Any, codomain: Any) -> bool:
  """Whether `kernel_norm` knows these orders: `p = 1` or `q = inf`."""
  return _is(domain, 1.0) or _is(codomain, math.inf)


def kernel_norm(
  kernel: tf.Tensor, domain: float = 2.0, codomain: float = 2.0
) -> tf.Tensor:
  """The induced norm of a matrix or of a convolution, for `p = 1` or `q = inf`.

    p = 1:     max over inputs i  of |kernel[..., i, :]|_q
    q = inf:   max over outputs o of |kernel[..., o]|_p*,   1/p + 1/p* = 1

  Exact for matrices, and for convolutions with zero padding and stride 1 on
  images at least as large as the kernel; on smaller ones an upper bound.

  Args:
    kernel: `[inputs, outputs]` or `[height, width, inputs, outputs]`.
    domain: `p`, a float or, if `q = inf`, a scalar tensor.
    codomain: `q`, a float or, if `p = 1`, a scalar tensor.

  Returns:
    Scalar tensor like `kernel`.

  Raises:
    ValueError: for other orders.
  """
  rank = kernel.shape.rank
  if _is(domain, 1.0):
    axes = [axis for axis in range(rank) if axis != rank - 2]
    return tf.reduce_max(p_norm(kernel, codomain, axes))
  if _is(codomain, math.inf):
    axes = list(range(rank - 1))
    return tf.reduce_max(p_norm(kernel, _dual_order(domain), axes))
  raise ValueError(
    f'Expected domain 1 or codomain infinity, whose norms have a closed form; '
    f'received {domain} -> {codomain}. Use `power_iteration`.'
  )


def check_orders(domain: Any, codomain: Any) -> None:
  """Raises ValueError for orders whose norm cannot be computed.

  Known are `p = 1` or `q = inf` by `kernel_norm`, and `1 < p, q < inf` by
  `power_iteration`. Tensors pass.
  """
  for order in (domain, codomain):
    if isinstance(order, int | float) and not order >= 1:
      raise ValueError(
        f'Expected orders of norms in [1, inf]; received {domain} -> {codomain}. '
        f'The usual order is 2.'
      )
  if not has_closed_form(domain, codomain) and (
    _is(domain, math.inf) or _is(codomain, 1.0)
  ):
    raise ValueError(
      f'Expected a domain of 1, a codomain of infinity, or both strictly between; '
      f'received {domain} -> {codomain}, whose norm has no closed form and no '
      f'iteration that can be relied on. Choose orders in (1, inf).'
    )


def _is(order: Any, value: float) -> bool:
  """Whether `order` is known, while tracing, to be `value`."""
  return isinstance(order, int | float) and order == value


def _dual_order(order: Any) -> Any:
  if _is(order, 1.0):
    return math.inf
  return 1.0 if _is(order, math.inf) else order / (order - 1.0)


def _size(x, order):
  """`p_norm` of all of `x`, in few operations; its gradient at 0 is NaN."""
  return tf.sqrt(tf.reduce_sum(x * x)) if _is(order, 2.0) else p_norm(x, order)


def _two_norm(x, axis):
  """The 2-norm along the axes, which stay; loops keep `x` alone for its gradient."""

  @tf.custom_gradient
  def norm(_):
    def grad(y):
      return x * tf.math.divide_no_nan(y, _two_norm(x, axis))

    return tf.sqrt(tf.reduce_sum(x * x, axis, keepdims=True)), grad

  return norm(x)


def _power(x: tf.Tensor, exponent: Any) -> tf.Tensor:
  if _is(exponent, 1.0):
    return x
  return tf.square(x) if _is(exponent, 2.0) else x**exponent


def _signed_power(x: tf.Tensor, exponent: Any) -> tf.Tensor:
  """`sign(x) |x|^exponent` up to scale."""
  if _is(exponent, 1.0):
    return _unit(x, 2.0)
  x = tf.math.divide_no_nan(x, tf.reduce_max(tf.abs(x)))
  return tf.sign(x) * _power(tf.abs(x), exponent)


def _unit(v: tf.Tensor, order: Any) -> tf.Tensor:
  return tf.math.divide_no_nan(v, _size(v, order))
