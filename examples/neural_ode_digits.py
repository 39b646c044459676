"""One field instead of six residual blocks: the 8x8 digits of scikit-learn.

`python examples/neural_ode_digits.py` trains two classifiers for as many steps, which
differ in the middle only: a `NeuralODE` that follows one convolutional field as long
as its solver likes, and a residual network of six blocks like this field, each with
weights of its own. For each it prints the accuracy on the last 20 % of the digits, the
evaluations per batch of the middle and of its gradient in the last epoch, the number
of weights, and the time. On 2 cores, beside other work:

    neural ODE: accuracy 98.05%, evaluations 26.0 forward and 32.0 backward,
      19,722 weights, 120 s
    residual network: accuracy 96.94%, evaluations 6.0 forward and 6.0 backward,
      111,626 weights, 22 s

On 359 digits the standard error of an accuracy is 0.8 %: the two are equal, with a
sixth of the weights or a fifth of the time.
"""

import time

import keras
from absl import app
from absl import flags

import tfp_flows as tff
from tfp_flows.data import images

BLOCKS = 6

flags.DEFINE_integer('epochs', 30, 'Passes over the training set.')
flags.DEFINE_integer('width', 32, 'Channels.')


def neural_ode(width: int) -> list[keras.layers.Layer]:
  """The middle of the first classifier."""
  field = tff.FieldConvNet([4, 4, width], [width])
  solver = tff.DormandPrince(rtol=1e-3, atol=1e-3)
  return [tff.NeuralODE(field, solver, name='ode')]


class Residual(keras.layers.Layer):
  """`x + f(x)`, with the convolutions of the field."""

  def __init__(self, width: int):
    super().__init__()
    self._f = keras.Sequential(
      [
        keras.Input([4, 4, width]),
        keras.layers.Conv2D(width, 3, padding='same', activation='softplus'),
        keras.layers.Conv2D(width, 3, padding='same'),
      ]
    )

  def call(self, x):
    return x + self._f(x)


def classifier(middle: list[keras.layers.Layer], width: int) -> keras.Model:
  """Halves the images, applies the middle, and averages over the pixels."""
  return keras.Sequential(
    [
      keras.Input([8, 8, 1]),
      keras.layers.Rescaling(1 / 8, -1),
      keras.layers.Conv2D(width, 3, 2, padding='same', activation='tanh'),
      *middle,
      keras.layers.GlobalAveragePooling2D(),
      keras.layers.Dense(10),
    ]
  )


def run(epochs: int, width: int) -> dict[str, float]:
  """Returns the accuracy of each classifier on the test part."""
  x, labels = images.digits()
  x, count = x.astype('float32'), len(x) - len(x) // 5
  middles = {
    'neural ODE': neural_ode(width),
    'residual network': [Residual(width) for _ in range(BLOCKS)],
  }
  accuracies = {}
  for name, middle in middles.items():
    keras.utils.set_random_seed(0)
    model = classifier(middle, width)
    steps = epochs * -(-count // 64)
    model.compile(
      keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)),
      keras.losses.SparseCategoricalCrossentropy(from_logits=True),
      metrics=['accuracy'],
      # XLA makes slow gradients of convolutions in a loop, on CPUs.
      jit_compile=False,
    )
    start = time.perf_counter()
    history = model.fit(x[:count], labels[:count], 64, epochs, verbose=0).history
    seconds = time.perf_counter() - start
    result = model.evaluate(x[count:], labels[count:], verbose=0, return_dict=True)
    accuracies[name] = result['accuracy']
    forward, backward = (
      history.get(key, [BLOCKS])[-1] for key in ('ode_nfe', 'ode_nfe_backward')
    )
    print(
      f'{name}: accuracy {result["accuracy"]:.2%}, evaluations {forward:.1f} forward '
      f'and {backward:.1f} backward,\n'
      f'  {model.count_params():,} weights, {seconds:.0f} s'
    )
  return accuracies


def main(_) -> None:
  """Runs the example with its flags."""
  run(flags.FLAGS.epochs, flags.FLAGS.width)


if __name__ == '__main__':
  app.run(main)
