"""Where a point goes when its image is cropped, flipped, resized, sheared, shifted or rotated:
coordinates only, no pixels.

Conventions, everywhere in this file:
  * A point is (x right, y down), float32, relative to its image: (0, 0) is the outer corner of
    the top left pixel, (1, 1) that of the bottom right one. Pixel i of a row of W pixels
    covers [i/W, (i+1)/W] and has its centre at (i + 0.5) / W. Resizing therefore moves no point.
  * A window (top, left, height, width) is in integer pixels, int32.
  * A matrix float32[3, 3] maps (x, y, 1) in pixels of the image to pixels of the result.
  * Both borders belong to the window, so that a flip never changes which points are inside.
  * A point outside has mask 0 and value 0. The mask alone decides; there are no sentinels.

Every function takes Python numbers, numpy arrays or tensors, and works eagerly and inside tf.data.
"""

import math
from typing import Any, NamedTuple

import tensorflow as tf

CROP_TRIES = 10
# Longer side / shorter side. Resizing a longer image would take gigabytes for a meaningless centre
# crop: image_files refuses such images, and those in other people's data sets are squeezed to this.
MAX_RATIO = 50
Array = Any  # a number, numpy array or tensor


class Window(NamedTuple):
  """A rectangle of pixels; four int32 scalars."""

  top: Any
  left: Any
  height: Any
  width: Any


