"""RandAugment, TrivialAugment and random erasing: pixels as PIL's, and points that move along."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage, stats

from luab_jax.data import augment
from tests import painted_data
from tests.data.test_geometry import check_dot, in_tf_data
from tests.data.test_image_ops import photograph
from tests.painted_data import config

SIZE = 64
LARGEST = dict(zip(augment.OPERATIONS, augment.magnitudes('trivial', SIZE)[:, -1], strict=True))
NO_POINTS = tf.zeros([1, 2]), tf.zeros([1])


def changed(name, value, image):
  picture, _, _ = augment.apply(name, tf.constant(value, tf.float32), image, *NO_POINTS)
  return np.asarray(picture, int)


def enhance(name):
  return lambda image, value: getattr(ImageEnhance, name)(image).enhance(1 + value)


# {operation: (PIL's version, largest difference in grey levels)}
PIL_COLOURS = {
  'identity': (lambda image, value: image, 0),
  'brightness': (enhance('Brightness'), 1),
  'color': (enhance('Color'), 2),  # PIL rounds the grey image
  'contrast': (enhance('Contrast'), 2),  # and the mean of the grey image
  'sharpness': (enhance('Sharpness'), 1),
  'posterize': (lambda image, value: ImageOps.posterize(image, int(value)), 0),
  'solarize': (lambda image, value: ImageOps.solarize(image, value), 0),
  'autocontrast': (lambda image, value: ImageOps.autocontrast(image), 1),
  'equalize': (lambda image, value: ImageOps.equalize(image), 0),
}


@pytest.mark.parametrize('name', augment.PHOTOMETRIC)
def test_colours_are_pils(name):
  theirs, difference = PIL_COLOURS[name]
  flat = np.full((9, 7, 3), 80, np.uint8)
  flat[3:, :, 1] = 200
  images = [photograph(50, 61), photograph(50, 61) // 4 + 90, flat]
  values = {'posterize': [8, 6, 4, 2], 'solarize': [255, 178.5, 90, 0]}
  for image in images:
    for value in values.get(name, [-0.99, -0.4, 0.0, 0.27, 0.9]):
      expected = np.asarray(theirs(Image.fromarray(image), value), int)
      ours = changed(name, value, image)
      assert np.abs(ours - expected).max() <= difference, value
  assert set(PIL_COLOURS) == set(augment.PHOTOMETRIC)


def pil_moved(name, value, picture):
  """PIL's version. Its affine maps go from output to input; Image.rotate has its own direction."""
  if name == 'rotate':
    return picture.rotate(value, Image.Resampling.BILINEAR)
  back = {
    'shear_x': (1, value, 0, 0, 1, 0),
    'shear_y': (1, 0, 0, value, 1, 0),
    'translate_x': (1, 0, -int(value), 0, 1, 0),
    'translate_y': (1, 0, 0, 0, 1, -int(value)),
  }[name]
  return picture.transform(picture.size, Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)


@pytest.mark.parametrize('name', augment.GEOMETRIC)
def test_pixels_move_as_pils(name):
  image = photograph(SIZE, SIZE + 10)
  white = np.full_like(image, 255)
  for value in LARGEST[name] * np.array([-1, -0.47, -0.01, 0, 0.3, 1]):
    moved = functools.partial(pil_moved, name, value)
    expected = np.asarray(moved(Image.fromarray(image)), int)
    ours = changed(name, value, image)
    shown = np.asarray(moved(Image.fromarray(white)))[..., 0] > 0
    inner = ndimage.binary_erosion(shown)  # at the border PIL repeats pixels instead of fading
    assert np.abs(ours - expected)[inner].max() <= 2, value  # both truncate
    assert (ours[~ndimage.binary_dilation(shown)] == 0).all()
    assert inner.mean() > 0.1


@pytest.mark.parametrize('where', ['eager', 'tf.data'])
@pytest.mark.parametrize('name', augment.GEOMETRIC)
def test_painted_dots_go_with_the_points(name, where):
  rng = np.random.default_rng(7)
  count = 25
  # Far enough inside that no dot is cut by the border of the image.
  points = rng.uniform(0.09, 0.91, (count, 1, 2)).astype(np.float32)
  points[::5] = points[::5].round() * 0.84 + 0.08  # in corners: rotations move them out
  images = np.stack([painted_data.paint(SIZE, SIZE, point, radius=3.0) for point in points])
  points = np.concatenate([points, np.zeros_like(points)], axis=1)  # and a masked one
  values = (LARGEST[name] * rng.uniform(-1, 1, count)).astype(np.float32)

  def moved(image, point, value):
    return augment.apply(name, value, image, point, tf.constant([1.0, 0.0]))

  rows = (
    zip(*in_tf_data(moved, images, points, values), strict=True)
    if where == 'tf.data'
    else ([v.numpy() for v in moved(*row)] for row in zip(images, points, values, strict=True))
  )
  found = {'seen': 0, 'away': 0}
  for picture, point, mask in rows:
    grey = (picture.mean(axis=-1) - painted_data.BACKGROUND) / (255 - painted_data.BACKGROUND)
    check_dot(grey, point[0], mask[0], found)
    assert mask[1] == 0 and not point[int(mask[0]) :].any()
  assert found['seen'] > 5 and found['away'] > 1


