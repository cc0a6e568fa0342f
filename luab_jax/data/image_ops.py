"""Pixels: decoding, cropping, resizing, colour changes, affine transforms (TensorFlow ops).

EXIF orientation is ignored, as boxes and byproducts refer to the stored pixels.
"""

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from luab_jax.data.geometry import Window

# Weights of R, G, B in a grey value (ITU-R 601, as torchvision).
GREY = (0.2989, 0.587, 0.114)
METHODS = ('bicubic', 'bilinear')


def decode(data: tf.Tensor | bytes) -> tf.Tensor:
  """Decodes JPEG, PNG, BMP or the first frame of a GIF to RGB.

  Args:
    data: string scalar, the bytes of the file. Grey and CMYK pixels become RGB, alpha is dropped.

  Returns:
    uint8[height, width, 3].

  Raises:
    tf.errors.InvalidArgumentError: it cannot be decoded.
  """
  return tf.cond(tf.io.is_jpeg(data), lambda: _decode_jpeg(data), lambda: _decode_other(data))


def decode_window(
  data: tf.Tensor | bytes, choose_window: Callable[[tf.Tensor, tf.Tensor], Window]
) -> tuple[tf.Tensor, tf.Tensor, Window]:
  """Decodes the window of an image that `choose_window` picks; of a JPEG, nothing else is decoded.

  Args:
    data: string scalar, the bytes of the file.
    choose_window: function (height, width) -> Window, called with int32 scalars.

  Returns:
    (uint8[window.height, window.width, 3], int32[2] (height, width) of the image, window).
  """

  def jpeg() -> tuple[tf.Tensor, tf.Tensor, Window]:
    size = tf.io.extract_jpeg_shape(data)[:2]
    window = choose_window(size[0], size[1])
    image = tf.io.decode_and_crop_jpeg(
      data, tf.stack(window), channels=3, dct_method='INTEGER_ACCURATE'
    )
    return image, size, window

  def other() -> tuple[tf.Tensor, tf.Tensor, Window]:
    image = _decode_other(data)
    size = tf.shape(image)[:2]
    window = choose_window(size[0], size[1])
    return crop(image, window), size, window

  return tf.cond(tf.io.is_jpeg(data), jpeg, other)


def size(data: tf.Tensor | bytes) -> tf.Tensor:
  """int32[2] (height, width) of an image file; for JPEG and PNG, from the header alone."""

  def png() -> tf.Tensor:
    width_height = tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.int32, little_endian=False)
    return tf.ensure_shape(width_height[::-1], [2])

  is_png = tf.strings.substr(data, 0, 4) == b'\x89PNG'
  return tf.case(
    [(tf.io.is_jpeg(data), lambda: tf.io.extract_jpeg_shape(data)[:2]), (is_png, png)],
    default=lambda: tf.shape(_decode_other(data))[:2],
  )


def _decode_jpeg(data: tf.Tensor | bytes) -> tf.Tensor:
  return tf.io.decode_jpeg(data, channels=3, dct_method='INTEGER_ACCURATE')


def _decode_other(data: tf.Tensor | bytes) -> tf.Tensor:
  image = tf.io.decode_image(data, channels=3, expand_animations=False)
  return tf.ensure_shape(image, [None, None, 3])


def crop(image: tf.Tensor, window: Window) -> tf.Tensor:
  """Crops an image [height, width, 3] to a window."""
  image = image[window.top : window.top + window.height, window.left : window.left + window.width]
  return tf.ensure_shape(image, [None, None, 3])


def resize(
  image: tf.Tensor, size: Sequence[int] | tf.Tensor, method: str, antialias: bool = True
) -> tf.Tensor:
  """Resizes an image; pixel centres are at (i + 0.5) / n.

  Args:
    image: uint8 or float32 [height, width, 3], 0 ... 255.
    size: int[2], (height, width) in pixels.
    method: 'bicubic' (a = -0.5, as PIL) or 'bilinear'.
    antialias: whether the kernel is widened when the image shrinks, as in PIL; otherwise, pixels
      between the samples are skipped.

  Returns:
    float32[size[0], size[1], 3], 0 ... 255: the overshoot of the bicubic kernel is clipped.
  """
  if antialias:
    height, width = size[0], size[1]
    shape = tf.shape(image)
    rows = tf.reshape(image, [shape[0], 3 * shape[1]])
    columns = tf.transpose(_resize_rows(rows, height, method))  # [3 w, height]
    columns = tf.reshape(columns, [shape[1], 3 * height])
    columns = _resize_rows(columns, width, method)
    rows = tf.transpose(tf.reshape(columns, [3 * width, height]))
    image = tf.reshape(rows, [height, width, 3])
  else:
    image = tf.image.resize(image, size, method=method)
  return tf.clip_by_value(image, 0.0, 255.0) if method == 'bicubic' else image


def _resize_rows(rows: tf.Tensor, number: int | tf.Tensor, method: str) -> tf.Tensor:
  """Resizes [n, k] to [number, k], as an image of one column with k channels.

  TensorFlow's kernel is fast along the channels. This way, with transpositions that need not keep
  the three colours together, resizing takes 0.4 times as long, with bit-identical results.
  """
  channels = tf.shape(rows)[1]
  column = tf.image.resize(rows[:, tf.newaxis], [number, 1], method=method, antialias=True)
  return tf.reshape(column, [number, channels])


def flip(image: tf.Tensor, flag: tf.Tensor) -> tf.Tensor:
  """Mirrors an image [height, width, channels] left to right where the bool scalar `flag` holds."""
  return tf.cond(flag, lambda: tf.reverse(image, axis=[1]), lambda: image)


