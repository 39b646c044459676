"""What a trained model is asked for."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.internal import seeds
from tfp_flows.training import diagnosis
from tfp_flows.training import inputs

__all__ = ['Inference', 'SamplingError']


# Of one example, unless the caller says another number.
_MOST_ESTIMATES = 256


class SamplingError(ValueError):
  """Samples that are not finite."""


class Inference:
  """The part of `FlowModel` that evaluates its distribution; compiled per shape."""

  def log_prob(
    self,
    x,
    condition=None,
    seed=None,
    num_samples: int = 1,
    num_estimates: int | None = None,
    standard_error: bool = False,
    estimator: Callable[..., Any] | None = None,
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
      most, num_estimates = num_estimates or _MOST_ESTIMATES, 2
    num_estimates = 1 if num_estimates is None else num_estimates
    if num_estimates < 1 + standard_error:
      raise ValueError(
        f'Expected num_estimates >= {1 + standard_error}'
        f'{" for a standard error" if standard_error else ""}; received '
        f'{num_estimates}.'
      )
    x, seed = self.as_examples(x), self._seed_of(seed)

    def estimate(seed):
      return self._run(
        'log_prob', x, condition, seed, num_samples=num_samples, estimator=estimator
      )

    if max_standard_error is None:
      estimates = [estimate(s) for s in seeds.split(seed, num_estimates)]
    else:
      estimates = _until(max_standard_error, estimate, seeds.split(seed, most))
    mean = self._solved(tf.reduce_mean(estimates, axis=0))
    return (mean, _standard_error(estimates)) if standard_error else mean

  def sample(
    self, n: int = 1, condition=None, temperature: float = 1.0, seed=None
  ) -> tf.Tensor:
    """Draws `n` examples; integers if the model dequantizes.

    Args:
      n: number of examples.
      condition: `[n, K]` or `[K]`, or None.
      temperature: scales the latents about their mean; below 1 for samples
        nearer to the mode, as in section 6 of the Glow paper.
      seed: int or stateless seed; None draws one.

    Raises:
      SamplingError: a `ValueError`, if a sample is not finite, as where an iterated
        inverse did not converge.
    """
    x = self._run(
      'sample', condition, self._seed_of(seed), n=n, temperature=temperature
    )
    return self._quantized(x)

  def sample_and_log_prob(
    self, n: int = 1, condition=None, seed=None
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """`n` draws from the density and its logarithm there, from one pass.

    The draws are not quantized: the density is that of `distribution`.
    """
    drawn = self._run('sample_and_log_prob', condition, self._seed_of(seed), n=n)
    return self._solved(drawn[0]), self._solved(drawn[1])

  def encode(self, x, condition=None, seed=None) -> tf.Tensor:
    """The latents of examples, dequantized with `seed` if they are integers."""
    return self._run('encode', self.as_examples(x), condition, self._seed_of(seed))

  def decode(self, z, condition=None) -> tf.Tensor:
    """The examples of latents; integers if the model dequantizes."""
    z = tf.nest.map_structure(lambda t: tf.cast(t, self.distribution.dtype), z)
    return self._quantized(self._run('decode', z, condition))

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

  def _quantized(self, x):
    x = tf.nest.map_structure(self._solved, x)
    if not tf.is_symbolic_tensor(x) and not tf.reduce_all(tf.math.is_finite(x)):
      raise SamplingError(
        'Expected finite samples; received NaN or infinite ones. The model has '
        'diverged, or an inverse did not converge: `update_norms()` after changing '
        'weights, and see `ResidualFlow.solve`.'
      )
    return x if self.dequantization is None else self.dequantization.quantize(x)

  def as_examples(self, x) -> tf.Tensor:
    """`x` as a tensor of the dtype of the model, or integers, after checks."""
    if not tf.is_symbolic_tensor(x):
      inputs.check_values(np.asarray(x), self.num_bins)
    return tf.convert_to_tensor(
      x, None if self.dequantization else self.distribution.dtype
    )

  def _seed_of(self, seed):
    return self._next_seed(self._noise) if seed is None else seeds.stateless_seed(seed)

  def _run(self, method, *args, **static):
    """Calls a method of the likelihood, compiled once per shape."""
    condition = args[0] if method.startswith('sample') else args[1]
    self._likelihood.check_condition(condition)
    fn = getattr(self._likelihood, method)
    key = (method, *static.values())
    return self._run_compiled(key, lambda *args: fn(*args, *static.values()), *args)

  def _run_compiled(self, key, fn, *args):
    if key not in self._compiled:
      jit_compile = self.jit_compile or self._replica_jit if self.compiled else True
      self._compiled[key] = tf.function(fn, autograph=False, jit_compile=jit_compile)
    return self._compiled[key](*args)


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
