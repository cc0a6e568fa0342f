"""Reads the XML files of ImageNet-AB (`train_xml/<class>/<stem>.xml`).

Coordinates are (x right, y down) relative to the image as shown, nominally in [0, 1], and kept as
recorded; boxes are in pixels, relative to the image size in the header. Times are milliseconds
since 1970, durations milliseconds. Values missing from the file become NaN, None, '' or an empty
list, as noted for each field. Data: Han et al., "Neglected Free Lunch: Learning Image Classifiers
Using Annotation Byproducts" (2023).
"""

from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from luab_jax.byproducts import BadRecord, safe_xml

MAX_XML_BYTES = 4 << 20  # a ten-minute trace takes about 3 MiB, real files a few KiB
_MAX_COORDINATE = 1e3  # in image widths or heights
_MAX_INTEGER = 1 << 53  # exact in a double, and far beyond any time in ms
_ABSENT = float('nan')


class Block(NamedTuple):
  """One `metadata` element: one showing of the image to a worker."""

  assignment_id: str = ''
  hit_id: str = ''
  worker_id: str = ''
  selected: bool | None = None  # state when the page was submitted; None: not recorded
  selected_count: float = _ABSENT  # how often it was selected
  estimate_time_ms: int | None = None  # time spent deciding
  shown_x: float = _ABSENT  # position and size of the image on the page, in px of the page
  shown_y: float = _ABSENT
  shown_width: float = _ABSENT
  shown_height: float = _ABSENT
  original_width: float = _ABSENT  # size of the file that the worker's browser loaded, in px
  original_height: float = _ABSENT
  page_idx: float = _ABSENT


class Points(NamedTuple):
  """N clicks or mouse positions in file order, which is time order within a block."""

  x: np.ndarray  # float64[N]
  y: np.ndarray  # float64[N]
  time_ms: np.ndarray  # int64[N]
  block: np.ndarray  # int32[N], index into Record.blocks


class Hovers(NamedTuple):
  """N events of the cursor entering or leaving the image."""

  action: list[str]  # N strings as recorded, normally 'enter' or 'leave'
  time_ms: np.ndarray  # int64[N]
  block: np.ndarray  # int32[N], index into Record.blocks


class Box(NamedTuple):
  """One VOC `object`, in pixels, relative to the image size in the header."""

  label: str
  xmin: float
  ymin: float
  xmax: float
  ymax: float
  truncated: int = -1  # -1: not recorded
  difficult: int = -1


class Record(NamedTuple):
  """The content of one XML file."""

  blocks: list[Block]
  clicks: Points
  trace: Points
  hovers: Hovers
  boxes: list[Box]
  size: tuple[int, int] | None  # (width, height) from the header in px; None: no header


def _no_points() -> Points:
  return Points(np.empty(0), np.empty(0), np.empty(0, np.int64), np.empty(0, np.int32))


# The record of an image without byproducts.
EMPTY = Record(
  [], _no_points(), _no_points(), Hovers([], np.empty(0, np.int64), np.empty(0, np.int32)), [], None
)


def parse_xml(data: bytes) -> Record:
  """Parses one XML file, with or without a VOC header.

  Unknown tags are ignored, and so are elements without children (empty lists).

  Args:
    data: content of the file.

  Raises:
    BadRecord: the file is larger than MAX_XML_BYTES, is not well-formed, is not an `annotation`,
      declares a document type (which enables entity bombs), has a point without x, y or time or an
      object without a box, or has a value that is malformed, not finite or out of range.
  """
  if len(data) > MAX_XML_BYTES:
    raise BadRecord(f'it has {len(data)} bytes, more than {MAX_XML_BYTES}')
  root = safe_xml.parse(data)
  if root.tag != 'annotation':
    raise BadRecord(f'its root is <{root.tag}>, expected <annotation>')
  metadata = [element for element in root.findall('metadata') if len(element)]
  header = root.find('size')
  return Record(
    blocks=[_parse_block(element) for element in metadata],
    clicks=_parse_points(metadata, 'selectedRecord'),
    trace=_parse_points(metadata, 'mouseTracking'),
    hovers=_parse_hovers(metadata),
    boxes=[_parse_box(element) for element in root.findall('object') if len(element)],
    size=None if header is None else _parse_size(header),
  )


