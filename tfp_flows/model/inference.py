"""What a trained model is asked for."""

import functools
import math
import os
import warnings
from collections.abc import Callable
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows import bijectors
from tfp_flows.internal import keras_parameters
from tfp_flows.internal import seeds
from tfp_flows.internal import tf_private
from tfp_flows.model import diagnosis
from tfp_flows.model import draws
from tfp_flows.model import inputs
from tfp_flows.model import sizes

__all__ = ['Compiled', 'Inference', 'SamplingError']


# Of one example, unless the caller says another number.
_MOST_ESTIMATES = 256


class SamplingError(ValueError):
  """Samples that are not finite."""


class Compiled:
  """Functions by key. No dictionary, which TensorFlow would track and save."""

  def __init__(self):
    self._functions = {}

  def clear(self) -> None:
    self._functions.clear()

  def values(self) -> list[Any]:
    return list(self._functions.values())

  def get(self, key: Any, make: Callable[[], Any]) -> Any:
    """The function of `key`, made at first."""
    if key not in self._functions:
      self._functions[key] = make()
    return self._functions[key]


if TYPE_CHECKING:
  from keras import Model as _Whole  # What the class is a part of.
else:
  _Whole = object


class Inference(_Whole):
  """The part of `FlowModel` that evaluates its distribution.

  Compiled per shape of the input. Where a gradient tape or a forward accumulator
  watches, and inside of a `tf.function`, what is called here is a plain graph: XLA
  keeps no intermediate values for gradients, and a function around it has its own
  `jit_compile`.
  """

  def log_prob(
    self,
    x: Any,
    condition: Any = None,
    seed: int | Sequence[int] | tf.Tensor | None = None,
    num_samples: int = 1,
    num_estimates: int | None = None,
    standard_error: bool = False,
    estimator: bijectors.Estimator | None = None,
    max_standard_error: float | None = None,
  ) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
    """Log-likelihood of each example, in nats.

    The noise of an example depends on the seed and on the example alone: neither on
    the others in the batch nor on its place among them. Equal examples have equal
    noise and equal numbers. (Continuous flows choose their steps for the whole batch:
    their numbers depend on it within the tolerance of the solver.)

    Args:
      x: examples; integers if the model dequantizes.
      condition: per example, or None.
      seed: int or stateless seed, of the dequantization and of stochastic
        log-dets; None draws one.
      num_samples: of the bound, see `UniformDequantization.log_prob`.
      num_estimates: independent estimates, of which the mean is returned: of the
        dequantization and of stochastic log-dets; None is 1, or with
        `max_standard_error` at most 256.
      standard_error: whether the standard error of that mean is returned, too;
        needs two estimates or more.
      estimator: `ExactLogDet` or the like, instead of that which the layers have
        for evaluation; hashable, and compiled for each anew.
      max_standard_error: in nats, greater than 0; estimates are made until the
        standard error of each example, itself an estimate of 8 or more, is at most
        that, or there are `num_estimates` of them.

    Returns:
      Tensor of the batch shape, or two.

    Raises:
      ValueError: if `num_estimates` is too small, or `max_standard_error` no positive
        number.

    Warns:
      UserWarning: if `num_estimates` do not reach `max_standard_error`.
    """
    if max_standard_error is not None:
      if not max_standard_error > 0:
        raise ValueError(
          f'Expected max_standard_error > 0, in nats; received {max_standard_error}.'
        )
      most = _MOST_ESTIMATES if num_estimates is None else num_estimates
      num_estimates = min(most, 2)
    num_estimates = 1 if num_estimates is None else num_estimates
    least = 2 if standard_error or max_standard_error is not None else 1
    if num_estimates < least:
      raise ValueError(
        f'Expected num_estimates >= {least}'
        f'{" for a standard error" if least > 1 else ""}; received {num_estimates}.'
      )
    x, condition = self.as_examples(x), self._as_condition(condition)
    seed = self._seed_of(seed)

    def estimate(seed):
      return self._one_log_prob(x, condition, seed, num_samples, estimator)

    if max_standard_error is None:
      estimates = [estimate(s) for s in seeds.split(seed, num_estimates)]
    else:
      estimates = _until(max_standard_error, estimate, seeds.split(seed, most))
    mean = self._numbers(tf.reduce_mean(estimates, axis=0))
    return (mean, _standard_error(estimates)) if standard_error else mean

  def _one_log_prob(self, x, condition, seed, num_samples, estimator):
    if num_samples == 1 or self.dequantization is None:
      return self._run('log_prob', x, condition, seed, estimator=estimator)
    self._likelihood.check_num_samples(num_samples, estimator)
    noisy = self._run_graph('dequantized_often', x, seed, tf.constant(num_samples))
    found = [
      self._run('log_prob_dequantized', v, condition, s, estimator=estimator)
      for v, s in zip(tf.unstack(noisy, num_samples), seeds.split(seed, num_samples))
    ]
    return tf.reduce_logsumexp(found, axis=0) - math.log(num_samples)

  def sample(
    self,
    n: int | Sequence[int] | tf.Tensor | None = None,
    condition: Any = None,
    temperature: float | tf.Tensor = 1.0,
    seed: int | Sequence[int] | tf.Tensor | None = None,
  ) -> tf.Tensor:
    """Draws examples, all independent; integers if the model dequantizes.

    `n` is the sample shape of TFP, and stands before the batch shape of the condition:

      sample(n), sample(n, condition=[K])   -> [n, *event_shape]
      sample(condition=[N, K])              -> [N, *event_shape]
      sample(n, condition=[N, K])           -> [n, N, *event_shape]

    Noise is drawn for all, and decoded in parts of a few fixed sizes, so that memory is
    bounded and nothing is compiled anew for another `n` or `temperature`.

    Args:
      n: number or shape of the draws for each row of the condition. None: one for each
        row, and `[1]` if there are no rows.
      condition: `[..., K]`, or None.
      temperature: scales the latents about their mean (about the mode of a base that
        has no mean); below 1 for samples nearer to the mode, as in section 6 of the
        Glow paper.
      seed: int or stateless seed; None draws one.

    Raises:
      SamplingError: a `ValueError`, if a sample is not finite, as where an iterated
        inverse did not converge.
      ValueError: if there is another temperature than 1 and no latents with a mean.
    """
    shape, condition = self._shape_of_draws(n, condition)
    drawn = self._drawn('decode', shape, condition, self._seed_of(seed), temperature)
    return self._quantized(drawn)

  def sample_and_log_prob(
    self,
    n: int | Sequence[int] | tf.Tensor | None = None,
    condition: Any = None,
    seed: int | Sequence[int] | tf.Tensor | None = None,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws from the density, as `sample`, and its logarithm there, from one pass.

    The draws are not quantized: the density is that of `distribution`.
    """
    shape, condition = self._shape_of_draws(n, condition)
    seed = self._seed_of(seed)
    drawn = self._drawn('decode_and_log_prob', shape, condition, seed)
    return self._solved(drawn[0]), self._solved(drawn[1])

  def _shape_of_draws(self, n, condition):
    """The sample shape, ints if they are known, and the condition as a tensor."""
    condition = self._as_condition(condition)
    return draws.sample_shape(n, condition), condition

  def _as_condition(self, condition):
    """A tensor or None, after checks."""
    self._likelihood.check_condition(condition, is_needed=True)
    if condition is None:
      return None
    if not tf.is_symbolic_tensor(condition):
      inputs.check_condition_values(np.asarray(condition))
    return tf.convert_to_tensor(condition)

  def _drawn(self, method, shape, condition, seed, temperature=1.0):
    """What `method` of the likelihood makes of latents that are drawn."""
    has_temperature = self._likelihood.has_temperature
    if not has_temperature and (tf.is_tensor(temperature) or temperature != 1.0):
      raise ValueError(
        f'Expected temperature=1, as {self.distribution.name!r} has no latents with a '
        f'mean or a mode, about which they are scaled; received {temperature}.'
      )
    own = dict(decode='sample', decode_and_log_prob='sample_and_log_prob')[method]
    scale = (tf.cast(temperature, self.distribution.dtype),) if has_temperature else ()
    scale = scale if method == 'decode' else ()
    if not self._likelihood.has_latents or tf.inside_function():
      shape = tf.convert_to_tensor(shape, tf.int32)
      return self._run_graph(own, condition, seed, shape, *scale)
    batch = [] if condition is None else condition.shape[:-1].as_list()
    shape = [*shape, *batch]
    rows = None
    if condition is not None:
      rows = tf.reshape(condition, [-1, condition.shape[-1]])
      if not len(rows):
        rows = tf.zeros([1, condition.shape[-1]], condition.dtype)  # None is kept.
    z = self._latents(rows, seed, max(math.prod(shape), 1), *scale)

    def part(z, condition, i):
      noise = (seeds.nth(seed, i),) if method == 'decode_and_log_prob' else ()
      return self._run(method, z, condition, *noise)

    num_elements = self.distribution.event_shape.num_elements()
    found = draws.in_parts(part, z, rows, math.prod(shape), num_elements)
    return tf.nest.map_structure(lambda t: tf.reshape(t, [*shape, *t.shape[1:]]), found)

  def _latents(self, rows, seed, count, *temperature):
    """Latents of `count` examples, whatever rows they are for."""
    if self._likelihood.density.base_takes_condition:
      rows = tf.gather(rows, tf.range(count) % len(rows))
      count = tf.constant([], tf.int32)
    else:
      rows, count = None, tf.constant(count)
    return self._run_graph('latents', rows, seed, count, *temperature)

  def encode(
    self,
    x: Any,
    condition: Any = None,
    seed: int | Sequence[int] | tf.Tensor | None = None,
  ) -> tf.Tensor:
    """The latents of examples, dequantized with `seed` if they are integers."""
    x, condition = self.as_examples(x), self._as_condition(condition)
    return self._run('encode', x, condition, self._seed_of(seed))

  def decode(self, z: Any, condition: Any = None) -> tf.Tensor:
    """The examples of latents; integers if the model dequantizes."""
    z = tf.nest.map_structure(lambda t: tf.cast(t, self.distribution.dtype), z)
    return self._quantized(self._run('decode', z, self._as_condition(condition)))

  def export(
    self,
    filepath: str | os.PathLike[str],
    format: str = 'tf_saved_model',  # noqa: A002
    verbose: bool | None = None,
    input_signature: Any = None,
    **kwargs: Any,
  ) -> None:
    """Like `keras.Model.export`: what it serves is the log-likelihood of examples.

    By default `serve(x)`, or `serve(x, condition)` if the model takes a condition, of
    any batch size. `tff.export_saved_model` writes sampling and the latents, too.
    """
    if input_signature is None:
      input_signature = self._serving_signature()
    super().export(filepath, format, verbose, input_signature, **kwargs)

  def _serving_signature(self):
    distribution = self.distribution
    dtype = self.dequantization.dtype if self.dequantization else distribution.dtype
    signature = [tf.TensorSpec([None, *distribution.event_shape], dtype, 'x')]
    if self._likelihood.takes_condition:
      size = keras_parameters.condition_size(distribution)
      spec = tf.TensorSpec([None, size], distribution.dtype, 'condition')
      signature.append(spec)
    return signature

  def _solved(self, value):
    """`value`, which is finite if the fields of continuous flows were solved."""
    if self._work is None or tf.is_symbolic_tensor(value):
      return value
    if not np.isfinite(value).all():
      raise diagnosis.SolverError(
        'Expected finite results; received NaN or infinite ones. A solver of a '
        'continuous flow failed, or the weights are not finite: raise its '
        'tolerances (rtol, atol) or max_num_steps, or train again with a lower '
        'learning rate or `tff.Penalties`.'
      )
    return value

  def _numbers(self, log_prob):
    """Log-likelihoods, none of which is NaN; outside of a support they may be -inf."""
    log_prob = self._solved(log_prob)
    if not tf.is_symbolic_tensor(log_prob):
      rows = np.flatnonzero(np.isnan(log_prob))
      if rows.size:
        raise diagnosis.outside_of_support(rows, np.size(log_prob))
    return log_prob

  def _quantized(self, x):
    x = tf.nest.map_structure(self._solved, x)
    if not tf.is_symbolic_tensor(x) and not tf.reduce_all(tf.math.is_finite(x)):
      raise SamplingError(
        'Expected finite samples; received NaN or infinite ones. The model has '
        'diverged, or an inverse did not converge: `update_norms()` after changing '
        'weights, and see `ResidualFlow.solve`.'
      )
    return x if self.dequantization is None else self.dequantization.quantize(x)

  def as_examples(self, x: Any) -> tf.Tensor:
    """`x` as a tensor of the dtype of the model, or integers, after checks."""
    if not tf.is_symbolic_tensor(x):
      inputs.check_container(x)
      inputs.check_event(np.shape(x), self.distribution.event_shape)
      inputs.check_values(np.asarray(x), self.num_bins)
    return tf.convert_to_tensor(x) if self.dequantization else self._cast(x)

  def _cast(self, x):
    # NumPy rounds once, TensorFlow would take Python's floats for float32.
    x = x if tf.is_tensor(x) else np.asarray(x)
    return tf.cast(x, self.distribution.dtype)

  def _seed_of(self, seed):
    return self._next_seed(self._noise) if seed is None else seeds.stateless_seed(seed)

  def _run(self, method, *args, **static):
    """Calls a method of the likelihood, compiled once per shape."""
    return self._run_compiled(*self._named(method, static), *args)

  def _run_graph(self, method, *args, **static):
    """As `_run`, but never by XLA, for which all sizes must be known."""
    return self._run_as(False, *self._named(method, static), *args)

  def _named(self, method, static):
    fn = functools.partial(getattr(self._likelihood, method), **static)
    return (method, *static.items()), fn

  def _run_compiled(self, key, fn, *args):
    if tf_private.is_recording():
      self.follow_trainable()
    uses_xla = self.jit_compile or self._replica_jit if self.compiled else True
    # The gradient of a function that XLA compiles cannot have its loops.
    return self._run_as(uses_xla and not tf_private.is_recording(), key, fn, *args)

  def _is_forward_mode(self, args):
    # TensorFlow cannot push tangents through a function that has loops.
    return tf_private.is_recording() and tf_private.has_tangents(
      [t for t in tf.nest.flatten(args) if tf.is_tensor(t)]
      + [v.value for v in self.trainable_variables]
    )

  def _run_as(self, uses_xla, key, fn, *args):
    if tf.inside_function() or self._is_forward_mode(args):
      return fn(*args)
    flat = tf.nest.flatten(args)
    specs = tuple(t if t is None else (*t.shape, t.dtype.name) for t in flat)
    key = (key, uses_xla, specs)
    function = self._compiled.get(key, lambda: sizes.graph_function(fn, uses_xla))
    return function(*args)


def _until(bound, estimate, seeds):
  """Estimates, until their means have standard errors of at most `bound`."""
  estimates = [estimate(s) for s in seeds[:2]]
  for seed in seeds[2:]:
    error = np.asarray(_standard_error(estimates))
    # Few of them may agree by chance, but not in every digit.
    if not error.any() or (len(estimates) >= 8 and (error <= bound).all()):
      return estimates
    estimates.append(estimate(seed))
  error = np.asarray(_standard_error(estimates))
  if not (error <= bound).all():
    warnings.warn(
      f'Expected a standard error of {bound:g} nats for each example; received up to '
      f'{error.max():.3g}, and more than that for {(error > bound).sum()} of '
      f'{error.size}, after {len(estimates)} estimates. Raise num_estimates, or pass '
      f'an exact estimator.',
      UserWarning,
      stacklevel=3,
    )
  return estimates


def _standard_error(estimates):
  return tf.math.reduce_std(estimates, axis=0) / (len(estimates) - 1) ** 0.5
