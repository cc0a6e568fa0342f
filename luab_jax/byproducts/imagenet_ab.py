"""Reads one XML file of ImageNet-AB (release_formats: `train_xml/<class>/<stem>.xml`).

The only code that knows the release's raw tags. Numpy and the standard library, no TensorFlow.

Coordinates are (x right, y down) relative to the image as it was shown, nominally in [0, 1], and
kept as recorded; boxes are pixels of the size in the header. Times are milliseconds since 1970
(int64), durations milliseconds. What is absent in the file is absent here: NaN, None, '' or an
empty list, as each field says.
"""

from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from luab_jax.byproducts import BadRecord, traces

MAX_XML_BYTES = 4 << 20  # a trace of ten minutes has about 3 MiB; real files a few KiB
_MAX_COORDINATE = 1e3  # a thousand image widths away is no position any more
_MAX_INTEGER = 1 << 53  # exact in a double, and far beyond any time in ms
_ABSENT = float('nan')


class Block(NamedTuple):
  """One `metadata` block: one time the image was shown to a worker."""

  assignment_id: str = ''
  hit_id: str = ''
  worker_id: str = ''
  selected: bool | None = None  # the state when the page was submitted; None: not recorded
  selected_count: float = _ABSENT  # how often it was toggled on
  estimate_time_ms: int | None = None  # time spent deciding
  shown_x: float = _ABSENT  # where and how large the image was shown, in px of the page
  shown_y: float = _ABSENT
  shown_width: float = _ABSENT
  shown_height: float = _ABSENT
  original_width: float = _ABSENT  # size of the file the worker's browser had loaded, in px
  original_height: float = _ABSENT
  page_idx: float = _ABSENT


class Points(NamedTuple):
  """Clicks or mouse positions in file order, which is time order within a block."""

  x: np.ndarray  # float64[n]
  y: np.ndarray  # float64[n]
  time_ms: np.ndarray  # int64[n]
  block: np.ndarray  # int32[n], index into Record.blocks


class Hovers(NamedTuple):
  """The cursor entering or leaving the image."""

  action: list[str]  # n of 'enter', 'leave', or as recorded
  time_ms: np.ndarray  # int64[n]
  block: np.ndarray  # int32[n]


class Box(NamedTuple):
  """One VOC `object`, in pixels of the size in the header."""

  label: str
  xmin: float
  ymin: float
  xmax: float
  ymax: float
  truncated: int = -1  # -1: not recorded
  difficult: int = -1


class Record(NamedTuple):
  """All that one XML file holds."""

  blocks: list[Block]
  clicks: Points
  trace: Points
  hovers: Hovers
  boxes: list[Box]
  size: tuple[int, int] | None  # (width, height) of the header in px; None: no header


def _no_points() -> Points:
  return Points(np.empty(0), np.empty(0), np.empty(0, np.int64), np.empty(0, np.int32))


# The record of an image that has none.
EMPTY = Record(
  [], _no_points(), _no_points(), Hovers([], np.empty(0, np.int64), np.empty(0, np.int32)), [], None
)


def parse_xml(data: bytes) -> Record:
  """Parses one XML file of either observed layout, with or without a VOC header.

  Unknown tags are ignored, missing ones become absent, elements without children (an empty list)
  are skipped.

  Args:
    data: the file.

  Returns:
    The record.

  Raises:
    BadRecord: not well-formed XML, not an `annotation`, a document type (the way to entity
      bombs), a point without x, y or time, or a number that is none, not finite or absurd.
  """
  if len(data) > MAX_XML_BYTES:
    raise BadRecord(f'it has {len(data)} bytes, more than {MAX_XML_BYTES}')
  # One byte is found ten times as fast as several.
  if b'\0' in data or b'!' in data and (b'<!DOCTYPE' in data or b'<!ENTITY' in data):
    raise BadRecord('it has a document type or NUL bytes, which are refused')
  try:
    return _parse(*traces.lift(data))
  except BadRecord:
    return _parse(data, [])  # so that the message speaks of the file as it is


def _parse(data: bytes, lifted: list[traces.Trace]) -> Record:
  """Parses a file, or what is left of it without the traces lifted out of it."""
  root = _parse_tree(data)
  if root.tag != 'annotation':
    raise BadRecord(f'its root is <{root.tag}>, expected <annotation>')
  metadata = [element for element in root.findall('metadata') if len(element)]
  header = root.find('size')
  return Record(
    blocks=[_parse_block(element) for element in metadata],
    clicks=_parse_points(metadata, 'selectedRecord'),
    trace=_parse_points(metadata, 'mouseTracking', lifted),
    hovers=_parse_hovers(metadata),
    boxes=[_parse_box(element) for element in root.findall('object') if len(element)],
    size=None if header is None else _parse_size(header),
  )


def _parse_tree(data: bytes) -> ElementTree.Element:
  """Parses XML that declares no entities.

  Without a document type no entity can be declared. The parser is told to read UTF-8, whatever
  the file says about itself, so that a document type is these bytes; UTF-16, which expat still
  recognises by its first two bytes, would have to contain NUL bytes. (defusedxml refuses the same
  but parses in Python: 2.3 times slower.)
  """
  parser = ElementTree.XMLParser(encoding='utf-8')
  try:
    parser.feed(data)
    return parser.close()
  except ElementTree.ParseError as error:
    raise BadRecord(f'it is not well-formed XML ({error})') from error


