"""Walks in latent space."""

import itertools

import numpy as np
import tensorflow as tf
from absl import flags

from tfp_flows.bin import cli
from tfp_flows.bin import runs
from tfp_flows.math import interpolation
from tfp_flows.training import pictures

__all__ = ['interpolate']

FLAGS = flags.FLAGS


def interpolate(first: int, second: int, frames: int, output: str | None) -> None:
  """Writes two walks, linear and spherical: `[2, frames, *event_shape]`.

  Conditions are walked on a line, too.
  """
  workdir = runs.Workdir(FLAGS.workdir)
  workdir.check_same_model()
  data = runs.load_trained_data(workdir)
  count = int(data.test.cardinality())
  if max(first, second) >= count:
    raise cli.UsageError(
      f'Expected --first and --second below {count}, the size of the test set; '
      f'received {first} and {second}.'
    )
  model = runs.trained_model(data)
  examples = list(
    itertools.chain(
      *(runs.examples(data.test, data).skip(i).take(1) for i in (first, second))
    )
  )
  x = tf.stack([e[0] for e in examples])
  condition = ends = None
  if FLAGS.conditional:
    ends = tf.stack([e[1] for e in examples])
  z = model.encode(x, ends, seed=FLAGS.seed)
  weights = tf.linspace(0.0, 1.0, frames)
  if ends is not None:
    condition = interpolation.lerp(ends[0], ends[1], weights)
  walks = np.stack(
    [
      model.decode(_between(path, z, weights), condition).numpy()
      for path in (interpolation.lerp, interpolation.slerp)
    ]
  )
  walks = data.in_units(walks)
  path = output or workdir.file('interpolation')
  np.save(f'{path}.npy', walks)
  if len(data.event_shape) == 3:
    images = walks.reshape(-1, *data.event_shape)
    pictures.save_image_grid(f'{path}.png', images, model.num_bins, frames)
  else:
    pictures.save_walks(f'{path}.png', walks)
  print(f'linear and spherical walks in {path}.npy, their picture in {path}.png')


def _between(path, ends, weights):
  """The path between two latents, which may be lists of one tensor per level."""
  return tf.nest.map_structure(lambda z: path(z[0], z[1], weights), ends)
