"""COCO-AB records: a streaming reader of `coco_ab_v1_0.json` and the replay of icon placements.

The release is one JSON list of 82,765 objects, 398 MB; `read_records` decodes it record by record,
in a few MB of memory. This is the only code that knows the raw field names. Format: the release as
observed (public viewer, cards, recording tool); data: Han et al., "Neglected Free Lunch: Learning
Image Classifiers Using Annotation Byproducts" (2023).
"""

import os
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from luab_jax.byproducts import BadRecord, coco_schema
from luab_jax.byproducts.archives import reader
from luab_jax.byproducts.json_stream import Broken, JsonStream
from luab_jax.errors import UserError

FILE_NAME = 'coco_ab_v1_0.json'
URL = f'https://huggingface.co/datasets/coallaoh/COCO-AB/resolve/main/{FILE_NAME}'
SHA256 = 'dcc1c8ac0aa4a4d687b4325ae95c542ce2ea98a7a0229a7a29f0835b4b152775'

MAX_CORRUPT = 100_000  # more than the release has records: another file
_MAX_COORDINATE = 1e3  # a thousand image widths away is no position any more

ACTION_NAMES = ('add', 'move', 'remove')
_ACTION_INDEX = {name: index for index, name in enumerate(ACTION_NAMES)}

# COCO's 80 classes in the order of their category ids (1 ... 90, with gaps).
CLASS_NAMES = (
  'person',
  'bicycle',
  'car',
  'motorcycle',
  'airplane',
  'bus',
  'train',
  'truck',
  'boat',
  'traffic light',
  'fire hydrant',
  'stop sign',
  'parking meter',
  'bench',
  'bird',
  'cat',
  'dog',
  'horse',
  'sheep',
  'cow',
  'elephant',
  'bear',
  'zebra',
  'giraffe',
  'backpack',
  'umbrella',
  'handbag',
  'tie',
  'suitcase',
  'frisbee',
  'skis',
  'snowboard',
  'sports ball',
  'kite',
  'baseball bat',
  'baseball glove',
  'skateboard',
  'surfboard',
  'tennis racket',
  'bottle',
  'wine glass',
  'cup',
  'fork',
  'knife',
  'spoon',
  'bowl',
  'banana',
  'apple',
  'sandwich',
  'orange',
  'broccoli',
  'carrot',
  'hot dog',
  'pizza',
  'donut',
  'cake',
  'chair',
  'couch',
  'potted plant',
  'bed',
  'dining table',
  'toilet',
  'tv',
  'laptop',
  'mouse',
  'remote',
  'keyboard',
  'cell phone',
  'microwave',
  'oven',
  'toaster',
  'sink',
  'refrigerator',
  'book',
  'clock',
  'vase',
  'scissors',
  'teddy bear',
  'hair drier',
  'toothbrush',
)
CLASS_INDEX = {name: index for index, name in enumerate(CLASS_NAMES)}

_NOWHERE = coco_schema.Point(np.nan, np.nan)  # for what is absent
_IMAGE_ID = re.compile(r'"image_id"\s*:\s*(\d{1,18})\b')
# Nested objects never begin with one of these keys: here reading goes on after a broken record.
_RECORD_START = re.compile(
  r'\{\s*"(?:image_id|originalImageHeight|originalImageWidth|imageHeight|imageWidth|timeSpent'
  r'|hit_id|page_id|worker_id|actionHistories|categoryHistories|mouseTracking)"\s*:'
)


class Actions(NamedTuple):
  """Every placement, shift and removal of a class icon, in recorded order; A rows.

  Points are (x right, y down) relative to the shown image, nominally in [0, 1], as recorded.
  """

  action: np.ndarray  # int64 [A], index into ACTION_NAMES.
  icon: tuple[str, ...]  # A names as recorded; normally one of CLASS_NAMES.
  from_xy: np.ndarray  # float64 [A, 2], NaN where absent.
  to_xy: np.ndarray  # float64 [A, 2], NaN where absent.
  time_ms: np.ndarray  # int64 [A], ms since the page was opened.


class Categories(NamedTuple):
  """Every visit to one of the eleven pages of icons, in recorded order; C rows."""

  index: np.ndarray  # type: ignore[assignment]  # int64 [C]
  name: tuple[str, ...]
  time_ms: np.ndarray  # int64 [C], ms since the page was opened.
  using_keyboard: np.ndarray  # bool [C]


class CocoRecord(NamedTuple):
  """What one worker did on one image. Sizes in pixels; 0: the image had not loaded."""

  number: int  # Index of the record in the file, from 0.
  image_id: int
  shown_width: int
  shown_height: int
  original_width: int
  original_height: int
  time_spent_ms: int  # 0 where absent.
  hit_id: str  # '' where absent.
  worker_id: str  # '' where absent.
  page_id: int  # -1 where absent.
  actions: Actions
  categories: Categories
  trace_xy: np.ndarray  # float64 [T, 2], cursor (x right, y down) relative to the shown image.
  trace_time_ms: np.ndarray  # int64 [T], ms since the page was opened.


