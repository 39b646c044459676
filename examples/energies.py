"""Planar and radial flows against the four energies of Rezende and Mohamed (2015).

`python examples/energies.py` approximates the densities `exp(-U(z)) / Z` of table 1 of
the paper, https://arxiv.org/abs/1505.05770, by flows of 2, 8 and 32 layers. Nothing but
the energy is known to them: they are fitted by their own samples, to the least
`E[log q(z) + U(z)]`, whose infimum is `-log Z`. What is printed is the gap between the
two, the Kullback-Leibler divergence `KL(q || p)` in nats, with the standard error of
its estimate. U1 is one of the plane; the others, which have no bound to the side, are
those of the square [-4, 4]^2, that a sigmoid maps the flow to.

`--steps`, `--layers`, `--flows` and `--energies` choose less. `--picture=FILE` draws
the densities of the energies and of the deepest flows.
"""

from collections.abc import Callable
from collections.abc import Sequence

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from absl import app
from absl import flags

import tfp_flows as tff

tfb, tfd = tfp.bijectors, tfp.distributions

flags.DEFINE_integer('steps', 10_000, 'Optimisation steps for each flow.')
flags.DEFINE_list('layers', ['2', '8', '32'], 'Numbers of layers.')
flags.DEFINE_list('flows', ['planar', 'radial'], 'Builders: planar, radial, sylvester.')
flags.DEFINE_list('energies', ['U1', 'U2', 'U3', 'U4'], 'Energies.')
flags.DEFINE_string('picture', '', 'File for a picture; none by default.')

BOX = 4.0


def _log_bumps(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
  """`log(exp(-first^2 / 2) + exp(-second^2 / 2))`."""
  return tf.reduce_logsumexp(tf.stack([-0.5 * first**2, -0.5 * second**2]), axis=0)


def ring(z: tf.Tensor) -> tf.Tensor:
  """U1: a ring with two modes."""
  x = z[..., 0]
  radius = tf.sqrt(tf.reduce_sum(z**2, axis=-1) + 1e-12)
  return 0.5 * ((radius - 2) / 0.4) ** 2 - _log_bumps((x - 2) / 0.6, (x + 2) / 0.6)


def _above_wave(z):
  return z[..., 1] - tf.sin(np.pi * z[..., 0] / 2)


def wave(z: tf.Tensor) -> tf.Tensor:
  """U2: a sine wave."""
  return 0.5 * (_above_wave(z) / 0.4) ** 2


def fork(z: tf.Tensor) -> tf.Tensor:
  """U3: a wave that splits and joins again."""
  gap = 3 * tf.exp(-0.5 * ((z[..., 0] - 1) / 0.6) ** 2)
  return -_log_bumps(_above_wave(z) / 0.35, (_above_wave(z) + gap) / 0.35)


def branch(z: tf.Tensor) -> tf.Tensor:
  """U4: a wave that splits in two."""
  gap = 3 * tf.sigmoid((z[..., 0] - 1) / 0.3)
  return -_log_bumps(_above_wave(z) / 0.4, (_above_wave(z) + gap) / 0.35)


ENERGIES = dict(U1=ring, U2=wave, U3=fork, U4=branch)


def grid(size: int = 801, bound: float = BOX) -> tuple[np.ndarray, float]:
  """Points of the square, and the area of a cell."""
  axis = (np.arange(size) + 0.5) * (2 * bound / size) - bound
  points = np.stack(np.meshgrid(axis, axis), axis=-1).astype(np.float32)
  return points, (2 * bound / size) ** 2


def floor(name: str) -> float:
  """`-log Z`, by the sum over a grid."""
  # U1 vanishes outside of [-6, 6]^2.
  points, area = grid(bound=6.0 if name == 'U1' else BOX)
  return -np.log(np.sum(np.exp(-ENERGIES[name](points), dtype=np.float64)) * area)


def flow_of(builder: str, name: str, num_layers: int) -> tfd.Distribution:
  """A flow with fast samples, on the support of an energy."""
  build = getattr(tff, builder)
  flow = build([2], num_layers, direction='sampling', seed=0)
  return flow if name == 'U1' else tfb.Sigmoid(-BOX, BOX)(flow)


def fit(
  flow: tfd.Distribution, energy: Callable[[tf.Tensor], tf.Tensor], steps: int
) -> tuple[float, float]:
  """Fits the flow; returns `E[log q(z) + U(z)]` and its standard error, in nats."""
  rate = keras.optimizers.schedules.CosineDecay(5e-3, steps)
  optimizer = keras.optimizers.Adam(rate, global_clipnorm=10.0)
  optimizer.build(flow.trainable_variables)

  def log_target(z):
    # The paper's: all of the energy after half of the steps, so that modes are found.
    done = tf.cast(tf.convert_to_tensor(optimizer.iterations), tf.float32)
    return -tf.minimum(1.0, 0.01 + 2.0 * done / steps) * energy(z)

  tfp.vi.fit_surrogate_posterior(
    log_target, flow, optimizer, steps, sample_size=256, jit_compile=True, seed=(0, 0)
  )
  z, log_q = flow.experimental_sample_and_log_prob(100_000, seed=1)
  bound = np.asarray(log_q + energy(z), np.float64)
  return bound.mean(), bound.std() / np.sqrt(len(bound))


def run(
  steps: int,
  layers: Sequence[int],
  builders: Sequence[str],
  energies: Sequence[str],
  picture: str = '',
) -> dict[tuple[str, str, int], float]:
  """Returns the gaps by energy, builder and number of layers, in nats."""
  gaps, deepest = {}, {}
  for name in energies:
    lowest = floor(name)
    print(f'{name}: -log Z = {lowest:.4f}')
    for builder in builders:
      for num_layers in layers:
        flow = flow_of(builder, name, num_layers)
        bound, error = fit(flow, ENERGIES[name], steps)
        gaps[name, builder, num_layers] = bound - lowest
        deepest[name, builder] = flow
        gap = f'{bound - lowest:.4f} +- {error:.4f}'
        print(f'{name}: {builder}, {num_layers} layers: gap {gap} nats', flush=True)
  if picture:
    draw(deepest, list(energies), list(builders), picture)
  return gaps


def draw(
  flows: dict[tuple[str, str], tfd.Distribution],
  energies: list[str],
  builders: list[str],
  path: str,
) -> None:
  """Draws the densities of energies, and of flows beside them."""
  points, _ = grid(size=200)
  shape = dict(nrows=len(energies), ncols=1 + len(builders), squeeze=False)
  figure, axes = plt.subplots(
    **shape, figsize=(3 * (1 + len(builders)), 3 * len(energies))
  )
  for name, row in zip(energies, axes):
    densities = [tf.exp(-ENERGIES[name](points))]
    densities += [flows[name, builder].prob(points) for builder in builders]
    for title, density, axis in zip([name, *builders], densities, row):
      axis.imshow(density, origin='lower', extent=(-BOX, BOX, -BOX, BOX))
      axis.set_title(title)
      axis.set_axis_off()
  figure.savefig(path)
  plt.close(figure)


def main(_) -> None:
  """Runs the example with its flags."""
  given = flags.FLAGS
  layers = [int(n) for n in given.layers]
  run(given.steps, layers, given.flows, given.energies, given.picture)


if __name__ == '__main__':
  app.run(main)
