"""Backgrounds: photographs with the object tiled over, and scenes cropped from photographs."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from luab_jax.tools.composites.caltech import Photograph

CANVAS = 104  # side of a composite on a scene, in pixels

_WHITE, _BLACK = 245, 10  # grey values from these on are paper, not scenery
_MOST_PAPER = 0.25  # fraction of a scene
_MOST_OF_A_SCENE = 100  # photographs
_TRAINING = 0.6  # fraction of a scene's photographs
_SMALLEST_CROP = 0.7  # fraction of the short side


def tile_away(pixels: np.ndarray, box: tuple[int, int, int, int]) -> tuple[np.ndarray, float]:
  """Fills a box with its surroundings, as in Only-BG-T of Xiao et al. 2020 (arXiv:2006.09994).

  The largest of the four full-width or full-height strips around the box is tiled over it.

  Args:
    pixels: u8[H, W, 3].
    box: (xmin, ymin, xmax, ymax) within the image.

  Returns:
    (u8[H, W, 3], fraction of the image that the strip covers, 0 if the box fills the image).
  """
  height, width, _ = pixels.shape
  xmin, ymin, xmax, ymax = box
  strips = (pixels[:ymin], pixels[ymax:], pixels[:, :xmin], pixels[:, xmax:])
  strip = max(strips, key=lambda strip: strip.size)
  filled = pixels.copy()
  if strip.size:
    repeats = (-(-height // strip.shape[0]), -(-width // strip.shape[1]), 1)
    inside = (slice(ymin, ymax), slice(xmin, xmax))
    filled[inside] = np.tile(strip, repeats)[inside]
  return filled, strip.size / pixels.size


def paper_fraction(pixels: np.ndarray) -> float:
  """Returns the fraction of the pixels u8[..., 3] that is white or black; 1 for no pixels."""
  values = grey(pixels)
  return float(((values >= _WHITE) | (values <= _BLACK)).mean()) if values.size else 1.0


def grey(pixels: np.ndarray) -> np.ndarray:
  """Returns the ITU-R 601 luma f64[...] of RGB u8[..., 3]."""
  return pixels @ np.array([0.299, 0.587, 0.114])


def divide_scene(
  photos: Sequence[Photograph], rng: np.random.Generator
) -> tuple[list[Photograph], list[Photograph]]:
  """Chooses photographs that show a place; returns those for (training, validation).

  If fewer than four do, the four with the least paper are taken.
  """
  papers = [paper_fraction(photo.pixels) for photo in photos]
  good = [i for i, paper in enumerate(papers) if paper < _MOST_PAPER]
  if len(good) < 4:
    good = np.argsort(papers, kind='stable')[:4].tolist()
  chosen = rng.permutation(good)[:_MOST_OF_A_SCENE].tolist()
  training = max(round(_TRAINING * len(chosen)), 1)
  return [photos[i] for i in chosen[:training]], [photos[i] for i in chosen[training:]]


def crop_scene(photo: Photograph, rng: np.random.Generator) -> np.ndarray:
  """Draws a random square crop, mirrored half of the time; returns u8[CANVAS, CANVAS, 3]."""
  width, height = photo.size
  side = min(width, height) * rng.uniform(_SMALLEST_CROP, 1)
  left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
  image = Image.fromarray(photo.pixels).resize(
    (CANVAS, CANVAS), Image.Resampling.LANCZOS, (left, top, left + side, top + side)
  )
  pixels = np.asarray(image)
  return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def share_scenes(
  count: int, own: int, share: float, scenes: int, rng: np.random.Generator
) -> np.ndarray:
  """Assigns scenes to the composites of a class.

  Args:
    count: number of composites.
    own: index of the class's scene.
    share: fraction of the composites that get it, rounded to whole composites.
    scenes: number of scenes; the others are assigned evenly.
    rng: source of randomness.

  Returns:
    int[count], indices of scenes in random order.
  """
  others = rng.permutation(np.delete(np.arange(scenes), own))
  number = round(share * count)
  dealt = np.concatenate([np.full(number, own), np.resize(others, count - number)])
  return rng.permutation(dealt)
