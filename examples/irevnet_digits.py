"""A classifier that loses nothing: the 8x8 digits of scikit-learn, there and back.

`python examples/irevnet_digits.py` trains the bijective `IRevNet` on the first 1438
digits, shuffled by seed 0, and prints the accuracy on the other 359. Then it turns the
activations after each stage back into the images, and prints the largest error of a
pixel, of 0 to 16. With `--picture=PATH` it draws, as PNG, what lies between: each row
goes along the straight line between the codes of two digits, and each image says as
what the head classifies its code. On 2 cores, beside other work:

    accuracy 98.05% on 359 digits, 44 s
    stage 0, 4x4x4: error of the inverse 6.7e-06
    stage 1, 2x2x16: error of the inverse 1.6e-05
    stage 2, 1x1x64: error of the inverse 2.5e-05

With the seeds 1 and 2 of the model accuracies are 98.89 % and 99.16 %; the standard
error of one is 0.7 %. The 1797 digits are the test part of a larger set, of other
writers than its training part: figures on that split are not comparable.
"""

import time

import keras
import numpy as np
from absl import app
from absl import flags
from matplotlib import figure

import tfp_flows as tff
from tfp_flows.data import images

flags.DEFINE_integer('epochs', 20, 'Passes over the training set.')
flags.DEFINE_integer('width', 32, 'Channels inside of the blocks.')
flags.DEFINE_integer('num_blocks', 2, 'Blocks of each of the three stages.')
flags.DEFINE_string('picture', None, 'PNG file of what lies between digits.')

SCALE = 8.0  # Of pixels, which are 0 to 16 and then -1 to 1.


def classifier(num_blocks: int, width: int) -> tff.IRevNet:
  """The model, before training."""
  return tff.IRevNet(
    [8, 8, 1],
    num_classes=10,
    num_blocks=[num_blocks] * 3,
    strides=[1, 2, 2],
    hidden=[width, 2 * width, 2 * width],
    initial_squeeze=2,
    dropout=0.3,
    seed=0,
  )


def train(model: tff.IRevNet, x: np.ndarray, labels: np.ndarray, epochs: int) -> None:
  """Fits the model to images of -1 to 1."""
  keras.utils.set_random_seed(0)
  steps = epochs * -(-len(x) // 64)
  model.compile(
    keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=['accuracy'],
    jit_compile=False,  # On CPUs to compile takes longer than the training.
  )
  model.fit(x, labels, 64, epochs, verbose=0)


def inverse_errors(model: tff.IRevNet, x: np.ndarray) -> list[float]:
  """The largest error of a pixel, of 0 to 16, after each stage and back."""
  features = model.features(x)
  return [
    float(np.abs(model.invert(z, stage) - x).max()) * SCALE
    for stage, z in enumerate(features)
  ]


def draw(model: tff.IRevNet, x: np.ndarray, path: str, steps: int = 9) -> None:
  """Writes the images of codes between those of each two examples."""
  rows, weights = len(x) // 2, np.linspace(0.0, 1.0, steps)
  z = model.features(x)[-1].numpy()
  shape = (-1, *z.shape[1:])
  ends = z.reshape([rows, 2, -1])
  line = np.concatenate([tff.lerp(*pair, weights) for pair in ends]).reshape(shape)
  pictures, labels = model.invert(line), np.argmax(model.logits(line), axis=-1)
  fig = figure.Figure(figsize=(steps, 1.2 * rows), layout='constrained')
  for ax, picture, label in zip(fig.subplots(rows, steps).flat, pictures, labels):
    ax.imshow(picture[..., 0], cmap='gray_r', vmin=-1, vmax=1)
    ax.set_title(label)
    ax.set_axis_off()
  fig.savefig(path, dpi=100)


def run(
  epochs: int, width: int, num_blocks: int, picture: str | None = None
) -> tuple[float, list[float]]:
  """Returns the accuracy on the test part and the errors of the inverse."""
  x, labels = images.digits()
  x, count = x.astype('float32') / SCALE - 1, len(x) - len(x) // 5
  model, start = classifier(num_blocks, width), time.perf_counter()
  train(model, x[:count], labels[:count], epochs)
  seconds = time.perf_counter() - start
  test, expected = x[count:], labels[count:]
  accuracy = model.evaluate(test, expected, verbose=0, return_dict=True)['accuracy']
  errors = inverse_errors(model, test)
  print(f'accuracy {accuracy:.2%} on {len(test)} digits, {seconds:.0f} s')
  for stage, (shape, error) in enumerate(zip(model.feature_shapes, errors)):
    size = 'x'.join(map(str, shape))
    print(f'stage {stage}, {size}: error of the inverse {error:.1e}')
  if picture:
    # The first of each class.
    first = [np.flatnonzero(expected == digit)[0] for digit in range(10)]
    draw(model, test[first], picture)
  return accuracy, errors


def main(_) -> None:
  """Runs the example with its flags."""
  values = flags.FLAGS
  run(values.epochs, values.width, values.num_blocks, values.picture)


if __name__ == '__main__':
  app.run(main)
