"""The layout of a record of COCO-AB as released, for msgspec: all types and ranges in one look.

What fits is decoded by msgspec at four times the speed of the standard library; what does not is
left to the reader in coco.py, which knows what is wrong with it, if anything. Limits are as there.
"""

from typing import Annotated, Literal

import msgspec

_Coordinate = Annotated[float, msgspec.Meta(ge=-1e3, le=1e3)]
_Int32 = Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
_Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class Point(msgspec.Struct, forbid_unknown_fields=True, gc=False):
  x: _Coordinate
  y: _Coordinate


class Action(msgspec.Struct, forbid_unknown_fields=True, gc=False):
  actionType: Literal['add', 'move', 'remove']
  iconType: str
  timeAt: _Int64
  pointFrom: Point | None = None
  pointTo: Point | None = None


class Category(msgspec.Struct, forbid_unknown_fields=True, gc=False):
  categoryIndex: _Int32
  categoryName: str
  timeAt: _Int64
  usingKeyboard: bool = False


class Position(msgspec.Struct, forbid_unknown_fields=True, gc=False):
  x: _Coordinate
  y: _Coordinate
  timeAt: _Int64


class Record(msgspec.Struct, forbid_unknown_fields=True, gc=False):
  image_id: _Int64
  imageWidth: _Int32 = 0
  imageHeight: _Int32 = 0
  originalImageWidth: _Int32 = 0
  originalImageHeight: _Int32 = 0
  timeSpent: _Int64 = 0
  hit_id: str = ''
  worker_id: str = ''
  page_id: _Int32 = -1
  actionHistories: list[Action] = []
  categoryHistories: list[Category] = []
  mouseTracking: list[Position] = []


_decode = msgspec.json.Decoder(Record).decode


def decode(text: str) -> Record | None:
  """Returns the record that a text is, or None if it is none or not as released.

  Text with escapes or beyond ASCII is not decoded here either: it may be damaged.
  """
  if not text.isascii() or '\\' in text:
    return None
  try:
    return _decode(text)
  except msgspec.MsgspecError:
    return None
