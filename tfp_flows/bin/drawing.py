"""Pictures of what a model has learnt."""

import os

import numpy as np
import tensorflow as tf
from absl import flags

from tfp_flows import data as data_lib
from tfp_flows.training import flow_model
from tfp_flows.training import inputs
from tfp_flows.training import paths
from tfp_flows.training import pictures

__all__ = ['draw', 'draw_samples', 'sample']

FLAGS = flags.FLAGS


def sample(model: flow_model.FlowModel, data: data_lib.Data) -> np.ndarray:
  """`--num_samples` samples, in the units of the data; of all classes in turn."""
  condition, n = None, FLAGS.num_samples
  if FLAGS.conditional:
    labels = tf.range(FLAGS.num_samples) % data.num_classes
    condition = tf.one_hot(labels, data.num_classes, dtype=FLAGS.dtype)
    n = None  # One for each row.
  drawn = model.sample(n, condition, FLAGS.temperature, seed=FLAGS.seed)
  return data.in_units(drawn.numpy())


def draw(
  model: flow_model.FlowModel,
  data: data_lib.Data,
  samples: np.ndarray,
  path: str,
) -> None:
  """Writes the PNG that suits the data: images, a density, or histograms."""
  if len(data.event_shape) == 3:
    pictures.save_image_grid(path, samples, model.num_bins)
    return
  batches = inputs.without_autotuning(data.test.batch(5000))
  points = next(batches.as_numpy_iterator())[0]
  points = data.in_units(points)
  if data.event_shape == (2,) and data.mean is None:
    pictures.save_density(path, model.distribution, points, samples)
    if paths.continuous_layers(model.distribution) and not FLAGS.conditional:
      path = os.path.splitext(path)[0] + '_path.png'
      pictures.save_density_path(path, model.distribution, points)
  else:
    pictures.save_histograms(path, samples, points)


def draw_samples(model: flow_model.FlowModel, data: data_lib.Data, path: str) -> None:
  """Samples and draws."""
  draw(model, data, sample(model, data), path)
