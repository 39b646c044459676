"""Convolutions that are fast on CPUs, with all of their derivatives."""

import tensorflow as tf

from tfp_flows.internal import tf_private

__all__ = ['conv2d']


def conv2d(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
  """`tf.nn.conv2d(x, kernel, strides=1, padding='SAME')`.

  TensorFlow's own, but for XLA on a CPU. There a convolution from few channels to many
  is a product of the patches of `x` with a matrix, and one from many to few a sum of
  shifted products: both, and all of their derivatives, then run as dense matrix
  products, in half the time. Where the patches would be larger than the wider side,
  the native one is used, and its derivatives of any order are native convolutions,
  too: TensorFlow's own are many times slower inside of XLA's loops.

  Args:
    x: `[N, H, W, C]`.
    kernel: `[height, width, C, filters]`.

  Returns:
    `[N, H, W, filters]`.
  """
  height, width = kernel.shape[:2]
  if height * width == 1:
    return _dense(tf.convert_to_tensor(x), tf.convert_to_tensor(kernel))
  if x.shape[0] == 0:
    # TensorFlow's gives an empty batch of float32 the channels of `x` on a CPU.
    return conv2d(tf.pad(x, [[0, 1], [0, 0], [0, 0], [0, 0]]), kernel)[:0]
  if tf.config.list_logical_devices('GPU') or not tf_private.in_xla():
    return tf.nn.conv2d(x, kernel, strides=1, padding='SAME')
  pad = [[(size - 1) // 2, size // 2] for size in (height, width)]
  return _conv(tf.convert_to_tensor(x), tf.convert_to_tensor(kernel), pad)


# `sum(y * conv(x, kernel))` is linear in each of the three: its derivatives are the
# two functions below, and so are theirs. What they need is `x`, not its patches: loops
# keep it for their gradient.


def _dense(x, kernel):
  """A convolution of single pixels, which needs no XLA to be fast."""
  return _conv(x, kernel, [[0, 0], [0, 0]])


def _conv(x, kernel, pad):
  @tf.custom_gradient
  def conv(*_):
    def grad(y):
      return _conv(y, *_transposed(kernel, pad)), _kernel_gradient(x, y, pad)

    return _forward(x, kernel, pad), grad

  return conv(x, kernel)


def _kernel_gradient(x, y, pad):
  @tf.custom_gradient
  def product(*_):
    def grad(k):
      return _conv(y, *_transposed(k, pad)), _conv(x, k, pad)

    return _forward_kernel_gradient(x, y, pad), grad

  return product(x, y)


def _forward(x, kernel, pad):
  height, width, channels, filters = kernel.shape
  taps = height * width
  if taps == 1:
    return _on_last_axis(x, kernel[0, 0])
  if _is_native(taps, channels, filters):
    return _plain(x, kernel, pad)
  if channels <= filters:
    matrix = tf.reshape(kernel, [taps * channels, filters])
    return _on_last_axis(_patches(x, pad), matrix)
  matrix = tf.reshape(tf.transpose(kernel, [2, 0, 1, 3]), [channels, taps * filters])
  products = _shifted(_on_last_axis(x, matrix), pad)
  return tf.add_n(
    [p[..., i * filters : (i + 1) * filters] for i, p in enumerate(products)]
  )


def _forward_kernel_gradient(x, y, pad):
  height, width = (sum(p) + 1 for p in pad)
  channels, filters = x.shape[-1], y.shape[-1]
  if _is_native(height * width, channels, filters):
    # The channels of `x` are a batch of images whose channels are the examples.
    images = tf.transpose(_at_least_one(x), [3, 1, 2, 0])
    kernel = tf.transpose(_at_least_one(y), [1, 2, 0, 3])
    return tf.transpose(_plain(images, kernel, pad), [1, 2, 0, 3])
  if channels <= filters:
    product = _over_pixels(_patches(x, pad), y)
    return tf.reshape(product, [height, width, channels, filters])
  # The product of `x` here and `y` there is that of `x` there and `y` here.
  product = _over_pixels(x, _patches(y, [p[::-1] for p in pad], is_flipped=True))
  product = tf.reshape(product, [channels, height, width, filters])
  return tf.transpose(product, [1, 2, 0, 3])


def _is_native(taps, channels, filters):
  return taps * min(channels, filters) > max(channels, filters)


def _over_pixels(x, y):
  x, y = (tf.reshape(t, [-1, t.shape[-1]]) for t in (x, y))
  return tf.matmul(x, y, transpose_a=True)


def _plain(x, kernel, pad):
  return tf.nn.conv2d(x, kernel, strides=1, padding=[[0, 0], *pad, [0, 0]])


def _at_least_one(x):
  """`x`, or one image of zeros: `tf.nn.conv2d` refuses images without channels."""
  if x.shape[0]:
    return x
  missing = tf.cast(tf.equal(tf.shape(x)[0], 0), tf.int32)
  return tf.pad(x, [[0, missing], [0, 0], [0, 0], [0, 0]])


def _transposed(kernel, pad):
  """Kernel and padding of the transposed convolution."""
  flipped = tf.transpose(kernel[::-1, ::-1], [0, 1, 3, 2])
  return flipped, [p[::-1] for p in pad]


def _patches(x, pad, is_flipped=False):
  """What the kernel sees at each pixel, `[N, H, W, taps * C]`, zero outside.

  First the columns, then the rows: XLA makes, and compiles, a kernel for each slice.
  """
  padded = tf.pad(x, [[0, 0], *pad, [0, 0]])
  rows, columns = x.shape[1:3]
  above, left = (range(sum(p) + 1)[:: -1 if is_flipped else 1] for p in pad)
  wide = tf.concat([padded[:, :, j : j + columns] for j in left], axis=-1)
  return tf.concat([wide[:, i : i + rows] for i in above], axis=-1)


def _shifted(x, pad):
  """The image at each offset of the kernel, zero outside of its borders."""
  padded = tf.pad(x, [[0, 0], *pad, [0, 0]])
  rows, columns = x.shape[1:3]
  return [
    padded[:, i : i + rows, j : j + columns]
    for i in range(sum(pad[0]) + 1)
    for j in range(sum(pad[1]) + 1)
  ]


def _on_last_axis(x, matrix):
  # A batched product would repeat the matrix for every pixel under XLA.
  flat = tf.reshape(x, [-1, x.shape[-1]]) @ matrix
  return tf.reshape(flat, tf.concat([tf.shape(x)[:-1], [matrix.shape[1]]], axis=0))
