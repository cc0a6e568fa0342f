"""Writes records in the format of `coco_ab_v1_0.json`, with the keys in the order of the release.

`coco_ab.read_records` reads back what `to_json` writes.
"""

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from luab_jax.byproducts.coco_ab import ACTION_NAMES, Actions, Categories, CocoRecord

Point = tuple[float, float]  # (x right, y down) relative to the image as shown


class Action(NamedTuple):
  """One icon added, moved or removed."""

  action: str  # one of ACTION_NAMES
  icon: str  # class name
  time_ms: int  # since the page was opened
  from_xy: Point | None = None  # None where an icon is added
  to_xy: Point | None = None  # None where an icon is removed


class Visit(NamedTuple):
  """One visit to a page of icons."""

  index: int  # type: ignore[assignment]  # of the page
  name: str
  time_ms: int  # since the page was opened
  using_keyboard: bool


def to_actions(rows: Sequence[Action]) -> Actions:
  """Returns a history of icon actions as columns, in the given order."""
  return Actions(
    action=np.array([ACTION_NAMES.index(row.action) for row in rows], np.int64),
    icon=tuple(row.icon for row in rows),
    from_xy=_to_xy([row.from_xy for row in rows]),
    to_xy=_to_xy([row.to_xy for row in rows]),
    time_ms=np.array([row.time_ms for row in rows], np.int64),
  )


def to_categories(rows: Sequence[Visit]) -> Categories:
  """Returns the visits to pages of icons as columns, in the given order."""
  return Categories(
    index=np.array([row.index for row in rows], np.int32),
    name=tuple(row.name for row in rows),
    time_ms=np.array([row.time_ms for row in rows], np.int64),
    using_keyboard=np.array([row.using_keyboard for row in rows], bool),
  )


def _to_xy(points: list[Point | None]) -> np.ndarray:
  """Returns float64 [N, 2], NaN for None."""
  return np.array([point or (np.nan, np.nan) for point in points], np.float64).reshape(-1, 2)


def to_json(records: Iterable[CocoRecord]) -> bytes:
  """Returns the records as a JSON file; values that a record lacks are left out."""
  return json.dumps([_to_object(record) for record in records]).encode()


def _to_object(record: CocoRecord) -> dict:
  actions, categories = record.actions, record.categories
  trace = zip(record.trace_time_ms.tolist(), record.trace_xy.tolist(), strict=True)
  values = {
    'imageHeight': record.shown_height,
    'worker_id': record.worker_id,
    'imageWidth': record.shown_width,
    'hit_id': record.hit_id,
    'image_id': record.image_id,
    'originalImageHeight': record.original_height,
    'actionHistories': [
      {
        'actionType': ACTION_NAMES[action],
        'iconType': icon,
        'pointFrom': _to_point(start),
        'pointTo': _to_point(end),
        'timeAt': time,
      }
      for action, icon, start, end, time in zip(
        actions.action.tolist(),
        actions.icon,
        actions.from_xy.tolist(),
        actions.to_xy.tolist(),
        actions.time_ms.tolist(),
        strict=True,
      )
    ],
    'categoryHistories': [
      {'categoryIndex': index, 'categoryName': name, 'timeAt': time, 'usingKeyboard': keyboard}
      for index, name, time, keyboard in zip(
        categories.index.tolist(),
        categories.name,
        categories.time_ms.tolist(),
        categories.using_keyboard.tolist(),
        strict=True,
      )
    ],
    'page_id': record.page_id,
    'mouseTracking': [{'timeAt': time, 'x': x, 'y': y} for time, (x, y) in trace],
    'originalImageWidth': record.original_width,
    'timeSpent': record.time_spent_ms,
  }
  absent = {'worker_id': '', 'hit_id': '', 'page_id': -1, 'timeSpent': 0}
  return {key: value for key, value in values.items() if value != absent.get(key)}


def _to_point(xy: list[float]) -> dict[str, float] | None:
  return None if np.isnan(xy).any() else {'x': xy[0], 'y': xy[1]}
