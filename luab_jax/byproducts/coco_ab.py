"""Reads COCO-AB records (`coco_ab_v1_0.json`) and replays their icon placements.

The release is one JSON list of 82,765 objects (398 MB), held in memory while it is read. Only this
module and coco_ab_writer.py know the field names. Data: Han et al., "Neglected Free Lunch: Learning
Image Classifiers Using Annotation Byproducts" (2023).
"""

import os
from collections.abc import Callable, Iterator
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np

from luab_jax.byproducts.archives import member_names, reader
from luab_jax.errors import UserError

FILE_NAME = 'coco_ab_v1_0.json'
URL = f'https://huggingface.co/datasets/coallaoh/COCO-AB/resolve/main/{FILE_NAME}'
SHA256 = 'dcc1c8ac0aa4a4d687b4325ae95c542ce2ea98a7a0229a7a29f0835b4b152775'

ACTION_NAMES = ('add', 'move', 'remove')
_ACTION_INDEX = {name: index for index, name in enumerate(ACTION_NAMES)}

# COCO's 80 classes in the order of their category ids (1 ... 90, with gaps).
CLASS_NAMES = (
  'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat',
  'traffic light', 'fire hydrant', 'stop sign', 'parking meter', 'bench', 'bird', 'cat', 'dog',
  'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra', 'giraffe', 'backpack', 'umbrella',
  'handbag', 'tie', 'suitcase', 'frisbee', 'skis', 'snowboard', 'sports ball', 'kite',
  'baseball bat', 'baseball glove', 'skateboard', 'surfboard', 'tennis racket', 'bottle',
  'wine glass', 'cup', 'fork', 'knife', 'spoon', 'bowl', 'banana', 'apple', 'sandwich', 'orange',
  'broccoli', 'carrot', 'hot dog', 'pizza', 'donut', 'cake', 'chair', 'couch', 'potted plant',
  'bed', 'dining table', 'toilet', 'tv', 'laptop', 'mouse', 'remote', 'keyboard', 'cell phone',
  'microwave', 'oven', 'toaster', 'sink', 'refrigerator', 'book', 'clock', 'vase', 'scissors',
  'teddy bear', 'hair drier', 'toothbrush',
)  # fmt: skip
CLASS_INDEX = {name: index for index, name in enumerate(CLASS_NAMES)}


class Actions(NamedTuple):
  """Every icon added, moved or removed, in recorded order; A rows.

  Points are (x right, y down) relative to the shown image, nominally in [0, 1], as recorded.
  """

  action: np.ndarray = np.zeros(0, np.int64)  # int64 [A], index into ACTION_NAMES.
  icon: tuple[str, ...] = ()  # A names as recorded; normally one of CLASS_NAMES.
  from_xy: np.ndarray = np.zeros((0, 2))  # float64 [A, 2], NaN where absent.
  to_xy: np.ndarray = np.zeros((0, 2))  # float64 [A, 2], NaN where absent.
  time_ms: np.ndarray = np.zeros(0, np.int64)  # int64 [A], ms since the page was opened.


class Categories(NamedTuple):
  """Every visit to one of the eleven pages of icons, in recorded order; C rows."""

  index: np.ndarray = np.zeros(0, np.int32)  # type: ignore[assignment]  # int32 [C]
  name: tuple[str, ...] = ()
  time_ms: np.ndarray = np.zeros(0, np.int64)  # int64 [C], ms since the page was opened.
  using_keyboard: np.ndarray = np.zeros(0, bool)  # bool [C]


class CocoRecord(NamedTuple):
  """What one worker did on one image. Sizes are in pixels, 0 if the image had not loaded."""

  number: int = 0  # Index of the record in the file, from 0.
  image_id: int = 0
  shown_width: int = 0
  shown_height: int = 0
  original_width: int = 0
  original_height: int = 0
  time_spent_ms: int = 0  # 0 where absent.
  hit_id: str = ''  # '' where absent.
  worker_id: str = ''  # '' where absent.
  page_id: int = -1  # -1 where absent.
  actions: Actions = Actions()
  categories: Categories = Categories()
  trace_xy: np.ndarray = np.zeros((0, 2))  # float64 [T, 2], (x right, y down) as in Actions.
  trace_time_ms: np.ndarray = np.zeros(0, np.int64)  # int64 [T], ms since the page was opened.


class CorruptRecord(NamedTuple):
  """A record that cannot be used, and why."""

  path: str
  number: int  # Index of the record in the file, from 0.
  image_id: int | None  # None where even that is unreadable.
  reason: str

  def __str__(self) -> str:
    image = 'image_id unreadable' if self.image_id is None else f'image_id {self.image_id}'
    return f'{self.path}: record {self.number} ({image}): {self.reason}'


# The JSON as released. Fields that other releases may lack are optional; unknown ones are ignored.
_Coordinate = Annotated[float, msgspec.Meta(ge=-1e3, le=1e3)]  # in image widths or heights
_Int32 = Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
_Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class _Point(msgspec.Struct, gc=False):
  x: _Coordinate
  y: _Coordinate


class _TracePoint(_Point, gc=False):
  timeAt: _Int64


class _Action(msgspec.Struct, gc=False):
  actionType: Literal['add', 'move', 'remove']
  iconType: str
  timeAt: _Int64
  pointFrom: _Point | None = None
  pointTo: _Point | None = None


