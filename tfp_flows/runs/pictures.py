"""Pictures of what a model has learnt."""

import os
import sys
from collections.abc import Sequence

import numpy as np

from tfp_flows import data as data_lib
from tfp_flows.model import flow_model
from tfp_flows.model import inputs
from tfp_flows.model import paths
from tfp_flows.runs import loading
from tfp_flows.runs import plots
from tfp_flows.runs import workdir as workdir_lib
from tfp_flows.runs.options import Options

__all__ = ['draw', 'most_images', 'points_of']

# What a picture shows at most.
_MOST_POINTS = 5000
_MOST_IMAGES = 1024
_MOST_PIXELS = 2**22


def points_of(
  data: data_lib.Description, workdir: workdir_lib.Workdir | None = None
) -> np.ndarray | None:
  """Some points of the test set for a picture, in their units; None for images.

  If `data` describes a set that is elsewhere or cannot be read: None, with a warning.
  """
  if len(data.event_shape) == 3:
    return None
  if not isinstance(data, data_lib.Data):
    if workdir is None:
      return None
    try:
      data = loading.load_trained_data(workdir.options, workdir)
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
  options: Options,
  points: np.ndarray | None = None,
) -> None:
  """Writes the PNG that suits the data: images, a density, or histograms.

  It says at which temperature the samples were drawn.

  Args:
    model: of which the density is shown in two dimensions.
    data: what the samples are like.
    samples: any number, in their units; the first of them are shown.
    path: of the PNG.
    options: of the run.
    points: `points_of(data)`.
  """
  label = f'samples at temperature {options.temperature:g}'
  if len(data.event_shape) == 3:
    shown = samples[: most_images(data.event_shape)]
    plots.save_image_grid(path, shown, model.num_bins or 256, title=label)
    return
  if data.event_shape == (2,) and data.mean is None:
    limits = samples if points is None else points
    shown = samples[:_MOST_POINTS]
    plots.save_density(path, model.distribution, limits, shown, label=label)
    if paths.continuous_layers(model.distribution) and not options.conditional:
      path = os.path.splitext(path)[0] + '_path.png'
      plots.save_density_path(path, model.distribution, limits)
  else:
    plots.save_histograms(path, samples, points, names=data.columns, label=label)


def most_images(shape: Sequence[int]) -> int:
  """How many images of a shape a picture shows at most."""
  height, width, _ = shape
  return max(1, min(_MOST_IMAGES, _MOST_PIXELS // (height * width)))