class CorruptRecord(NamedTuple):
  """A record that cannot be used, and why."""

  path: str
  number: int  # Index of the record in the file, from 0.
  image_id: int | None  # None where even that is unreadable.
  reason: str

  def __str__(self) -> str:
    image = 'image_id unreadable' if self.image_id is None else f'image_id {self.image_id}'
    return f'{self.path}: record {self.number} ({image}): {self.reason}'


def read_records(
  path: str | os.PathLike,
  *,
  sha256: str = '',
  progress: Callable[[int], None] | None = None,
  chunk_bytes: int = 1 << 20,
) -> Iterator[CocoRecord | CorruptRecord]:
  """Yields every record of a COCO-AB file in file order, in constant memory.

  A record that is no JSON, lacks what it needs or holds a coordinate that is NaN, Infinity or
  beyond 1,000 comes as a `CorruptRecord`; reading goes on behind it. Unknown keys are ignored.

  Args:
    path: the JSON file.
    sha256: expected hex digest of the whole file ('': not checked). It is compared at the end, so
      nothing that was yielded may be used before the iteration has ended.
    progress: called with the number of bytes read since its last call.
    chunk_bytes: how much is read at a time; does not change what is yielded.

  Raises:
    UserError: the file is missing, is no JSON list, is truncated, has another sha256, or holds
      more corrupt records than MAX_CORRUPT, or json_stream.MAX_BROKEN that are no JSON.
  """
  corrupt = 0
  path = os.fspath(path)
  with reader.open_verified(path, sha256=sha256, source=URL) as file:
    stream = JsonStream(
      file, path, URL, item_start=_RECORD_START, decode=coco_schema.decode, chunk_bytes=chunk_bytes
    )
    position = 0
    for number, item in enumerate(stream.list_items()):
      if progress:
        progress(file.tell() - position)
        position = file.tell()
      record = _from_item(item, number, path)
      corrupt += isinstance(record, CorruptRecord)
      if corrupt > MAX_CORRUPT:
        raise UserError(
          f'more than {MAX_CORRUPT} records cannot be used, the last: {record}: get '
          f'the file again from {URL}'
        )
      yield record
    stream.end()
    if progress:
      progress(file.tell() - position)


def _from_item(item: Any, number: int, path: str) -> CocoRecord | CorruptRecord:
  """Turns what the stream yields into a record."""
  if isinstance(item, coco_schema.Record):
    return _from_schema(item, number)
  if isinstance(item, Broken):
    image_id = _IMAGE_ID.search(item.text)
    return CorruptRecord(path, number, int(image_id[1]) if image_id else None, item.reason)
  return _parse(item, number, path)


def _from_schema(raw: coco_schema.Record, number: int) -> CocoRecord:
  """Turns a record that is as it should be into arrays."""
  actions, categories, trace = raw.actionHistories, raw.categoryHistories, raw.mouseTracking
  return CocoRecord(
    number=number,
    image_id=raw.image_id,
    shown_width=raw.imageWidth,
    shown_height=raw.imageHeight,
    original_width=raw.originalImageWidth,
    original_height=raw.originalImageHeight,
    time_spent_ms=raw.timeSpent,
    hit_id=raw.hit_id,
    worker_id=raw.worker_id,
    page_id=raw.page_id,
    actions=Actions(
      action=np.array([_ACTION_INDEX[row.actionType] for row in actions], np.int64),
      icon=tuple([row.iconType for row in actions]),
      from_xy=_array([row.pointFrom or _NOWHERE for row in actions]),
      to_xy=_array([row.pointTo or _NOWHERE for row in actions]),
      time_ms=np.array([row.timeAt for row in actions], np.int64),
    ),
    categories=Categories(
      index=np.array([row.categoryIndex for row in categories], np.int32),
      name=tuple([row.categoryName for row in categories]),
      time_ms=np.array([row.timeAt for row in categories], np.int64),
      using_keyboard=np.array([row.usingKeyboard for row in categories], bool),
    ),
    trace_xy=_array(trace),
    trace_time_ms=np.array([row.timeAt for row in trace], np.int64),
  )


def _array(points: list) -> np.ndarray:
  """float64 [N, 2] of the x and y of N objects."""
  xy = [point.x for point in points] + [point.y for point in points]
  return np.array(xy, np.float64).reshape(2, -1).T


def _parse(raw: Any, number: int, path: str) -> CocoRecord | CorruptRecord:
  """Turns a decoded JSON value into a typed record; a `CorruptRecord` if it does not hold one."""
  image_id = None
  try:
    if not isinstance(raw, dict):
      raise BadRecord(f'{type(raw).__name__} where an object is expected')
    image_id = _integer(raw, 'image_id', bits=64)
    trace = _rows(raw, 'mouseTracking')
    return CocoRecord(
      number=number,
      image_id=image_id,
      shown_width=_integer(raw, 'imageWidth', absent=0),
      shown_height=_integer(raw, 'imageHeight', absent=0),
      original_width=_integer(raw, 'originalImageWidth', absent=0),
      original_height=_integer(raw, 'originalImageHeight', absent=0),
      time_spent_ms=_integer(raw, 'timeSpent', absent=0, bits=64),
      hit_id=_text(raw, 'hit_id'),
      worker_id=_text(raw, 'worker_id'),
      page_id=_integer(raw, 'page_id', absent=-1),
      actions=_actions(_rows(raw, 'actionHistories')),
      categories=_categories(_rows(raw, 'categoryHistories')),
      trace_xy=_points(trace),  # type: ignore[arg-type]
      trace_time_ms=_integers(trace, 'timeAt'),
    )
  except KeyError as error:
    return CorruptRecord(path, number, image_id, f'{error} is missing')
  except (BadRecord, OverflowError) as error:
    return CorruptRecord(path, number, image_id, str(error))


