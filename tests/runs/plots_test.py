import json

import matplotlib.image
import numpy as np
import pytest
import tensorflow_probability as tfp

from tfp_flows.model import callbacks
from tfp_flows.runs import plots

tfd = tfp.distributions


def test_image_grid_shows_every_pixel(tmp_path):
  images = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2, 1)
  path = tmp_path / 'grid.png'
  plots.save_image_grid(str(path), images, num_bins=20, columns=3, scale=4)
  grid = matplotlib.image.imread(path)[..., 0]
  # Two rows of three images of 8x8 screen pixels, each with a line of one.
  assert grid.shape == (18, 27)
  for i, image in enumerate(images[..., 0]):
    row, column = divmod(i, 3)
    shown = grid[9 * row : 9 * row + 8 : 4, 9 * column : 9 * column + 8 : 4]
    np.testing.assert_allclose(shown, image / 19, atol=1 / 255)
  np.testing.assert_allclose(grid[8], 0.3, atol=1 / 255)


@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize('width', [2, 40])
def test_a_title_is_above_the_images(channels, width, tmp_path):
  images = np.full([4, 2, width, channels], 7, np.uint8)
  shown = []
  for title in (None, 'samples at temperature 0.7', 'samples at temperature 0.5'):
    plots.save_image_grid(str(tmp_path / 'x.png'), images, 20, scale=4, title=title)
    shown.append(matplotlib.image.imread(tmp_path / 'x.png'))
  plain, first, second = shown
  for titled in (first, second):
    assert titled.shape == (plain.shape[0] + 24, *plain.shape[1:])
    np.testing.assert_array_equal(titled[24:], plain)
  assert first[0].min() == 1.0  # White above the letters.
  assert first[:24, :, 0].min() < 0.5
  assert (first != second).any()


def test_image_grid_refuses_other_shapes(tmp_path):
  for shape in ([3, 4, 4], [3, 4, 4, 2], [0, 4, 4, 1]):
    with pytest.raises(ValueError, match='1, 3 or 4 channels'):
      plots.save_image_grid(str(tmp_path / 'x.png'), np.zeros(shape), 256)


def test_density_and_histograms_and_walks(tmp_path):
  points = np.random.default_rng(0).normal(size=[100, 2]).astype('f4')
  normal = tfd.MultivariateNormalDiag([0.0, 0.0])
  plots.save_density(str(tmp_path / 'density.png'), normal, points, resolution=20)
  data = np.random.default_rng(0).normal(size=[50, 6])
  plots.save_histograms(str(tmp_path / 'histograms.png'), data, data + 1)
  plots.save_walks(str(tmp_path / 'walks.png'), np.zeros([2, 5, 3]))
  for path in tmp_path.iterdir():
    assert matplotlib.image.imread(path).std() > 0.01, path


def test_histograms_of_odd_tables(tmp_path):
  """NumPy and Matplotlib say nothing: their warnings would be errors here."""
  values = np.random.default_rng(0).normal(size=[50, 2])
  far = values + [0, 1.6e9]
  path = str(tmp_path / 'histograms.png')
  plots.save_histograms(path, values + 1e6, values)  # No sample within the limits.
  plots.save_histograms(path, far, far, names=['$x', 'a' * 99])
  plots.save_histograms(path, far, np.repeat(far[:1], 9, axis=0))
  plots.save_histograms(path, values * 1e150, values[:1] * 1e150)
  plots.save_histograms(path, far[:, :1])
  wide = np.random.default_rng(0).normal(size=[2, 1000])
  plots.save_histograms(path, wide, wide[:1])
  assert matplotlib.image.imread(path).std() > 0.01


def test_histograms_are_shares_of_all_values():
  edges = np.array([0.0, 0.5, 1.0])
  shares = plots._shares(np.array([0.1, 0.7, 0.8, 5.0]), edges)
  np.testing.assert_allclose(shares, [0.5, 1.0])


def test_curves_skip_what_is_not_finite(tmp_path):
  log = callbacks.JsonLines(str(tmp_path / 'm.jsonl'))
  log.on_train_begin()
  for epoch, loss in enumerate([3.0, 2.0, float('nan')]):
    log.on_epoch_end(epoch, {'loss': loss, 'val_loss': loss + 1})
  rows = [json.loads(line) for line in (tmp_path / 'm.jsonl').read_text().splitlines()]
  assert rows[1] == {'epoch': 2, 'loss': 2.0, 'val_loss': 3.0}
  assert rows[2] == {'epoch': 3, 'loss': None, 'val_loss': None}
  names = ['bits_per_dim', 'loss']
  plots.save_curves(str(tmp_path / 'c.png'), str(tmp_path / 'm.jsonl'), names)
  assert (tmp_path / 'c.png').exists()