def color_jitter(image: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
  """torchvision's `ColorJitter(strength, strength, strength)`: brightness, contrast, saturation.

  Each factor is uniform in [max(0, 1 - strength), 1 + strength]; the order of the three is random.

  Args:
    image: float32[height, width, 3], 0 ... 255.
    seed: int[2], a stateless seed.
    strength: float > 0.

  Returns:
    float32 of the same shape and range.
  """
  draws = tf.random.stateless_uniform([2, 3], seed)
  low = max(0.0, 1 - strength)
  factors = low + draws[0] * (1 + strength - low)
  order = tf.argsort(draws[1])
  for step in tf.unstack(order):
    factor = factors[step]
    image = tf.switch_case(
      step,
      [functools.partial(change, image, factor) for change in (brightness, contrast, saturation)],
    )
  return image


def brightness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  """Blends a float32 image, 0 ... 255, with black (factor 0: black, 1: the image), as PIL does."""
  return _blend(image, 0.0, factor)


def contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  """As `brightness`, with the mean grey of the image."""
  return _blend(image, tf.reduce_mean(_grey(image)), factor)


def saturation(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  """As `brightness`, with the grey image (PIL's `Color`)."""
  return _blend(image, _grey(image), factor)


def sharpness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  """As `brightness`, with the image smoothed over 3 x 3 pixels; the border stays as it is."""
  three = image[:-2] + image[1:-1] + image[2:]
  nine = three[:, :-2] + three[:, 1:-1] + three[:, 2:]
  inner = tf.round((nine + 4 * image[1:-1, 1:-1]) / 13)
  changed = _blend(image[1:-1, 1:-1], inner, factor)
  rows = tf.concat([image[1:-1, :1], changed, image[1:-1, -1:]], axis=1)
  return tf.concat([image[:1], rows, image[-1:]], axis=0)


def posterize(image: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
  """Keeps the `bits` (float scalar, 1 to 8) most significant bits of a uint8 image."""
  return image & tf.cast(256 - 2 ** (8 - bits), tf.uint8)


def solarize(image: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
  """Inverts the values of a uint8 image at or above `threshold` (float scalar, 0 ... 255)."""
  return tf.where(tf.cast(image, tf.float32) < threshold, image, 255 - image)


def autocontrast(image: tf.Tensor) -> tf.Tensor:
  """Stretches each channel of a uint8 image to 0 ... 255; a constant channel is left unchanged."""
  low = tf.cast(tf.reduce_min(image, axis=[0, 1]), tf.float32)
  span = tf.cast(tf.reduce_max(image, axis=[0, 1]), tf.float32) - low
  spread = (tf.cast(image, tf.float32) - low) * 255 / tf.maximum(span, 1)
  return tf.where(span > 0, tf.cast(spread, tf.uint8), image)


def equalize(image: tf.Tensor) -> tf.Tensor:
  """Equalizes the histogram of each channel of a uint8 image, as PIL's `ImageOps.equalize`."""
  places = tf.cast(image, tf.int32) + tf.constant([0, 256, 512])  # in one table of all channels
  counts = tf.math.bincount(places, minlength=768, maxlength=768)
  below = tf.cumsum(tf.reshape(counts, [3, 256]), axis=1, exclusive=True)
  highest = tf.cast(tf.reduce_max(image, axis=[0, 1]), tf.int32)
  step = tf.gather(below, highest, batch_dims=1)[:, None] // 255
  table = tf.minimum((step // 2 + below) // tf.maximum(step, 1), 255)
  table = tf.where(step > 0, table, tf.range(256))
  return tf.gather(tf.cast(tf.reshape(table, [-1]), tf.uint8), places)


def transform(image: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
  """Moves the pixels by an affine matrix, interpolated bilinearly; the outside is black.

  Args:
    image: uint8[height, width, channels].
    matrix: float32[3, 3], maps (x, y, 1) in pixels to its new position, see geometry.py.

  Returns:
    uint8 of the same shape, truncated as in PIL.
  """
  back = tf.linalg.inv(matrix)[:2]
  # The op's origin is the centre of the first pixel, the matrix's is that pixel's corner.
  offset = tf.reduce_sum(back * [0.5, 0.5, 1.0], axis=1, keepdims=True) - 0.5
  rows = tf.concat([back[:, :2], offset], axis=1)
  moved = tf.raw_ops.ImageProjectiveTransformV3(
    images=image[None],
    transforms=tf.concat([tf.reshape(rows, [1, 6]), [[0.0, 0.0]]], axis=1),
    output_shape=tf.shape(image)[:2],
    fill_value=0.0,
    interpolation='BILINEAR',
  )
  return tf.ensure_shape(moved[0], image.shape)


def fill(image: tf.Tensor, window: Window, colour: Sequence[int]) -> tf.Tensor:
  """Paints a window of a uint8 image [height, width, channels] in one colour."""
  size = tf.shape(image)
  rows, columns = tf.range(size[0])[:, None, None], tf.range(size[1])[:, None]
  covered = (rows >= window.top) & (rows < window.top + window.height)
  covered &= (columns >= window.left) & (columns < window.left + window.width)
  return tf.where(covered, tf.constant(colour, tf.uint8), image)


def _grey(image: tf.Tensor) -> tf.Tensor:
  return tf.reduce_sum(image * tf.constant(GREY), axis=-1, keepdims=True)


def _blend(image: tf.Tensor, other: tf.Tensor | float, factor: tf.Tensor) -> tf.Tensor:
  return tf.clip_by_value(factor * image + (1 - factor) * other, 0.0, 255.0)


def to_uint8(image: tf.Tensor) -> tf.Tensor:
  """float32 0 ... 255 -> the nearest uint8."""
  return tf.cast(image + 0.5, tf.uint8)  # truncates
