"""Samples of a run."""

import numpy as np
import tensorflow as tf

from tfp_flows import data as data_lib
from tfp_flows.model import flow_model
from tfp_flows.runs import loading
from tfp_flows.runs import models
from tfp_flows.runs import pictures
from tfp_flows.runs import workdir as workdir_lib
from tfp_flows.runs.options import Options

__all__ = ['draw_picture', 'draw_samples', 'sample']


def sample(options: Options, output: str | None = None) -> None:
  """Writes samples of a run and their picture.

  Args:
    options: of the run.
    output: path of both files without its ending; None is `sample` in the workdir.

  Raises:
    UsageError: if there is no such run, or it is of other options.
  """
  workdir = workdir_lib.Workdir(options)
  workdir.check_same_model()
  data = loading.describe_data(workdir.options, workdir)
  model = models.trained_model(data, workdir)
  path = output or workdir.file('sample')
  samples = draw_samples(model, data, workdir.options)
  np.save(f'{path}.npy', samples)
  draw_picture(model, data, f'{path}.png', workdir, samples)
  print(f'{len(samples)} samples in {path}.npy, a picture in {path}.png')


def draw_picture(
  model: flow_model.FlowModel,
  data: data_lib.Description,
  path: str,
  workdir: workdir_lib.Workdir,
  samples: np.ndarray | None = None,
) -> None:
  """Writes a PNG of samples, beside as many points of the data if they are no images.

  Args:
    model: trained.
    data: what the samples are like.
    path: of the PNG.
    workdir: of the run.
    samples: to be shown; where there are too few of them, others are drawn.
  """
  points, count = pictures.points_of(data, workdir), workdir.options.num_samples
  if points is not None:
    count = len(points)
  elif len(data.event_shape) == 3:
    count = min(count, pictures.most_images(data.event_shape))
  if samples is None or len(samples) < count:
    samples = draw_samples(model, data, workdir.options, count)
  pictures.draw(model, data, samples, path, workdir.options, points)


def draw_samples(
  model: flow_model.FlowModel,
  data: data_lib.Description,
  options: Options,
  count: int | None = None,
) -> np.ndarray:
  """Samples in the units of the data; of all classes in turn.

  Args:
    model: trained.
    data: what the samples are like.
    options: of the run.
    count: how many; None is `num_samples`.
  """
  count = count or options.num_samples
  n: int | None = count
  condition = None
  if options.conditional:
    labels = tf.range(count) % data.num_classes
    condition = tf.one_hot(labels, data.num_classes, dtype=options.dtype)
    n = None  # One for each row.
  drawn = model.sample(n, condition, options.temperature, seed=options.seed)
  return data.in_units(drawn.numpy())