def test_a_point_that_has_left_stays_masked_when_its_place_comes_back():
  image = painted_data.paint(SIZE, SIZE, [(0.9, 0.5)], radius=3.0)
  example = image, tf.constant([[0.9, 0.5]]), tf.constant([1.0])
  for value in (20.0, -20.0):
    example = augment.apply('translate_x', tf.constant(value), *example)
  assert painted_data.find_dot(example[0].numpy().mean(-1) / 255) is None
  assert not example[1].numpy().any() and not example[2].numpy().any()


@pytest.mark.parametrize('policy', ['randaugment', 'trivial'])
def test_operations_signs_and_magnitudes_are_drawn_evenly(policy, monkeypatch):
  def record(name, value, image, points, mask):
    return image, tf.concat([points, [[augment.OPERATIONS.index(name), value]]], 0)[1:], mask

  monkeypatch.setattr(augment, 'apply', record)
  data = config('', '', augment=policy, augment_ops=2, augment_magnitude=12, image_size=40)
  count = 2000

  def drawn(number):
    seed = tf.stack([number, 5])
    _, points, mask = augment.augment(data, tf.zeros([1]), tf.zeros([2, 2]), tf.zeros([2]), seed)
    return tf.ensure_shape(points, [2, 2]), mask

  operations, values = np.moveaxis(in_tf_data(drawn, np.arange(count))[0], -1, 0)
  if policy == 'trivial':  # one operation
    assert not operations[:, 0].any() and not values[:, 0].any()
    operations, values = operations[:, 1:], values[:, 1:]
  table = augment.magnitudes(policy, 40)
  shares = np.bincount(operations.astype(int).ravel(), minlength=14) / operations.size
  assert len(shares) == 14 and np.abs(shares - 1 / 14).max() < 0.02
  for index, name in enumerate(augment.OPERATIONS):
    seen = values[operations == index]
    signed = name in augment.SIGNED
    if signed:
      assert abs((seen < 0).mean() - (seen > 0).mean()) < 0.2
    allowed = table[index] if policy == 'trivial' else table[index, 12:13]
    expected = {
      float(np.float32(sign * v)) for v in allowed for sign in ((1, -1) if signed else (1,))
    }
    assert set(map(float, seen)) <= expected
    assert len({abs(v) for v in map(float, seen)}) > 0.8 * len({abs(v) for v in expected})


def torchvision_window(rng, size):
  """(top, left, height, width) by RandomErasing in a square image, step by step, or None."""
  for _ in range(10):
    area = size * size * rng.uniform(0.02, 0.33)
    ratio = np.exp(rng.uniform(np.log(0.3), np.log(3.3)))
    h, w = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
    if h < size and w < size:
      return rng.integers(0, size - h + 1), rng.integers(0, size - w + 1), h, w
  return None


def test_erased_windows_are_torchvisions_and_mask_the_points_in_them():
  count = 1500
  data = config('', '', random_erasing=0.25, image_size=SIZE)
  image = tf.fill([SIZE, SIZE, 3], tf.constant(9, tf.uint8))
  y, x = np.mgrid[:SIZE:7, :SIZE:7]
  points = (np.stack([x, y], -1).reshape(-1, 2) + 0.5) / SIZE  # centres of pixels
  points = points.astype(np.float32)

  def erased(number):
    seed = tf.stack([number, 5])
    return augment.erase(data, image, points, tf.ones([len(points)]), seed)

  pictures, moved, masks = in_tf_data(erased, np.arange(count))
  covered = (pictures == augment._ERASED_COLOUR).all(-1)
  assert ((pictures == 9).all(-1) | covered).all()
  chosen = covered.any(axis=(1, 2))
  assert abs(chosen.mean() - 0.25) < 0.04
  np.testing.assert_array_equal(masks, ~covered[:, ::7, ::7].reshape(count, -1))
  np.testing.assert_array_equal(moved, points * masks[..., None])

  high, wide = (covered[chosen].any(axis=axis).sum(axis=1) for axis in (2, 1))
  np.testing.assert_array_equal(covered[chosen].sum(axis=(1, 2)), high * wide)  # a rectangle
  top, left = (covered[chosen].any(axis=axis).argmax(axis=1) for axis in (2, 1))
  rng = np.random.default_rng(0)
  theirs = np.array([torchvision_window(rng, SIZE) for _ in range(count)], float).T
  for ours, expected in zip((top, left, high, wide), theirs, strict=True):
    noise = rng.uniform(0, 1, len(ours) + count)  # breaks ties, which the KS test does not allow
    pair = ours + noise[: len(ours)], expected + noise[len(ours) :]
    assert stats.ks_2samp(*pair, method='asymp').pvalue > 1e-3
