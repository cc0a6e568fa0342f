"""Points move with the pixels through crops, flips and resizing, against reference versions."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.data import geometry, image_ops
from tests import painted_data


def in_tf_data(function, *columns):
  """Maps over the rows of columns inside tf.data; returns stacked numpy columns."""
  dataset = tf.data.Dataset.from_tensor_slices(columns).map(function).batch(len(columns[0]))
  return next(dataset.as_numpy_iterator())


sizes = st.integers(1, 700)
fractions = st.integers(10, 990).map(lambda v: v / 1000)


@st.composite
def views(draw):
  """(point (x, y), image size (height, width), a window inside it, flip)."""
  height, width = draw(sizes), draw(sizes)
  h, w = draw(st.integers(1, height)), draw(st.integers(1, width))
  window = geometry.Window(draw(st.integers(0, height - h)), draw(st.integers(0, width - w)), h, w)
  coordinate = st.integers(-2000, 12000).map(lambda v: v / 10000)
  return (draw(coordinate), draw(coordinate)), (height, width), window, draw(st.booleans())


def authors_imagenet(point, size, window, flip):
  """The rule of the authors' ImageNet-AB code, written out in pixels.

  Inside the crop: (x, y) relative to the flipped crop, and weight 1. Outside: (-1, -1) and 0.
  """
  px, py = point[0] * size[1], point[1] * size[0]
  x, y = (px - window.left) / window.width, (py - window.top) / window.height
  if flip:
    x = 1 - x
  return ((x, y), 1) if 0 <= x <= 1 and 0 <= y <= 1 else ((-1, -1), 0)


def authors_coco(point, size, window, flip):
  """The rule of the authors' COCO-AB code: integer pixels of the original image, then (y, x)
  relative to the crop, -1 where absent or cropped away."""
  px, py = int(point[0] * size[1]), int(point[1] * size[0])
  y, x = (py - window.top) / window.height, (px - window.left) / window.width
  if flip:
    x = 1 - x
  return (y, x) if 0 <= x <= 1 and 0 <= y <= 1 else (-1, -1)


def near_border(point, size, window, pixels):
  """Whether a point lies within `pixels` of the window's border, where rounding decides."""
  x = point[0] * size[1] - window.left
  y = point[1] * size[0] - window.top
  return min(abs(x), abs(x - window.width), abs(y), abs(y - window.height)) <= pixels


@settings(max_examples=150, deadline=None)
@given(views())
def test_agrees_with_the_authors_arithmetic(view):
  point, size, window, flip = view
  moved, mask = geometry.move_points([point], [1.0], size, window, flip)
  moved, mask = moved.numpy()[0], float(mask[0])
  theirs, weight = authors_imagenet(point, size, window, flip)
  if not near_border(point, size, window, 1e-3):
    assert mask == weight
  if mask and weight:
    np.testing.assert_allclose(moved, theirs, atol=1e-4)
  if not mask:
    assert moved.tolist() == [0, 0]

  yx = authors_coco(point, size, window, flip)
  if not near_border(point, size, window, 1.001):
    assert (yx != (-1, -1)) == bool(mask)
    if mask:  # theirs loses up to a pixel to int()
      error = np.abs((moved - (yx[1], yx[0])) * (window.width, window.height))
      assert error.max() <= 1.001