def _actions(rows: list[dict]) -> Actions:
  kinds = _texts(rows, 'actionType')
  if not {*kinds} <= {*ACTION_NAMES}:
    wrong = min({*kinds} - {*ACTION_NAMES})
    raise BadRecord(f'actionType is {wrong!r:.40}, not one of {", ".join(ACTION_NAMES)}')
  points = _points([row.get('pointFrom') for row in rows] + [row.get('pointTo') for row in rows])
  return Actions(
    action=np.array([ACTION_NAMES.index(kind) for kind in kinds], np.int64),
    icon=_texts(rows, 'iconType'),
    from_xy=points[: len(rows)],
    to_xy=points[len(rows) :],
    time_ms=_integers(rows, 'timeAt'),
  )


def _categories(rows: list[dict]) -> Categories:
  keyboard = [row.get('usingKeyboard', False) for row in rows]
  if not {*map(type, keyboard)} <= {bool}:
    raise BadRecord('usingKeyboard is neither true nor false')
  return Categories(
    index=_integers(rows, 'categoryIndex', np.int32),
    name=_texts(rows, 'categoryName'),
    time_ms=_integers(rows, 'timeAt'),
    using_keyboard=np.array(keyboard, bool),
  )


def _rows(raw: dict, key: str) -> list[dict]:
  rows = raw.get(key)
  if rows is None:
    return []
  if not isinstance(rows, list) or not {*map(type, rows)} <= {dict}:
    raise BadRecord(f'{key} is not a list of objects')
  return rows


def _integer(raw: dict, key: str, *, absent: int | None = None, bits: int = 32) -> int:
  value = raw.get(key)
  if value is None:
    if absent is None:
      raise KeyError(key)
    return absent
  if type(value) is not int or not -(1 << bits - 1) <= value < 1 << bits - 1:
    raise BadRecord(f'{key} is {value!r:.40}, not a whole number of {bits} bits')
  return value


def _integers(rows: list[dict], key: str, dtype: type = np.int64) -> np.ndarray:
  values = [row[key] for row in rows]
  if not {*map(type, values)} <= {int}:
    raise BadRecord(f'{key} is not a whole number')
  return np.array(values, dtype)


def _points(rows: list[dict | None]) -> np.ndarray:
  given = [row for row in rows if row is not None]
  if not {*map(type, given)} <= {dict}:
    raise BadRecord('a point is not an object')
  values = [row['x'] for row in given] + [row['y'] for row in given]
  # NumPy alone would take '0.5', true and null for numbers.
  if not {*map(type, values)} <= {float, int}:
    raise BadRecord('a coordinate is not a number')
  points = np.array(values, np.float64).reshape(2, -1).T
  if not (np.abs(points) <= _MAX_COORDINATE).all():  # so that NaN fails as well
    raise BadRecord('a coordinate is not finite or absurdly large')
  if len(given) == len(rows):
    return points
  padded = np.full((len(rows), 2), np.nan)
  padded[[row is not None for row in rows]] = points
  return padded


def _text(raw: dict, key: str) -> str:
  return '' if raw.get(key) is None else _texts([raw], key)[0]


def _texts(rows: list[dict], key: str) -> tuple[str, ...]:
  values = tuple([row[key] for row in rows])
  if not {*map(type, values)} <= {str}:
    raise BadRecord(f'{key} is not text')
  # U+FFFD stands for a byte that was no UTF-8; a lone surrogate cannot be encoded again.
  together = ''.join(values)
  if not together.isascii() and re.search('[\ud800-\udfff\ufffd]', together):
    raise BadRecord(f'{key} is damaged text')
  return values


def replay_icons(
  actions: Actions, class_index: dict[str, int] = CLASS_INDEX
) -> tuple[dict[str, tuple[float, float]], list[str]]:
  """Replays the placements of icons: what the worker left on the image when submitting.

  In recorded order, `add` and `move` put the class's one icon at their target (so a second `add`
  is a move, and a `move` of an icon that is not there places it), `remove` takes it away if it is
  there. An `add` or `move` without a target changes nothing.

  Args:
    actions: the history of one record.
    class_index: the known classes, name -> index.

  Returns:
    icons: class name -> (x right, y down) relative to the shown image, as recorded, for the known
      classes, in the order of their indices.
    unknown: the names among `actions.icon` that are no known class, sorted; they were skipped.
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
