"""What a browser sends: the events of a page, in batches, and the requests around them.

Coordinates are (x right, y down) relative to the image as shown: 0 and 1 are its edges. Times are
ms since the `origin` of the batch, the performance.timeOrigin of the browser (ms since 1970).
"""

from typing import Annotated, Literal

import msgspec

Time = Annotated[float, msgspec.Meta(ge=0, le=1e11)]  # ms since the origin of the batch
Epoch = Annotated[float, msgspec.Meta(ge=1e12, le=1e13)]  # ms since 1970
Slot = Annotated[int, msgspec.Meta(ge=0, le=199)]  # of an image on its page; icons: always 0
Class = Annotated[int, msgspec.Meta(ge=0, le=999)]  # index into the classes of the study
Fraction = Annotated[float, msgspec.Meta(ge=-10, le=10)]
Pixels = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]  # CSS px
Source = Literal['mouse', 'touch', 'pen', 'key', 'undo']
MAX_EVENTS = 4000  # in a batch


class _Event(msgspec.Struct, tag_field='e', forbid_unknown_fields=True):
  t: Time


class Page(_Event, tag='page'):
  """The page was opened, opened again after a reload, resized or zoomed."""

  w: Pixels  # of the window
  h: Pixels
  dpr: Annotated[float, msgspec.Meta(gt=0, le=20)]  # device pixels per CSS px


class Box(_Event, tag='box'):
  """Where an image is shown, in CSS px of the document; again whenever that changes."""

  i: Slot
  x: Pixels
  y: Pixels
  w: Annotated[float, msgspec.Meta(gt=0, le=1e5)]
  h: Annotated[float, msgspec.Meta(gt=0, le=1e5)]


class Hide(_Event, tag='hide'):
  """The tab was hidden."""


class Show(_Event, tag='show'):
  """The tab became visible again."""


class Enter(_Event, tag='enter'):
  """The cursor entered an image."""

  i: Slot


class Leave(_Event, tag='leave'):
  """The cursor left an image."""

  i: Slot


class Move(_Event, tag='move'):
  """The cursor moved over an image."""

  i: Slot
  x: Fraction
  y: Fraction


class On(_Event, tag='on'):
  """Grid: an image was selected; without x and y by a key, or by undo if it had no point."""

  i: Slot
  s: Source
  x: Fraction | None = None
  y: Fraction | None = None


class Off(_Event, tag='off'):
  """Grid: an image was deselected."""

  i: Slot
  s: Source


class Broken(_Event, tag='broken'):
  """The worker reported that an image does not load."""

  i: Slot


class Tab(_Event, tag='tab'):
  """Icons: a page of icons was opened; the first one is open without an event."""

  k: Annotated[int, msgspec.Meta(ge=0, le=199)]  # index of the page of icons
  s: Literal['mouse', 'touch', 'pen', 'key', 'search']


class Drag(_Event, tag='drag'):
  """Icons: the position of a dragged icon; only for the sidecar."""

  c: Class
  x: Fraction
  y: Fraction


class Put(_Event, tag='put'):
  """Icons: an icon was placed on the image, or moved there if it was on it already."""

  c: Class
  s: Source
  x: Fraction
  y: Fraction


class Remove(_Event, tag='remove'):
  """Icons: an icon was removed."""

  c: Class
  s: Source


Event = (
  Page | Box | Hide | Show | Enter | Leave | Move | On | Off | Broken | Tab | Drag | Put | Remove
)

LeaseId = Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
TabId = Annotated[str, msgspec.Meta(pattern='^[0-9a-f]{16}$')]  # random, made by the tab
Seq = Annotated[int, msgspec.Meta(ge=0, le=100_000)]


class Batch(msgspec.Struct, forbid_unknown_fields=True):
  """`POST /api/events`: the events of about a second, numbered from 0 within the lease."""

  lease: LeaseId
  tab: TabId
  seq: Seq
  origin: Epoch
  sent: Time  # when the batch was closed, by the clock of the events
  events: Annotated[list[Event], msgspec.Meta(min_length=1, max_length=MAX_EVENTS)]


class Placed(msgspec.Struct, forbid_unknown_fields=True):
  """An icon on the image."""

  c: Class
  x: Fraction
  y: Fraction


class Submit(msgspec.Struct, forbid_unknown_fields=True):
  """`POST /api/submit`: the page is done; its batches are 0 ... last_seq."""

  lease: LeaseId
  tab: TabId
  last_seq: Seq
  selected: Annotated[list[Slot], msgspec.Meta(max_length=200)] = []  # grid, ascending
  icons: Annotated[list[Placed], msgspec.Meta(max_length=1000)] = []  # icons, by class
