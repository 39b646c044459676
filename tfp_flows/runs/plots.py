"""Pictures of samples, densities and training curves."""

import json
from collections.abc import Sequence
from typing import Any

import matplotlib.backends.backend_agg
import matplotlib.figure
import matplotlib.image
import numpy as np
import tensorflow_probability as tfp

from tfp_flows.model import paths

__all__ = [
  'save_curves',
  'save_density',
  'save_density_path',
  'save_histograms',
  'save_image_grid',
  'save_walks',
]

tfd = tfp.distributions


def save_image_grid(
  path: str,
  images: np.ndarray,
  num_bins: int,
  columns: int | None = None,
  scale: int | None = None,
  title: str | None = None,
) -> None:
  """Writes a PNG with images side by side.

  Args:
    path: of the PNG.
    images: integers `[N, H, W, C]` below `num_bins`; `C` is 1, 3 or 4.
    num_bins: number of pixel values, the brightest of which is white.
    columns: images per row; None for a square.
    scale: screen pixels per image pixel; None makes images about 64 wide.
    title: a line above them.

  Raises:
    ValueError: for another shape.
  """
  images = np.asarray(images)
  if images.ndim != 4 or images.shape[-1] not in (1, 3, 4) or not len(images):
    raise ValueError(
      f'Expected images [N, H, W, C] with 1, 3 or 4 channels; received '
      f'{list(images.shape)}.'
    )
  count, _, width, channels = images.shape
  columns = columns or int(np.ceil(np.sqrt(count)))
  rows = -(-count // columns)
  scale = scale or max(1, 64 // width)
  images = (255 * (images / (num_bins - 1)).clip(0, 1)).astype(np.uint8)
  images = images.repeat(scale, axis=1).repeat(scale, axis=2)
  # A grey line on the right of each image and below it.
  line = max(1, scale // 4)
  images = np.pad(
    images,
    [(0, rows * columns - count), (0, line), (0, line), (0, 0)],
    constant_values=76,
  )
  _, height, width, _ = images.shape
  grid = images.reshape(rows, columns, height, width, channels)
  grid = grid.transpose(0, 2, 1, 3, 4)
  grid = grid.reshape(rows * height, columns * width, channels)
  if channels == 1:
    grid = grid.repeat(3, axis=2)
  if title:
    strip = _written(title, grid.shape[1])
    if channels == 4:
      strip = np.pad(strip, [(0, 0), (0, 0), (0, 1)], constant_values=255)
    grid = np.concatenate([strip, grid])
  matplotlib.image.imsave(path, grid)


def _written(text, width):
  """A line of text as pixels `[24, width, 3]`, smaller where there is no room."""
  figure = matplotlib.figure.Figure(figsize=(width / 100, 0.24), dpi=100)
  canvas = matplotlib.backends.backend_agg.FigureCanvasAgg(figure)
  size = min(9.0, 1.3 * width / len(text))
  figure.text(0.5, 0.5, text, ha='center', va='center', size=size, parse_math=False)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3]


def save_density(
  path: str,
  distribution: tfd.Distribution,
  points: np.ndarray,
  samples: np.ndarray | None = None,
  resolution: int = 200,
  label: str = 'samples of the model',
  **kwargs: Any,
) -> None:
  """Writes a PNG: the density of a 2-D distribution beside points of the data.

  Args:
    path: of the PNG.
    distribution: of event shape `[2]`.
    points: `[N, 2]`, which also give the limits.
    samples: of the model, `[M, 2]`, shown too if given.
    resolution: grid points per axis.
    label: what the samples are.
    **kwargs: passed to `log_prob`, as `condition`.
  """
  low, high = _limits(points)
  axes, density = _density_on_grid(distribution, low, high, resolution, **kwargs)
  scatters = {'data': points}
  if samples is not None:
    scatters[label] = samples
  count = 1 + len(scatters)
  figure = matplotlib.figure.Figure(figsize=(4 * count, 4), layout='constrained')
  first, *rest = figure.subplots(1, count, sharex=True, sharey=True)
  first.pcolormesh(*axes, density, cmap='viridis')
  first.set(title='density of the model', aspect='equal')
  for axis, (title, values) in zip(rest, scatters.items()):
    axis.scatter(*values.T, s=1)
    axis.set(
      title=title,
      aspect='equal',
      xlim=(low[0], high[0]),
      ylim=(low[1], high[1]),
    )
  figure.savefig(path, dpi=100)


def save_density_path(
  path: str,
  distribution: tfd.TransformedDistribution,
  points: np.ndarray,
  count: int = 6,
  resolution: int = 100,
) -> None:
  """Writes a PNG: the density at several times of its continuous flows.

  Args:
    path: of the PNG.
    distribution: of event shape `[2]`, with an `FFJORD` inside.
    points: `[N, 2]`, which give the limits.
    count: number of pictures, from the base on the left to the data.
    resolution: grid points per axis.
  """
  low, high = _limits(points)
  figure = matplotlib.figure.Figure(figsize=(2 * count, 2.2), layout='constrained')
  for axis, share in zip(figure.subplots(1, count), np.linspace(0, 1, count)):
    state = paths.at_share(distribution, float(share))
    axes, density = _density_on_grid(state, low, high, resolution)
    axis.pcolormesh(*axes, density, cmap='viridis')
    axis.set(title=f'{share:.0%}', aspect='equal', xticks=[], yticks=[])
  figure.savefig(path, dpi=100)


def _limits(points):
  low, high = points.min(0), points.max(0)
  return low - 0.1 * (high - low), high + 0.1 * (high - low)


def _density_on_grid(distribution, low, high, resolution, **kwargs):
  axes = [np.linspace(a, b, resolution) for a, b in zip(low, high)]
  grid = np.stack(np.meshgrid(*axes), axis=-1).astype(distribution.dtype.as_numpy_dtype)
  return axes, distribution.prob(grid, **kwargs).numpy()


def save_histograms(
  path: str,
  samples: np.ndarray,
  data: np.ndarray | None = None,
  most: int = 16,
  names: Sequence[str] | None = None,
  label: str = 'model',
) -> None:
  """Writes a PNG: the marginals of samples against those of the data.

  Args:
    path: of the PNG.
    samples: `[N, D]`, of the model.
    data: `[M, D]`, which give the limits; None for samples alone.
    most: how many columns are shown, the first ones.
    names: of the columns; None counts them from 1.
    label: what the samples are.
  """
  shown = min(most, samples.shape[1])
  columns = min(4, shown)
  rows = -(-shown // columns)
  figure = matplotlib.figure.Figure(
    figsize=(3 * columns, 2 * rows), layout='constrained'
  )
  for i in range(shown):
    title = names[i] if names else f'column {i + 1}'
    axis = figure.add_subplot(rows, columns, i + 1)
    axis.set_title(title[:30], parse_math=False)
    limits = (samples if data is None else data)[:, i].astype(np.float64)
    # About its least number: bins of large numbers would have no width.
    low = limits.min()
    edges = np.linspace(0.0, float(np.ptp(limits)) or 1.0, 41)
    if edges[-1] < 1e-3 * abs(low):
      axis.set_xlabel(f'above {low:.10g}')
    else:
      edges, low = edges + low, 0.0
    if data is not None:
      axis.stairs(_shares(data[:, i] - low, edges), edges, fill=True, alpha=0.5)
    axis.stairs(_shares(samples[:, i] - low, edges), edges)
  labels = [label] if data is None else ['data', label]
  figure.legend(
    figure.axes[0].patches,
    labels,
    loc='outside upper center',
    ncols=min(2, columns),
  )
  figure.savefig(path, dpi=80)


def _shares(values, edges):
  """The share of all values in each bin, as a density; they may lie outside."""
  return np.histogram(values, edges)[0] / (len(values) * np.diff(edges))


def save_curves(path: str, metrics_path: str, names: Sequence[str]) -> None:
  """Writes a PNG of the curves in a file of JSON lines.

  Args:
    path: of the PNG.
    metrics_path: a file with an object per epoch; `'epoch'` is the abscissa.
    names: the curves to show, each with its `val_` companion; the first of them
      that the file has is the ordinate.
  """
  with open(metrics_path) as file:
    rows = [json.loads(line) for line in file]
  name = next((n for n in names if any(n in row for row in rows)), names[-1])
  figure = matplotlib.figure.Figure(figsize=(6, 4), layout='constrained')
  axis = figure.subplots()
  for key, label in ((name, 'training'), (f'val_{name}', 'validation')):
    points = [(r['epoch'], r[key]) for r in rows if r.get(key) is not None]
    if points:
      marker = 'o' if len(points) == 1 else None
      axis.plot(*zip(*points), label=label, marker=marker)
  # The first epochs lie far above the rest and would flatten it.
  keys = (name, f'val_{name}')
  values = [r[k] for r in rows for k in keys if r.get(k) is not None]
  top = np.quantile(values, 0.95) if values else 0
  if values and top > min(values):
    axis.set_ylim(min(values) - 0.05 * (top - min(values)), top)
  axis.set(xlabel='epoch', ylabel=name)
  if axis.lines:
    axis.legend()
  figure.savefig(path, dpi=100)


def save_walks(path: str, walks: np.ndarray) -> None:
  """Writes a PNG: every coordinate along each of two walks `[2, N, D]`."""
  figure = matplotlib.figure.Figure(figsize=(8, 4), layout='constrained')
  axes = figure.subplots(1, 2, sharey=True)
  for axis, walk, title in zip(axes, walks, ('linear', 'spherical')):
    axis.plot(walk)
    axis.set(title=title, xlabel='frame')
  figure.savefig(path, dpi=100)
