"""Pictures of what a model has learnt."""

import os
import sys

import numpy as np
import tensorflow as tf
from absl import flags

from tfp_flows import data as data_lib
from tfp_flows.bin import runs
from tfp_flows.training import flow_model
from tfp_flows.training import inputs
from tfp_flows.training import paths
from tfp_flows.training import pictures

__all__ = ['draw', 'draw_samples', 'points_of', 'sample']

FLAGS = flags.FLAGS


# What a picture shows at most.
_MOST_POINTS = 5000
_MOST_IMAGES = 1024
_MOST_PIXELS = 2**22


def sample(
  model: flow_model.FlowModel, data: data_lib.Description, most: int | None = None
) -> np.ndarray:
  """`--num_samples` samples, in the units of the data; of all classes in turn.

  Args:
    model: trained.
    data: what the samples are like.
    most: at most so many.
  """
  count = min(FLAGS.num_samples, most or FLAGS.num_samples)
  condition, n = None, count
  if FLAGS.conditional:
    labels = tf.range(count) % data.num_classes
    condition = tf.one_hot(labels, data.num_classes, dtype=FLAGS.dtype)
    n = None  # One for each row.
  drawn = model.sample(n, condition, FLAGS.temperature, seed=FLAGS.seed)
  return data.in_units(drawn.numpy())


def points_of(
  data: data_lib.Description, workdir: runs.Workdir | None = None
) -> np.ndarray | None:
  """Some points of the test set for a picture, in their units; None for images.

  If `data` describes a set that is elsewhere or cannot be read: None, with a warning.
  """
  if len(data.event_shape) == 3:
    return None
  if not isinstance(data, data_lib.Data):
    try:
      data = runs.load_trained_data(workdir)
    except ValueError as error:
      print(f'warning: The picture shows samples alone. {error}', file=sys.stderr)
      return None
  batches = inputs.without_autotuning(data.test.batch(_MOST_POINTS))
  return data.in_units(next(batches.as_numpy_iterator())[0])


def draw(
  model: flow_model.FlowModel,
  data: data_lib.Description,
  samples: np.ndarray,
  path: str,
  points: np.ndarray | None = None,
) -> None:
  """Writes the PNG that suits the data: images, a density, or histograms.

  Args:
    model: of which the density is shown in two dimensions.
    data: what the samples are like.
    samples: any number, in their units; the first of them are shown.
    path: of the PNG.
    points: `points_of(data)`.
  """
  if len(data.event_shape) == 3:
    shown = samples[: _most_images(data.event_shape)]
    pictures.save_image_grid(path, shown, model.num_bins)
    return
  if data.event_shape == (2,) and data.mean is None:
    limits = samples if points is None else points
    pictures.save_density(path, model.distribution, limits, samples[:_MOST_POINTS])
    if paths.continuous_layers(model.distribution) and not FLAGS.conditional:
      path = os.path.splitext(path)[0] + '_path.png'
      pictures.save_density_path(path, model.distribution, limits)
  else:
    pictures.save_histograms(path, samples, points, names=data.columns)


def draw_samples(model: flow_model.FlowModel, data: data_lib.Data, path: str) -> None:
  """Samples and draws: no more than are shown."""
  most = _MOST_POINTS
  if len(data.event_shape) == 3:
    most = _most_images(data.event_shape)
  draw(model, data, sample(model, data, most), path, points_of(data))


def _most_images(shape):
  height, width, _ = shape
  return max(1, min(_MOST_IMAGES, _MOST_PIXELS // (height * width)))
