"""From flags to data and model; the files of a workdir."""

import contextlib
import errno
import fcntl
import inspect
import json
import os
import shutil
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from absl import flags

from tfp_flows import bijectors
from tfp_flows import data as data_lib
from tfp_flows import models
from tfp_flows.bin import arguments
from tfp_flows.bin import cli
from tfp_flows.bin import flags as flags_lib
from tfp_flows.training import checkpoints
from tfp_flows.training import files
from tfp_flows.training import flow_model
from tfp_flows.training import inputs
from tfp_flows.training import weights

__all__ = [
  'Workdir',
  'describe_data',
  'eval_batches',
  'examples',
  'load_data',
  'load_trained_data',
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


def load_data(workdir: 'Workdir | None' = None) -> data_lib.Data:
  """The data set of the flags, scaled as that of the run in `workdir`."""
  data = data_lib.load(
    FLAGS.dataset,
    data_dir=FLAGS.data_dir,
    download=FLAGS.download,
    image_size=FLAGS.image_size,
    standardize=FLAGS.standardize,
    num_points=FLAGS.num_points,
    seed=FLAGS.data_seed,
    scale=workdir and workdir.scale(),
  )
  _check_labels(data)
  return data


def load_trained_data(workdir: 'Workdir') -> data_lib.Data:
  """The data set that the run in `workdir` was trained on, wherever it is now.

  Raises:
    UsageError: if there is none, or it is one that the model is not for.
  """
  if data_lib.is_path(FLAGS.dataset) and not os.path.exists(FLAGS.dataset):
    raise cli.UsageError(
      f'Expected the data of the run at {FLAGS.dataset}; there are none. Restore them, '
      f'or pass --dataset=PATH of where they are now.'
    )
  data, expected = load_data(workdir), workdir.description()
  if expected is None:
    return data
  names = ['event_shape', 'num_bins', *(['num_classes'] if FLAGS.conditional else [])]
  for name in names:
    if getattr(data, name) != getattr(expected, name):
      raise cli.UsageError(
        f'Expected data as those of the run, of {name} {getattr(expected, name)}; '
        f'received {getattr(data, name)} of {FLAGS.dataset}.'
      )
  return data


def describe_data(workdir: 'Workdir') -> data_lib.Description:
  """What the model in `workdir` needs of its data, which may be elsewhere."""
  found = workdir.description()
  if found is None:  # The run is of an older version.
    return load_data(workdir)
  _check_labels(found)
  return found


def _check_labels(data):
  if FLAGS.conditional and data.num_classes is None:
    raise cli.UsageError(
      f'Expected a data set with labels for --conditional; {FLAGS.dataset!r} has none.'
    )


def examples(part: tf.data.Dataset, data: data_lib.Description) -> tf.data.Dataset:
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

  return inputs.without_autotuning(
    part.map(example, num_parallel_calls=tf.data.AUTOTUNE)
  )


def eval_batches(part: tf.data.Dataset, data: data_lib.Description) -> tf.data.Dataset:
  """Batches of a part in its own order."""
  return inputs.batches(examples(part, data), FLAGS.batch_size)


_COUPLINGS = ('glow', 'nice', 'real_nvp')

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


def make_model(data: data_lib.Description) -> flow_model.FlowModel:
  """The untrained model of the flags."""
  if FLAGS.model not in models.MODELS:
    raise cli.UsageError(
      f'Expected --model to be one of {sorted(models.MODELS)}; received '
      f'{FLAGS.model!r}.'
    )
  if data.event_shape == (1,) and FLAGS.model in _COUPLINGS:
    raise cli.UsageError(
      f'Expected --model=maf, or ffjord or residual_flow, for data of one column; '
      f'received {FLAGS.model}, whose couplings keep a column to change another and '
      f'need at least 2 dimensions.'
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


def trained_model(data: data_lib.Description) -> flow_model.FlowModel:
  """The model of the flags with the best weights of the workdir."""
  workdir = Workdir(FLAGS.workdir)
  workdir.check_same_model()
  model = make_model(data)
  workdir.load_weights(model)
  # After them: an optimizer would be loaded, too.
  model.compile(jit_compile=FLAGS.jit)
  return model


# What an earlier run may have left, and a new one must not be taken for.
_FILES = (
  'best.weights.h5',
  'curves.png',
  'data.json',
  'evaluation_test.json',
  'evaluation_train.json',
  'evaluation_validation.json',
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
_CANNOT_WRITE = (
  errno.EACCES,
  errno.EDQUOT,
  errno.EEXIST,
  errno.EFBIG,
  errno.EISDIR,
  errno.ENOSPC,
  errno.ENOTDIR,
  errno.EPERM,
  errno.EROFS,
)
_FOLDERS = ('export', 'tensorboard', 'checkpoints')


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
      if value and (name == 'data_dir' or data_lib.is_path(value)):
        FLAGS[name].value = os.path.abspath(os.path.expanduser(value))

  def file(self, name: str) -> str:
    return os.path.join(self.path, name)

  @property
  def weights(self) -> str:
    return self.file('best.weights.h5')

  @contextlib.contextmanager
  def begin(self, overwrite: bool) -> Iterator[None]:
    """Makes the folder and writes `flags.txt`, or finds the run of the flags there.

    Inside of the block no other process can begin.

    Raises:
      UsageError: if the folder holds a run of other flags, or files that are of no
        run, cannot be written, or another process trains there.
    """
    if os.path.exists(self.file('flags.txt')):
      if not overwrite:
        self._check_same(
          flags_lib.FIXED,
          '--workdir alone for the flags of the run, --overwrite to replace it',
        )
    elif os.path.isdir(self.path) and self._has_strangers():
      raise cli.UsageError(
        f'Expected a new or empty --workdir, or one with a run; {self.path} holds '
        f'files and no flags.txt. Pass another folder.'
      )
    try:
      os.makedirs(self.path, exist_ok=True)
      with self._locked():
        if overwrite:
          self._remove_run()
        for folder in (self.path, self.file('checkpoints')):
          files.remove_unfinished(folder)
        FLAGS.workdir = self.path
        self._record_flags()
        yield
    except OSError as error:
      if error.errno not in _CANNOT_WRITE:
        raise
      raise cli.UsageError(
        f'Expected a folder that can be written; {self.path}: '
        f'{error.strerror or error}. What was saved before is as it was.'
      ) from error

  def _record_flags(self):
    text = flags_lib.shared_as_string()
    if os.path.exists(self.file('flags.txt')) and FLAGS.config is None:
      # The name of the configuration is that of the beginning.
      notes = [line for line in self._recorded() if line.startswith('#')]
      text = '\n'.join([*notes, text])
    with files.replacing(self.file('flags.txt')) as path, open(path, 'w') as file:
      file.write(text)

  @contextlib.contextmanager
  def _locked(self):
    with open(self.file('.lock'), 'w') as file:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError as error:
        raise cli.UsageError(
          f'Expected a --workdir of which no other process writes; one trains in '
          f'{self.path}. Stop it, or pass another folder.'
        ) from error
      yield

  def _has_strangers(self):
    # A process that was killed may leave hidden files.
    return any(not name.startswith('.') for name in os.listdir(self.path))

  def _remove_run(self):
    for name in _FOLDERS:
      if os.path.islink(self.file(name)):
        os.remove(self.file(name))
      elif os.path.isdir(self.file(name)):
        shutil.rmtree(self.file(name))
    # Last the one by which the others are known to be of a run.
    for name in (*_FILES, 'flags.txt'):
      if os.path.exists(self.file(name)):
        os.remove(self.file(name))

  def record_data(self, data: data_lib.Description) -> None:
    """Writes `data.json`, what the model needs of its data, unless it is there."""
    if not os.path.exists(self.file('data.json')):
      values = dict(dataset=FLAGS.dataset, **data.as_json())
      with files.replacing(self.file('data.json')) as path, open(path, 'w') as file:
        json.dump(values, file, indent=1)

  def description(self) -> data_lib.Description | None:
    """What `data.json` says; None if the run has none.

    Raises:
      UsageError: if the file is damaged.
    """
    path = self.file('data.json')
    if not os.path.exists(path):
      return None
    try:
      with open(path) as file:
        return data_lib.Description.from_json(json.load(file))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
      raise cli.UsageError(
        f'Expected what a run needs of its data in {path}; the file is damaged '
        f'({files.first_line(error)}). Restore it, or remove it if the data are there.'
      ) from error

  def scale(self) -> tuple[Any, Any] | None:
    """By what the table of the run there is scaled; None leaves it to the data."""
    found = self.description()
    if found is not None:
      return (0.0, 1.0) if found.mean is None else (found.mean, found.deviation)
    # Older versions did not centre without --standardize.
    is_older = os.path.exists(self.weights) or (
      os.path.isdir(self.file('checkpoints')) and os.listdir(self.file('checkpoints'))
    )
    return (0.0, 1.0) if is_older and not FLAGS.standardize else None

  def digest(self) -> str:
    """That of the data of the run; empty if nothing has kept it."""
    found = self.description()
    if found is not None:
      return found.digest
    state = checkpoints.last_state(self.file('checkpoints')) or {}
    return state.get('data') or ''

  def forget_result(self) -> None:
    """Removes the result of a training that goes on, if there is one."""
    with contextlib.suppress(FileNotFoundError):
      os.remove(self.file('result.json'))

  def check_nothing_trained(self) -> None:
    """Raises `UsageError` if there are results of a training without checkpoints."""
    for name in ('metrics.jsonl', 'best.weights.h5', 'result.json'):
      if os.path.exists(self.file(name)):
        raise cli.UsageError(
          f'Expected the checkpoints of the run in {self.path}, which has a {name}; '
          f'there are none. Restore them, or pass --overwrite to begin anew.'
        )

  def identity(self) -> str:
    """`flags.identity` of the run that is there."""
    recorded = self._recorded()
    lines = (line for name in flags_lib.FIXED for line in _lines(name, recorded))
    return '\n'.join(lines)

  def _recorded(self):
    path = self.file('flags.txt')
    if not os.path.exists(path):
      raise cli.UsageError(
        f'Expected a run of tfp-flows-train in {self.path}; there is no flags.txt.'
      )
    try:
      with open(path) as file:
        return file.read().splitlines()
    except UnicodeDecodeError as error:
      raise cli.UsageError(
        f'Expected the flags of a run in {path}; the file is damaged ({error}). '
        f'Restore it, or pass another --workdir.'
      ) from error

  def check_same_model(self) -> None:
    """Raises `UsageError` unless `flags.txt` describes the model of the flags."""
    names = _IDENTITY
    recorded = _lines('dataset', self._recorded())
    paths = [FLAGS.dataset, *(line.partition('=')[2] for line in recorded)]
    if self.description() is not None and all(map(data_lib.is_path, paths)):
      # Files may be elsewhere, and then their digest tells whether they are others.
      names = [name for name in names if name != 'dataset']
    self._check_same(names, f'--flagfile={self.file("flags.txt")}')

  def _check_same(self, names, remedy):
    recorded = self._recorded()
    # First what the command line has: the others may be defaults.
    for name in sorted(names, key=lambda name: not FLAGS[name].present):
      here = [line for line in FLAGS[name].serialize().splitlines() if line]
      there = _lines(name, recorded)
      if here != there:
        raise cli.UsageError(
          f'Expected the flags of the run in {self.path}, which has '
          f'{" ".join(there) or f"no --{name}"}; received '
          f'{" ".join(here) or f"no --{name}"}. Pass {remedy}, or another '
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
      weights.load_weights(model, self.weights, self.identity())
    except (OSError, KeyError, weights.DamagedWeights) as error:
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


def _lines(name, recorded):
  """The lines of a flagfile that set a flag."""
  return [
    line
    for line in recorded
    if line.startswith(f'--{name}=') or line in (f'--{name}', f'--no{name}')
  ]
