"""Reads clicks or icons from a CSV and brings them to their images."""

import csv
import math
import pathlib
from typing import NamedTuple

from luab_jax.errors import UserError
from luab_jax.tools.own_data.images import Found, Names
from luab_jax.tools.own_data.problems import Report

UNITS = ('pixels', 'fraction')
_MAX_TIME = 1 << 53  # exact in a double
# So many points on images with sides of so many pixels, and none beyond 100: these are percent.
_MANY, _LARGE = 20, 200


class Point(NamedTuple):
  """One row of the CSV, as written."""

  where: str  # file and line, for messages
  x: float  # to the right
  y: float  # down
  time: int  # ms; without a column of times the number of the row
  label: str  # class of an icon; '' for a click


def read(
  path: pathlib.Path, names: Names, units: str, report: Report, *, what: str
) -> dict[pathlib.Path, list[Point]]:
  """Reads a CSV with the columns file, x, y, optionally time, and for icons class.

  The first line names the columns, in any order; other columns are ignored. The separator is a
  comma, a semicolon or a tab.

  Args:
    path: the CSV, UTF-8.
    names: the images it may speak of.
    units: one of `UNITS`.
    report: told of each row that cannot be used.
    what: 'clicks' or 'icons'.

  Returns:
    {path of an image: its points in the order of time}.

  Raises:
    UserError: no such file, no table, no rows, none that belongs to an image, or the other unit.
  """
  points: dict[pathlib.Path, list[Point]] = {}
  largest, unknown = 0.0, ''
  for where, row in _rows(path, what):
    report.count(f'{what} read')
    image, problem = names.find(row['file'])
    if image is None:
      unknown = unknown or f'{row["file"]!r:.80}: {problem}'
      report.problem(f'{what} of no image, left out', where, f'{row["file"]!r:.80}: {problem}')
      continue
    point = _point(where, row)
    if isinstance(point, str):
      report.problem(f'{what} that cannot be read, left out', where, point)
    else:
      points.setdefault(image.path, []).append(point)
      largest = max(largest, point.x, point.y)
  if not report.counts.get(f'{what} read'):
    raise UserError(f'{path} has no rows below its first line: add {what}, or leave out --{what}')
  if not points:
    reason = f'; the first is {unknown}' if unknown else ''
    raise UserError(
      f'{path}: none of its rows gives a point of an image{reason}. The column file '
      'holds CLASS/xxx.jpg, a longer path, or a bare file name that is unique'
    )
  if units == 'pixels' and largest <= 1:
    raise UserError(
      f'{path}: no x or y is above 1, so they are no pixels: add --click_units=fraction'
    )
  return {image: sorted(rows, key=lambda point: point.time) for image, rows in points.items()}


def _rows(path, what):
  """Yields ('file:line', {column: text}) of a CSV."""
  wanted = ['file', 'x', 'y'] + (['class'] if what == 'icons' else [])
  try:
    with open(path, encoding='utf-8-sig', newline='') as file:
      head = file.readline()
      if not head.strip():
        raise UserError(
          f'{path} is empty, or its first line is: that line must name the columns '
          f'{",".join(wanted)}[,time]'
        )
      separator = max(',;\t', key=head.count)
      columns = [name.strip().lower() for name in next(csv.reader([head], delimiter=separator), [])]
      if missing := [name for name in wanted if columns.count(name) != 1]:
        raise UserError(
          f'{path}: its first line must name the columns {",".join(wanted)}[,time], '
          f'each once; {missing[0]} is missing or twice in {head.strip()!r:.80}'
        )
      reader = csv.reader(file, delimiter=separator)
      for cells in reader:
        if cells:
          # A short row has empty cells at its end: reported as what they are.
          cells += [''] * (len(columns) - len(cells))
          yield f'{path}:{reader.line_num + 1}', dict(zip(columns, cells, strict=False))
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error.strerror}') from error
  except (UnicodeDecodeError, csv.Error) as error:
    raise UserError(f'{path} is no CSV in UTF-8 ({error}): save it as "CSV UTF-8"') from error


def _point(where: str, row: dict[str, str]) -> Point | str:
  """The point of a row, or why it has none."""
  try:
    x, y = float(row['x']), float(row['y'])
    time = float(row['time']) if 'time' in row else int(where.rpartition(':')[2])
  except ValueError as error:
    return str(error)
  if not (math.isfinite(x) and math.isfinite(y) and abs(time) <= _MAX_TIME):
    return 'x, y or time is not finite'
  return Point(where, x, y, round(time), row.get('class', '').strip())


class Placer:
  """Places points on their images, and notices points of another unit than the one that is said."""

  def __init__(self, path: pathlib.Path | None, units: str, report: Report, *, what: str) -> None:
    """Takes the file of the points, their unit, one of `UNITS`, and 'clicks' or 'icons'."""
    self._path, self._units, self._report, self._what = path, units, report, what
    self._furthest = 0.0  # right or down, of the points kept, as written
    self._on_large = 0

  def inside(
    self, points: list[Point], image: Found, size: tuple[int, int]
  ) -> list[tuple[Point, float, float]]:
    """The points that lie on an image, as (point, x, y) in fractions of it; others are reported.

    (0, 0) is the outer corner of the top left pixel, (width, height) that of the bottom right one;
    the borders belong to the image.

    Args:
      points: of the image.
      image: for messages.
      size: its (height, width) in pixels, upright.
    """
    height, width = size if self._units == 'pixels' else (1, 1)
    kept = []
    for point in points:
      if 0 <= point.x <= width and 0 <= point.y <= height:
        kept.append((point, point.x / width, point.y / height))
        self._furthest = max(self._furthest, point.x, point.y)
        self._on_large += min(size) >= _LARGE
      else:
        self._report.problem(
          f'{self._what} outside the image, left out',
          point.where,
          f'({point.x:g}, {point.y:g}) {self._units} on {image.name} of {size[1]} x {size[0]} px',
        )
    self._report.count(f'{self._what} kept', len(kept))
    return kept

  def check_units(self) -> None:
    """Reports points that look like percent, all being placed.

    Raises:
      UserError: most points lie outside: then their unit is another one.
    """
    outside = self._report.number(f'{self._what} outside the image, left out')
    if outside > self._report.counts.get(f'{self._what} kept', 0):
      other = UNITS[1 - UNITS.index(self._units)]
      raise UserError(
        f'{self._path}: {outside} {self._what} lie outside their images, most of them: they are '
        f'not in {self._units} of the image (upright, at its full size); add '
        f'--click_units={other}, or correct them'
      )
    if self._units == 'pixels' and self._on_large >= _MANY and self._furthest <= 100:
      self._report.problem(
        f'no {self._what} lie beyond 100 px: are they percent? Divide by 100 and give '
        '--click_units=fraction',
        str(self._path),
        f'{self._on_large} {self._what} on images of {_LARGE} px and more',
      )
