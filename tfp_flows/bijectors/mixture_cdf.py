"""Mixtures of sigmoids as elementwise bijectors."""

import math
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import flow_bijector
from tfp_flows.internal import checks
from tfp_flows.internal import configurable
from tfp_flows.math import logistic_mixtures
from tfp_flows.math import scales

__all__ = ['MixtureCDF']

tfb = tfp.bijectors


class _LogitCDF(flow_bijector.FlowBijector):
  """`y = exp(log_scale) * logit F(x) + shift`, elementwise."""

  def __init__(self, mixture, shift, log_scale, name='mixture_cdf'):
    self._mixture, self._shift, self._log_scale = mixture, shift, log_scale
    super().__init__(forward_min_event_ndims=0, dtype=shift.dtype, name=name)

  def _forward_and_log_det(self, x, condition=None):
    y, log_slope = logistic_mixtures.logit_cdf(x, self._mixture)
    return y * tf.exp(self._log_scale) + self._shift, log_slope + self._log_scale

  def _inverse_and_log_det(self, y, condition=None):
    logit = (y - self._shift) * tf.exp(-self._log_scale)
    x = logistic_mixtures.quantile(logit, self._mixture)
    log_slope = logistic_mixtures.logit_cdf(x, self._mixture)[1]
    return x, -log_slope - self._log_scale


class MixtureCDF(configurable.Configurable):
  """Logit of the distribution function of a mixture of logistics, onto all numbers.

    y = exp(a) * logit(sum_k w_k sigmoid((x - m_k) / s_k)) + b

  With `outer_affine`, the transformer of Flow++ [(Ho et al., 2019)][1]; without,
  `y = logit(sum_k w_k sigmoid(a_k x + b_k))` with `a_k = 1 / s_k`, the deep sigmoidal
  flow of neural autoregressive flows [(Huang et al., 2018)][2].

  For `K` components `3 K` parameters for each number, and two more with `outer_affine`:
  raw weights `v`, means `m` and scales `r`, then `b` and a raw `a`:

    w = softmax(v),   m_k = c_k m,   log s_k = L tanh(d_k r / L),   a: 2 tanh(a / 2)

  so that `s_k` is within `exp(-L)` and `exp(L)`, and the slope of the outer map within
  0.135 and 7.39. All zero is the identity. There all components are the same, and a
  step that moved all alike would keep them so: the constants `c_k` and `d_k`, spread
  over [1/2, 2] in opposite orders, tell them apart. They are 1 for one component.

  Everything is computed from logarithms, so that values and log-dets are right, and `y`
  onto all numbers, where the distribution function itself rounds to 0 or 1. The
  inverse is a root within an exact bracket, with derivatives by the implicit function
  theorem, see `find_root`. Where the components leave a gap, `x` has fewer digits than
  `y`, and none where the slope is below the precision of the dtype.

  #### References

  [1]: Jonathan Ho, Xi Chen, Aravind Srinivas, Yan Duan and Pieter Abbeel. Flow++:
       Improving Flow-Based Generative Models with Variational Dequantization and
       Architecture Design, section 3.2. In _ICML_, 2019.
       https://arxiv.org/abs/1902.00275
  [2]: Chin-Wei Huang, David Krueger, Alexandre Lacoste and Aaron Courville. Neural
       Autoregressive Flows, section 3. In _ICML_, 2018.
       https://arxiv.org/abs/1804.00779
  """

  params_first = False
  sensitivity = 4

  def __init__(
    self,
    num_components: int = 8,
    outer_affine: bool = True,
    log_scale_bound: float = 4.0,
  ):
    """Creates the transformer.

    Args:
      num_components: `K`, at least 1.
      outer_affine: whether `a` and `b` are there, or 0.
      log_scale_bound: `L`, the largest `|log s_k|`.

    Raises:
      ValueError: if a number is out of its range.
    """
    self._count = checks.as_count(num_components, 'num_components')
    if not 0 < log_scale_bound < math.inf:
      raise ValueError(
        f'Expected log_scale_bound to be finite and more than 0; received '
        f'{log_scale_bound}.'
      )
    self._bound, self._outer_affine = float(log_scale_bound), outer_affine
    self.params_per_dim = 3 * self._count + 2 * bool(outer_affine)
    self._speeds = 2.0 ** np.linspace(-1, 1, self._count) if self._count > 1 else 1.0

  def __call__(self, params: tf.Tensor) -> tfb.Bijector:
    params = tf.reshape(
      params,
      tf.concat([tf.shape(params)[:-1], [-1, self.params_per_dim]], axis=0),
    )
    sizes = [self._count] * 3 + [1] * (self.params_per_dim - 3 * self._count)
    weights, means, raw, *outer = tf.split(params, sizes, axis=-1)
    speeds = tf.constant(self._speeds, params.dtype)
    mixture = logistic_mixtures.Mixture(
      tf.nn.log_softmax(weights),
      means * speeds,
      scales.clamped_log_scale(raw / speeds, self._bound),
    )
    if not outer:
      zero = tf.zeros([], params.dtype)
      return _LogitCDF(mixture, zero, zero)
    shift, log_scale = (v[..., 0] for v in outer)
    return _LogitCDF(mixture, shift, scales.clamped_log_scale(log_scale))

  def of_one(self, params: tf.Tensor, axis: Any) -> tfb.Bijector:
    """The bijector of the number at `axis` alone, from its `[..., P]`."""
    return self(params)
