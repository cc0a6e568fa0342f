"""Which image files are accepted, and how each becomes what an image viewer shows.

The pipeline decodes JPEG and PNG as viewers do: those files are stored as they are. Others are
re-encoded first: CMYK JPEGs, which some decoders invert and others do not, and BMP, GIF, WebP, TIFF
and AVIF. Of several frames, the first is used. Alpha is dropped and colour profiles are ignored, as
in torchvision. PNGs and TIFFs with more than 8 bits per channel are refused: 8 bits can keep only
part of their range, and only the user knows which part.

The EXIF orientation is applied to a user's own files (own_data, predict), but not by the builders:
the byproducts of the releases refer to the stored pixels.
"""

import io
import re
import struct
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from luab_jax.data import image_ops
from luab_jax.data.geometry import MAX_RATIO

_NOISE = re.compile(r'\{\{.*?\}\}|\[Op:\w+\]')  # what TensorFlow wraps its messages in
_FORMATS = ('JPEG', 'PNG', 'BMP', 'GIF', 'WEBP', 'TIFF', 'AVIF')
_PHOTOS = ('JPEG', 'MPO', 'WEBP', 'AVIF')  # re-encoded as JPEG; some cameras write MPO
_EIGHT_BITS = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr')  # Pillow's modes
_ORIENTATION = 0x0112  # EXIF tag; 1 is upright
_TRANSPOSE = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
_JPEG_QUALITY = 95  # at full size
_JPEG = b'\xff\xd8\xff'
_PNG_DEPTH = 24  # offset of the bits per channel in a PNG file
_TIFF_DEPTHS = 258  # TIFF tag: bits of each channel
MAX_PIXELS = 90_000_000  # 270 MB decoded

EXTENSIONS = (
  *('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.gif', '.webp', '.tif', '.tiff', '.avif'),
  *('.heic', '.heif'),  # not decoded, but reported as unreadable images
)


class BadImage(ValueError):
  """An image that cannot be used; the message says why."""


class Reduction(NamedTuple):
  """How large images are stored: smaller, since decoding is the main cost of input."""

  short_side: int  # at most, in pixels
  quality: int = 90  # of a JPEG


class EncodedImage(NamedTuple):
  """An image file as a data set stores it: JPEG or PNG."""

  data: bytes
  size: tuple[int, int]  # (height, width) in pixels before any reduction: byproducts refer to it
  stored_size: tuple[int, int]  # of `data`
  suffix: str = ''  # '.jpg' or '.png' if it was re-encoded; '': the original bytes
  orientation: int = 1  # the EXIF orientation that was applied; 1: none
  has_alpha: bool = False  # it may have had transparent pixels, which are read as opaque


def check_size(height: int, width: int) -> None:
  """Raises BadImage for an image with too many pixels or too extreme an aspect ratio."""
  if width * height > MAX_PIXELS:
    raise BadImage(f'it has {width} × {height} pixels, more than {MAX_PIXELS}')
  if max(width, height) > MAX_RATIO * min(width, height):
    raise BadImage(
      f'it has {width} × {height} pixels: one side is more than {MAX_RATIO} times as long as the '
      'other'
    )


def encode(
  data: bytes, *, upright: bool = False, reduction: Reduction | None = None
) -> EncodedImage:
  """Returns an image file that the pipeline decodes to what an image viewer shows.

  What has to be re-encoded becomes a JPEG of quality 95 (if reduced, of `Reduction.quality`) if it
  is JPEG, WebP or AVIF, otherwise a PNG; neither has EXIF.

  Args:
    data: the file.
    upright: whether to apply its EXIF orientation.
    reduction: for images with a longer short side; None: all keep their size.

  Raises:
    BadImage: it cannot be decoded, has more than 8 bits per channel, or fails `check_size`.
  """
  try:
    with _open(data) as image:
      orientation = _orientation(image) if upright else 1
      has_alpha = image.has_transparency_data
      if not (reduction and min(image.size) > reduction.short_side):
        reduction = None
      if _is_stored(image) and orientation == 1 and not reduction:
        size = image_size(data)
        return EncodedImage(data, size, size, has_alpha=has_alpha)
      form, suffix = ('JPEG', '.jpg') if image.format in _PHOTOS else ('PNG', '.png')
      turned, file = _to_rgb(image, orientation), io.BytesIO()
      if reduction:
        stored = _reduce(turned, reduction.short_side)
        stored.save(file, form, quality=reduction.quality)
      else:
        stored = turned
        stored.save(file, form, quality=_JPEG_QUALITY, subsampling=0)
    sizes = turned.size[::-1], stored.size[::-1]
    return EncodedImage(file.getvalue(), *sizes, suffix, orientation, has_alpha)
  except Exception as error:  # for a damaged or hostile file, decoders raise whatever they like
    raise BadImage(_reason(error, data)) from error


