"""Clicks and icons of own data, and their conversion to fractions of their images."""

import pathlib
from typing import NamedTuple

from luab_jax.data.image_files import EncodedImage
from luab_jax.errors import UserError
from luab_jax.tools.own_data.images import ImageFile
from luab_jax.tools.own_data.problems import Problems, pluralize

UNITS = ('pixels', 'fraction')  # of a CSV
ANNOTATED = 'fraction of the image as annotated'  # the unit of labelling tools' exports
# This many points on images whose sides have at least this many pixels, and none beyond 100:
# probably percentages.
_MANY, _LARGE = 20, 200


class Sitting(NamedTuple):
  """What a labelling tool records about one annotation: one worker with one image."""

  number: str  # of the annotation
  worker: str  # '': unknown
  estimate_ms: int | None  # time the worker took; None: not recorded


class Point(NamedTuple):
  """One point; x and y as written, or as fractions of the image."""

  where: str  # file and line, or annotation, for messages; all points of a sitting have the same
  x: float  # to the right
  y: float  # down
  time: float  # ms; the number of the row if there are no times
  label: str  # class of an icon; of a click, '' or what the worker called it
  size: tuple[float, float] | None = None  # (height, width) as annotated; None: unknown
  sitting: Sitting | None = None  # None: each point counts as placed by another worker


class Mark(NamedTuple):
  """One point of a file, and the image that it names."""

  names: list[str]  # of the image as written, then other spellings of it
  point: Point | str  # or why it cannot be used
  where: str  # as for the point
  upload: str = ''  # name of an uploaded file, in which the tool has replaced some characters
  record: str = ''  # the entry of an export that holds it; '' for a CSV


class PointScaler:
  """Converts points to fractions of their images, and detects points in another unit."""

  def __init__(
    self, path: pathlib.Path | None, units: str, problems: Problems, *, what: str
  ) -> None:
    """Takes the file of the points, their unit (`UNITS`, `ANNOTATED`), and 'click' or 'icon'."""
    self._path, self._units, self._problems, self._what = path, units, problems, what
    self._largest = 0.0  # x or y of the points kept, as written
    self._on_large_images = 0

  def to_fractions(
    self, points: list[Point], image: ImageFile, encoded: EncodedImage
  ) -> list[Point]:
    """Returns the points that lie on an image, as fractions of it, upright; reports the others.

    (0, 0) is the outer corner of the top left pixel, (width, height) that of the bottom right one;
    the borders belong to the image.

    Args:
      points: as written.
      image: for messages.
      encoded: the same image, read.
    """
    height, width = encoded.size if self._units == 'pixels' else (1, 1)
    kept = []
    for point in self._turn(points, image, encoded):
      if 0 <= point.x <= width and 0 <= point.y <= height:
        kept.append(point._replace(x=point.x / width, y=point.y / height))
        self._largest = max(self._largest, point.x, point.y)
        self._on_large_images += min(encoded.size) >= _LARGE
      else:
        self._problems.add(
          f'{self._what} outside the image, skipped',
          point.where,
          f'({point.x:g}, {point.y:g}) {self._units} on {image.name}, '
          f'{encoded.size[1]} x {encoded.size[0]} px',
        )
    self._problems.count(f'{self._what} kept', len(kept))
    return kept

  def _turn(self, points: list[Point], image: ImageFile, encoded: EncodedImage) -> list[Point]:
    """Returns the points in the frame of the upright image.

    Tools that ignored EXIF showed the pixels as stored. The size in their export reveals this,
    unless the image is rotated by 180 degrees, mirrored or square.
    """
    turned = []
    for point in points:
      if point.size is None or _same_shape(point.size, encoded.size):
        turned.append(point)
      elif encoded.orientation >= 5 and _same_shape(point.size, encoded.size[::-1]):
        self._problems.count(f'{self._what} on the stored orientation, turned upright')
        turned.append(_turn(point, encoded.orientation))
      else:
        self._problems.add(
          f'{self._what} on an image of another shape, skipped',
          point.where,
          f'placed on {point.size[1]} x {point.size[0]} px, {image.name} has '
          f'{encoded.size[1]} x {encoded.size[0]} px',
        )
    is_square = _same_shape(encoded.size, encoded.size[::-1])
    is_unclear = encoded.orientation in (2, 3, 4) or (encoded.orientation >= 5 and is_square)
    if turned and is_unclear and any(point.size for point in turned):
      self._problems.add(
        f'image rotated by EXIF, {self._what}s assumed to refer to the upright image',
        str(image.path),
      )
    return turned

  def check_units(self) -> None:
    """Reports points that look like percentages; call it after all points are converted.

    Raises:
      UserError: no point could be used, or most lie outside their images, so they must be in
        another unit.
    """
    what = self._what
    outside = self._problems.number(f'{what} outside the image, skipped')
    total = outside + self._problems.number(f'{what} kept')
    if not self._problems.number(f'{what} kept') and not outside:
      raise UserError(f'{self._path}: no {what} could be used{self._problems.first(what)}')
    if 2 * outside > total:
      if self._units == ANNOTATED:
        reason = 'so these are not the images that were annotated: correct --images'
      else:
        other = UNITS[1 - UNITS.index(self._units)]
        reason = (
          f'so not in {self._units} of the upright, full-size image: pass --click_units={other}, '
          'or correct the file'
        )
      raise UserError(
        f'{self._path}: {outside} of {total} {pluralize(total, what)} outside the image, {reason}'
        f'{self._problems.first(what)}'
      )
    if self._units == 'pixels' and self._on_large_images >= _MANY and self._largest <= 100:
      self._problems.add(
        f'file with no {what} beyond 100 px: percentages? Divide by 100 and pass '
        '--click_units=fraction',
        str(self._path),
        f'{self._on_large_images} {what}s on images of at least {_LARGE} px',
      )


def _same_shape(a: tuple[float, float], b: tuple[float, float]) -> bool:
  """Whether two sizes are the same up to scale, within a pixel."""
  return abs(a[0] * b[1] - a[1] * b[0]) <= max(*a, *b)


def _turn(point: Point, orientation: int) -> Point:
  """Turns a point, in fractions of the stored image, upright for EXIF orientations 5 to 8."""
  return point._replace(
    x=1 - point.y if orientation in (6, 7) else point.y,
    y=1 - point.x if orientation in (7, 8) else point.x,
  )