def _parse_block(metadata) -> Block:
  """Returns the values of one `metadata` element, without its lists."""
  fields = {child.tag: child.text for child in metadata}
  position = metadata.find('imagePosition')
  position = {} if position is None else {child.tag: child.text for child in position}
  time = fields.get('estimateTime')
  return Block(
    assignment_id=_text(fields, 'assignment_id'),
    hit_id=_text(fields, 'hit_id'),
    worker_id=_text(fields, 'worker_id'),
    selected=_truth(fields, 'selected'),
    selected_count=_number(fields, 'selectedCount'),
    estimate_time_ms=_integer(time) if time else None,
    shown_x=_number(position, 'x'),
    shown_y=_number(position, 'y'),
    shown_width=_number(fields, 'imageWidth'),
    shown_height=_number(fields, 'imageHeight'),
    original_width=_number(fields, 'originalImageWidth'),
    original_height=_number(fields, 'originalImageHeight'),
    page_idx=_number(fields, 'page_idx'),
  )


def _parse_points(metadata, tag, lifted=()) -> Points:
  """Returns the clicks or the mouse positions of all blocks."""
  times: list[int] = []
  xs: list[float] = []
  ys: list[float] = []
  block: list[int] = []
  for index, element in enumerate(metadata):
    for row in element:
      if row.tag == tag and len(row):  # no children: an empty list
        times.append(row.findtext('time'))
        xs.append(row.findtext('x'))
        ys.append(row.findtext('y'))
      elif lifted and row.tag == traces.TAG:
        trace = lifted[int(row.text)]
        times += trace.time
        xs += trace.x
        ys += trace.y
    block += [index] * (len(times) - len(block))
  if not times:
    return EMPTY.clicks
  try:
    xy = np.array([float(value) for value in xs + ys], np.float64)
  except (TypeError, ValueError) as error:  # TypeError: None, a coordinate that is missing
    raise BadRecord(
      f'a point without x or y, or one that is no number ({str(error):.80})'
    ) from error
  if not np.abs(xy).max() <= _MAX_COORDINATE:  # so that NaN fails as well
    raise BadRecord('a coordinate is not finite or absurdly large')
  return Points(xy[: len(xs)], xy[len(xs) :], _times(times), np.array(block, np.int32))


def _parse_hovers(metadata) -> Hovers:
  rows = [
    (index, row)
    for index, element in enumerate(metadata)
    for row in element.findall('hoveredRecord')
    if len(row)
  ]
  return Hovers(
    [row.findtext('action', '').strip() for _, row in rows],
    _times([row.findtext('time') for _, row in rows]),
    np.array([index for index, _ in rows], np.int32),
  )


def _times(values) -> np.ndarray:
  """Returns int64[n], times in ms since 1970."""
  try:
    times = [int(value) for value in values]
  except (TypeError, ValueError):
    times = [_integer(value) for value in values]
  if times and not -_MAX_INTEGER <= min(times) <= max(times) <= _MAX_INTEGER:
    raise BadRecord('a time is absurdly large')
  return np.array(times, np.int64)


def _integer(text: str | None) -> int:
  """Returns a whole number; a fraction, should a browser have written one, is rounded."""
  return round(_finite(text))


def _number(fields: dict, tag: str) -> float:
  """Returns a number, NaN where it is absent."""
  text = fields.get(tag)
  return _finite(text) if text else _ABSENT


def _finite(text: str | None) -> float:
  try:
    value = float(text)  # type: ignore[arg-type]
  except (TypeError, ValueError) as error:
    what = 'a time or number is missing' if text is None else f'{text!r:.40} is no number'
    raise BadRecord(what) from error
  if not -_MAX_INTEGER <= value <= _MAX_INTEGER:  # so that NaN fails as well
    raise BadRecord(f'{text!r:.40} is not finite or absurdly large')
  return value


def _text(fields: dict, tag: str) -> str:
  return (fields.get(tag) or '').strip()


def _truth(fields: dict, tag: str) -> bool | None:
  """Returns True, False or None (absent). bool('False') is True, so the words are compared."""
  text = _text(fields, tag).lower()
  if text not in ('true', 'false', ''):
    raise BadRecord(f'<{tag}> is {text!r:.40}, neither True nor False')
  return text == 'true' if text else None


def _parse_size(header) -> tuple[int, int] | None:
  width, height = header.findtext('width'), header.findtext('height')
  return (_integer(width), _integer(height)) if width and height else None


def _parse_box(element) -> Box:
  """Returns a VOC `object`; the box is kept as written, even where it leaves the image."""
  box = element.find('bndbox')
  if box is None:
    raise BadRecord('an <object> has no <bndbox>')
  xmin, ymin, xmax, ymax = (_finite(box.findtext(f)) for f in ('xmin', 'ymin', 'xmax', 'ymax'))
  return Box(
    (element.findtext('name') or '').strip(),
    xmin,
    ymin,
    xmax,
    ymax,
    _flag(element, 'truncated'),
    _flag(element, 'difficult'),
  )


def _flag(element, tag: str) -> int:
  """Returns 0, 1 or -1 (absent)."""
  text = (element.findtext(tag) or '').strip()
  if text not in ('0', '1', ''):
    raise BadRecord(f'<{tag}> is {text!r:.40}, neither 0 nor 1')
  return int(text or -1)
