"""Sylvester flow."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import parametric
from tfp_flows.internal import checks
from tfp_flows.internal import seeds
from tfp_flows.internal import shapes
from tfp_flows.internal import tf_private
from tfp_flows.math import orthonormal
from tfp_flows.math import roots
from tfp_flows.math import tanh_maps

__all__ = ['Sylvester']

BASES = ('orthogonal', 'householder', 'triangular')


class Sylvester(parametric.Parametric):
  """A network of one hidden layer that is added to its input.

  For `x` of shape `[..., D]`, `Q` of `[D, M]` with orthonormal columns, `M <= D`, upper
  triangular `R1`, `R2` of `[M, M]` and `b` of `[M]`
  [(van den Berg et al., 2018)][1]:

    forward: `y = x + Q R1 tanh(a)`,   `a = R2 Q'x + b`            (eq. 13)
    inverse: by the latents of `Q`, see below
    log-det: `log|det dy/dx| = sum(log(1 + p_i / cosh(a_i)^2))`   (nats)   (eq. 14)

  with `p_i = R1[i, i] R2[i, i]`. Both diagonals are `tanh` of weights, so that
  `p_i > -1`. The log-det is computed from sums of positive numbers,
  `tanh(a_i)^2 + (1 + p_i) / cosh(a_i)^2` with
  `1 + p_i = cosh(k + l) / (cosh(k) cosh(l))` for the weights `k`, `l`; `1 + p_i` is at
  least 1e-19 in float32 and 1.5e-154 in float64.

  The inverse: `z = Q'x` solves `z + R1 tanh(R2 z + b) = Q'y`, from the last of its
  numbers to the first, each the root of an increasing function that a bracket encloses,
  up to rounding: M steps one after the other. Then `x = y - Q R1 tanh(R2 z + b)`. Its
  derivatives are those of the implicit function theorem, by a triangular solve.

  `Q` is, by `basis`,

  * `'orthogonal'`: that of the QR decomposition of a matrix of weights, where the paper
    iterates;
  * `'householder'`: the first M columns of a product of `num_reflections` reflections;
  * `'triangular'`: M columns of the identity, or with `flip` of the permutation that
    reverses the order. Layers of both kinds in turn, as `tff.sylvester` has them, mix.

  `tfb.Invert(Sylvester(...))` goes from latents to data by the formula of the paper, as
  variational inference needs it.

  With a `conditioner`, all weights are sums of the variables and of what it returns for
  `condition`: an amortized flow.

  The layer starts near the identity: `R1` is small and random, all else random.

  #### References

  [1]: Rianne van den Berg, Leonard Hasenclever, Jakub M. Tomczak and Max Welling.
       Sylvester Normalizing Flows for Variational Inference. In _UAI_, 2018.
       https://arxiv.org/abs/1803.05649
  """

  def __init__(
    self,
    event_shape: Sequence[int],
    rank: int | None = None,
    basis: str = 'orthogonal',
    num_reflections: int = 8,
    flip: bool = False,
    conditioner: Callable[..., tf.Tensor] | None = None,
    seed: int | None = None,
    dtype: Any = tf.float32,
    name: str = 'sylvester',
  ):
    """Creates the layer.

    Args:
      event_shape: `[D]`.
      rank: `M`, from 1 to D; None is D.
      basis: `'orthogonal'`, `'householder'` or `'triangular'`.
      num_reflections: of `'householder'`.
      flip: of `'triangular'`.
      conditioner: callable `condition -> [..., M * M + 2 * M + B]`, row by row the
        offsets of `matrix`, whose upper triangle is that of `R1` and whose lower one
        that of `R2'`, `diagonal`, of `R2`, `b`, and `basis`: `[D, M]`, so `B = D * M`,
        `num_reflections * D`, or none with `'triangular'`. A Keras layer must be built.
      seed: int, of the initial weights; None draws one, which
        `keras.utils.set_random_seed` fixes.
      dtype: of the variables and of `x`.
      name: name of the layer.

    Raises:
      ValueError: if `event_shape` is not `[D]`, for another basis, or a size that is
        out of range.
    """
    size = self._set_event_shape(event_shape)
    if basis not in BASES:
      raise ValueError(
        f'Sylvester expects basis to be one of {BASES}; received {basis!r}.'
      )
    rank = size if rank is None else rank
    self._rank = checks.as_count(rank, 'rank', 1, size, 'Sylvester')
    checks.as_count(num_reflections, 'num_reflections', owner='Sylvester')
    shape = dict(orthogonal=[size, rank], householder=[num_reflections, size])
    self._basis, self._flip = basis, bool(flip)
    with tf.name_scope(name) as scope:
      super().__init__(forward_min_event_ndims=1, dtype=dtype, name=scope)
      self._set_parameters(_start(rank, shape.get(basis), seed), conditioner)

  def _forward_and_log_det(self, x, condition=None):
    at = self._matrices(condition)
    a = at.activation(self._projected(at, x))
    return x + self._embedded(at, at.added(a)), at.log_det(a)

  def _inverse_and_log_det(self, y, condition=None):
    at = self._matrices(condition)
    a = at.activation(_solved(at, self._projected(at, y)))
    return y - self._embedded(at, at.added(a)), -at.log_det(a)

  def _matrices(self, condition):
    matrix, diagonal, b, *basis = self._values(condition)
    if self._basis == 'orthogonal':
      basis = [orthonormal.orthonormalized(*basis)]
    diagonals = tf.linalg.diag_part(matrix), diagonal
    # Constant masks: XLA takes seconds to compile products of `band_part`s.
    ones = np.ones([self._rank, self._rank], self.dtype.as_numpy_dtype)
    identity = np.eye(self._rank, dtype=ones.dtype)
    r1, r2 = (
      np.triu(ones, 1) * strict + identity * tf.tanh(diagonal)[..., tf.newaxis]
      for strict, diagonal in zip(
        (matrix, tf.linalg.matrix_transpose(matrix)), diagonals
      )
    )
    return _Matrices(r1, r2, b, _slope_at_zero(*diagonals), basis)

  def _projected(self, at, x):
    """`Q'x`."""
    if self._basis == 'orthogonal':
      return _product(x, at.basis[0])
    if self._basis == 'householder':
      x = orthonormal.reflected(x, at.basis[0])
    elif self._flip:
      x = tf.reverse(x, [-1])
    return x[..., : self._rank]

  def _embedded(self, at, z):
    """`Q z`."""
    if self._basis == 'orthogonal':
      return _product(z, tf.linalg.matrix_transpose(at.basis[0]))
    missing = self._event[0] - self._rank
    x = tf.pad(z, [[0, 0]] * (z.shape.rank - 1) + [[0, missing]])
    if self._basis == 'householder':
      return orthonormal.reflected(x, at.basis[0], backward=True)
    return tf.reverse(x, [-1]) if self._flip else x


class _Matrices(NamedTuple):
  """What a layer is made of, with a batch shape if conditional."""

  r1: tf.Tensor
  r2: tf.Tensor
  b: tf.Tensor
  s: tf.Tensor  # 1 + p
  basis: list[tf.Tensor]

  def activation(self, z: tf.Tensor) -> tf.Tensor:
    return _product(z, tf.linalg.matrix_transpose(self.r2)) + self.b

  def added(self, a: tf.Tensor) -> tf.Tensor:
    return _product(tf.tanh(a), tf.linalg.matrix_transpose(self.r1))

  def log_det(self, a: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tanh_maps.log_slope(a, self.s), axis=-1)


def _product(x, matrix):
  """`x' matrix`, of `[..., n]` and `[n, m]` or one matrix for each example."""
  if matrix.shape.rank > 2:
    return tf.linalg.matvec(matrix, x, transpose_a=True)
  return shapes.with_flat_batch(lambda x: tf.matmul(x, matrix), x, 1)


def _slope_at_zero(first, second):
  """`1 + tanh(first) tanh(second)`, which does not cancel."""
  log_cosh = tfp.math.log_cosh
  s = tf.exp(log_cosh(first + second) - log_cosh(first) - log_cosh(second))
  return tf.maximum(s, tanh_maps.smallest(s.dtype))


def _solved(at, target):
  """The `z` with `z + R1 tanh(R2 z + b) = target`, with its derivatives."""

  def equation(z, target, r1, r2, b, s):
    at = _Matrices(r1, r2, b, s, [])
    return z + at.added(at.activation(z)) - target

  def solve(z, right, adjoint, _, r1, r2, b, s):
    at = _Matrices(r1, r2, b, s, [])
    a = at.activation(z)
    t = tf.tanh(a)
    jacobian = (at.r1 * (1.0 - t * t)[..., tf.newaxis, :]) @ at.r2
    jacobian = tf.linalg.set_diag(jacobian, tf.exp(tanh_maps.log_slope(a, at.s)))
    found = tf.linalg.triangular_solve(
      jacobian, right[..., tf.newaxis], lower=False, adjoint=adjoint
    )
    return found[..., 0]

  arguments = [target, at.r1, at.r2, at.b, at.s]
  with tf_private.stop_recording():
    z = _back_substituted(*map(tf.stop_gradient, arguments))
  return roots.implicit(z, equation, solve, arguments)


def _back_substituted(target, r1, r2, b, s):
  """`_solved` without derivatives, from the last number to the first."""
  count = target.shape[-1]

  def step(i, z, h):
    k = count - 1 - i
    # Numbers that are not known yet are 0.
    row1, row2 = (tf.gather(r, k, axis=-2) for r in (r1, r2))
    goal = tf.gather(target, k, axis=-1) - tf.reduce_sum(row1 * h, axis=-1)
    offset = tf.gather(b, k, axis=-1) + tf.reduce_sum(row2 * z, axis=-1)
    first, second = (tf.gather(row, k, axis=-1) for row in (row1, row2))
    a = tanh_maps.solve(second * goal + offset, tf.gather(s, k, axis=-1))
    here = tf.one_hot(k, count, dtype=target.dtype)
    z += here * (goal - first * tf.tanh(a))[..., tf.newaxis]
    h += here * tf.tanh(a)[..., tf.newaxis]
    return i + 1, shapes.ensure(z, target.shape), shapes.ensure(h, target.shape)

  zeros = tf.zeros_like(target)
  _, z, _ = tf.while_loop(
    lambda i, *_: i < count, step, (0, zeros, zeros), maximum_iterations=count
  )
  return z


def _start(rank, basis_shape, seed):
  rng = np.random.default_rng(seeds.default_seed(seed))
  drawn = rng.standard_normal([rank, rank])
  matrix = 0.01 * np.triu(drawn) + np.tril(drawn, -1) / np.sqrt(rank)
  starts = dict(matrix=matrix, diagonal=np.ones(rank), b=rng.standard_normal(rank))
  if basis_shape is not None:
    starts['basis'] = rng.standard_normal(basis_shape)
  return starts