def _parse_block(metadata: ElementTree.Element) -> Block:
  """Returns the values of one `metadata` element, without its lists."""
  fields = {child.tag: child.text for child in metadata}
  position = {child.tag: child.text for child in metadata.iterfind('imagePosition/*')}
  time = fields.get('estimateTime')
  return Block(
    assignment_id=_text(fields, 'assignment_id'),
    hit_id=_text(fields, 'hit_id'),
    worker_id=_text(fields, 'worker_id'),
    selected=_truth(fields, 'selected'),
    selected_count=_optional_number(fields, 'selectedCount'),
    estimate_time_ms=_integer(time) if time else None,
    shown_x=_optional_number(position, 'x'),
    shown_y=_optional_number(position, 'y'),
    shown_width=_optional_number(fields, 'imageWidth'),
    shown_height=_optional_number(fields, 'imageHeight'),
    original_width=_optional_number(fields, 'originalImageWidth'),
    original_height=_optional_number(fields, 'originalImageHeight'),
    page_idx=_optional_number(fields, 'page_idx'),
  )


def _parse_points(metadata: list[ElementTree.Element], tag: str) -> Points:
  """Returns the clicks or the mouse positions of all blocks."""
  rows = _rows(metadata, tag)
  if not rows:
    return EMPTY.clicks
  xy = np.array([[_number(row.findtext(axis)) for _, row in rows] for axis in 'xy'])
  if np.abs(xy).max() > _MAX_COORDINATE:
    raise BadRecord('a coordinate is out of range')
  return Points(xy[0], xy[1], _times(rows), np.array([block for block, _ in rows], np.int32))


def _parse_hovers(metadata: list[ElementTree.Element]) -> Hovers:
  rows = _rows(metadata, 'hoveredRecord')
  actions = [row.findtext('action', '').strip() for _, row in rows]
  return Hovers(actions, _times(rows), np.array([block for block, _ in rows], np.int32))


def _rows(metadata: list[ElementTree.Element], tag: str) -> list[tuple[int, ElementTree.Element]]:
  """Returns (block index, element) for each entry of a list, skipping empty elements."""
  return [
    (block, row)
    for block, element in enumerate(metadata)
    for row in element.iterfind(tag)
    if len(row)
  ]


def _times(rows: list[tuple[int, ElementTree.Element]]) -> np.ndarray:
  """Returns int64[N], times in ms since 1970."""
  return np.array([_integer(row.findtext('time')) for _, row in rows], np.int64)


def _integer(text: str | None) -> int:
  """Returns an integer, rounding any fraction that a browser may have written."""
  return round(_number(text))


def _optional_number(fields: dict[str, str | None], tag: str) -> float:
  """Returns a number, or NaN if it is absent."""
  text = fields.get(tag)
  return _number(text) if text else _ABSENT


def _number(text: str | None) -> float:
  if text is None:
    raise BadRecord('a coordinate, time or side of a box is missing')
  try:
    value = float(text)
  except ValueError as error:
    raise BadRecord(f'{text!r:.40} is not a number') from error
  if not -_MAX_INTEGER <= value <= _MAX_INTEGER:  # this way round, NaN fails too
    raise BadRecord(f'{text!r:.40} is not finite or out of range')
  return value


def _text(fields: dict[str, str | None], tag: str) -> str:
  return (fields.get(tag) or '').strip()


def _truth(fields: dict[str, str | None], tag: str) -> bool | None:
  """Returns True, False or None (absent); compares strings, since bool('False') is True."""
  text = _text(fields, tag).lower()
  if text not in ('true', 'false', ''):
    raise BadRecord(f'<{tag}> is {text!r:.40}, neither True nor False')
  return text == 'true' if text else None


def _parse_size(header: ElementTree.Element) -> tuple[int, int] | None:
  width, height = header.findtext('width'), header.findtext('height')
  return (_integer(width), _integer(height)) if width and height else None


def _parse_box(element: ElementTree.Element) -> Box:
  """Returns a VOC `object`; the box is kept as written, even if it extends beyond the image."""
  box = element.find('bndbox')
  if box is None:
    raise BadRecord('an <object> has no <bndbox>')
  xmin, ymin, xmax, ymax = (_number(box.findtext(f)) for f in ('xmin', 'ymin', 'xmax', 'ymax'))
  return Box(
    (element.findtext('name') or '').strip(),
    xmin,
    ymin,
    xmax,
    ymax,
    _flag(element, 'truncated'),
    _flag(element, 'difficult'),
  )


def _flag(element: ElementTree.Element, tag: str) -> int:
  """Returns 0, 1 or -1 (absent)."""
  text = (element.findtext(tag) or '').strip()
  if text not in ('0', '1', ''):
    raise BadRecord(f'<{tag}> is {text!r:.40}, neither 0 nor 1')
  return int(text or -1)
