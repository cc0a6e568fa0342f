"""Cuts objects out of photographs and pastes them on backgrounds."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from luab_jax.tools.composites import masks
from luab_jax.tools.composites.caltech import Photograph

_FAINT = 0.02  # what is less opaque is cut off


class Cutout(NamedTuple):
  """An object without its background: u8[h, w, 3], and its opacity f32[h, w] in [0, 1]."""

  pixels: np.ndarray
  opacity: np.ndarray


def resize(photo: Photograph, scale: float) -> Photograph:
  """Returns a photograph with its outline at another size, a pixel each side at least."""
  width, height = (max(round(side * scale), 1) for side in photo.size)
  image = Image.fromarray(photo.pixels).resize((width, height), Image.Resampling.LANCZOS)
  factors = np.divide((width, height), photo.size)
  return Photograph(photo.name, np.asarray(image), photo.outline * factors)


def cut_out(photo: Photograph) -> tuple[Cutout, tuple[int, int]]:
  """Returns the object of a photograph, and the (x, y) of its top left corner there."""
  opacity = masks.soften(masks.coverage(photo.outline, photo.size))
  found = masks.bounds(opacity > min(_FAINT, float(opacity.max()) / 2))
  assert found, photo.name  # outlines around next to nothing are not read
  xmin, ymin, xmax, ymax = found
  inside = (slice(ymin, ymax), slice(xmin, xmax))
  return Cutout(photo.pixels[inside], opacity[inside]), (xmin, ymin)


def paste(
  cutout: Cutout, background: np.ndarray, corner: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
  """Pastes an object.

  Args:
    cutout: fits into the background at that place.
    background: u8[H, W, 3].
    corner: (x, y) of its top left corner.

  Returns:
    (u8[H, W, 3], opacity of the object f32[H, W]).
  """
  height, width = cutout.opacity.shape
  inside = (slice(corner[1], corner[1] + height), slice(corner[0], corner[0] + width))
  opacity = np.zeros(background.shape[:2], np.float32)
  opacity[inside] = cutout.opacity
  pixels = background.astype(np.float32)
  pixels[inside] += cutout.opacity[..., None] * (cutout.pixels - pixels[inside])
  return np.rint(pixels).astype(np.uint8), opacity


def fit(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Cuts the middle of u8[H, W, 3] to the shape of `size` (width, height) and resizes it."""
  return np.asarray(ImageOps.fit(Image.fromarray(pixels), size, Image.Resampling.LANCZOS))
