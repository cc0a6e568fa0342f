"""Heat maps of what mattered to people (ClickMe): click points, and views that match the image's.

A heat map is uint8[H, W, 1], as large as its image. TensorFlow ops, eager or inside tf.data.
"""

import tensorflow as tf

from luab_jax.data import image_ops
from luab_jax.data.geometry import Window

POINTS = ('centroid', 'peak')


def click_point(heatmap: tf.Tensor, how: str) -> tuple[tf.Tensor, tf.Tensor]:
  """One point from a heat map, as in targets.py.

  Args:
    heatmap: uint8[H, W, 1].
    how: 'centroid': the mean position of the pixels, weighted by their heat; 'peak': the centre of
      the hottest pixel, the first in row-major order if there are several.

  Returns:
    (float32[1, 2], float32[1]); no point where there is no heat.
  """
  heat = tf.cast(heatmap[..., 0], tf.float32)
  has = tf.cast(tf.reduce_max(heat) > 0, tf.float32)
  size = tf.shape(heat)
  if how == 'peak':
    place = tf.argmax(tf.reshape(heat, [-1]), output_type=tf.int32)
    x, y = (tf.cast(i, tf.float32) + 0.5 for i in (place % size[1], place // size[1]))
  else:
    columns, rows = (tf.range(tf.cast(n, tf.float32)) + 0.5 for n in (size[1], size[0]))
    total = tf.reduce_sum(heat)
    x = tf.math.divide_no_nan(tf.reduce_sum(heat * columns), total)
    y = tf.math.divide_no_nan(tf.reduce_sum(heat * rows[:, None]), total)
  point = tf.stack([x, y]) / tf.cast(size[::-1], tf.float32)
  return point[None] * has, has[None]


def view(heatmap: tf.Tensor, image_size: tf.Tensor, window: Window, size: int) -> tf.Tensor:
  """The view of a heat map that matches `window` of its image, not flipped.

  Args:
    heatmap: uint8[H, W, 1].
    image_size: int[2], (height, width) in pixels of what `window` refers to: the original or the
      resized image.
    window: Window in pixels of that.
    size: S, side of the view in pixels.

  Returns:
    uint8[S, S, 1].
  """
  # Has no effect if `image_size` is the size of the heat map.
  heat = tf.image.resize(heatmap, image_size, antialias=True)
  heat = tf.image.crop_to_bounding_box(heat, *window)
  heat = tf.image.resize(heat, [size, size], antialias=True)
  return image_ops.to_uint8(heat)


def smoothed(heatmap: tf.Tensor, size: int) -> tf.Tensor:
  """A whole heat map, smoothed for the comparison with a model's map (evaluate/alignment.py).

  As in harmonization/common/clickme_dataset.py of Fel et al. 2022 (arXiv:2211.04533): resized to
  64 x 64 without antialiasing, blurred by a Gaussian with a standard deviation of 10 pixels, cut
  to 10 x 10 (from 5 pixels before its centre to 4 after it) with zero padding, resized to S x S.

  Args:
    heatmap: uint8[H, W, 1].
    size: S, in pixels.

  Returns:
    float32[S, S].
  """
  heat = tf.image.resize(heatmap, [64, 64])
  offset = tf.range(-5.0, 5.0)
  weight = tf.exp(-(offset**2) / 200)
  rows, columns = weight[::-1, None], weight[None]  # there, y points up
  window = rows * columns / tf.reduce_sum(weight) ** 2
  heat = tf.nn.conv2d(heat[None], window[..., None, None], 1, 'SAME')[0]
  return tf.image.resize(heat, [size, size])[..., 0]
