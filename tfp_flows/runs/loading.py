"""The data of a run."""

import os

import tensorflow as tf

from tfp_flows import data as data_lib
from tfp_flows.model import inputs
from tfp_flows.runs import workdir as workdir_lib
from tfp_flows.runs.options import Options
from tfp_flows.runs.options import UsageError

__all__ = [
  'describe_data',
  'eval_batches',
  'examples',
  'load_data',
  'load_trained_data',
]


def load_data(
  options: Options, workdir: workdir_lib.Workdir | None = None
) -> data_lib.Data:
  """The data set of a run, scaled as that of the run in `workdir`."""
  data = data_lib.load(
    options.dataset,
    data_dir=options.data_dir,
    download=options.download,
    image_size=options.image_size,
    standardize=options.standardize,
    num_points=options.num_points,
    seed=options.data_seed,
    scale=None if workdir is None else workdir.scale(),
  )
  _check_labels(data, options)
  return data


def load_trained_data(options: Options, workdir: workdir_lib.Workdir) -> data_lib.Data:
  """The data set that the run in `workdir` was trained on, wherever it is now.

  Raises:
    UsageError: if there is none, or it is one that the model is not for.
  """
  if data_lib.is_path(options.dataset) and not os.path.exists(options.dataset):
    raise UsageError(
      f'Expected the data of the run at {options.dataset}; there are none. Restore '
      f'them, or pass dataset=PATH of where they are now.'
    )
  data, expected = load_data(options, workdir), workdir.description()
  if expected is None:
    return data
  names = ['event_shape', 'num_bins', *(['num_classes'] if options.conditional else [])]
  for name in names:
    if getattr(data, name) != getattr(expected, name):
      raise UsageError(
        f'Expected data as those of the run, of {name} {getattr(expected, name)}; '
        f'received {getattr(data, name)} of {options.dataset}.'
      )
  return data


def describe_data(
  options: Options, workdir: workdir_lib.Workdir
) -> data_lib.Description:
  """What the model in `workdir` needs of its data, which may be elsewhere."""
  found = workdir.description()
  if found is None:  # The run is of an older version.
    return load_data(options, workdir)
  _check_labels(found, options)
  return found


def _check_labels(data, options):
  if options.conditional and data.num_classes is None:
    raise UsageError(
      f'Expected a data set with labels for conditional=True; {options.dataset!r} '
      f'has none.'
    )


def examples(
  part: tf.data.Dataset, data: data_lib.Description, options: Options
) -> tf.data.Dataset:
  """Unbatched `(x, condition, weight)`; the condition is a one-hot label."""
  num_classes = data.num_classes or 0

  def example(x, label=None):
    condition = None
    if options.conditional:
      check = tf.debugging.Assert(
        (label >= 0) & (label < tf.cast(num_classes, label.dtype)),
        [f'Expected labels from 0 to {num_classes - 1}; received', label],
      )
      with tf.control_dependencies([check]):
        condition = tf.one_hot(label, num_classes, dtype=options.dtype)
    if data.num_bins is None:
      x = tf.cast(x, options.dtype)
    return x, condition, 1.0

  return inputs.without_autotuning(
    part.map(example, num_parallel_calls=tf.data.AUTOTUNE)
  )


def eval_batches(
  part: tf.data.Dataset, data: data_lib.Description, options: Options
) -> tf.data.Dataset:
  """Batches of a part in its own order."""
  return inputs.batches(examples(part, data, options), options.batch_size)
