"""Keys made of what an example holds, for noise that belongs to the example.

The noise of a batch is usually drawn by place: the same example has another one in
another batch. With a key per example the numbers drawn once for all examples are
scrambled by the key of each. For a fixed example the scrambling is a bijection of
random bits, so that over the seeds its noise has exactly the distribution of the
unscrambled one.

All is arithmetic of unsigned integers: the same in eager mode, in graphs, under XLA,
on every device and in batches of every size.
"""

import tensorflow as tf

from tfp_flows.internal import shapes

__all__ = ['example_keys', 'fold_in', 'for_batch', 'scramble']

# Odd multipliers, one for each of the two words of a key.
_STEPS = (0x9E3779B9, 0x85EBCA77)


def example_keys(
  x: tf.Tensor, condition: tf.Tensor | None = None, event_ndims: int = 1
) -> tf.Tensor:
  """Keys of examples, for `tff.estimation`: equal for equal examples.

  Args:
    x: `[*batch, *event]`, of any numeric dtype. Equal numbers of two dtypes may have
      other keys: convert first.
    condition: `[..., K]`, a part of the example, or None.
    event_ndims: number of event dimensions of `x`.

  Returns:
    uint32 tensor `[*batch, 2]`; of the batch shape that both have together.
  """
  x = tf.convert_to_tensor(x)
  keys = _hashed(x, event_ndims)
  if condition is not None:
    keys = _mixed(keys ^ _hashed(tf.convert_to_tensor(condition), 1))
  return keys


def fold_in(keys: tf.Tensor, index: tf.Tensor | int) -> tf.Tensor:
  """Keys `[..., 2]` that are others for each `index`, which broadcasts to `[...]`."""
  index = tf.cast(index, tf.uint32)[..., tf.newaxis] + _word(1)
  return _mixed(keys ^ (index * tf.constant(_STEPS, tf.uint32)))


def for_batch(keys: tf.Tensor, x: tf.Tensor, event_ndims: int) -> tf.Tensor:
  """`keys` of the batch shape of `x`, whose first axes are those of the keys.

  Raises:
    ValueError: if the examples are others than those with keys.
  """
  batch = x.shape[: x.shape.rank - event_ndims]
  known = keys.shape[:-1]
  extra = batch.rank - known.rank
  fits = extra >= 0 and all(
    a is None or b is None or a in (1, b) for a, b in zip(known, batch)
  )
  if not fits:
    raise ValueError(
      f'Expected the examples of the keys in a `tff.estimation` block, '
      f'{known.as_list()}; received {batch.as_list()}. Open another block for other '
      f'examples.'
    )
  batch = shapes.batch_shape(x, event_ndims)
  if extra:
    # Parts of one example, as the rows of a matrix: a key for each.
    inner = batch[known.rank :]
    index = tf.reshape(tf.range(tf.reduce_prod(inner)), inner)
    keys = fold_in(keys[(..., *[tf.newaxis] * extra, slice(None))], index)
  return tf.broadcast_to(keys, tf.concat([batch, [2]], axis=0))


def scramble(bits: tf.Tensor, keys: tf.Tensor, event_ndims: int) -> tf.Tensor:
  """The random `bits` of all examples, made those of each.

  Args:
    bits: int32, uint32 or uint64, `[..., *ones, *event]` with a 1 for each axis of
      examples.
    keys: `[*batch, 2]`.
    event_ndims: number of event dimensions.

  Returns:
    Tensor `[..., *batch, *event]` of the dtype of `bits`.
  """
  first, second = (keys[(..., i, *[tf.newaxis] * event_ndims)] for i in (0, 1))
  if bits.dtype == tf.uint64:
    high = tf.bitwise.left_shift(tf.cast(first, tf.uint64), _word(32, tf.uint64))
    return _mixed_long(bits ^ (high | tf.cast(second, tf.uint64)))
  mixed = _mixed(_mixed(tf.bitcast(bits, tf.uint32) ^ first) ^ second)
  return tf.bitcast(mixed, bits.dtype)


def _hashed(x, event_ndims):
  """Two words for each event: the sums of the scrambled words of its numbers."""
  words = _words(x, event_ndims)
  places = tf.range(1, words.shape[-1] + 1, dtype=tf.int64)
  sums = []
  for step in _STEPS:
    place = tf.cast((places * step) & 0xFFFFFFFF, tf.uint32)
    mixed = _mixed(_mixed(words) + place)
    # Integers: in whatever order they are added, the sum is the same.
    total = tf.reduce_sum(tf.cast(mixed, tf.int64), axis=-1)
    sums.append(tf.cast(total & 0xFFFFFFFF, tf.uint32))
  return _mixed(tf.stack(sums, axis=-1))


def _words(x, event_ndims):
  """The bits of each event, uint32 `[*batch, words]`."""
  if x.dtype.is_floating and x.dtype.size < 4:
    x = tf.cast(x, tf.float32)
  elif not x.dtype.is_floating:
    x = tf.cast(x, tf.int32)
  # -0. equals 0., but its bits do not.
  x = tf.where(x == 0, tf.zeros_like(x), x)
  words = tf.bitcast(x, tf.uint32)
  event = x.shape[x.shape.rank - event_ndims :]
  size = event.num_elements() * (x.dtype.size // 4)
  return shapes.reshape(words, shapes.batch_shape(x, event_ndims), [size])


def _mixed(h):
  """A bijection of uint32 in which each bit depends on all, MurmurHash3's."""
  h = (h ^ tf.bitwise.right_shift(h, _word(16))) * _word(0x85EBCA6B)
  h = (h ^ tf.bitwise.right_shift(h, _word(13))) * _word(0xC2B2AE35)
  return h ^ tf.bitwise.right_shift(h, _word(16))


def _mixed_long(h):
  """The same of uint64, SplitMix64's."""
  for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
    shifted = tf.bitwise.right_shift(h, _word(shift, tf.uint64))
    h = (h ^ shifted) * _word(factor, tf.uint64)
  return h ^ tf.bitwise.right_shift(h, _word(31, tf.uint64))


def _word(value, dtype=tf.uint32):
  return tf.constant(value, dtype)
