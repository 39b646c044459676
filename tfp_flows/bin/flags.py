"""The flags that all commands share, so that `flags.txt` suits each of them."""

from absl import flags

__all__ = ['FIXED', 'FREE', 'SHARED', 'identity', 'shared_as_string']

flags.DEFINE_string('config', None, 'A named configuration; see --list_configs.')
flags.DEFINE_string(
  'workdir', None, 'Where the run is written, or was, by tfp-flows-train.'
)
flags.DEFINE_string(
  'dataset',
  'digits',
  "'digits', a 2-D toy, the path of a .csv or .npy table, of images of uint8 in a .npy "
  'or .npz, or of a folder of PNG, JPEG or BMP files (with a slash, as ./photos), '
  'or the name of an image set of TensorFlow Datasets.',
)
flags.DEFINE_string('data_dir', None, 'Folder of TensorFlow Datasets.')
flags.DEFINE_bool(
  'download',
  None,
  'Download a data set that is not there; by default only without --data_dir.',
)
flags.DEFINE_integer(
  'image_size', None, 'Scale the centre of each image to this side.', 1, 2**14
)
flags.DEFINE_bool(
  'standardize',
  True,
  'Scale the columns of tables to mean 0 and variance 1. Without, columns that lie too '
  'far from 0 for float32 are centred.',
)
flags.DEFINE_integer('num_points', 20_000, 'Training points of a 2-D toy.', 10)
flags.DEFINE_bool('conditional', False, 'Model the data given their labels.')
flags.DEFINE_string(
  'model', 'glow', 'The model: ffjord, glow, maf, nice, real_nvp or residual_flow.'
)
flags.DEFINE_multi_string(
  'arg', [], 'An argument of the model, as num_steps=8; may be repeated.'
)
flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'float64'], 'Of the flow and its weights.'
)
flags.DEFINE_enum(
  'precision',
  'float32',
  ['float32', 'mixed_bfloat16'],
  'mixed_bfloat16: networks compute in bfloat16, all else in --dtype=float32.',
)
flags.DEFINE_bool('jit', True, 'Compile with XLA.')
flags.DEFINE_enum(
  'strategy',
  'none',
  ['none', 'mirrored', 'multi_worker'],
  'Share each batch among the GPUs of this machine (mirrored), or among processes, '
  'one for each entry of TF_CONFIG (multi_worker).',
)
flags.DEFINE_integer('seed', 0, 'Of the weights and all noise.', 0, 2**31 - 2)
flags.DEFINE_integer(
  'data_seed', 0, 'Of the split of digits, tables and image files, and of the toys.', 0
)
flags.DEFINE_integer('batch_size', 64, 'Examples per step.', 1)
flags.DEFINE_integer(
  'epochs',
  100,
  'Passes over the training set; 0 prepares a run and keeps the untrained weights.',
  0,
)
flags.DEFINE_enum('optimizer', 'adam', ['adam', 'adamax', 'adamw'], 'Its name.')
flags.DEFINE_float('learning_rate', 1e-3, 'After the warm-up.', 0.0)
flags.DEFINE_integer('warmup_steps', 0, 'Steps of linear increase.', 0)
flags.DEFINE_enum(
  'schedule', 'cosine', ['cosine', 'constant'], 'Learning rate after warm-up.'
)
flags.DEFINE_float('weight_decay', 0.0, 'Decoupled; needs --optimizer=adamw.', 0.0)
flags.DEFINE_float('clip_norm', 50.0, 'Largest gradient norm; 0 for none.', 0.0)
flags.DEFINE_float(
  'ema', 0.0, 'Momentum of the weight average that is kept; 0 for none.', 0.0, 1.0
)
flags.DEFINE_integer(
  'augment_shift', 0, 'Move training images by up to so many pixels.', 0
)
flags.DEFINE_integer('adapt_examples', 1024, 'Examples that set ActNorms.', 1)
flags.DEFINE_integer(
  'patience', 0, 'Stop after so many epochs without a better one; 0 for never.', 0
)
flags.DEFINE_enum(
  'log_det',
  None,
  ['exact', 'hutchinson', 'roulette', 'poisson', 'truncated'],
  'How the log-determinants of residual and continuous flows are found for the '
  'final likelihood; by default as the model evaluates. hutchinson: of continuous '
  'flows alone, exact: of both, the others: of residual flows.',
)
flags.DEFINE_integer('log_det_terms', 20, 'Terms of --log_det, if it is a series.', 1)
flags.DEFINE_float(
  'checkpoint_minutes',
  1.0,
  'Minutes between checkpoints, from which a run that was stopped goes on; 0 for one '
  'after every step.',
  0.0,
)
flags.DEFINE_enum(
  'on_nan',
  'stop',
  ['stop', 'rollback'],
  'Where a loss or a gradient is NaN or infinite: stop with exit code 2, or go back to '
  'an earlier checkpoint and on with half the learning rate.',
)
flags.DEFINE_integer('picture_every', 10, 'Epochs between pictures; 0: at the end.', 0)
flags.DEFINE_integer(
  'num_samples',
  64,
  'How many samples are drawn; a picture shows the first ones.',
  1,
  10**7,
)
flags.DEFINE_float('temperature', 1.0, 'Scales the latents of samples.', 0.0)

SHARED = tuple(f.name for f in flags.FLAGS.flags_by_module_dict()[__name__])

# What may change when a run goes on: nothing that was computed depends on it. More
# epochs stretch a cosine schedule from there on.
FREE = (
  'checkpoint_minutes',
  'config',
  'data_dir',
  'download',
  'epochs',
  'log_det',
  'log_det_terms',
  'num_samples',
  'on_nan',
  'patience',
  'picture_every',
  'temperature',
  'workdir',
)

FIXED = tuple(name for name in SHARED if name not in FREE)

_LARGEST = 2**31 - 1


def _check_number(name):
  flags.register_validator(
    name,
    lambda value: value is None or abs(value) <= _LARGEST,  # NaN is not.
    message=f'Expected a finite number, at most {_LARGEST} in size.',
  )


for _name in SHARED:
  if isinstance(flags.FLAGS[_name].parser, (flags.FloatParser, flags.IntegerParser)):
    _check_number(_name)

# Of some commands, and of no run.
flags.DEFINE_string(
  'output',
  None,
  'Path without ending of the .png and the .npy, or the folder of an export; in the '
  'workdir.',
)
flags.DEFINE_bool(
  'overwrite',
  False,
  'Replace the run that --workdir holds, the export in --output, or, where a training '
  'comes back, steps that were made since.',
)


def identity() -> str:
  """The flags that the numbers of a run depend on, as lines of a flagfile."""
  lines = (flags.FLAGS[name].serialize() for name in FIXED)
  return '\n'.join(line for line in lines if line)


def shared_as_string() -> str:
  """The values of all shared flags, as the lines of a flagfile."""
  found = flags.FLAGS
  lines = [found[name].serialize() for name in SHARED if name != 'config']
  # The configuration is spelt out below; its name is a note.
  header = f'# --config={found.config}' if found.config else ''
  return '\n'.join(line for line in [header, *lines] if line) + '\n'
