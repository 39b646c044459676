"""From flags to data and model; the files of a workdir."""

import inspect
import os
import shutil
from typing import Any

import tensorflow as tf
from absl import flags

from tfp_flows import bijectors
from tfp_flows import data as data_lib
from tfp_flows import models
from tfp_flows.bin import arguments
from tfp_flows.bin import cli
from tfp_flows.bin import flags as flags_lib
from tfp_flows.training import flow_model
from tfp_flows.training import inputs

__all__ = [
  'Workdir',
  'eval_batches',
  'examples',
  'load_data',
  'make_model',
  'trained_model',
]

FLAGS = flags.FLAGS

# What the weights and the test set depend on.
_IDENTITY = (
  'dataset',
  'data_seed',
  'image_size',
  'standardize',
  'conditional',
  'model',
  'arg',
  'dtype',
)


def load_data() -> data_lib.Data:
  """The data set of the flags."""
  data = data_lib.load(
    FLAGS.dataset,
    data_dir=FLAGS.data_dir,
    download=FLAGS.download,
    image_size=FLAGS.image_size,
    standardize=FLAGS.standardize,
    num_points=FLAGS.num_points,
    seed=FLAGS.data_seed,
  )
  if FLAGS.conditional and data.num_classes is None:
    raise cli.UsageError(
      f'Expected a data set with labels for --conditional; {FLAGS.dataset!r} has none.'
    )
  return data


def examples(part: tf.data.Dataset, data: data_lib.Data) -> tf.data.Dataset:
  """Unbatched `(x, condition, weight)`; the condition is a one-hot label."""

  def example(x, label=None):
    condition = None
    if FLAGS.conditional:
      check = tf.debugging.Assert(
        (label >= 0) & (label < tf.cast(data.num_classes, label.dtype)),
        [f'Expected labels from 0 to {data.num_classes - 1}; received', label],
      )
      with tf.control_dependencies([check]):
        condition = tf.one_hot(label, data.num_classes, dtype=FLAGS.dtype)
    if data.num_bins is None:
      x = tf.cast(x, FLAGS.dtype)
    return x, condition, 1.0

  return part.map(example, num_parallel_calls=tf.data.AUTOTUNE)


def eval_batches(part: tf.data.Dataset, data: data_lib.Data) -> tf.data.Dataset:
  """Batches of a part in its own order."""
  return inputs.batches(examples(part, data), FLAGS.batch_size)


# Arguments of the builders that come from the data and from other flags.
_GIVEN = (
  'event_shape',
  'num_bins',
  'condition_size',
  'precision',
  'seed',
  'dtype',
  'name',
)


def make_model(data: data_lib.Data) -> flow_model.FlowModel:
  """The untrained model of the flags."""
  if FLAGS.model not in models.MODELS:
    raise cli.UsageError(
      f'Expected --model to be one of {sorted(models.MODELS)}; received '
      f'{FLAGS.model!r}.'
    )
  builder = models.MODELS[FLAGS.model]
  given = arguments.parse(builder, FLAGS.arg, _GIVEN)
  options: dict[str, Any] = dict(
    seed=FLAGS.seed,
    dtype=FLAGS.dtype,
    num_bins=data.num_bins or 0,
    condition_size=data.num_classes if FLAGS.conditional else None,
  )
  if FLAGS.precision != 'float32':
    options['precision'] = _precision(builder)
  try:
    distribution = builder(data.event_shape, **options | given)
  except (TypeError, OverflowError) as error:
    raise cli.UsageError(
      f'Expected arguments that fit {FLAGS.model}; received {FLAGS.arg}: {error}'
    ) from error
  if bijectors.networks_with_norms(distribution):
    # Norms and iterated inverses need more digits than TensorFloat has.
    tf.config.experimental.enable_tensor_float_32_execution(False)
  return flow_model.FlowModel(distribution, seed=FLAGS.seed)


def _precision(builder):
  if 'precision' not in inspect.signature(builder).parameters:
    raise cli.UsageError(
      f'Expected --precision=float32 with --model={FLAGS.model}, whose inverse or '
      f'solver needs its digits; received {FLAGS.precision}.'
    )
  return FLAGS.precision


def trained_model(data: data_lib.Data) -> flow_model.FlowModel:
  """The model of the flags with the best weights of the workdir."""
  workdir = Workdir(FLAGS.workdir)
  workdir.check_same_model()
  model = make_model(data)
  workdir.load_weights(model)
  return model


