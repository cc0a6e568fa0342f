"""Reads a file of clicks or icons: a CSV, or the export of a labelling tool."""

import codecs
import pathlib
import re
from typing import NamedTuple

from luab_jax.errors import UserError
from luab_jax.tools.own_data import cvat, label_studio, points, table
from luab_jax.tools.own_data.images import ImageFile, ImageIndex
from luab_jax.tools.own_data.points import Mark, Point
from luab_jax.tools.own_data.problems import Problems

_MAX_BYTES = 512 << 20  # a file of this size takes several GB of memory
_ZIP = b'PK\3\4'
_ABSENT_IMAGE = '{} without a matching image, skipped'


class PointFile(NamedTuple):
  """The content of a file."""

  points: dict[pathlib.Path, list[Point]]  # {path of an image: its points, ordered by time}
  units: str  # of x and y: one of `points.UNITS`, or `points.ANNOTATED`


def read(
  path: pathlib.Path, index: ImageIndex, units: str, problems: Problems, *, what: str
) -> PointFile:
  """Reads a CSV, Label Studio's JSON or CVAT's XML, recognised by its first character.

  A CSV has the columns file, x, y, optionally time, and class for icons, see `table.read`; the
  units of time are those of `table.parse_times`.

  Args:
    path: the file.
    index: the images that it may name.
    units: units of a CSV, one of `points.UNITS`; the tools have their own.
    problems: records each point that cannot be used.
    what: 'click' or 'icon'.

  Raises:
    UserError: the file does not exist, has none of these formats or no points, none of its points
      matches an image, or the unit is wrong.
  """
  data = _read_bytes(path)
  start = data[:1024].removeprefix(codecs.BOM_UTF8).lstrip()[:1]
  if start in (b'[', b'{', b'<'):
    tool = cvat if start == b'<' else label_studio
    marks = tool.parse(path, data, problems)
    problems.count(f'file of {what}s, read as {tool.FORMAT}')
    units, row = points.ANNOTATED, tool.RECORD
    hint = f'. The image names in {tool.FORMAT} must end in those of your images'
  else:
    marks, row = _parse_csv(path, data, what), 'row'
    hint = '. The file column must hold CLASS/xxx.jpg, a longer path, or a unique bare file name'
  found = _match(marks, index, problems, what)
  if not found:
    reason = problems.first(what) or problems.first(row)
    if not problems.number(_ABSENT_IMAGE.format(what)):
      hint = ''
    raise UserError(f'{path}: none of its {row}s gives a point on an image{reason}{hint}')
  if units == 'pixels' and max(max(p.x, p.y) for kept in found.values() for p in kept) <= 1:
    raise UserError(
      f'{path}: no x or y is above 1, so they are not pixels: pass --click_units=fraction'
    )
  in_time = {image: sorted(kept, key=lambda point: point.time) for image, kept in found.items()}
  return PointFile(in_time, units)


def _read_bytes(path: pathlib.Path) -> bytes:
  try:
    with open(path, 'rb') as file:
      data = file.read(_MAX_BYTES + 1)
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error.strerror}') from error
  if len(data) > _MAX_BYTES:
    raise UserError(f'{path} has more than {_MAX_BYTES >> 20} MiB: split it')
  if data.startswith(_ZIP):
    raise UserError(
      f'{path} is a zip or an Excel file: pass the annotations.xml in it, or save it as CSV'
    )
  return data


def _parse_csv(path: pathlib.Path, data: bytes, what: str) -> list[Mark]:
  required = ['file', 'x', 'y'] + (['class'] if what == 'icon' else [])
  rows = table.parse(path, data, required, 'time')
  if not rows:
    raise UserError(f'{path} has no rows below its first line: add {what}s, or omit --{what}s')
  return [
    Mark([row.cells['file']], _parse_row(row, time), row.where)
    for row, time in zip(rows, table.parse_times(rows), strict=True)
  ]


def _parse_row(row: table.Row, time: float | str) -> Point | str:
  """Returns the point of a row, or why it has none."""
  try:
    x, y = row.number('x'), row.number('y')
  except ValueError as error:
    return row.problem or str(error)
  if row.problem or isinstance(time, str):
    return row.problem or str(time)
  return Point(row.where, x, y, time, row.cells.get('class', ''))


def _match(
  marks: list[Mark], index: ImageIndex, problems: Problems, what: str
) -> dict[pathlib.Path, list[Point]]:
  """Returns {path of an image: its points}; reports the points without one."""
  found: dict[pathlib.Path, list[Point]] = {}
  records: dict[pathlib.Path, set[str]] = {}
  uploads = index.renamed(_as_uploaded)
  for mark in marks:
    problems.count(f'{what} read')
    image, reason = _find(mark, index, uploads)
    if isinstance(mark.point, str):
      problems.add(f'{what} malformed, skipped', mark.where, mark.point)
    elif image is None:
      reason = f'{mark.names[0]!r:.80}: {reason}'
      problems.add(_ABSENT_IMAGE.format(what), mark.where, reason)
    else:
      found.setdefault(image.path, []).append(mark.point)
      records.setdefault(image.path, set()).add(mark.record)
  for image_path, of_image in records.items():
    if len(of_image) > 1:
      problems.add(f'image in several entries of the export, all {what}s kept', str(image_path))
  return found


def _find(mark: Mark, index: ImageIndex, uploads: ImageIndex) -> tuple[ImageFile | None, str]:
  """Returns (image, '') for the first spelling that matches an image, or (None, why none does)."""
  results = [index.find(name) for name in mark.names]
  if mark.upload:
    results.append(uploads.find(_as_uploaded(mark.upload)))
  return next((result for result in results if result[0]), results[-1])


def _as_uploaded(name: str) -> str:
  """Returns the name that Label Studio (Django) gives to an uploaded file, without the prefix."""
  return re.sub(r'[^-\w.]', '', name.rpartition('/')[2].strip().replace(' ', '_'))