def sample_window(
  seed: Array,
  height: Array,
  width: Array,
  *,
  scale: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Window:
  """Draws the window of torchvision's `RandomResizedCrop`.

  Up to ten times, the area fraction is drawn uniformly from `scale` and the width-to-height ratio
  log-uniformly from `ratio`; the first window that fits is placed uniformly. If none fits, the
  window is the largest centred one whose ratio is within the limits. All ten tries are drawn at
  once, which does not change the distribution.

  Args:
    seed: int[2], a stateless seed: the same seed gives the same window.
    height, width: int scalars, size of the image in pixels.
    scale: smallest and largest fraction of the image's area.
    ratio: smallest and largest width / height of the window.

  Returns:
    A Window inside the image, at least one pixel high and wide.
  """
  size = tf.cast(tf.stack([height, width]), tf.float64)
  draws = tf.random.stateless_uniform([4, CROP_TRIES], seed, dtype=tf.float64)
  area = size[0] * size[1] * (scale[0] + draws[0] * (scale[1] - scale[0]))
  low, high = (tf.math.log(tf.constant(r, tf.float64)) for r in ratio)
  aspect = tf.exp(low + draws[1] * (high - low))
  # tf.round rounds halves to even, as Python's round() does.
  extent = tf.round(tf.sqrt(area * tf.stack([1 / aspect, aspect])))  # [2, tries], (height, width)
  fits = tf.reduce_all((extent > 0) & (extent <= size[:, None]), axis=0)
  free = size[:, None] - extent
  corner = tf.minimum(tf.floor(draws[2:] * (free + 1)), free)
  first = tf.argmax(fits)  # 0 if none fits; then the fallback is taken
  tried = tf.concat([corner[:, first], extent[:, first]], axis=0)
  window = tf.where(tf.reduce_any(fits), tried, _fallback(size, ratio))
  return Window(*tf.unstack(tf.cast(window, tf.int32)))


def _fallback(size: tf.Tensor, ratio: tuple[float, float]) -> tf.Tensor:
  """The largest centred window whose ratio is within `ratio`: float64[4] for `size` float64[2]."""
  height, width = size[0], size[1]
  tall = width / height < min(ratio)
  wide = width / height > max(ratio)
  extent = tf.stack(
    [
      tf.where(tall, tf.round(width / min(ratio)), height),
      tf.where(wide, tf.round(height * max(ratio)), width),
    ]
  )
  extent = tf.maximum(extent, 1)
  return tf.concat([(size - extent) // 2, extent], axis=0)


def sample_flip(seed: Array) -> tf.Tensor:
  """A fair coin: bool scalar, True for a horizontal flip. `seed` is a stateless seed, int[2]."""
  return tf.random.stateless_uniform([], seed) < 0.5


def centre_window(
  height: Array, width: Array, *, resize: int, size: int
) -> tuple[tf.Tensor, Window]:
  """The evaluation view: the short side resized to `resize`, then a centred `size` x `size` crop.

  Rounds as torchvision's `Resize` and `CenterCrop`. The long side is at most MAX_RATIO * `resize`.

  Args:
    height, width: int scalars, size of the image in pixels.
    resize: int, short side after resizing, in pixels; at least `size`.
    size: int, side of the crop, in pixels.

  Returns:
    (int32[2] (height, width) of the resized image, Window in pixels of the resized image).

  Raises:
    ValueError: `size` is larger than `resize`.
  """
  if size > resize:
    raise ValueError(f'a crop of {size} px does not fit an image resized to {resize} px')
  extent = tf.cast(tf.stack([height, width]), tf.int64)
  resized = extent * resize // tf.reduce_min(extent)
  resized = tf.cast(tf.minimum(resized, MAX_RATIO * resize), tf.int32)
  corner = tf.cast(tf.round(tf.cast(resized - size, tf.float64) / 2), tf.int32)
  return resized, Window(corner[0], corner[1], tf.constant(size), tf.constant(size))


def _in_pixels(image_size: Array, window: Window) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Size of the image, corner and extent of the window: float32[2], (x, y) each."""
  size = tf.stack([image_size[1], image_size[0]])
  corner = tf.stack([window.left, window.top])
  extent = tf.stack([window.width, window.height])
  return tf.cast(size, tf.float32), tf.cast(corner, tf.float32), tf.cast(extent, tf.float32)


def move_points(
  points: Array, mask: Array, image_size: Array, window: Window, flip: Array = False
) -> tuple[tf.Tensor, tf.Tensor]:
  """Maps the points of an image to the view made by cropping it to `window` and then flipping it.

  Args:
    points: float32[..., K, 2], (x, y) relative to the image; non-finite ones count as outside.
    mask: float32[..., K], 1 where there is a point.
    image_size: int[2], (height, width) of the image in pixels.
    window: Window in pixels of the same image.
    flip: bool scalar, whether the view is mirrored left to right after cropping.

  Returns:
    (points float32[..., K, 2] relative to the view, mask float32[..., K]); a point outside the view
    has mask 0 and value 0, like every masked point.
  """
  points = tf.convert_to_tensor(points, tf.float32)
  size, corner, extent = _in_pixels(image_size, window)
  points = (points * size - corner) / extent
  mirrored = tf.stack([1 - points[..., 0], points[..., 1]], axis=-1)
  return keep_inside(tf.where(flip, mirrored, points), mask)


def points_in_image(points: Array, image_size: Array, window: Window) -> tf.Tensor:
  """Maps the points of a view back to the image: the inverse of `move_points` without a flip.

  Args:
    points: float32[..., K, 2], (x, y) relative to the view.
    image_size: int[2], (height, width) of the image in pixels.
    window: Window in pixels of the same image.

  Returns:
    float32[..., K, 2], (x, y) relative to the image, whether or not it was resized before the crop.
  """
  size, corner, extent = _in_pixels(image_size, window)
  return (tf.convert_to_tensor(points, tf.float32) * extent + corner) / size


def move_boxes(boxes: Array, image_size: Array, window: Window) -> tuple[tf.Tensor, tf.Tensor]:
  """Maps the boxes of an image to the view made by cropping it to `window`, and clips them to it.

  Args:
    boxes: float32[n, 4], (x0, y0, x1, y1) relative to the image.
    image_size: int[2], (height, width) of the image in pixels.
    window: Window in pixels of the same image.

  Returns:
    (boxes float32[n, 4] relative to the view, bool[n] whether any area of the box is left).
  """
  size, corner, extent = _in_pixels(image_size, window)
  corners = tf.reshape(tf.cast(boxes, tf.float32), [-1, 2, 2])
  corners = tf.clip_by_value((corners * size - corner) / extent, 0.0, 1.0)
  seen = tf.reduce_all(corners[:, 1] > corners[:, 0], axis=-1)
  return tf.reshape(corners, [-1, 4]), seen


def _affine(*entries: Array) -> tf.Tensor:
  """float32[3, 3] from the six entries of its first two rows."""
  return tf.reshape(tf.stack([tf.cast(v, tf.float32) for v in (*entries, 0, 0, 1)]), [3, 3])


def shear_x(value: Array) -> tf.Tensor:
  """The matrix after which pixel (x, y) shows what was at (x + `value` y, y)."""
  return _affine(1, -value, 0, 0, 1, 0)


def shear_y(value: Array) -> tf.Tensor:
  """The matrix after which pixel (x, y) shows what was at (x, y + `value` x)."""
  return _affine(1, 0, 0, -value, 1, 0)


def translate_x(value: Array) -> tf.Tensor:
  """The matrix of a shift to the right by `value` pixels, truncated to whole ones."""
  return _affine(1, 0, tf.cast(value, tf.int32), 0, 1, 0)


def translate_y(value: Array) -> tf.Tensor:
  """The matrix of a shift down by `value` pixels, truncated to whole ones."""
  return _affine(1, 0, 0, 0, 1, tf.cast(value, tf.int32))


def rotate(value: Array, size: Array) -> tf.Tensor:
  """The matrix of a counterclockwise rotation by `value` degrees around the centre.

  Args:
    value: float scalar.
    size: int[2], (height, width) in pixels.
  """
  angle = value * (math.pi / 180)
  cos, sin = tf.cos(angle), tf.sin(angle)
  y, x = tf.unstack(tf.cast(size, tf.float32) / 2)
  return _affine(cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y)


def transform_points(
  points: Array, mask: Array, size: Array, matrix: Array
) -> tuple[tf.Tensor, tf.Tensor]:
  """Moves the points of an image by the `matrix` that moves its pixels; the size stays the same.

  Args:
    points: float32[..., K, 2], (x, y) relative to the image.
    mask: float32[..., K], 1 where there is a point.
    size: int[2], (height, width) of the image in pixels.
    matrix: float32[3, 3].

  Returns:
    (points float32[..., K, 2], mask float32[..., K]), as from `move_points`.
  """
  extent = tf.cast(tf.stack([size[1], size[0]]), tf.float32)
  moved = tf.linalg.matvec(matrix[:2, :2], points * extent) + matrix[:2, 2]
  return keep_inside(moved / extent, mask)


def cover_points(
  points: Array, mask: Array, size: Array, window: Window
) -> tuple[tf.Tensor, tf.Tensor]:
  """Masks the points that a window covers, its borders included.

  Arguments and result as for `transform_points`; `window` is in pixels of the image.
  """
  pixels, corner, extent = _in_pixels(size, window)
  covered = inside((points * pixels - corner) / extent)
  kept = tf.where(covered, 0.0, mask)
  return tf.where(kept[..., None] > 0, points, 0.0), kept


def inside(points: Array) -> tf.Tensor:
  """bool[..., K] for float[..., K, 2]: which points lie in [0, 1] x [0, 1], borders included."""
  return tf.reduce_all((points >= 0) & (points <= 1), axis=-1)  # False for NaN


def keep_inside(points: Array, mask: Array) -> tuple[tf.Tensor, tf.Tensor]:
  """Sets the mask and the value of points outside [0, 1] x [0, 1] to 0, and masked values to 0."""
  mask = tf.cast(mask, tf.float32) * tf.cast(inside(points), tf.float32)
  return tf.where(mask[..., None] > 0, points, tf.zeros_like(points)), mask
