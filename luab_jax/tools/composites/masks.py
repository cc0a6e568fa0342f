"""Masks of objects: drawn from outlines, softened for pasting, and their boxes.

Coordinates are (x right, y down) in pixels; (0, 0) is the image's top left corner.
"""

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

_SUPERSAMPLING = 4  # subpixels per side
_BLUR = 0.8  # standard deviation in pixels


def coverage(outline: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Draws an outline.

  Args:
    outline: f64[V, 2] vertices; what lies outside the image is cut off.
    size: (width, height).

  Returns:
    f32[height, width], the fraction of each pixel inside the outline.
  """
  width, height = size
  mask = Image.new('L', (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
  # Pillow's vertices are centres of subpixels.
  vertices = np.rint(outline * _SUPERSAMPLING - 0.5).astype(int)
  ImageDraw.Draw(mask).polygon([tuple(v) for v in vertices.tolist()], fill=255)
  return np.asarray(mask.reduce(_SUPERSAMPLING), np.float32) / 255


def soften(cover: np.ndarray) -> np.ndarray:
  """Erodes a mask f32[H, W] by a pixel and blurs it, so that no old background is pasted along.

  The mask of an object that is too thin for erosion is only blurred.
  """
  cross = ndimage.generate_binary_structure(2, 1)
  eroded = ndimage.grey_erosion(cover, footprint=cross)
  return ndimage.gaussian_filter(eroded if eroded.max() >= 0.5 else cover, _BLUR)


def bounds(inside: np.ndarray) -> tuple[int, int, int, int] | None:
  """Returns (xmin, ymin, xmax, ymax) around the true pixels of bool[H, W], or None if none is."""
  rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
  if not len(rows):
    return None
  return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
  """Returns the bounding box (xmin, ymin, xmax, ymax) of a mask f32[H, W].

  It contains the pixels of at least 0.5, or of at least half the maximum if that is less, as for an
  object thinner than two pixels.
  """
  found = bounds(mask >= min(0.5, float(mask.max()) / 2))
  assert found
  return found
