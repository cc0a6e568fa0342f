"""Heat maps as byproducts: the point taken from one, and maps that move with the pixels."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from scipy import ndimage

from luab_jax.data import augment, heatmaps, pipeline
from luab_jax.errors import UserError
from tests import painted_data
from tests.painted_data import config, encode

SIZE = 64


def heat(height, width, point):
  """uint8[height, width, 1]: a bump of 4 pixels around a point (x, y) relative to the image."""
  y, x = np.mgrid[:height, :width] + 0.5
  distance = np.hypot(x - point[0] * width, y - point[1] * height)
  return np.round(255 * np.exp(-(distance**2) / 32)).astype(np.uint8)[..., None]


@pytest.fixture(scope='module')
def painted(tmp_path_factory):
  """data_dir of 'heat': images that show their own heat map in grey."""
  rng = np.random.default_rng(3)
  examples = []
  for i, point in enumerate(rng.uniform(0.1, 0.9, (24, 2))):
    hot = heat(*rng.integers(70, 130, 2), point)
    examples.append(
      {
        'image': encode(np.repeat(hot, 3, -1), 'PNG'),
        'heatmap': hot,
        'label': i,
        'file_name': f'train-0/{i}',
      }
    )
  f = tfds.features
  features = f.FeaturesDict(
    {
      'image': f.Image(),
      'heatmap': f.Image(shape=(None, None, 1), encoding_format='png'),
      'label': f.ClassLabel(names=painted_data.NAMES[:24]),
      'file_name': f.Text(),
    }
  )
  return painted_data.store(
    tmp_path_factory.mktemp('heat'), 'heat', features, {'train': examples}, num_shards=1
  )


def options(folder, **changes):
  defaults = {'click': 'peak', 'resize_method': 'bilinear', 'image_size': SIZE, 'eval_resize': 72}
  return config(folder, 'heat', **defaults | changes)


def test_points_of_a_heat_map():
  rng = np.random.default_rng(0)
  hot = rng.integers(0, 200, (30, 50, 1), np.uint8)
  hot[11, 37] = 255
  hot[25, 2] = 255
  point, has = heatmaps.click_point(hot, 'peak')
  np.testing.assert_allclose(point, [[37.5 / 50, 11.5 / 30]], rtol=1e-6)
  assert has.numpy().tolist() == [1]
  y, x = ndimage.center_of_mass(hot[..., 0])
  point, has = heatmaps.click_point(hot, 'centroid')
  np.testing.assert_allclose(point, [[(x + 0.5) / 50, (y + 0.5) / 30]], rtol=1e-5)
  for how in heatmaps.POINTS:
    point, has = heatmaps.click_point(np.zeros((4, 6, 1), np.uint8), how)
    assert point.numpy().tolist() == [[0, 0]] and has.numpy().tolist() == [0]


def test_a_cropped_and_flipped_heat_map_lies_on_its_pixels(painted):
  data = options(painted, crop_scale=(0.2, 1.0))
  spec = pipeline.dataset_spec(data)
  assert spec.has_heatmap and spec.num_points == 1
  batches = pipeline.train_batches(data, spec, pipeline.Rows(24), seed=1)
  seen = 0
  for batch in itertools.islice(batches, 3):
    assert batch['heatmap'].shape == (24, SIZE, SIZE) and batch['heatmap'].dtype == np.uint8
    difference = batch['heatmap'].astype(int) - batch['image'][..., 0]
    assert np.abs(difference).max() <= 1
    seen += check_points(batch)
  assert seen > 30


def check_points(batch):
  """Checks that points lie on the dots that are wholly in view, and returns how many there are."""
  seen = 0
  for hot, (point,), (mask,) in zip(
    batch['heatmap'], batch['point'], batch['point_mask'], strict=True
  ):
    border = np.concatenate([hot[0], hot[-1], hot[:, 0], hot[:, -1]])
    dot = painted_data.find_dot(hot / 255, 0.3)
    if dot is not None and border.max() < 60 and mask:
      assert np.abs(np.subtract(dot, point)).max() * SIZE < 3
      seen += 1
  return seen


def test_an_augmented_heat_map_lies_on_its_point(painted):
  whole = {'crop_scale': (1.0, 1.0), 'crop_ratio': (0.5, 2.0)}  # no dot is cut before it moves
  data = options(painted, click='centroid', augment='trivial', **whole)
  batches = pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(24), seed=2)
  assert sum(map(check_points, itertools.islice(batches, 3))) > 20


def test_evaluation_shows_the_heat_map_in_the_same_view(painted):
  data = options(painted)
  spec = pipeline.dataset_spec(data)
  for whole in (False, True):
    batches, _ = pipeline.eval_batches(data, spec, 'train', pipeline.Rows(16), whole=whole)
    for batch in batches:
      assert np.abs(batch['heatmap'].astype(int) - batch['image'][..., 0]).max() <= 1


@pytest.mark.parametrize('name', augment.OPERATIONS)
def test_the_fourth_channel_moves_and_keeps_its_values(name):
  hot = heat(SIZE, SIZE, (0.3, 0.6))
  value = tf.constant(augment.magnitudes('trivial', SIZE)[augment.OPERATIONS.index(name), 20])
  value = tf.cast(value, tf.float32)
  none = tf.zeros([1, 2]), tf.zeros([1])
  grey = tf.constant(np.repeat(hot, 3, -1))
  three, _, _ = augment.apply(name, value, grey, *none)
  four, _, _ = augment.apply(name, value, tf.concat([grey, hot], -1), *none)
  np.testing.assert_array_equal(four[..., :3], three)
  expected = three[..., 0] if name in augment.GEOMETRIC else hot[..., 0]
  np.testing.assert_array_equal(four[..., 3], expected)


def test_erasing_takes_the_heat_away():
  data = config('', '', image_size=SIZE, random_erasing=1.0)
  image = tf.fill([SIZE, SIZE, 4], tf.constant(200, tf.uint8))
  erased, _, _ = augment.erase(
    data, image, tf.zeros([1, 2]), tf.zeros([1]), tf.constant([1, 2], tf.int64)
  )
  gone = erased.numpy()[..., 0] == 124
  assert 0 < gone.mean() < 0.5
  np.testing.assert_array_equal(erased[..., 3], np.where(gone, 0, 200))


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'click': 'mean'}, "data.click='mean' does not fit heat, which has heat maps: choose one"),
    ({'byproduct': 'trace'}, "data.byproduct='trace': heat has heat maps and no traces"),
    ({'max_per_worker': 3}, 'data.max_per_worker=3 filters clicks of ImageNet-AB, but heat'),
  ],
)
def test_options_of_clicks_are_refused(painted, changes, message):
  with pytest.raises(UserError, match=f'^{message}'):
    pipeline.dataset_spec(options(painted, **changes))


def test_the_human_map_is_smoothed_as_harmonizations():
  rng = np.random.default_rng(4)
  hot = ndimage.zoom(rng.integers(0, 256, (8, 8)), 32, order=0).astype(np.uint8)
  # Without antialiasing, downscaling by 4 averages the two middle pixels of every four.
  small = hot.reshape(64, 4, 64, 4)[:, 1:3, :, 1:3].mean((1, 3))
  offset = np.arange(-5, 5)
  window = np.exp(-(offset[::-1, None] ** 2 + offset**2) / (2 * 10**2))
  padded = np.pad(small, ((4, 5), (4, 5)))
  views = np.lib.stride_tricks.sliding_window_view(padded, (10, 10))
  blurred = (views * window / window.sum()).sum((2, 3))
  found = heatmaps.smoothed(hot[..., None], 64)
  np.testing.assert_allclose(found, blurred, rtol=1e-4)
  assert heatmaps.smoothed(hot[..., None], 224).shape == (224, 224)
