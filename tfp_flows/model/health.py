"""How sound a flow is, epoch by epoch."""

import contextlib
from typing import Any

import keras
import tensorflow as tf

from tfp_flows import bijectors
from tfp_flows.bijectors import preprocess
from tfp_flows.internal import inspection
from tfp_flows.internal import seeds

__all__ = ['Health']


class Health(keras.callbacks.Callback):
  """Adds to the logs of each epoch how sound the flow is.

  Measured on fixed examples with fixed noise, with the weights as they are at the end
  of the epoch. Of these, what applies to the model:

  * `inversion_error`: `max|decode(encode(x)) - x| / max|x|`, of the dequantized
    examples. Grows long before samples break; about 1e-6 is the best float32 can do.
  * `max_scale`, `min_scale`: the largest and the smallest factor by which an `ActNorm`,
    an affine coupling or autoregressive layer, or a `MovingBatchNorm` scales a number
    on its way to the latents.
  * `min_lu_diagonal`: the smallest `|s|` of any `Invertible1x1ConvLU`.
  * `lipschitz_bound`: the largest bound of any branch of a residual flow, below 1.
  * `dequantized_min`, `dequantized_max`, `preprocessed_min`, `preprocessed_max`: of the
    examples before and after the `Preprocess` layer.

  `nfe` of continuous flows and `val_nfe` are metrics of `FlowModel` itself. An inverse
  that fails is NaN.

  Callbacks after it see the numbers: it belongs before those that write logs, and after
  `SwapEMAWeights`, if the averaged weights are to be measured. They are computed by one
  `tf.function`, without XLA and with all steps of `Repeated` unrolled, which is traced
  in the first epoch: some seconds for deep flows.

  #### Examples

  ```python
  health = tff.Health(x_validation[:32])
  model.fit(x, epochs=10, callbacks=[health, keras.callbacks.TensorBoard('logs')])
  ```
  """

  def __init__(self, x: Any, condition: Any = None, seed: int = 0):
    """Creates the callback.

    Args:
      x: examples, some dozens.
      condition: per example, or None.
      seed: int or stateless seed, of the noise.
    """
    super().__init__()
    self._x, self._condition, self._seed = x, condition, seed
    self._measure: Any = None

  def set_model(self, model: keras.Model) -> None:
    if model is not self.model:
      self._measure = None
    super().set_model(model)

  def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
    if logs is not None:
      logs |= self.measure()

  def measure(self) -> dict[str, float]:
    """The numbers for the weights as they are, in `fit` or after `set_model`."""
    if self._measure is None:
      self._measure = _measurement(self.model)
      self._examples = self.model.as_examples(self._x)
    seed = seeds.stateless_seed(self._seed)
    found = self._measure(self._examples, self._condition, seed)
    return {name: float(value) for name, value in found.items()}


class _Observer:
  """Gathers what layers report, over all of them."""

  def __init__(self):
    self.reported: dict[str, list[tf.Tensor]] = {}
    self.preprocessed: list[tf.Tensor] = []
    self._graph = tf.compat.v1.get_default_graph()

  def call(self, layer, fn, x):
    y, log_det = fn(x)
    if isinstance(layer, preprocess.Preprocess):
      self.preprocessed.append(y)
    return y, log_det

  def part(self, name):
    return contextlib.nullcontext()

  def report(self, name, value):
    # What is computed in a loop cannot leave it.
    if value.graph is self._graph:
      self.reported.setdefault(name, []).append(value)


def _measurement(model):
  """A compiled function of examples, condition and seed."""
  likelihood, distribution = model.likelihood, model.distribution

  def measure(x, condition, seed):
    found, observer = {}, _Observer()
    v = likelihood.dequantized(x, seed)
    if hasattr(distribution, 'bijector'):
      with inspection.observed_by(observer):
        z = likelihood.encode_dequantized(v, condition)
      # Another tensor: the cache would give back what the latents were made of.
      back = likelihood.decode(tf.nest.map_structure(tf.identity, z), condition)
      found['inversion_error'] = _largest([tf.abs(back - v)]) / _largest([tf.abs(v)])
    scales = observer.reported.get('log_scale')
    if scales:
      found['max_scale'] = tf.exp(_largest(scales))
      found['min_scale'] = tf.exp(-_largest([-s for s in scales]))
    diagonals = observer.reported.get('log_diagonal')
    if diagonals:
      found['min_lu_diagonal'] = tf.exp(-_largest([-d for d in diagonals]))
    bounds = bijectors.at_networks_with_norms(
      distribution, lambda network: network.lipschitz_bound()
    )
    if bounds:
      found['lipschitz_bound'] = _largest(bounds)
    ranges = dict(preprocessed=observer.preprocessed[:1])
    if model.dequantization is not None:
      ranges['dequantized'] = [v]
    for name, values in ranges.items():
      if values:
        found[f'{name}_min'] = -_largest([-v for v in values])
        found[f'{name}_max'] = _largest(values)
    return found

  return tf.function(measure, autograph=False)


def _largest(values):
  return tf.reduce_max(tf.stack([tf.reduce_max(v) for v in values]))
