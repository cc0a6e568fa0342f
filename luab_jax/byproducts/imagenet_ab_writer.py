"""Writes records as ImageNet-AB XML files, in the layout of the release.

`imagenet_ab.parse_xml` reads back what `to_xml` writes.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from luab_jax.byproducts.imagenet_ab import Block, Box, Hovers, Points, Record

TimedPoint = tuple[int, float, float]  # (time in ms, x, y)


class Showing(NamedTuple):
  """One time an image was shown to a worker, with what was recorded.

  Times are in ms since 1970, points are (x right, y down) relative to the image as shown.
  """

  block: Block
  clicks: Sequence[TimedPoint] = ()
  trace: Sequence[TimedPoint] = ()
  hovers: Sequence[tuple[int, str]] = ()  # (time in ms, 'enter' or 'leave')


def to_record(
  showings: Sequence[Showing], *, boxes: Sequence[Box] = (), size: tuple[int, int] | None = None
) -> Record:
  """Returns the record of an image.

  Args:
    showings: in chronological order.
    boxes: in pixels of the image.
    size: (width, height) of the image in pixels; None: the XML gets no VOC header.
  """
  hovers = [(index, *hover) for index, showing in enumerate(showings) for hover in showing.hovers]
  return Record(
    blocks=[showing.block for showing in showings],
    clicks=_to_points([showing.clicks for showing in showings]),
    trace=_to_points([showing.trace for showing in showings]),
    hovers=Hovers(
      [action for _, _, action in hovers],
      np.array([time for _, time, _ in hovers], np.int64),
      np.array([index for index, _, _ in hovers], np.int32),
    ),
    boxes=list(boxes),
    size=size,
  )


def _to_points(points_of_blocks: Sequence[Sequence[TimedPoint]]) -> Points:
  rows = [(index, *point) for index, points in enumerate(points_of_blocks) for point in points]
  return Points(
    x=np.array([x for _, _, x, _ in rows], np.float64),
    y=np.array([y for _, _, _, y in rows], np.float64),
    time_ms=np.array([time for _, time, _, _ in rows], np.int64),
    block=np.array([index for index, _, _, _ in rows], np.int32),
  )


def to_xml(
  record: Record, *, folder: str = '', stem: str = '', database: str = '', indent: bool = True
) -> bytes:
  """Returns the XML file of a record.

  Args:
    record: the content; a VOC header is written if the size of the image is known.
    folder: the class, or the folder of the image; '' is left out.
    stem: file name of the image without extension; '' is left out.
    database: name of the data set in the VOC header.
    indent: whether to write one element per line, as in the release, instead of a single line.
  """
  root = ElementTree.Element('annotation')
  names = {'filename': stem, 'folder': folder}
  if record.size:
    names = {'folder': folder, 'filename': stem}
  for tag, name in names.items():
    if name:
      _add(root, tag, name)
  if record.size:
    _add_header(root, record, database)
  for index, block in enumerate(record.blocks):
    root.append(_metadata(record, index, block))
  if not indent:
    return ElementTree.tostring(root)
  ElementTree.indent(root)
  return ElementTree.tostring(root) + b'\n'


def _add_header(root: ElementTree.Element, record: Record, database: str) -> None:
  """Adds the VOC elements that follow the folder and the file name."""
  assert record.size
  _add(_add(root, 'source'), 'database', database)
  size = _add(root, 'size')
  for tag, value in zip(('width', 'height', 'depth'), (*record.size, 3), strict=True):
    _add(size, tag, value)
  _add(root, 'segmented', 0)
  for box in record.boxes:
    element = _add(root, 'object')
    _add(element, 'name', box.label)
    _add(element, 'pose', 'Unspecified')
    for tag, flag in (('truncated', box.truncated), ('difficult', box.difficult)):
      if flag >= 0:
        _add(element, tag, flag)
    bndbox = _add(element, 'bndbox')
    for tag in ('xmin', 'ymin', 'xmax', 'ymax'):
      _add(bndbox, tag, _shortest(getattr(box, tag)))


def _metadata(record: Record, index: int, block: Block) -> ElementTree.Element:
  """Returns a `metadata` element; its children are in alphabetical order, as in the release."""
  root = ElementTree.Element('metadata')
  _add(root, 'assignment_id', block.assignment_id)
  if block.estimate_time_ms is not None:
    _add(root, 'estimateTime', block.estimate_time_ms)
  _add(root, 'hit_id', block.hit_id)
  of_block = record.hovers.block == index
  hovers = [
    {'action': action, 'time': time}
    for action, time, is_here in zip(
      record.hovers.action, record.hovers.time_ms.tolist(), of_block.tolist(), strict=True
    )
    if is_here
  ]
  _add_list(root, 'hoveredRecord', hovers)
  _add_number(root, 'imageHeight', block.shown_height)
  if not (math.isnan(block.shown_x) and math.isnan(block.shown_y)):
    position = _add(root, 'imagePosition')
    _add_number(position, 'x', block.shown_x)
    _add_number(position, 'y', block.shown_y)
  _add_number(root, 'imageWidth', block.shown_width)
  _add_list(root, 'mouseTracking', _rows(record.trace, index))
  _add_number(root, 'originalImageHeight', block.original_height)
  _add_number(root, 'originalImageWidth', block.original_width)
  _add_number(root, 'page_idx', block.page_idx)
  if block.selected is not None:
    _add(root, 'selected', block.selected)
  _add_number(root, 'selectedCount', block.selected_count)
  clicks = _rows(record.clicks, index)
  if clicks:  # unlike the other lists, an empty one has no element in the release
    _add_list(root, 'selectedRecord', clicks)
  _add(root, 'worker_id', block.worker_id)
  return root


def _rows(points: Points, index: int) -> list[dict[str, int | float]]:
  """Returns the points of a block, each as {tag of a child element: value}."""
  of_block = points.block == index
  columns = (column[of_block].tolist() for column in (points.time_ms, points.x, points.y))
  return [{'time': time, 'x': x, 'y': y} for time, x, y in zip(*columns, strict=True)]


def _add_list(parent: ElementTree.Element, tag: str, rows: Iterable[dict]) -> None:
  """Adds an element for each row; an empty list is one element without children."""
  for row in rows or [{}]:
    element = _add(parent, tag)
    for child, value in row.items():
      _add(element, child, value)


def _add_number(parent: ElementTree.Element, tag: str, value: float) -> None:
  """Adds a number that may be absent (NaN)."""
  if not math.isnan(value):
    _add(parent, tag, _shortest(value))


def _shortest(value: float) -> int | float:
  """Returns 150 for 150.0, as whole pixels are written in the release."""
  return int(value) if float(value).is_integer() else value


def _add(parent: ElementTree.Element, tag: str, value: object = None) -> ElementTree.Element:
  element = ElementTree.SubElement(parent, tag)
  if value is not None:
    element.text = str(value)
  return element
