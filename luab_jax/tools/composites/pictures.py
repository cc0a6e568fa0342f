"""The pictures of every split: photographs, and composites of their objects.

Every random choice has its own generator, made from the seed and the name of the choice: splits
that share objects, places and sizes draw them from the same generator.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from luab_jax.tools.composites import backgrounds, compose, masks, parts
from luab_jax.tools.composites.caltech import SCENES, Photograph

TRAINING, VALIDATION = 0, 1

_SHORT_SIDE = 110  # of photographs, in pixels
_MARGIN = 2  # pixels around an object that its background leaves out
_PLACES = 2  # composites of an object on scenes
_MIXED = 3  # composites of an object on backgrounds of photographs
_SIZES = (0.45, 0.8)  # range of an object's longer side, as a fraction of the canvas
_THINNEST = 0.08  # strip that is tiled, as a fraction of the image
_MOST_PAPER = 0.4  # fraction of a background
_LEAST_CONTRAST = 12  # standard deviation of a background's grey values
_FEWEST = 4  # backgrounds of a class


class Picture(NamedTuple):
  """One picture of a split.

  Attributes:
    label: its class.
    stem: file name without extension.
    pixels: u8[H, W, 3].
    mask: of the object, f32[H, W] in [0, 1]; None: there is no object.
    place: equal for pictures with the object in the same place, which get the same click.
    scene, source: the scene of a composite and the photograph it was cropped from; else ''.
  """

  label: str
  stem: str
  pixels: np.ndarray
  mask: np.ndarray | None
  place: str = ''
  scene: str = ''
  source: str = ''


class _Background(NamedTuple):
  """A photograph without its object.

  Attributes:
    name: of the photograph.
    pixels: u8[H, W, 3].
    strip: fraction of the image that the tiled strip covers.
    paper: fraction of the pixels outside the object's box that is white or black.
    contrast: standard deviation of the grey values.
  """

  name: str
  pixels: np.ndarray
  strip: float
  paper: float
  contrast: float

  @property
  def is_good(self) -> bool:
    return self.strip >= _THINNEST and self.paper < _MOST_PAPER and self.contrast >= _LEAST_CONTRAST


class Pictures:
  """Makes the pictures of the splits; the same seed and photographs make the same ones."""

  def __init__(
    self,
    objects: Mapping[str, Sequence[Photograph]],
    scenes: Mapping[str, Sequence[Photograph]],
    seed: int,
  ) -> None:
    """Divides the photographs; arguments as `caltech.read` returns them."""
    self._seed = seed
    self._objects = {
      label: parts.divide(photos, self.rng('part', label)) for label, photos in objects.items()
    }
    self._scenes = [
      backgrounds.divide_scene(scenes[scene], self.rng('scene', scene)) for scene in SCENES
    ]
    self._backgrounds = {
      label: [_background(compose.resize(photo, _scale(photo))) for photo in photos[VALIDATION]]
      for label, photos in self._objects.items()
    }

  def rng(self, *what: str) -> np.random.Generator:
    """Returns the generator of one random choice, which `what` names."""
    return np.random.default_rng([self._seed, zlib.crc32('/'.join(what).encode())])

  def count(self) -> int:
    """Returns how many pictures all splits have together, at most."""
    training, validation = (
      sum(len(photos[part]) for photos in self._objects.values()) for part in (TRAINING, VALIDATION)
    )
    return (1 + 2 * _PLACES) * training + (3 + 2 * _PLACES + 2 * _MIXED) * validation

  def _photos(self, part: int) -> Iterator[tuple[str, Photograph]]:
    for label, photos in self._objects.items():
      for photo in photos[part]:
        yield label, photo

  def photographs(self, part: int) -> Iterator[Picture]:
    """Yields the photographs of a part."""
    for label, photo in self._photos(part):
      small = compose.resize(photo, _scale(photo))
      mask = masks.coverage(small.outline, small.size)
      yield Picture(label, photo.name, small.pixels, mask, photo.name)

  def on_scenes(self, part: int, suffix: str, share: float) -> Iterator[Picture]:
    """Yields objects, moved and scaled, on scenes; a fraction `share` of a class on its scene."""
    names = list(SCENES)
    for number, (label, photos) in enumerate(self._objects.items()):
      dealt = iter(
        backgrounds.share_scenes(
          _PLACES * len(photos[part]), number % len(names), share, len(names),
          self.rng('deal', suffix, label),
        ).tolist()
      )  # fmt: skip
      for photo in photos[part]:
        for place in range(_PLACES):
          stem, scene = f'{photo.name}_{suffix}{place}', next(dealt)
          rng = self.rng('scenery', stem)
          pool = self._scenes[scene][part]
          source = pool[rng.integers(len(pool))]
          at = f'{photo.name}_{place}'
          pixels, mask = _place(photo, backgrounds.crop_scene(source, rng), self.rng('place', at))
          yield Picture(label, stem, pixels, mask, at, names[scene], source.name)

  def on_backgrounds(self, suffix: str, *, same: bool) -> Iterator[Picture]:
    """Yields validation objects in their place, on backgrounds of the same or other classes."""
    good = {label: _choose(found) for label, found in self._backgrounds.items()}
    for label, photo in self._photos(VALIDATION):
      small = compose.resize(photo, _scale(photo))
      cutout, corner = compose.cut_out(small)
      pool = [
        background
        for other, found in good.items()
        for background in found
        if (other == label) == same and background.name != photo.name
      ]
      rng = self.rng('background', suffix, photo.name)
      for k, index in enumerate(rng.permutation(len(pool))[:_MIXED].tolist()):
        behind = compose.fit(pool[index].pixels, small.size)
        yield Picture(label, f'{photo.name}_{suffix}{k}', *compose.paste(cutout, behind, corner))

  def objects_alone(self) -> Iterator[Picture]:
    """Yields validation objects on black."""
    for label, photo in self._photos(VALIDATION):
      small = compose.resize(photo, _scale(photo))
      cutout, corner = compose.cut_out(small)
      black = np.zeros_like(small.pixels)
      yield Picture(label, f'{photo.name}_fg', *compose.paste(cutout, black, corner))

  def backgrounds_alone(self) -> Iterator[Picture]:
    """Yields validation photographs with the object tiled over, if the strip is large enough."""
    for label, found in self._backgrounds.items():
      for background in found:
        if background.strip >= _THINNEST:
          yield Picture(label, f'{background.name}_bt', background.pixels, None)


SPLITS: dict[str, Callable[[Pictures], Iterator[Picture]]] = {
  'train': lambda made: made.photographs(TRAINING),
  'train_bg70': lambda made: made.on_scenes(TRAINING, 'p', 0.7),
  'train_bg10': lambda made: made.on_scenes(TRAINING, 'q', 0.1),
  'val': lambda made: made.photographs(VALIDATION),
  'bg_same': lambda made: made.on_scenes(VALIDATION, 'bs', 1.0),
  'bg_rand': lambda made: made.on_scenes(VALIDATION, 'br', 0.0),
  'mixed_same': lambda made: made.on_backgrounds('ms', same=True),
  'mixed_rand': lambda made: made.on_backgrounds('mr', same=False),
  'only_fg': lambda made: made.objects_alone(),
  'only_bg_t': lambda made: made.backgrounds_alone(),
}


def _scale(photo: Photograph) -> float:
  return _SHORT_SIDE / min(photo.size)


def _place(
  photo: Photograph, scene: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """Puts the object of a photograph at a random place and size on a square scene."""
  canvas = len(scene)
  outline = np.clip(photo.outline, 0, photo.size)
  longer = float(np.ptp(outline, axis=0).max())
  cutout, _ = compose.cut_out(compose.resize(photo, rng.uniform(*_SIZES) * canvas / longer))
  height, width = cutout.opacity.shape
  x, y = rng.random(2)
  return compose.paste(
    cutout, scene, (int(x * (canvas - width + 1)), int(y * (canvas - height + 1)))
  )


def _background(photo: Photograph) -> _Background:
  """Tiles over the object of a photograph."""
  width, height = photo.size
  xmin, ymin, xmax, ymax = masks.box(masks.coverage(photo.outline, photo.size))
  box = (
    max(xmin - _MARGIN, 0),
    max(ymin - _MARGIN, 0),
    min(xmax + _MARGIN, width),
    min(ymax + _MARGIN, height),
  )
  pixels, strip = backgrounds.tile_away(photo.pixels, box)
  around = np.ones((height, width), bool)
  around[box[1] : box[3], box[0] : box[2]] = False
  paper = backgrounds.paper_fraction(photo.pixels[around])
  contrast = float(backgrounds.grey(pixels).std())
  return _Background(photo.name, pixels, strip, paper, contrast)


def _choose(found: Sequence[_Background]) -> list[_Background]:
  """Returns the good backgrounds of a class, or the best ones if too few are good."""
  good = [background for background in found if background.is_good]
  if len(good) >= _FEWEST:
    return good
  return sorted(found, key=lambda b: (not b.is_good, b.strip < _THINNEST, b.paper))[:_FEWEST]
