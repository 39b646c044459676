"""Walks in latent space."""

import itertools

import numpy as np
import tensorflow as tf

from tfp_flows.math import interpolation
from tfp_flows.runs import loading
from tfp_flows.runs import models
from tfp_flows.runs import plots
from tfp_flows.runs import workdir as workdir_lib
from tfp_flows.runs.options import Options
from tfp_flows.runs.options import UsageError

__all__ = ['interpolate']


def interpolate(
  options: Options,
  first: int = 0,
  second: int = 1,
  frames: int = 10,
  output: str | None = None,
) -> None:
  """Writes two walks, linear and spherical: `[2, frames, *event_shape]`.

  Conditions are walked on a line, too.

  Args:
    options: of the run.
    first: index of an example in the test set.
    second: likewise, at the other end.
    frames: examples per walk, the ends included.
    output: path of the `.npy` and the `.png` without its ending; None is
      `interpolation` in the workdir.

  Raises:
    UsageError: if there is no such run, or no such example.
  """
  workdir = workdir_lib.Workdir(options)
  options = workdir.options
  workdir.check_same_model()
  data = loading.load_trained_data(options, workdir)
  count = int(data.test.cardinality())
  if max(first, second) >= count:
    raise UsageError(
      f'Expected first=I and second=J below {count}, the size of the test set; '
      f'received {first} and {second}.'
    )
  model = models.trained_model(data, workdir)
  examples = list(
    itertools.chain(
      *(
        loading.examples(data.test, data, options).skip(i).take(1)
        for i in (first, second)
      )
    )
  )
  x = tf.stack([e[0] for e in examples])
  condition = ends = None
  if options.conditional:
    ends = tf.stack([e[1] for e in examples])
  z = model.encode(x, ends, seed=options.seed)
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
    plots.save_image_grid(f'{path}.png', images, model.num_bins or 256, frames)
  else:
    plots.save_walks(f'{path}.png', walks)
  print(f'linear and spherical walks in {path}.npy, their picture in {path}.png')


def _between(path, ends, weights):
  """The path between two latents, which may be lists of one tensor per level."""
  return tf.nest.map_structure(lambda z: path(z[0], z[1], weights), ends)