@settings(max_examples=60, deadline=None)
@given(views())
def test_a_flip_mirrors_and_keeps_who_is_inside(view):
  point, size, window, _ = view
  plain, mask = geometry.move_points([point], [1.0], size, window, False)
  mirrored, mask_too = geometry.move_points([point], [1.0], size, window, True)
  assert mask[0] == mask_too[0]
  if mask[0]:
    np.testing.assert_allclose(mirrored[0], [1 - plain[0][0], plain[0][1]], atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(views(), fractions, fractions)
def test_a_position_in_the_view_comes_back(view, x, y):
  _, (height, width), window, flip = view
  in_window = 1 - x if flip else x
  point = (
    (window.left + in_window * window.width) / width,
    (window.top + y * window.height) / height,
  )
  moved, mask = geometry.move_points([point], [1.0], (height, width), window, flip)
  assert mask.numpy().tolist() == [1]
  np.testing.assert_allclose(moved[0], (x, y), atol=1e-3)


def test_masks_values_and_borders():
  window = geometry.Window(10, 20, 40, 60)  # of an image of 100 x 200
  points = [
    (20 / 200, 10 / 100),
    (80 / 200, 50 / 100),  # both corners: inside
    (19.9 / 200, 0.3),
    (80.1 / 200, 0.3),
    (0.2, 9.9 / 100),
    (0.2, 50.1 / 100),
    (0.2, 0.3),
    (math.nan, 0.3),
    (math.inf, 0.3),
    (-5.0, 0.3),
  ]
  mask = [1, 1, 1, 1, 1, 1, 0, 1, 1, 1]
  for flip in (False, True):
    moved, kept = geometry.move_points(points, mask, (100, 200), window, flip)
    assert kept.numpy().tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    expected = [[1, 0], [0, 1]] if flip else [[0, 0], [1, 1]]
    np.testing.assert_allclose(moved.numpy(), expected + [[0, 0]] * 8, atol=1e-6)


def test_eighty_points_move_in_one_go_eager_and_in_tf_data():
  rng = np.random.default_rng(0)
  points = rng.uniform(-0.1, 1.1, (50, 80, 2)).astype(np.float32)
  mask = (rng.uniform(size=(50, 80)) < 0.7).astype(np.float32)
  flips = rng.uniform(size=50) < 0.5
  size, window = (375, 500), geometry.Window(30, 40, 200, 310)

  def move(points, mask, flip):
    return geometry.move_points(points, mask, size, window, flip)

  moved, kept = in_tf_data(move, points, mask, flips)
  assert 0.1 < kept.mean() < 0.5
  for i in range(50):
    eager, eager_mask = move(points[i], mask[i], flips[i])
    np.testing.assert_array_equal(eager, moved[i])
    np.testing.assert_array_equal(eager_mask, kept[i])
    for k in range(0, 80, 7):
      (x, y), weight = authors_imagenet(points[i, k], size, window, flips[i])
      assert kept[i, k] == weight * mask[i, k]
      np.testing.assert_allclose(moved[i, k], (x, y) if kept[i, k] else (0, 0), atol=1e-5)


@pytest.mark.parametrize(
  ('height', 'width', 'resize', 'size', 'resized', 'corner'),
  [
    (375, 500, 256, 224, (256, 341), (16, 58)),  # torchvision: int(256 * 500 / 375), round(58.5)
    (500, 375, 256, 224, (341, 256), (58, 16)),
    (333, 333, 256, 224, (256, 256), (16, 16)),
    (100, 1000, 256, 256, (256, 2560), (0, 1152)),
    (20, 10, 64, 48, (128, 64), (40, 8)),
  ],
)
def test_centre_window_rounds_as_torchvision(height, width, resize, size, resized, corner):
  shape, window = geometry.centre_window(height, width, resize=resize, size=size)
  assert tuple(shape.numpy()) == resized
  assert tuple(int(v) for v in window) == (*corner, size, size)


def test_centre_window_larger_than_the_image_is_refused():
  with pytest.raises(ValueError, match='256'):
    geometry.centre_window(300, 300, resize=224, size=256)


# Painted dots: the points have to follow the pixels.


def cut(image, window, flip, size, method):
  image = image_ops.crop(tf.convert_to_tensor(image), window)
  return image_ops.flip(image_ops.resize(image, size, method), flip)


def check_dot(view, point, mask, found):
  """Compares a grey view float[h, w] in 0 ... 1 with the point that was emitted for it.

  Counts in `found` the dots that are wholly visible ('seen') and those cropped away ('away').
  """
  height, width = view.shape
  border = np.concatenate([view[0], view[-1], view[:, 0], view[:, -1]])
  dot = painted_data.find_dot(view)
  if dot is None or border.max() > 0.3:  # no dot, or part of one, whose centre may be outside
    if dot is None:
      assert mask == 0
      found['away'] += 1
    return
  assert mask == 1
  assert abs(dot[0] - point[0]) * width < 1 and abs(dot[1] - point[1]) * height < 1
  found['seen'] += 1


@pytest.mark.parametrize('where', ['eager', 'tf.data'])
def test_painted_dots_are_where_the_points_say(where):
  rng = np.random.default_rng(7)
  found = {'seen': 0, 'away': 0}
  for image_number in range(8 if where == 'eager' else 3):
    height, width = (int(v) for v in rng.integers(60, 260, 2))
    point = rng.uniform(0, 1, 2).astype(np.float32)
    image = painted_data.paint(height, width, [point], radius=3.0)
    size = [int(v) for v in rng.integers(32, 96, 2)]
    method = image_ops.METHODS[image_number % 2]

    def view(number, image=image, point=point, size=size, method=method, shape=(height, width)):
      seeds = tf.random.split(tf.stack([number, 1]), 2)
      window = geometry.sample_window(seeds[0], *shape)
      flip = geometry.sample_flip(seeds[1])
      points, mask = geometry.move_points(point[None], [1.0], shape, window, flip)
      return cut(image, window, flip, size, method), points, mask

    numbers = np.arange(15 if where == 'eager' else 120) + 1000 * image_number
    rows = (
      zip(*in_tf_data(view, numbers), strict=True)
      if where == 'tf.data'
      else ([v.numpy() for v in view(n)] for n in numbers)
    )
    for picture, points, mask in rows:
      grey = (picture.mean(axis=-1) - painted_data.BACKGROUND) / (255 - painted_data.BACKGROUND)
      check_dot(grey, points[0], mask[0], found)
  assert found['seen'] > 50 and found['away'] > 25


@pytest.mark.parametrize('shape', [(97, 211), (211, 97), (50, 50), (128, 131)])
def test_painted_dots_in_the_evaluation_view(shape):
  rng = np.random.default_rng(3)
  found = {'seen': 0, 'away': 0}
  for _ in range(25):
    point = rng.uniform(0, 1, 2).astype(np.float32)
    image = painted_data.paint(*shape, [point], radius=3.0)
    resized, window = geometry.centre_window(*shape, resize=80, size=64)
    picture = image_ops.crop(image_ops.resize(image, resized, 'bicubic'), window).numpy()
    points, mask = geometry.move_points(point[None], [1.0], resized, window)
    grey = (picture.mean(axis=-1) - painted_data.BACKGROUND) / (255 - painted_data.BACKGROUND)
    check_dot(grey, points.numpy()[0], mask.numpy()[0], found)
  assert found['seen'] > 4 and found['away'] > 2
