"""The likelihood of a part of the data, with its standard error."""

import json

import numpy as np
from absl import flags

from tfp_flows import data as data_lib
from tfp_flows.bin import runs
from tfp_flows.math import bits
from tfp_flows.training import flow_model

__all__ = ['report']

FLAGS = flags.FLAGS


def report(
  model: flow_model.FlowModel,
  data: data_lib.Data,
  part: str,
  path: str,
  num_samples: int = 1,
) -> None:
  """Prints the mean likelihood of a part and writes it to a JSON file.

  The standard error is that of the mean over the examples: their standard
  deviation divided by the root of their number.

  Args:
    model: trained.
    data: the data set.
    part: `'train'`, `'validation'` or `'test'`.
    path: of the JSON file.
    num_samples: of the dequantization bound.
  """
  log_prob = _log_probs(model, data, part, num_samples)
  count = len(log_prob)
  error = log_prob.std(ddof=1) / np.sqrt(count)
  result = dict(
    part=part,
    examples=count,
    nats=float(-log_prob.mean()),
    nats_standard_error=float(error),
  )
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
  print(f'{part}: {text}, {count} examples', flush=True)
  with open(path, 'w') as file:
    json.dump(result, file, indent=2)


def _log_probs(model, data, part, num_samples):
  batches = runs.eval_batches(getattr(data, part), data)
  values = []
  for i, (x, condition, weight) in enumerate(batches):
    log_prob = model.log_prob(
      x, condition, seed=[FLAGS.seed, i], num_samples=num_samples
    )
    values.append(log_prob.numpy()[weight.numpy() > 0])
  values = np.concatenate(values).astype(np.float64)
  if not np.isfinite(values).all():
    raise ValueError(
      f'Expected finite log-likelihoods of the {part} set; '
      f'{int((~np.isfinite(values)).sum())} of {len(values)} are not. The model '
      f'does not fit the data, or its training diverged.'
    )
  return values
