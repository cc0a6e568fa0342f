"""Figures of the report: what is drawn where, and which images are the mistakes."""

import io

import numpy as np
import PIL.Image
import pytest

from luab_jax.data import pipeline
from luab_jax.report import captions, plots, samples, style

pytestmark = pytest.mark.slow


_TRACES = pipeline.DatasetSpec('imagenet_ab/local', ['a'], 1, False, 3, {}, is_trace=True)


def _near(pixels, colour):
  """bool[H,W]: which pixels are (nearly) of the colour '#rrggbb'."""
  wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
  return np.abs(pixels.astype(int) - wanted).max(-1) < 40


def _pixels(figure):
  file = io.BytesIO()
  figure.savefig(file)
  return np.asarray(PIL.Image.open(file).convert('RGB'))


def test_boxes_and_trajectories_are_at_their_positions():
  grey = np.full((32, 32, 3), 120, np.uint8)
  shown = _pixels(plots.image_and_map(grey, np.zeros((4, 4)), boxes=[(0.25, 0.5, 0.75, 1)]))
  size = shown.shape[0]
  for panel in (shown[:, :size], shown[:, -size:]):
    rows, columns = np.nonzero(_near(panel, style.BOX))
    edges = np.array([columns.min(), rows.min(), columns.max(), rows.max()]) / size
    np.testing.assert_allclose(edges, (0.25, 0.5, 0.75, 1), atol=0.02)
  true = np.array([[0.1, 0.2], [0.5, 0.2], [np.nan, np.nan]])  # it ends outside the view
  paths = captions.trajectories(true, true + np.array([0, 0.5]), _TRACES)
  shown = _pixels(plots.image_and_map(grey, np.zeros((4, 4)), trajectories=paths))[:, :size]
  for colour, y in ((style.RECORDED, 0.2), (style.PREDICTED, 0.7)):
    drawn = _near(shown, colour)
    rows, columns = np.nonzero(drawn)
    assert abs(rows.mean() / size - y) < 0.02
    # The start is marked by a square, larger than the later points and the line.
    at = [drawn[:, int(x * size)].sum() for x in (0.1, 0.3)]
    assert at[0] > 1.5 * at[1]
  assert captions.describe_boxes_and_trajectories([(0, 0, 0.5, 1)], paths[:1]) == (
    '; ground-truth box from (0.00, 0.00) to (0.50, 1.00); '
    'recorded path of 2 points from (0.10, 0.20) to (0.50, 0.20)'
  )
  one_point = _TRACES._replace(num_points=1, is_trace=False)
  assert captions.trajectories(true, true, one_point) == []


@pytest.mark.parametrize('level', [0, 255])
def test_points_and_paths_have_an_edge_on_dark_and_on_light_photographs(level):
  photograph = np.full((200, 200, 3), level, np.uint8)
  path = np.array([[0.1, 0.1], [0.9, 0.1]], np.float32)
  opposite = '#000000' if level else '#ffffff'
  ring, cross = plots.Mark(0.3, 0.5), plots.Mark(0.7, 0.5, recorded=False)
  shown = _pixels(plots.image(photograph, [ring, cross], path))
  for left in (20, 140):
    assert _near(shown[90:150, left : left + 80], opposite).sum() > 40
  assert _near(shown[:60], opposite).any(0).sum() > 180  # along the path
  for kind in (True, False):
    trajectory = plots.Trajectory(path, recorded=kind)
    drawn = _pixels(plots.image_and_map(photograph, np.ones((3, 3)), trajectories=[trajectory]))
    assert _near(drawn[:60, :240], opposite).any(0).sum() > 180


@pytest.mark.parametrize('cells', [3, 12])
def test_a_coarse_map_is_drawn_as_its_cells(cells):
  weights = np.zeros((cells, cells))
  weights[::2, ::2] = 1
  grey = np.full((120, 120, 3), 128, np.uint8)
  panel = _pixels(plots.image_and_map(grey, weights))[:, -240:].astype(int).sum(-1)
  levels = np.unique(panel[5:-5, 5:-5])
  assert (len(levels) == 2) == (cells == 3)
  if cells == 3:
    assert np.ptp(panel[3:77, 3:77]) == 0 and np.ptp(panel[3:77, 84:156]) == 0


def test_errors_and_mistakes_by_hand():
  none = np.zeros((3, 1, 1, 3), np.uint8)
  point = np.array([[[0.5, 0.5]], [[0.1, 0.2]], [[np.nan, np.nan]]], np.float32)
  predicted = np.array([[[0.5, 0.5]], [[0.4, 0.6]], [[0.3, 0.3]]], np.float32)
  score = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], np.float32)
  single = samples.Predictions(none, np.array([0, 0, 1]), point, predicted, score, none, none, none)
  np.testing.assert_allclose(single.click_errors(), [0, 0.5, np.nan], atol=1e-6)
  np.testing.assert_allclose(single.mistakes(), [-1, 0.8, -1])
  several = single._replace(label=np.array([[1, 0], [0, 0], [1, 1]], np.float32))
  np.testing.assert_allclose(several.mistakes(), [0.1, 0.8, -1])
