"""The training batches of the flags."""

import tensorflow as tf
from absl import flags

from tfp_flows import data as data_lib
from tfp_flows.bin import cli
from tfp_flows.bin import runs
from tfp_flows.training import inputs

__all__ = ['TrainingData']

FLAGS = flags.FLAGS

# Sets that are not larger, in numbers, are decoded once and kept in memory.
_CACHED = 2**30


class TrainingData:
  """Shuffled and augmented batches, whose order depends on `--seed` and the epoch.

  So training can go on at any step with the batches that it would have had.

  Attributes:
    steps_per_epoch: number of batches of an epoch.
  """

  def __init__(self, data: data_lib.Data):
    """Reads no example.

    Raises:
      UsageError: if there are none, or images are to be moved out of sight.
    """
    examples = runs.examples(data.train, data)
    count = int(examples.cardinality())
    if not count:
      raise cli.UsageError('Expected training examples; the data set is empty.')
    if tf.TensorShape(data.event_shape).num_elements() * count < _CACHED:
      examples = examples.cache()
    self._examples, self._count = examples, count
    self._batch_size = min(FLAGS.batch_size, count)
    self.steps_per_epoch = -(-count // self._batch_size)
    self._augments = bool(FLAGS.augment_shift) and data.num_bins is not None
    if self._augments and FLAGS.augment_shift >= min(data.event_shape[:2]):
      raise cli.UsageError(
        f'Expected --augment_shift below the height and width of the images, '
        f'{list(data.event_shape[:2])}; received {FLAGS.augment_shift}.'
      )

  def epochs(self, first: int, last: int) -> tf.data.Dataset:
    """Batches `(x, condition, weight)` of the epochs `first`, ..., `last - 1`."""
    batches = tf.data.Dataset.range(first, last).flat_map(self._epoch).prefetch(2)
    return inputs.without_autotuning(batches)

  def _epoch(self, epoch):
    # Of the graph of this function. With 0 TensorFlow would ask for the value of the
    # other seed, which is a tensor.
    tf.random.set_seed(1)
    seed = tf.random.stateless_uniform(
      [], [FLAGS.seed, epoch], minval=None, maxval=None, dtype=tf.int64
    )
    batches = inputs.batches(
      self._examples, self._batch_size, shuffle_seed=seed, count=self._count
    )
    if not self._augments:
      return batches

    def shifted(index, batch):
      step = epoch * self.steps_per_epoch + index
      return _shifted([tf.constant(FLAGS.seed, tf.int64), step], *batch)

    return batches.enumerate().map(shifted, num_parallel_calls=tf.data.AUTOTUNE)


def _shifted(seed, x, condition, weight):
  """Each image of the batch moved by its own random offset."""
  most = FLAGS.augment_shift
  pad = [[0, 0], [most, most], [most, most], [0, 0]]
  count, height, width = x.shape[:3]
  offsets = tf.random.stateless_uniform(
    [2, count], seed, minval=0, maxval=2 * most + 1, dtype=tf.int32
  )
  rows = offsets[0][:, tf.newaxis] + tf.range(height)
  columns = offsets[1][:, tf.newaxis] + tf.range(width)
  x = tf.gather(tf.pad(x, pad), rows, axis=1, batch_dims=1)
  return tf.gather(x, columns, axis=2, batch_dims=1), condition, weight
