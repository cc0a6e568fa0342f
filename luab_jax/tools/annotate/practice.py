"""Draws the practice page of each task, for which the correct answers are known.

The same landscapes serve both: a grid that asks for kites, and one image for icons of eight things,
five of which are on it. Nothing here is random: a study's practice page is the same for everyone.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
from PIL import Image, ImageDraw

_SCALE = 2  # subpixels per side

Point = tuple[float, float]


class Drawing(NamedTuple):
  """A JPEG file and its size in pixels."""

  jpeg: bytes
  width: int
  height: int


class GridPractice(NamedTuple):
  """Images by slot, and the slots of those that contain the class, ascending."""

  name: str
  definition: str
  images: tuple[Drawing, ...]
  answers: tuple[int, ...]


class Spot(msgspec.Struct, frozen=True):
  """Where a thing is: an icon of class `c` is correct within `r` of (x right, y down).

  x and y are relative to the image; r is a fraction of its width, in both directions. With two
  spots, a class is correct on either; without any, it is not on the image.
  """

  c: int
  x: float
  y: float
  r: float


class IconsPractice(NamedTuple):
  """One image, the (name, group) of its own classes in the order of Spot.c, and their spots."""

  classes: tuple[tuple[str, str], ...]
  image: Drawing
  answers: tuple[Spot, ...]


class _Pen:
  """Draws in units of `size` around (x, y), all in pixels of the drawing; y goes down."""

  def __init__(self, canvas: ImageDraw.ImageDraw, x: float, y: float, size: float):
    self._canvas, self._x, self._y, self._size = canvas, x, y, size

  def _at(self, points: Iterable[Point]) -> list[Point]:
    unit = self._size * _SCALE
    return [(self._x * _SCALE + x * unit, self._y * _SCALE + y * unit) for x, y in points]

  def shape(self, color: str, *points: Point) -> None:
    self._canvas.polygon(self._at(points), fill=color)

  def box(self, color: str, left: float, top: float, right: float, bottom: float) -> None:
    self._canvas.rectangle(self._at([(left, top), (right, bottom)]), fill=color)

  def disc(self, color: str, x: float, y: float, width: float, height: float | None = None) -> None:
    half, tall = width / 2, (height or width) / 2
    self._canvas.ellipse(self._at([(x - half, y - tall), (x + half, y + tall)]), fill=color)

  def line(self, color: str, thickness: float, *points: Point) -> None:
    width = max(1, round(thickness * self._size * _SCALE))
    self._canvas.line(self._at(points), fill=color, width=width, joint='curve')


def _sun(pen: _Pen) -> None:
  pen.disc('#ffe9a8', 0, 0, 1.0)
  pen.disc('#ffc94d', 0, 0, 0.76)


def _cloud(pen: _Pen) -> None:
  for x, y, width in ((-0.3, 0.04, 0.36), (0, -0.06, 0.52), (0.3, 0.05, 0.34)):
    pen.disc('#ffffff', x, y, width)
  pen.box('#ffffff', -0.3, 0.05, 0.3, 0.22)


def _tree(pen: _Pen) -> None:
  pen.box('#8a5a3b', -0.06, 0.1, 0.06, 0.5)
  for x, y, width in ((-0.17, 0.02, 0.4), (0.17, 0.02, 0.4), (0, -0.2, 0.5), (0, 0.05, 0.4)):
    pen.disc('#3f9b57', x, y, width)
  pen.disc('#58b36c', -0.08, -0.26, 0.24)


def _house(pen: _Pen) -> None:
  pen.box('#f6e3cd', -0.4, -0.08, 0.4, 0.45)
  pen.shape('#c8553d', (-0.5, -0.06), (0, -0.48), (0.5, -0.06))
  pen.box('#7a4b35', -0.09, 0.12, 0.09, 0.45)
  for left in (-0.32, 0.18):
    pen.box('#6fb1d6', left, 0.06, left + 0.14, 0.22)


def _boat(pen: _Pen) -> None:
  pen.line('#6b4a36', 0.04, (0, -0.48), (0, 0.2))
  pen.shape('#fdfaf3', (0.04, -0.46), (0.38, 0.12), (0.04, 0.12))
  pen.shape('#e76f51', (-0.04, -0.34), (-0.3, 0.12), (-0.04, 0.12))
  pen.shape('#8a4b2f', (-0.46, 0.2), (0.46, 0.2), (0.3, 0.42), (-0.3, 0.42))


def _ball(pen: _Pen) -> None:
  pen.disc('#e63946', 0, 0, 0.8)
  pen.disc('#f8f4ec', 0, 0, 0.44, 0.8)
  pen.disc('#2a6fba', 0, 0, 0.2, 0.8)


def _kite(pen: _Pen) -> None:
  pen.line('#5b5f73', 0.02, (0.02, 0.2), (0.1, 0.34), (0.02, 0.44), (0.12, 0.54), (0.06, 0.66))
  for x, y in ((0.08, 0.32), (0.05, 0.46)):
    pen.shape('#f4a261', (x - 0.07, y - 0.05), (x + 0.07, y + 0.05), (x + 0.07, y - 0.05),
              (x - 0.07, y + 0.05))  # fmt: skip
  pen.shape('#d62f6f', (0, -0.5), (0.34, -0.1), (0, 0.24), (-0.34, -0.1))
  pen.shape('#f06a9b', (0, -0.5), (0, 0.24), (-0.34, -0.1))
  pen.line('#8f1d49', 0.02, (-0.34, -0.1), (0.34, -0.1))


def _balloon(pen: _Pen) -> None:
  pen.line('#5b5f73', 0.02, (-0.16, 0.02), (-0.09, 0.36))
  pen.line('#5b5f73', 0.02, (0.16, 0.02), (0.09, 0.36))
  pen.disc('#7a5cc4', 0, -0.2, 0.66, 0.7)
  pen.disc('#a48be0', 0, -0.2, 0.3, 0.7)
  pen.box('#9a6b43', -0.1, 0.34, 0.1, 0.5)


class _Thing(NamedTuple):
  """What to draw at (x, y) of the image, both relative; size relative to its shorter side."""

  draw: Callable[[_Pen], None]
  x: float
  y: float
  size: float


def _landscape(width: int, height: int, things: Sequence[_Thing], sea: bool = False) -> Drawing:
  """Draws the things, in order, on a meadow or at the sea."""
  image = Image.new('RGB', (width * _SCALE, height * _SCALE))
  canvas = ImageDraw.Draw(image)
  horizon = round(0.62 * image.height)
  for y in range(horizon):
    share = y / horizon
    canvas.line(
      [(0, y), (image.width, y)],
      fill=tuple(round(a + share * (b - a)) for a, b in ((132, 222), (193, 240), (233, 248))),
    )
  ground, hill, front = ('#4c93b8', '#77a98b', '#e8d5a4') if sea else (
    '#8fc27b', '#7fb08a', '#7cb56a')  # fmt: skip
  pen = _Pen(canvas, width / 2, height / 2, min(width, height))
  pen.disc(hill, -0.5, 0.26, 1.3, 0.5)
  pen.disc(hill, 0.6, 0.28, 1.1, 0.4)
  canvas.rectangle([0, horizon, image.width, image.height], fill=ground)
  pen.disc(front, 0.1, 0.62, 2.4, 0.5)
  for thing in things:
    size = thing.size * min(width, height)
    thing.draw(_Pen(canvas, thing.x * width, thing.y * height, size))
  file = io.BytesIO()
  image.reduce(_SCALE).save(file, 'JPEG', quality=90)
  return Drawing(file.getvalue(), width, height)


def grid() -> GridPractice:
  """Twelve images, five of them with a kite: one small, one half hidden, one among others."""
  cloud, sun = _Thing(_cloud, 0.24, 0.2, 0.3), _Thing(_sun, 0.82, 0.18, 0.2)
  tree, house = _Thing(_tree, 0.2, 0.6, 0.5), _Thing(_house, 0.62, 0.6, 0.4)
  pages = (
    (480, 360, False, (cloud, tree, _Thing(_kite, 0.66, 0.34, 0.4))),
    (480, 360, False, (sun, house, cloud)),
    (360, 480, True, (sun, _Thing(_boat, 0.5, 0.6, 0.5))),
    (480, 320, True, (cloud, _Thing(_boat, 0.3, 0.62, 0.36), _Thing(_kite, 0.78, 0.2, 0.16))),
    (400, 400, False, (cloud, _Thing(_balloon, 0.62, 0.36, 0.5))),
    (480, 360, False, (sun, _Thing(_ball, 0.36, 0.8, 0.24), tree)),
    (360, 480, False, (_Thing(_kite, 0.5, 0.3, 0.6), _Thing(_ball, 0.3, 0.84, 0.2))),
    (480, 320, False, (cloud, sun, tree, _Thing(_tree, 0.76, 0.6, 0.6))),
    (480, 360, True, (sun, _Thing(_balloon, 0.3, 0.3, 0.4), _Thing(_ball, 0.7, 0.86, 0.2))),
    (480, 360, False, (_Thing(_kite, 0.36, 0.5, 0.46), _Thing(_tree, 0.27, 0.58, 0.6), house)),
    (400, 400, True, (cloud, _Thing(_boat, 0.62, 0.64, 0.4), sun)),
    (480, 360, False, (_Thing(_balloon, 0.2, 0.28, 0.36), _Thing(_kite, 0.56, 0.24, 0.26), house)),
  )  # fmt: skip
  return GridPractice(
    'kite',
    'a light frame covered with cloth, flown in the wind at the end of a string',
    tuple(_landscape(width, height, things, sea) for width, height, sea, things in pages),
    tuple(
      slot
      for slot, (_, _, _, things) in enumerate(pages)
      if any(thing.draw is _kite for thing in things)
    ),
  )


def icons() -> IconsPractice:
  """One image with two trees, a house, a sun, a ball and a kite; no boat, balloon or cloud."""
  drawers = {
    'sun': (_sun, 'Outdoors'),
    'cloud': (_cloud, 'Outdoors'),
    'tree': (_tree, 'Outdoors'),
    'house': (_house, 'Outdoors'),
    'boat': (_boat, 'Outdoors'),
    'ball': (_ball, 'Toys'),
    'kite': (_kite, 'Toys'),
    'balloon': (_balloon, 'Toys'),
  }
  width, height = 640, 440
  things = (
    _Thing(_sun, 0.86, 0.16, 0.2),
    _Thing(_tree, 0.14, 0.56, 0.5),
    _Thing(_tree, 0.9, 0.6, 0.36),
    _Thing(_house, 0.56, 0.58, 0.42),
    _Thing(_ball, 0.33, 0.82, 0.18),
    _Thing(_kite, 0.36, 0.24, 0.3),
  )
  index: dict[Callable[[_Pen], None], int] = {
    drawer: c for c, (drawer, _) in enumerate(drawers.values())
  }
  radius = 0.5 * height / width  # of the thing itself
  return IconsPractice(
    tuple((name, group) for name, (_, group) in drawers.items()),
    _landscape(width, height, things),
    tuple(Spot(index[t.draw], t.x, t.y, round(radius * t.size, 4)) for t in things),
  )
