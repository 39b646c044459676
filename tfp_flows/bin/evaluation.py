"""The likelihood of a part of the data, with its standard error."""

import json

import numpy as np
import tensorflow as tf
from absl import flags

from tfp_flows import bijectors
from tfp_flows import data as data_lib
from tfp_flows.bin import runs
from tfp_flows.math import bits
from tfp_flows.training import files
from tfp_flows.training import flow_model

__all__ = ['report']

FLAGS = flags.FLAGS


def report(
  model: flow_model.FlowModel,
  data: data_lib.Data,
  part: str,
  path: str,
  num_samples: int = 1,
  num_estimates: int = 0,
) -> None:
  """Prints the mean likelihood of a part and writes it to a JSON file.

  The standard error is that of the mean over the examples: their standard
  deviation divided by the root of their number. With R > 1 estimates of each
  likelihood the standard error of the estimates, the standard deviation of the R
  means divided by the root of R, is added in quadrature and also given by itself:
  equal examples share their noise. The sum is an upper estimate, as the former has
  the noise of each example, too.

  Args:
    model: trained.
    data: the data set.
    part: `'train'`, `'validation'` or `'test'`.
    path: of the JSON file.
    num_samples: of the dequantization bound.
    num_estimates: R; 0 is 4 if log-determinants are estimated, else 1.
  """
  estimator = _estimator()
  num_estimates = num_estimates or (4 if _is_estimated(model, estimator) else 1)
  passes = _log_probs(model, data, part, num_samples, num_estimates, estimator)
  log_prob = passes.mean(axis=0)
  count = len(log_prob)
  error = log_prob.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan
  error_of_estimates = 0.0
  if num_estimates > 1:
    error_of_estimates = passes.mean(axis=1).std(ddof=1) / np.sqrt(num_estimates)
    error = np.hypot(error, error_of_estimates)
  result = dict(
    part=part,
    examples=count,
    nats=float(-log_prob.mean()),
    nats_standard_error=float(error),
  )
  if FLAGS.log_det:
    result['log_det'] = repr(estimator)
  if num_estimates > 1:
    result['estimates'] = num_estimates
    result['nats_standard_error_of_estimates'] = float(error_of_estimates)
  text = f'{result["nats"]:.4f} nats, standard error {error:.4f}'
  if model.num_bins is not None:
    dims = model.distribution.event_shape.num_elements()
    result['bits_per_dim'] = float(bits.bits_per_dim(log_prob.mean(), dims))
    result['bits_per_dim_standard_error'] = float(-bits.bits_per_dim(error, dims))
    text = (
      f'{result["bits_per_dim"]:.4f} bits/dim, standard error '
      f'{result["bits_per_dim_standard_error"]:.4f} ({text})'
    )
  if data.deviation is not None:
    # The density of the columns as they are in the file has this Jacobian.
    own = result['nats'] + float(np.log(data.deviation).sum())
    result['nats_in_units_of_the_data'] = own
    text += f' of the standardized columns ({own:.4f} in their own units)'
  if num_estimates > 1:
    text += (
      f', of which {error_of_estimates:.4f} nats are of the mean of '
      f'{num_estimates} estimates'
    )
  print(f'{part}: {text}, {count} examples', flush=True)
  with files.replacing(path) as whole, open(whole, 'w') as file:
    # One example has no standard error, and JSON no NaN.
    json.dump({k: None if v != v else v for k, v in result.items()}, file, indent=2)


def _estimator():
  if FLAGS.log_det is None:
    return None
  if FLAGS.log_det == 'hutchinson':
    return bijectors.trace_estimator('hutchinson')
  terms = None if FLAGS.log_det == 'exact' else FLAGS.log_det_terms
  return bijectors.log_det_estimator(FLAGS.log_det, terms)


def _is_estimated(model, estimator):
  blocks = [m for m in model.distribution.submodules if hasattr(m, 'is_estimated')]
  if not blocks or isinstance(estimator, bijectors.ExactLogDet):
    return False
  return estimator is not None or any(block.is_estimated for block in blocks)


def _log_probs(model, data, part, num_samples, num_estimates, estimator):
  """Log-likelihoods `[num_estimates, examples]`."""
  batches = runs.eval_batches(getattr(data, part), data)
  values = []
  for x, condition, weight in batches:
    # Examples have noise of their own, and batches do not.
    first = tf.constant([FLAGS.seed, 0])
    others = range(1, num_estimates)
    seeds = [
      first,
      *(
        tf.random.experimental.stateless_fold_in(first, -j, alg='philox')
        for j in others
      ),
    ]
    passes = [
      model.log_prob(x, condition, seed, num_samples, estimator=estimator)
      for seed in seeds
    ]
    values.append(np.stack(passes)[:, weight.numpy() > 0])
  values = np.concatenate(values, axis=1).astype(np.float64)
  if not np.isfinite(values).all():
    raise ValueError(
      f'Expected finite log-likelihoods of the {part} set; '
      f'{int((~np.isfinite(values)).sum())} of {values.size} are not. The model '
      f'does not fit the data, or its training diverged.'
    )
  return values
