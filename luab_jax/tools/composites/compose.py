"""Cuts objects out of photographs and pastes them on backgrounds."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from luab_jax.tools.composites import masks
from luab_jax.tools.composites.caltech import Photograph

_FAINT = 0.02  # less opaque pixels are cut off


class Cutout(NamedTuple):
  """An object without its background: u8[h, w, 3], and its opacity f32[h, w] in [0, 1]."""

  pixels: np.ndarray
  opacity: np.ndarray


def resize(photo: Photograph, scale: float) -> Photograph:
  """Returns a photograph and its outline rescaled, to at least one pixel per side."""
  width, height = (max(round(side * scale), 1) for side in photo.size)
  image = Image.fromarray(photo.pixels).resize((width, height), Image.Resampling.LANCZOS)
  factors = np.divide((width, height), photo.size)
  return Photograph(photo.name, np.asarray(image), photo.outline * factors)


def cut_out(photo: Photograph) -> tuple[Cutout, tuple[int, int]]:
  """Returns the object of a photograph, and the (x, y) of its top left corner there."""
  opacity = masks.soften(masks.coverage(photo.outline, photo.size))
  found = masks.bounds(opacity > min(_FAINT, float(opacity.max()) / 2))
  assert found, photo.name  # outlines of almost no area are not read
  xmin, ymin, xmax, ymax = found
  inside = (slice(ymin, ymax), slice(xmin, xmax))
  return Cutout(photo.pixels[inside], opacity[inside]), (xmin, ymin)


def paste(
  cutout: Cutout, background: np.ndarray, corner: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
  """Pastes an object onto a background.

  Args:
    cutout: the object, which fits into the background there.
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
  """Centre-crops u8[H, W, 3] to the aspect ratio of `size` (width, height) and resizes it."""
  return np.asarray(ImageOps.fit(Image.fromarray(pixels), size, Image.Resampling.LANCZOS))
