"""Coupling layers."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import conditioned
from tfp_flows.bijectors import flow_bijector
from tfp_flows.bijectors import masks
from tfp_flows.bijectors import reversible
from tfp_flows.bijectors import transformers

__all__ = ['AdditiveCoupling', 'AffineCoupling', 'Conditioner', 'Coupling']

tfb = tfp.bijectors
Conditioner = Callable[..., tf.Tensor]


class Coupling(conditioned.Conditioned):
  """Keeps one part of the event and transforms the other by it.

  For `kept, changed = mask.split(x)` and `p = conditioner(kept, condition)`:

    forward: `y = mask.merge(kept, bijector_fn(p).forward(changed))`
    inverse: the same with `inverse`, as `y` keeps the same part
    log-det: of `bijector_fn(p)` at `changed`, summed over it   (nats)

  Three independent choices [(Dinh et al., 2014)][1]: what is kept (`mask`), how
  the rest depends on it (`conditioner`), and through which elementwise map
  (`bijector_fn`).

  #### Examples

  ```python
  mask = tff.ChannelMask([6])
  spline = tff.RationalQuadratic(num_bins=8)
  layer = tff.Coupling(
      mask, tff.MLP(mask.kept_shape, 3 * spline.params_per_dim), spline)
  ```

  #### References

  [1]: Laurent Dinh, David Krueger and Yoshua Bengio. NICE: Non-linear
       Independent Components Estimation, section 3.2. 2014.
       https://arxiv.org/abs/1410.8516
  """

  def __init__(
    self,
    mask: masks.Mask,
    conditioner: Conditioner,
    bijector_fn: transformers.Transformer,
    dtype: Any = tf.float32,
    name: str = 'coupling',
  ):
    """Creates the layer.

    Args:
      mask: `ChannelMask`, `CheckerboardMask`, `IndexMask`, or any object with
        `split`, `merge` and the three shapes.
      conditioner: callable `(kept) -> p`, or `(kept, condition=...) -> p` if its
        signature has that name; a Keras layer must be built.
      bijector_fn: callable `p -> tfb.Bijector` that acts elementwise on tensors
        of `mask.changed_shape`.
      dtype: of `x`.
      name: name of the layer.
    """
    parameters = dict(locals())
    with tf.name_scope(name) as scope:
      super().__init__(
        forward_min_event_ndims=len(mask.event_shape),
        dtype=dtype,
        parameters=parameters,
        name=scope,
      )
      self._mask = mask
      self._set_conditioner(conditioner, bijector_fn, mask.changed_shape)

  @property
  def mask(self) -> masks.Mask:
    return self._mask

  def _event_shape_or_none(self):
    return self._mask.event_shape

  def _forward_and_log_det(self, x, condition=None):
    kept, changed = self._mask.split(x)
    y, log_det = flow_bijector.forward_and_log_det(
      self._inner(kept, condition), changed, len(self._mask.event_shape)
    )
    return self._mask.merge(kept, y), log_det

  def _inverse_and_log_det(self, y, condition=None):
    kept, changed = self._mask.split(y)
    x, log_det = flow_bijector.inverse_and_log_det(
      self._inner(kept, condition), changed, len(self._mask.event_shape)
    )
    return self._mask.merge(kept, x), log_det

  def _pull_back(self, y, upstream, condition, tensors, inverted):
    there: Callable[..., Any]
    back: Callable[..., Any]
    there, back = flow_bijector.forward_and_log_det, flow_bijector.inverse_and_log_det
    if inverted:
      there, back = back, there
    event_ndims = len(self._mask.event_shape)
    kept, changed = self._mask.split(y)
    of_kept, of_changed = self._mask.split(upstream.y)
    with tf.GradientTape() as tape:
      tape.watch([kept, *tensors])
      # The network is evaluated but once, for the input and for its gradient.
      inner = self._inner(kept, condition)
      with tape.stop_recording():
        x, _ = back(inner, changed, event_ndims)
        x = tf.identity(x)
      tape.watch(x)
      outputs = reversible.with_batch_shape(there(inner, x, event_ndims), upstream)
    (more_of_kept, of_x), weights = reversible.differentiate(
      tape, outputs, (of_changed, upstream.log_det), [kept, x], tensors
    )
    return reversible.PullBack(
      self._mask.merge(kept, x),
      self._mask.merge(of_kept + more_of_kept, of_x),
      weights,
    )

  def _adapt(self, x, condition):
    if hasattr(self._conditioner, 'adapt'):
      self._conditioner.adapt(self._mask.split(x)[0], condition)
    return self._forward_and_log_det(x, condition)[0]


class AffineCoupling(Coupling):
  """`changed -> (changed + t) * scale`, with a bounded scale.

  `t` and the raw scale are the two halves of what the conditioner returns, so
  `[..., 2 * C]` for `C` changed channels. `Affine` has the three scales.
  """

  def __init__(
    self,
    mask: masks.Mask,
    conditioner: Conditioner,
    scale: str = 'sigmoid',
    dtype: Any = tf.float32,
    name: str = 'affine_coupling',
  ):
    """Creates the layer: `Coupling` with `Affine(scale=scale)`."""
    parameters = dict(locals())
    affine = transformers.Affine(mask.changed_shape[-1], scale, dtype)
    super().__init__(mask, conditioner, affine, dtype, name)
    self._set_parameters(parameters)


class AdditiveCoupling(Coupling):
  """`changed -> changed + t`: volume-preserving, log-det 0 (NICE)."""

  def __init__(
    self,
    mask: masks.Mask,
    conditioner: Conditioner,
    dtype: Any = tf.float32,
    name: str = 'additive_coupling',
  ):
    """Creates the layer: `Coupling` with `Additive()`."""
    parameters = dict(locals())
    super().__init__(mask, conditioner, transformers.Additive(), dtype, name)
    self._set_parameters(parameters)
