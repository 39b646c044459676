"""Two moons in one page: a flow, `fit`, samples and a picture.

`python examples/two_moons.py` prints the test likelihood after each of 15 epochs,
about 2.49 nats at the end (the entropy of the data, which no model can beat, is
2.394), and writes `two_moons.png`: the density beside the data.
"""

import keras
from absl import app
from absl import flags

import tfp_flows as tff
from tfp_flows.data import toy
from tfp_flows.runs import plots

flags.DEFINE_integer('epochs', 15, 'Passes over the training set.')
flags.DEFINE_string('picture', 'two_moons.png', 'Where the picture goes.')


def run(epochs: int, picture: str) -> float:
  """Returns the test likelihood, in nats."""
  train = toy.sample('moons', 20_000, seed=0)
  test = toy.sample('moons', 10_000, seed=1)

  flow = tff.real_nvp([2], num_steps=10, width=64, scale='clamp', seed=0)
  model = tff.FlowModel(flow, seed=0)
  steps = epochs * len(train) // 500
  model.compile(
    keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps))
  )
  model.adapt(train)
  model.fit(train, batch_size=500, epochs=epochs, validation_data=(test,), verbose=2)

  plots.save_density(picture, flow, test[:2000])
  return model.evaluate(test, batch_size=500, verbose=0)


def main(_) -> None:
  """Runs the example with its flags."""
  run(flags.FLAGS.epochs, flags.FLAGS.picture)


if __name__ == '__main__':
  app.run(main)