# What an earlier run may have left, and a new one must not be taken for.
_FILES = (
  'best.weights.h5',
  'curves.png',
  'evaluation_test.json',
  'evaluation_train.json',
  'evaluation_validation.json',
  'flags.txt',
  'interpolation.npy',
  'interpolation.png',
  'lipschitz.jsonl',
  'metrics.jsonl',
  'result.json',
  'sample.npy',
  'sample.png',
  'sample_path.png',
  'samples.png',
  'samples_path.png',
)


class Workdir:
  """The files of one run."""

  def __init__(self, path: str | None):
    if not path:
      raise cli.UsageError(
        'Expected --workdir=DIR, the folder of the run; received none.'
      )
    self.path = os.path.abspath(os.path.expanduser(path))
    # `flags.txt` must mean the same from any folder.
    for name in ('dataset', 'data_dir'):
      value = FLAGS[name].value
      if value and (name == 'data_dir' or value.endswith(data_lib.TABLES)):
        FLAGS[name].value = os.path.abspath(os.path.expanduser(value))

  def file(self, name: str) -> str:
    return os.path.join(self.path, name)

  @property
  def weights(self) -> str:
    return self.file('best.weights.h5')

  def begin(self, overwrite: bool) -> None:
    """Makes the folder and writes `flags.txt`.

    Raises:
      UsageError: if it holds a run, or files that are of no run, or cannot be
        written.
    """
    if os.path.exists(self.file('flags.txt')):
      if not overwrite:
        self.check_same_model()
        raise cli.UsageError(
          f'Expected a new --workdir; {self.path} holds a run. Pass --overwrite '
          f'to replace it, or another folder.'
        )
    elif os.path.isdir(self.path) and os.listdir(self.path):
      raise cli.UsageError(
        f'Expected a new or empty --workdir; {self.path} holds files of '
        f'something else. Pass another folder.'
      )
    try:
      os.makedirs(self.path, exist_ok=True)
      self._remove_run()
      FLAGS.workdir = self.path
      with open(self.file('flags.txt'), 'w') as file:
        file.write(flags_lib.shared_as_string())
    except OSError as error:
      raise cli.UsageError(
        f'Expected a folder that can be written; {self.path}: {error.strerror}.'
      ) from error

  def _remove_run(self):
    for name in _FILES:
      if os.path.exists(self.file(name)):
        os.remove(self.file(name))
    shutil.rmtree(self.file('tensorboard'), ignore_errors=True)

  def check_same_model(self) -> None:
    """Raises `UsageError` unless `flags.txt` describes the model of the flags."""
    path = self.file('flags.txt')
    if not os.path.exists(path):
      raise cli.UsageError(
        f'Expected a run of tfp-flows-train in {self.path}; there is no flags.txt.'
      )
    with open(path) as file:
      recorded = file.read().splitlines()
    for name in _IDENTITY:
      here = [line for line in FLAGS[name].serialize().splitlines() if line]
      there = [
        line
        for line in recorded
        if line.startswith((f'--{name}=', f'--no{name}')) or line == f'--{name}'
      ]
      if here != there:
        raise cli.UsageError(
          f'Expected the flags of the run in {self.path}, which has '
          f'{" ".join(there) or f"no --{name}"}; received '
          f'{" ".join(here) or f"no --{name}"}. Pass --flagfile={path} or another '
          f'--workdir.'
        )

  def load_weights(self, model: flow_model.FlowModel) -> None:
    """Loads the best weights.

    Raises:
      UsageError: if there are none, or the file is damaged, or of another model.
    """
    if not os.path.exists(self.weights):
      raise cli.UsageError(
        f'Expected trained weights at {self.weights}; there are none. Run '
        f'tfp-flows-train first.'
      )
    try:
      model.load_weights(self.weights)
    except (OSError, KeyError) as error:
      raise cli.UsageError(
        f'Expected the weights of a run at {self.weights}; the file is damaged '
        f'({str(error).splitlines()[0]}). Train again, or restore it.'
      ) from error
    except ValueError as error:
      raise cli.UsageError(
        f'Expected weights of this model at {self.weights}; they are of another '
        f'({str(error).splitlines()[0]}). Pass --flagfile='
        f'{self.file("flags.txt")}.'
      ) from error
