"""Reads clicks or icons from a CSV and converts them to fractions of their images."""

import csv
import math
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from luab_jax.errors import UserError
from luab_jax.tools.own_data.images import ImageFile, ImageIndex
from luab_jax.tools.own_data.problems import Problems, pluralize

UNITS = ('pixels', 'fraction')
_MAX_TIME = 1 << 53  # exact in a double
# This many points on images whose sides have at least this many pixels, and none beyond 100:
# probably percentages.
_MANY, _LARGE = 20, 200


class Point(NamedTuple):
  """One row of the CSV; x and y as written, or as fractions of the image."""

  where: str  # file and line, for messages
  x: float  # to the right
  y: float  # down
  time: int  # ms; the line number if there is no time column
  label: str  # class of an icon; '' for a click


def read_points(
  path: pathlib.Path, index: ImageIndex, units: str, problems: Problems, *, what: str
) -> dict[pathlib.Path, list[Point]]:
  """Reads a CSV with the columns file, x, y, optionally time, and class for icons.

  The first line names the columns, in any order; other columns are ignored. The separator is a
  comma, a semicolon or a tab.

  Args:
    path: the CSV, UTF-8.
    index: the images that the file column may name.
    units: one of `UNITS`.
    problems: records each row that cannot be used.
    what: 'click' or 'icon'.

  Returns:
    {path of an image: its points in order of time}.

  Raises:
    UserError: no such file, not a table, no rows, none that matches an image, or the wrong unit.
  """
  points: dict[pathlib.Path, list[Point]] = {}
  first_unmatched = ''
  for where, row in _rows(path, what):
    problems.count(f'{what} read')
    image, reason = index.find(row['file'])
    point = _parse(where, row)
    if image is None:
      reason = f'{row["file"]!r:.80}: {reason}'
      first_unmatched = first_unmatched or f'; the first is {reason}'
      problems.add(f'{what} without a matching image, skipped', where, reason)
    elif isinstance(point, str):
      problems.add(f'{what} malformed, skipped', where, point)
    else:
      points.setdefault(image.path, []).append(point)
  if not problems.number(f'{what} read'):
    raise UserError(f'{path} has no rows below its first line: add {what}s, or omit --{what}s')
  if not points:
    raise UserError(
      f'{path}: none of its rows gives a point on an image{first_unmatched}. The file column must '
      'hold CLASS/xxx.jpg, a longer path, or a unique bare file name'
    )
  if units == 'pixels' and max(max(p.x, p.y) for rows in points.values() for p in rows) <= 1:
    raise UserError(
      f'{path}: no x or y is above 1, so they are not pixels: pass --click_units=fraction'
    )
  return {image: sorted(rows, key=lambda point: point.time) for image, rows in points.items()}


def _rows(path: pathlib.Path, what: str) -> Iterator[tuple[str, dict[str, str]]]:
  """Yields ('file:line', {column: text}) of a CSV."""
  required = ['file', 'x', 'y'] + (['class'] if what == 'icon' else [])
  try:
    with open(path, encoding='utf-8-sig', newline='') as file:
      head = file.readline()
      columns_wanted = f'the first line must name the columns {",".join(required)}[,time]'
      if not head.strip():
        raise UserError(f'{path} is empty, or its first line is: {columns_wanted}')
      separator = max(',;\t', key=head.count)
      columns = [name.strip().lower() for name in next(csv.reader([head], delimiter=separator), [])]
      if wrong := [name for name in required if columns.count(name) != 1]:
        raise UserError(
          f'{path}: {columns_wanted}, each once; {wrong[0]} is missing or repeated in '
          f'{head.strip()!r:.80}'
        )
      reader = csv.reader(file, delimiter=separator)
      for cells in reader:
        if cells:
          cells += [''] * (len(columns) - len(cells))  # of a short row: reported as empty
          yield f'{path}:{reader.line_num + 1}', dict(zip(columns, cells, strict=False))
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error.strerror}') from error
  except (UnicodeDecodeError, csv.Error) as error:
    raise UserError(f'{path} is not a CSV in UTF-8 ({error}): save it as "CSV UTF-8"') from error


def _parse(where: str, row: dict[str, str]) -> Point | str:
  """Returns the point of a row, or why it has none."""
  try:
    x, y = float(row['x']), float(row['y'])
    time = float(row['time']) if 'time' in row else int(where.rpartition(':')[2])
  except ValueError as error:
    return str(error)
  if not (math.isfinite(x) and math.isfinite(y) and abs(time) <= _MAX_TIME):
    return 'x, y or time is not finite'
  return Point(where, x, y, round(time), row.get('class', '').strip())


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
      UserError: most points lie outside their images, so they must be in another unit.
    """
    what = self._what
    outside = self._problems.number(f'{what} outside the image, skipped')
    total = outside + self._problems.number(f'{what} kept')
    if 2 * outside > total:
      other = UNITS[1 - UNITS.index(self._units)]
      raise UserError(
        f'{self._path}: {outside} of {total} {pluralize(total, what)} outside the image, so they '
        f'cannot be in {self._units} of the upright, full-size image: pass --click_units={other}, '
        'or correct them'
      )
    if self._units == 'pixels' and self._on_large_images >= _MANY and self._largest <= 100:
      self._problems.add(
        f'file with no {what} beyond 100 px: percentages? Divide by 100 and pass '
        '--click_units=fraction',
        str(self._path),
        f'{self._on_large_images} {what}s on images of at least {_LARGE} px',
      )
