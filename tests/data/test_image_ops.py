"""Pixels against PIL and against torchvision's formulas written out in NumPy."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import ndimage

from luab_jax.data import geometry, image_ops
from tests import painted_data


def photograph(height, width, seed=0):
  """Smooth colours with some noise, uint8[height, width, 3]."""
  rng = np.random.default_rng(seed)
  small = Image.fromarray(rng.integers(0, 255, (6, 7, 3), np.uint8))
  smooth = np.asarray(small.resize((width, height), Image.BICUBIC), np.int16)
  return np.clip(smooth + rng.integers(-15, 15, smooth.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'BMP', 'GIF'])
def test_the_size_in_the_header_is_that_of_the_pixels(form):
  buffer = io.BytesIO()
  Image.fromarray(photograph(30, 517)).save(buffer, form)
  assert image_ops.size(buffer.getvalue()).numpy().tolist() == [30, 517]


@pytest.mark.parametrize('method', image_ops.METHODS)
@pytest.mark.parametrize('size', [(31, 40), (97, 20), (150, 180)])
def test_resizing_is_pils(method, size):
  image = photograph(90, 121)
  kernel = {'bicubic': Image.BICUBIC, 'bilinear': Image.BILINEAR}[method]
  expected = np.asarray(Image.fromarray(image).resize(size[::-1], kernel), np.float32)
  ours = image_ops.resize(image, size, method).numpy()
  assert ours.dtype == np.float32 and ours.min() >= 0 and ours.max() <= 255
  # PIL rounds and clips after each of its two passes.
  assert np.abs(ours - expected).max() < 2.5 and np.abs(ours - expected).mean() < 0.5


@pytest.mark.parametrize('method', image_ops.METHODS)
def test_one_axis_after_the_other_is_the_same_to_the_bit(method):
  image = photograph(90, 121)
  for size in [(31, 40), (97, 20), (150, 180), (90, 121), (1, 1)]:
    whole = tf.image.resize(image, size, method=method, antialias=True)
    np.testing.assert_array_equal(
      image_ops.resize(image, size, method), tf.clip_by_value(whole, 0.0, 255.0)
    )


@pytest.mark.parametrize('size', [(31, 40), (150, 180)])
def test_without_antialias_pixels_between_the_samples_are_left_out(size):
  image = photograph(90, 121)
  rows, columns = (
    ((np.arange(n) + 0.5) * side / n - 0.5).clip(0, side - 1)
    for n, side in zip(size, image.shape, strict=False)
  )
  expected = np.stack(
    [
      ndimage.map_coordinates(
        image[..., k].astype(np.float32), np.meshgrid(rows, columns, indexing='ij'), order=1
      )
      for k in range(3)
    ],
    axis=-1,
  )
  ours = image_ops.resize(image, size, 'bilinear', antialias=False).numpy()
  np.testing.assert_allclose(ours, expected, atol=0.01)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'BMP', 'GIF', 'L', 'CMYK'])
def test_every_format_becomes_rgb(kind):
  image = photograph(40, 53)
  data = painted_data.encode(image, kind)
  expected = np.asarray(Image.open(io.BytesIO(data)).convert('RGB'), np.int16)
  ours = image_ops.decode(data).numpy()
  assert ours.dtype == np.uint8 and ours.shape == (40, 53, 3)
  # CMYK has no exact RGB equivalent, and PIL converts it differently.
  assert np.abs(ours - expected).mean() < (8 if kind == 'CMYK' else 1)
  window = geometry.Window(5, 9, 20, 31)
  part, size, same = image_ops.decode_window(data, lambda h, w: window)
  assert size.numpy().tolist() == [40, 53] and tuple(int(v) for v in same) == window
  np.testing.assert_allclose(
    part.numpy()[2:-2, 2:-2].astype(int), ours[7:23, 11:38].astype(int), atol=2
  )


def test_exif_orientation_is_ignored():
  picture = Image.fromarray(photograph(30, 50))
  exif = picture.getexif()
  exif[0x0112] = 6  # shown rotated by 90 degrees
  buffer = io.BytesIO()
  picture.save(buffer, 'JPEG', exif=exif)
  assert image_ops.decode(buffer.getvalue()).shape == (30, 50, 3)


def reference_jitter(image, factors, order):
  """torchvision's ColorJitter on floats in [0, 1]: 0 brightness, 1 contrast, 2 saturation."""
  for which in order:
    grey = image @ np.array([0.2989, 0.587, 0.114])
    other = [0.0, grey.mean(), grey[..., None]][which]
    image = np.clip(factors[which] * image + (1 - factors[which]) * other, 0, 1)
  return image


def factors_of(seed, strength):
  draws = tf.random.stateless_uniform([2, 3], seed).numpy()
  low = max(0.0, 1 - strength)
  return low + draws[0] * (1 + strength - low), np.argsort(draws[1])


@pytest.mark.parametrize('strength', [0.1, 0.4, 1.5])
def test_color_jitter_is_torchvisions(strength):
  image = photograph(20, 30).astype(np.float32)
  orders = set()
  for number in range(12):
    factors, order = factors_of([number, 1], strength)
    orders.add(tuple(order))
    ours = image_ops.color_jitter(tf.constant(image), [number, 1], strength).numpy()
    expected = reference_jitter(image / 255, factors, order)
    np.testing.assert_allclose(ours / 255, expected, atol=1e-4)
    assert max(0, 1 - strength) <= factors.min() and factors.max() <= 1 + strength
  assert len(orders) > 3


def test_to_uint8_rounds():
  values = tf.constant([0.0, 0.4, 0.6, 1.0, 127.49, 254.51, 255.0])
  assert image_ops.to_uint8(values).numpy().tolist() == [0, 0, 1, 1, 127, 255, 255]
