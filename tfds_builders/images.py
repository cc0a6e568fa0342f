"""Which image files both builders accept: those that the pipeline will be able to decode."""

import io
import re

import tensorflow as tf
from PIL import Image, UnidentifiedImageError

_NOISE = re.compile(r'\{\{.*?\}\}|\[Op:\w+\]')  # what TensorFlow wraps its messages in


class BadImage(ValueError):
  """An image that cannot be decoded; the message says why."""


def image_size(data: bytes) -> tuple[int, int]:
  """Returns (height, width) of an image after decoding it the way the pipeline will.

  A whole decode, about 2 ms of CPU for an ImageNet image, since a good header says nothing of
  missing pixels; by TensorFlow, since other decoders accept other files.

  Raises:
    BadImage: it cannot be decoded, or would decompress into gigabytes.
  """
  try:
    # Pillow reads no more than the header here, and refuses a decompression bomb.
    with Image.open(io.BytesIO(data), formats=('JPEG', 'PNG', 'BMP', 'GIF')):
      pass
    shape = tf.io.decode_image(data, channels=3, expand_animations=False).shape
  except UnidentifiedImageError as error:  # whose message has the address of our buffer
    raise BadImage('it is no JPEG, PNG, BMP or GIF') from error
  except (Image.DecompressionBombError, OSError, SyntaxError, ValueError,
          tf.errors.OpError) as error:
    raise BadImage(_NOISE.sub('', str(error).splitlines()[0]).strip()) from error
  return int(shape[0]), int(shape[1])
