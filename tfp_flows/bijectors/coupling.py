"""Coupling layers."""

from typing import Any
from typing import Protocol
from typing import runtime_checkable

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import calls
from tfp_flows.bijectors import conditioned
from tfp_flows.bijectors import masks
from tfp_flows.bijectors import reversible
from tfp_flows.bijectors import transformers

__all__ = ['AdditiveCoupling', 'AffineCoupling', 'Conditioner', 'Coupling']

tfb = tfp.bijectors


class Conditioner(Protocol):
  """The network of a coupling or an autoregressive layer.

  `conditioner(x)`, or `conditioner(x, condition=...)` if its signature has that name:
  from a tensor to the parameters of the transformer. A Keras layer must be built. One
  that takes a condition may have a `condition_size`, by which that is checked.
  """

  def __call__(self, *args: Any, **kwargs: Any) -> tf.Tensor:
    """The parameters, `[..., params_per_dim * C]` for `C` changed channels."""


@runtime_checkable
class Adaptable(Protocol):
  """A conditioner that can be initialised from data."""

  def adapt(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> None:
    """Initialises from a batch of what the conditioner is called with."""


class Coupling(conditioned.Conditioned, reversible.Reversible):
  """Keeps one part of the event and transforms the other by it.

  For `kept, changed = mask.split(x)` and `p = conditioner(kept, condition)`:

    forward: `y = mask.merge(kept, transformer(p).forward(changed))`
    inverse: the same with `inverse`, as `y` keeps the same part
    log-det: of `transformer(p)` at `changed`, summed over it   (nats)

  Three independent choices [(Dinh et al., 2014)][1]: what is kept (`mask`), how
  the rest depends on it (`conditioner`), and through which elementwise map
  (`transformer`).

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

  _renamed = dict(bijector_fn='transformer')

  def __init__(
    self,
    mask: masks.Mask,
    conditioner: Conditioner,
    transformer: transformers.Transformer,
    dtype: Any = tf.float32,
    name: str = 'coupling',
  ):
    """Creates the layer.

    Args:
      mask: `ChannelMask`, `CheckerboardMask`, `IndexMask`, or another `Mask`.
      conditioner: callable `(kept) -> p`, or `(kept, condition=...) -> p` if its
        signature has that name; a Keras layer must be built.
      transformer: callable `p -> tfb.Bijector` that acts elementwise on tensors
        of `mask.changed_shape`.
      dtype: of `x`.
      name: name of the layer.
    """
    with tf.name_scope(name) as scope:
      super().__init__(
        forward_min_event_ndims=len(mask.event_shape),
        dtype=dtype,
        name=scope,
      )
      self._mask = mask
      self._set_conditioner(conditioner, transformer, mask.changed_shape)

  @property
  def mask(self) -> masks.Mask:
    return self._mask

  def _event_shape_or_none(self):
    return self._mask.event_shape

  def _forward_and_log_det(self, x, condition=None):
    return self._change(x, condition, inverted=False)

  def _inverse_and_log_det(self, y, condition=None):
    return self._change(y, condition, inverted=True)

  def _change(self, x, condition, inverted):
    kept, changed = self._mask.split(x)
    inner, event_ndims = self._inner(kept, condition), len(self._mask.event_shape)
    y, log_det = calls.apply(inner, changed, event_ndims, inverted=inverted)
    return self._mask.merge(kept, y), log_det

  def _pull_back(self, y, upstream, condition, tensors, inverted):
    return reversible.pull_back_of_coupling(
      self._mask,
      lambda kept: self._inner(kept, condition),
      y,
      upstream,
      tensors,
      inverted,
    )

  def _adapt(self, x, condition):
    if isinstance(self._conditioner, Adaptable):
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
    affine = transformers.Affine(mask.changed_shape[-1], scale, dtype)
    super().__init__(mask, conditioner, affine, dtype, name)


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
    super().__init__(mask, conditioner, transformers.Additive(), dtype, name)