def read_upright(data: bytes) -> np.ndarray:
  """Decodes a file to uint8[H, W, 3] with its EXIF orientation applied.

  The pixels are those that the training pipeline decodes.

  Raises:
    BadImage: as `encode`.
  """
  try:
    with _open(data) as image:
      orientation = _orientation(image)
      if not _is_stored(image):
        return np.asarray(_to_rgb(image, orientation))
    pixels = image_ops.decode(data).numpy()
    if orientation == 1:
      return pixels
    return np.asarray(Image.fromarray(pixels).transpose(_TRANSPOSE[orientation]))
  except Exception as error:
    raise BadImage(_reason(error, data)) from error


def image_size(data: bytes) -> tuple[int, int]:
  """Returns (height, width) of a JPEG or PNG after decoding it the way the pipeline will.

  A valid header does not rule out missing pixels, and other decoders accept other files, so
  TensorFlow decodes the image. A JPEG is decoded at an eighth of its size: this reads the same
  bytes and finds the same errors in half the time, 1.2 ms of CPU for 70 KB.

  Raises:
    BadImage: as `encode`.
  """
  try:
    with _open(data) as image:
      width, height = image.size
    if data.startswith(_JPEG):
      eighth = tf.io.decode_jpeg(data, channels=3, ratio=8).shape
      if tuple(eighth) == (-(-height // 8), -(-width // 8), 3):
        return height, width
    shape = image_ops.decode(data).shape
  except Exception as error:
    raise BadImage(_reason(error, data)) from error
  return int(shape[0]), int(shape[1])


def _open(data: bytes) -> Image.Image:
  """Reads only the header of a file; raises BadImage for pixels that cannot be used."""
  image = Image.open(io.BytesIO(data), formats=_FORMATS)
  check_size(image.height, image.width)
  depths = getattr(image, 'tag_v2', {}).get(_TIFF_DEPTHS, (8,))
  if image.format == 'PNG':
    depths = (data[_PNG_DEPTH],)
  if max(depths) > 8 or image.mode not in _EIGHT_BITS:  # 16-bit RGB has the mode RGB, too
    raise BadImage('its pixels are not 8-bit grey, RGB, CMYK or palette: convert it to 8 bits')
  return image


def _is_stored(image: Image.Image) -> bool:
  """Whether the pipeline decodes the file, as it is, to what a viewer shows."""
  return image.format == 'PNG' or (image.format in ('JPEG', 'MPO') and image.mode != 'CMYK')


def _orientation(image: Image.Image) -> int:
  """Returns the EXIF orientation, 1 to 8."""
  try:
    value = _find_orientation(image.info.get('exif', b'')) or image.getexif().get(_ORIENTATION)
    return value if value in _TRANSPOSE else 1
  except Exception:  # EXIF that cannot be read: viewers show the pixels as they are
    return 1


def _find_orientation(exif: bytes) -> int | None:
  """Returns the orientation in an EXIF block; Pillow gives up at a broken tag before it."""
  exif = exif.removeprefix(b'Exif\0\0')
  order = {b'II': '<', b'MM': '>'}.get(exif[:2])
  if order is None:
    return None
  (start,) = struct.unpack_from(f'{order}I', exif, 4)
  (count,) = struct.unpack_from(f'{order}H', exif, start)
  for at in range(start + 2, start + 2 + 12 * count, 12):
    tag, kind, _, value = struct.unpack_from(f'{order}HHIH', exif, at)
    if (tag, kind) == (_ORIENTATION, 3):  # a 16-bit number
      return value
  return None


def _to_rgb(image: Image.Image, orientation: int) -> Image.Image:
  """Decodes the first frame and applies the given EXIF orientation."""
  rgb = image.convert('RGB')
  # Pillow itself applies the orientation when it decodes a TIFF, but no other format.
  return (
    rgb if orientation == 1 or image.format == 'TIFF' else rgb.transpose(_TRANSPOSE[orientation])
  )


def _reduce(image: Image.Image, short_side: int) -> Image.Image:
  scale = short_side / min(image.size)
  width, height = (max(round(side * scale), 1) for side in image.size)
  return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)


def _reason(error: Exception, data: bytes) -> str:
  if isinstance(error, UnidentifiedImageError):  # its message holds the address of our buffer
    if data[4:8] == b'ftyp':  # the container of HEIC, and of videos
      return 'it is HEIC (or a video), which is not supported: convert it to JPEG'
    return 'it is not a JPEG, PNG, BMP, GIF, WebP, TIFF or AVIF'
  text = str(error).strip() or type(error).__name__
  return _NOISE.sub('', text.splitlines()[0]).strip()