class _Category(msgspec.Struct, gc=False):
  categoryIndex: _Int32
  categoryName: str
  timeAt: _Int64
  usingKeyboard: bool = False


class _Record(msgspec.Struct, gc=False):
  image_id: _Int64
  imageWidth: _Int32 | None = None
  imageHeight: _Int32 | None = None
  originalImageWidth: _Int32 | None = None
  originalImageHeight: _Int32 | None = None
  timeSpent: _Int64 | None = None
  hit_id: str | None = None
  worker_id: str | None = None
  page_id: _Int32 | None = None
  actionHistories: list[_Action] | None = None
  categoryHistories: list[_Category] | None = None
  mouseTracking: list[_TracePoint] | None = None


class _ImageId(msgspec.Struct):
  image_id: int


_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_record = msgspec.json.Decoder(_Record).decode
_decode_image_id = msgspec.json.Decoder(_ImageId).decode
_BAD_RECORD = (msgspec.MsgspecError, UnicodeDecodeError)
_NOWHERE = _Point(np.nan, np.nan)


def read_records(
  path: str | os.PathLike, *, progress: Callable[[int], None] | None = None
) -> Iterator[CocoRecord | CorruptRecord]:
  """Yields every record of a COCO-AB file, in file order.

  A record that lacks a required field, or has a value of the wrong type or out of range (such as a
  coordinate beyond ±1,000), is yielded as a `CorruptRecord`.

  Args:
    path: the JSON file.
    progress: called with the number of bytes decoded since its last call.

  Raises:
    UserError: the file is missing or is not a JSON list (truncated or damaged).
  """
  path = os.fspath(path)
  with reader.open_verified(path, source=URL) as file:
    data = file.read()
  try:
    raw_records = _decode_list(data)
  except (msgspec.MsgspecError, RecursionError) as error:
    raise UserError(
      f'{path} ({len(data):,} bytes) is not a JSON list: {error}; get it again from {URL}'
    ) from error
  del data  # the records share its memory
  for number, raw in enumerate(raw_records):
    if progress:
      progress(memoryview(raw).nbytes)
    yield _parse(raw, number, path)


def _parse(raw: msgspec.Raw, number: int, path: str) -> CocoRecord | CorruptRecord:
  try:
    return _to_arrays(_decode_record(raw), number)
  except _BAD_RECORD as error:
    reason = member_names.escape(str(error))
  try:
    return CorruptRecord(path, number, _decode_image_id(raw).image_id, reason)
  except _BAD_RECORD:
    return CorruptRecord(path, number, None, reason)


def _to_arrays(raw: _Record, number: int) -> CocoRecord:
  actions, categories = raw.actionHistories or [], raw.categoryHistories or []
  trace = raw.mouseTracking or []
  return CocoRecord(
    number=number,
    image_id=raw.image_id,
    shown_width=raw.imageWidth or 0,
    shown_height=raw.imageHeight or 0,
    original_width=raw.originalImageWidth or 0,
    original_height=raw.originalImageHeight or 0,
    time_spent_ms=raw.timeSpent or 0,
    hit_id=raw.hit_id or '',
    worker_id=raw.worker_id or '',
    page_id=-1 if raw.page_id is None else raw.page_id,
    actions=Actions(
      action=np.array([_ACTION_INDEX[row.actionType] for row in actions], np.int64),
      icon=tuple([row.iconType for row in actions]),
      from_xy=_xy([row.pointFrom or _NOWHERE for row in actions]),
      to_xy=_xy([row.pointTo or _NOWHERE for row in actions]),
      time_ms=np.array([row.timeAt for row in actions], np.int64),
    ),
    categories=Categories(
      index=np.array([row.categoryIndex for row in categories], np.int32),
      name=tuple([row.categoryName for row in categories]),
      time_ms=np.array([row.timeAt for row in categories], np.int64),
      using_keyboard=np.array([row.usingKeyboard for row in categories], bool),
    ),
    trace_xy=_xy(trace),
    trace_time_ms=np.array([row.timeAt for row in trace], np.int64),
  )


def _xy(points: list) -> np.ndarray:
  """Returns the x and y of N objects as float64 [N, 2]."""
  return np.array([(point.x, point.y) for point in points], np.float64).reshape(-1, 2)


def replay_icons(
  actions: Actions, class_index: dict[str, int] = CLASS_INDEX
) -> tuple[dict[str, tuple[float, float]], list[str]]:
  """Replays the actions; returns the icons that were on the image when the worker submitted it.

  Each class has at most one icon. In recorded order, `add` and `move` put it at their target (so a
  second `add` acts as a move, and a `move` of an absent icon places it); `remove` takes it away if
  it is present. An `add` or `move` without a target changes nothing.

  Args:
    actions: the history of one record.
    class_index: the known classes, name -> index.

  Returns:
    icons: class name -> (x right, y down) relative to the shown image, as recorded, for the known
      classes, in the order of their indices.
    unknown: the names in `actions.icon` that are not known classes, sorted; they were skipped.
  """
  left: dict[str, tuple[float, float]] = {}
  for action, icon, target in zip(actions.action, actions.icon, actions.to_xy, strict=True):
    if ACTION_NAMES[action] == 'remove':
      left.pop(icon, None)
    elif np.isfinite(target).all():
      left[icon] = (float(target[0]), float(target[1]))
  known = sorted(left.keys() & class_index, key=class_index.__getitem__)
  icons = {name: left[name] for name in known}
  return icons, sorted(set(actions.icon) - class_index.keys())
