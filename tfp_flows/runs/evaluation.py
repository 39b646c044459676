"""The likelihood of a part of the data, with its standard error."""

import json
import sys

import numpy as np
import tensorflow as tf

from tfp_flows import bijectors
from tfp_flows import data as data_lib
from tfp_flows.bijectors import flow_bijector
from tfp_flows.internal import files
from tfp_flows.math import bits
from tfp_flows.model import flow_model
from tfp_flows.runs import loading
from tfp_flows.runs import models
from tfp_flows.runs import workdir as workdir_lib
from tfp_flows.runs.options import Options
from tfp_flows.runs.options import UsageError

__all__ = ['evaluate', 'report', 'warn_of_repeating']


_PARTS = ('train', 'validation', 'test')


def evaluate(
  options: Options, part: str = 'test', num_samples: int = 1, num_estimates: int = 0
) -> None:
  """Prints the likelihood of a part of the data under a run, and writes it there.

  Args:
    options: of the run.
    part: `'train'`, `'validation'` or `'test'`.
    num_samples: see `report`.
    num_estimates: see `report`.

  Raises:
    UsageError: if there is no such run, or it is of other options.
  """
  if part not in _PARTS:
    raise UsageError(f'Expected part to be one of {_PARTS}; received {part!r}.')
  workdir = workdir_lib.Workdir(options)
  workdir.check_same_model()
  data = loading.load_trained_data(workdir.options, workdir)
  report(
    models.trained_model(data, workdir),
    data,
    part,
    workdir.file(f'evaluation_{part}.json'),
    workdir.options,
    num_samples=num_samples,
    num_estimates=num_estimates,
    digest=workdir.digest(),
  )


def report(
  model: flow_model.FlowModel,
  data: data_lib.Data,
  part: str,
  path: str,
  options: Options,
  num_samples: int = 1,
  num_estimates: int = 0,
  digest: str = '',
) -> None:
  """Prints the mean likelihood of a part and writes it to a JSON file.

  The standard error is that of the mean over the examples: their standard
  deviation divided by the root of their number. With R > 1 estimates of each
  likelihood the standard error of the estimates, the standard deviation of the R
  means divided by the root of R, is added in quadrature and also given by itself:
  equal examples share their noise. The sum is an upper estimate, as the former has
  the noise of each example, too.

  Beside the mean there are the median and the mean of the middle 90 %, which few
  examples do not change; examples that are far less likely than the rest are named.

  Args:
    model: trained.
    data: the data set.
    part: `'train'`, `'validation'` or `'test'`.
    path: of the JSON file.
    options: of the run.
    num_samples: of the dequantization bound.
    num_estimates: R; 0 is 4 if log-determinants are estimated, else 1.
    digest: of the data that the model was trained on; empty if unknown.

  Raises:
    UsageError: for several dequantizations with estimated log-determinants.
  """
  estimator = _estimator(options)
  if num_samples > 1 and model.num_bins and _is_estimated(model, estimator):
    raise UsageError(
      f'Expected one dequantization of each example with estimated log-determinants, '
      f'as the logarithm of a mean of their exponentials is no lower bound; received '
      f'{num_samples}. Pass log_det=exact, if it is not too slow.'
    )
  num_estimates = num_estimates or (4 if _is_estimated(model, estimator) else 1)
  passes = _log_probs(model, data, part, options, num_samples, num_estimates, estimator)
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
    nats_median=float(np.median(-log_prob)),
    nats_trimmed_mean=_trimmed_mean(-log_prob),
    data_digest=data.digest,
  )
  if options.log_det:
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
  if data.deviation is not None and (data.deviation != 1.0).any():
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
  if unlikely := _unlikely(-log_prob, data, part):
    result['unlikely_examples'] = unlikely
    _warn(_about_unlikely(unlikely, result))
  if data.repeating:
    result['columns_without_density'] = [
      data.columns[i] if data.columns else i + 1 for i in data.repeating
    ]
  if digest and digest != data.digest:
    result['data_digest_of_training'] = digest
    _warn(
      f'Expected the data of the run, digest {digest}; those of '
      f'{options.dataset} have digest {data.digest}: examples were changed, '
      f'added or removed since. The parts are others, too, and the model may have been '
      f'trained on examples of this {part} set.'
    )
  with files.replacing(path) as whole, open(whole, 'w') as file:
    # One example has no standard error, and JSON no NaN.
    json.dump({k: None if v != v else v for k, v in result.items()}, file, indent=2)


def warn_of_repeating(data: data_lib.Data) -> None:
  """Names the columns that no density fits, if there are any."""
  if data.repeating:
    columns = data_lib.named_columns(data.repeating, data.columns)
    _warn(
      f'Expected numbers that hardly ever repeat; those of column {columns} do, as '
      f'integers and rounded numbers. They have no density: one that is fitted to them '
      f'grows without bound, and its likelihood means nothing. Add noise as wide as '
      f'their resolution, or drop them.'
    )


def _warn(text):
  print(f'warning: {text}', file=sys.stderr)


def _trimmed_mean(nats):
  """The mean of the middle 90 %."""
  cut = len(nats) // 20
  return float(np.sort(nats)[cut : len(nats) - cut].mean())


# Examples that are named, at most.
_MOST_NAMED = 10


def _unlikely(nats, data, part):
  """The worst examples that are beyond any spread of the others, the worst first."""
  low, middle, high = np.quantile(nats, [0.25, 0.5, 0.75])
  spread = max(high - low, 1e-3 * (1 + abs(middle)))
  found = np.flatnonzero(nats > middle + 20 * spread)
  found = found[np.argsort(-nats[found])][:_MOST_NAMED]
  rows = data.rows.get(part)
  return [
    dict(index=int(i), nats=float(nats[i]))
    | ({} if rows is None else dict(row_of_the_file=int(rows[i]) + 1))
    for i in found
  ]


def _about_unlikely(unlikely, result):
  texts = [
    f'{e["index"]}'
    + (f' (row {e["row_of_the_file"]} of the file)' if 'row_of_the_file' in e else '')
    + f': {e["nats"]:.4g} nats'
    for e in unlikely
  ]
  return (
    f'Some examples of the {result["part"]} set, counted from 0, are far less likely '
    f'than the others and rule the mean: {"; ".join(texts)}. The median is '
    f'{result["nats_median"]:.4f} nats, the mean of the middle 90 % '
    f'{result["nats_trimmed_mean"]:.4f}.'
  )


def _estimator(options):
  if options.log_det is None:
    return None
  if options.log_det == 'hutchinson':
    return bijectors.trace_estimator('hutchinson')
  terms = None if options.log_det == 'exact' else options.log_det_terms
  return bijectors.log_det_estimator(options.log_det, terms)


def _is_estimated(model, estimator):
  blocks = flow_bijector.estimating_layers(model.distribution)
  if not blocks or isinstance(estimator, bijectors.ExactLogDet):
    return False
  return estimator is not None or any(block.is_estimated for block in blocks)


def _log_probs(model, data, part, options, num_samples, num_estimates, estimator):
  """Log-likelihoods `[num_estimates, examples]`."""
  batches = loading.eval_batches(getattr(data, part), data, options)
  values = []
  for x, condition, weight in batches:
    # Examples have noise of their own, and batches do not.
    first = tf.constant([options.seed, 0])
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
  found = np.concatenate(values, axis=1).astype(np.float64)
  if not np.isfinite(found).all():
    raise ValueError(
      f'Expected finite log-likelihoods of the {part} set; '
      f'{int((~np.isfinite(found)).sum())} of {found.size} are not. The model '
      f'does not fit the data, or its training diverged.'
    )
  return found
