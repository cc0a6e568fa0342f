"""Reads clicks or icons from a CSV and converts them to fractions of their images."""

import pathlib
from typing import NamedTuple

from luab_jax.errors import UserError
from luab_jax.tools.own_data import table
from luab_jax.tools.own_data.images import ImageFile, ImageIndex
from luab_jax.tools.own_data.problems import Problems, pluralize

UNITS = ('pixels', 'fraction')
# This many points on images whose sides have at least this many pixels, and none beyond 100:
# probably percentages.
_MANY, _LARGE = 20, 200


class Point(NamedTuple):
  """One row of the CSV; x and y as written, or as fractions of the image."""

  where: str  # file and line, for messages
  x: float  # to the right
  y: float  # down
  time: float  # ms; the number of the row if there are no times
  label: str  # class of an icon; '' for a click


def read_points(
  path: pathlib.Path, index: ImageIndex, units: str, problems: Problems, *, what: str
) -> dict[pathlib.Path, list[Point]]:
  """Reads a CSV with the columns file, x, y, optionally time, and class for icons.

  See `table.read`; the units of time are those of `table.parse_times`.

  Args:
    path: the CSV.
    index: the images that the file column may name.
    units: one of `UNITS`.
    problems: records each row that cannot be used.
    what: 'click' or 'icon'.

  Returns:
    {path of an image: its points in order of time}.

  Raises:
    UserError: no such file, not a table, no rows, none that matches an image, or the wrong unit.
  """
  required = ['file', 'x', 'y'] + (['class'] if what == 'icon' else [])
  rows = table.read(path, required, 'time')
  if not rows:
    raise UserError(f'{path} has no rows below its first line: add {what}s, or omit --{what}s')
  points: dict[pathlib.Path, list[Point]] = {}
  for row, time in zip(rows, table.parse_times(rows), strict=True):
    problems.count(f'{what} read')
    image, reason = index.find(row.cells['file'])
    point = _parse(row, time)
    if image is None and not row.problem:
      reason = f'{row.cells["file"]!r:.80}: {reason}'
      problems.add(f'{what} without a matching image, skipped', row.where, reason)
    elif image is None or isinstance(point, str):
      problems.add(f'{what} malformed, skipped', row.where, point)
    else:
      points.setdefault(image.path, []).append(point)
  if not points:
    hint = ''
    if problems.number(f'{what} without a matching image, skipped'):
      hint = '. The file column must hold CLASS/xxx.jpg, a longer path, or a unique bare file name'
    raise UserError(
      f'{path}: none of its rows gives a point on an image{problems.first(what)}{hint}'
    )
  if units == 'pixels' and max(max(p.x, p.y) for kept in points.values() for p in kept) <= 1:
    raise UserError(
      f'{path}: no x or y is above 1, so they are not pixels: pass --click_units=fraction'
    )
  return {image: sorted(kept, key=lambda point: point.time) for image, kept in points.items()}


def _parse(row: table.Row, time: float | str) -> Point | str:
  """Returns the point of a row, or why it has none."""
  try:
    x, y = row.number('x'), row.number('y')
  except ValueError as error:
    return row.problem or str(error)
  if row.problem or isinstance(time, str):
    return row.problem or str(time)
  return Point(row.where, x, y, time, row.cells.get('class', ''))


class PointScaler:
  """Converts points to fractions of their images, and detects points in another unit."""

  def __init__(
    self, path: pathlib.Path | None, units: str, problems: Problems, *, what: str
  ) -> None:
    """Takes the file of the points, their unit, one of `UNITS`, and 'click' or 'icon'."""
    self._path, self._units, self._problems, self._what = path, units, problems, what
    self._largest = 0.0  # x or y of the points kept, as written
    self._on_large_images = 0

  def to_fractions(
    self, points: list[Point], image: ImageFile, size: tuple[int, int]
  ) -> list[Point]:
    """Returns the points that lie on an image, as fractions of it; reports the others.

    (0, 0) is the outer corner of the top left pixel, (width, height) that of the bottom right one;
    the borders belong to the image.

    Args:
      points: as written.
      image: for messages.
      size: its (height, width) in pixels, upright.
    """
    height, width = size if self._units == 'pixels' else (1, 1)
    kept = []
    for point in points:
      if 0 <= point.x <= width and 0 <= point.y <= height:
        kept.append(point._replace(x=point.x / width, y=point.y / height))
        self._largest = max(self._largest, point.x, point.y)
        self._on_large_images += min(size) >= _LARGE
      else:
        self._problems.add(
          f'{self._what} outside the image, skipped',
          point.where,
          f'({point.x:g}, {point.y:g}) {self._units} on {image.name}, {size[1]} x {size[0]} px',
        )
    self._problems.count(f'{self._what} kept', len(kept))
    return kept

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
      other = UNITS[1 - UNITS.index(self._units)]
      raise UserError(
        f'{self._path}: {outside} of {total} {pluralize(total, what)} outside the image, so not in '
        f'{self._units} of the upright, full-size image: pass --click_units={other}, or correct '
        f'the file{self._problems.first(what)}'
      )
    if self._units == 'pixels' and self._on_large_images >= _MANY and self._largest <= 100:
      self._problems.add(
        f'file with no {what} beyond 100 px: percentages? Divide by 100 and pass '
        '--click_units=fraction',
        str(self._path),
        f'{self._on_large_images} {what}s on images of at least {_LARGE} px',
      )
