"""The training batches of a run."""

import tensorflow as tf

from tfp_flows import data as data_lib
from tfp_flows.model import inputs
from tfp_flows.runs import loading
from tfp_flows.runs.options import Options
from tfp_flows.runs.options import UsageError

__all__ = ['TrainingData']

# Sets that are not larger, in numbers, are decoded once and kept in memory.
_CACHED = 2**30


class TrainingData:
  """Shuffled and augmented batches, whose order depends on the seed and the epoch.

  So training can go on at any step with the batches that it would have had.

  Attributes:
    steps_per_epoch: number of batches of an epoch.
  """

  def __init__(self, data: data_lib.Data, options: Options):
    """Reads no example.

    Raises:
      UsageError: if there are none, or images are to be moved out of sight.
    """
    examples = loading.examples(data.train, data, options)
    count = int(examples.cardinality())
    if not count:
      raise UsageError('Expected training examples; the data set is empty.')
    if tf.TensorShape(data.event_shape).num_elements() * count < _CACHED:
      examples = examples.cache()
    self._examples, self._count = examples, count
    self._options = options
    self._batch_size = min(options.batch_size, count)
    self.steps_per_epoch = -(-count // self._batch_size)
    self._augments = bool(options.augment_shift) and data.num_bins is not None
    if self._augments and options.augment_shift >= min(data.event_shape[:2]):
      raise UsageError(
        f'Expected augment_shift=N below the height and width of the images, '
        f'{list(data.event_shape[:2])}; received {options.augment_shift}.'
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
      [], [self._options.seed, epoch], minval=None, maxval=None, dtype=tf.int64
    )
    batches = inputs.batches(
      self._examples, self._batch_size, shuffle_seed=seed, count=self._count
    )
    if not self._augments:
      return batches

    def shifted(index, batch):
      step = epoch * self.steps_per_epoch + index
      seed = [tf.constant(self._options.seed, tf.int64), step]
      return _shifted(self._options.augment_shift, seed, *batch)

    return batches.enumerate().map(shifted, num_parallel_calls=tf.data.AUTOTUNE)


def _shifted(most, seed, x, condition, weight):
  """Each image of the batch moved by its own random offset."""
  pad = [[0, 0], [most, most], [most, most], [0, 0]]
  count, height, width = x.shape[:3]
  offsets = tf.random.stateless_uniform(
    [2, count], seed, minval=0, maxval=2 * most + 1, dtype=tf.int32
  )
  rows = offsets[0][:, tf.newaxis] + tf.range(height)
  columns = offsets[1][:, tf.newaxis] + tf.range(width)
  x = tf.gather(tf.pad(x, pad), rows, axis=1, batch_dims=1)
  return tf.gather(x, columns, axis=2, batch_dims=1), condition, weight
