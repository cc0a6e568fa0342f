"""What happened on a page: the batches of a lease, replayed.

Batches are those of one lease, in the order of their numbers. Points are (x right, y down) relative
to the image as shown. Times of a grid are ms since 1970, those of icons ms since the page was
opened, both by the browser's clock and rounded, as in the releases.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from luab_jax.tools.annotate import events
from luab_jax.tools.annotate.events import Batch, Event, Placed
from luab_jax.tools.annotate.visits import Visit, replay_visit, timed

MAX_RATE = 60  # positions of the cursor per second in a release
_DECISIONS = (events.On, events.Off, events.Put, events.Remove)
_KEYBOARD = ('key', 'search')


class Click(NamedTuple):
  """Where and when an image was selected."""

  time_ms: int
  x: float
  y: float
  source: str  # of events.Source


class Position(NamedTuple):
  """Where the cursor was."""

  time_ms: int
  x: float
  y: float


class Hover(NamedTuple):
  """The cursor entered or left an image."""

  time_ms: int
  action: str  # 'enter' or 'leave'


@dataclasses.dataclass
class Tile:
  """What was recorded of one image of a grid."""

  selected: bool = False  # at the end
  selected_count: int = 0  # how often it was selected, not counting undo
  clicks: list[Click] = dataclasses.field(default_factory=list)  # that selected it
  trace: list[Position] = dataclasses.field(default_factory=list)  # while it was not selected
  hovers: list[Hover] = dataclasses.field(default_factory=list)
  estimate_time_ms: int | None = None  # while hovered, not selected; None: the cursor never moved
  box: events.Box | None = None  # where it was shown last; None: it never loaded
  is_reported: bool = False  # as broken


@dataclasses.dataclass
class Grid:
  """A page of a grid."""

  visit: Visit
  tiles: dict[int, Tile]  # by slot; slots without any event are absent


class IconAction(NamedTuple):
  """An icon added, moved or removed."""

  time_ms: int
  action: str  # 'add', 'move' or 'remove'
  icon: int  # index of its class
  from_xy: tuple[float, float] | None  # None: it was added
  to_xy: tuple[float, float] | None  # None: it was removed
  source: str  # of events.Source


class TabVisit(NamedTuple):
  """A page of icons was opened."""

  time_ms: int
  index: int  # type: ignore[assignment]  # of the page
  using_keyboard: bool


@dataclasses.dataclass
class Icons:
  """A page of icons."""

  visit: Visit
  actions: list[IconAction]
  tabs: list[TabVisit]
  trace: list[Position]  # while nothing is dragged
  drags: list[Position]  # of dragged icons, not thinned
  icons: dict[int, tuple[float, float]]  # on the image at the end: {class: (x, y)}, ascending
  time_spent_ms: int
  box: events.Box | None
  is_reported: bool


class State(NamedTuple):
  """What a page holds at the end, as in events.Submit."""

  selected: list[int]
  icons: list[Placed]


_decoder = msgspec.json.Decoder(Batch)


def decode(blobs: Iterable[bytes]) -> list[Batch]:
  """Returns the batches of a lease from `batch.events`, in the order of their numbers."""
  return sorted(map(_decoder.decode, blobs), key=lambda batch: batch.seq)


def final_state(task: str, batches: Sequence[Batch]) -> State:
  """Returns what a page of 'grid' or 'icons' holds after all events."""
  # Moves, which are nearly all events, are left out: the server waits for this at every submit.
  batches = [
    msgspec.structs.replace(b, events=[e for e in b.events if isinstance(e, _DECISIONS)])
    for b in batches
  ]
  if task == 'grid':
    tiles = replay_grid(batches).tiles
    return State(sorted(slot for slot, tile in tiles.items() if tile.selected), [])
  icons = replay_icons(batches).icons
  return State([], [Placed(icon, x, y) for icon, (x, y) in icons.items()])


def replay_grid(batches: Sequence[Batch], *, thin: bool = False) -> Grid:
  """Replays a page of a grid.

  Args:
    batches: the batches of a lease.
    thin: whether to thin the traces to MAX_RATE, for browsers that sent every position.
  """
  tiles: dict[int, _TileReplay] = {}
  for _, group in itertools.groupby(batches, lambda batch: batch.origin):
    for tile in tiles.values():
      tile.reload()
    for time, event in timed(list(group)):
      if (slot := getattr(event, 'i', None)) is not None:
        tiles.setdefault(slot, _TileReplay(thin)).add(time, event)
  return Grid(replay_visit(batches), {slot: tiles[slot].end() for slot in sorted(tiles)})


class _TileReplay:
  """Replays the events of one image of a grid."""

  def __init__(self, thin: bool) -> None:
    self._tile = Tile()
    self._trace = _Trace(thin)
    self._is_hovered = False
    self._since: float | None = None  # start of the interval hovered and not selected
    self._estimate: float | None = None

  def add(self, time: float, event: Event) -> None:
    tile = self._tile
    match event:
      case events.Move() if not tile.selected:
        self._trace.add(time, event.x, event.y)
        self._estimate = self._estimate or 0.0  # as the authors do: from the first move on
        self._since = time if self._since is None else self._since
        self._is_hovered = True
      case events.Enter() | events.Leave():
        self._is_hovered = isinstance(event, events.Enter)
        tile.hovers.append(Hover(round(time), 'enter' if self._is_hovered else 'leave'))
        self._trace.end_stroke()
        self._count(time)
      case events.On() | events.Off():
        tile.selected = isinstance(event, events.On)
        self._trace.end_stroke()
        self._count(time)
        if isinstance(event, events.On) and event.s != 'undo':
          tile.selected_count += 1
          if event.x is not None and event.y is not None:  # else a key: no point is invented
            tile.clicks.append(Click(round(time), event.x, event.y, event.s))
      case events.Box():
        tile.box = event
      case events.Broken():
        tile.is_reported = True

  def _count(self, time: float) -> None:
    """Closes the interval in which the image was hovered and not selected, or opens one."""
    if self._estimate is None:
      return
    if self._since is not None:
      self._estimate += max(time - self._since, 0.0)
    self._since = time if self._is_hovered and not self._tile.selected else None

  def reload(self) -> None:
    """The page was loaded again: nothing is hovered, and an open interval does not count."""
    self._is_hovered, self._since = False, None
    self._trace.end_stroke()

  def end(self) -> Tile:
    self._trace.end_stroke()
    self._tile.trace = self._trace.positions
    if self._estimate is not None:
      self._tile.estimate_time_ms = round(self._estimate)
    return self._tile


class _Trace:
  """Positions of the cursor: all, or the first of each 1/MAX_RATE s and the last of a stroke."""

  def __init__(self, thin: bool, start: float = 0.0) -> None:
    self.positions: list[Position] = []
    self._thin, self._start = thin, start
    self._kept = -float('inf')  # time of the last position kept
    self._left_out: Position | None = None

  def add(self, time: float, x: float, y: float) -> None:
    position = Position(round(time - self._start), x, y)
    if self._thin and 0 <= time - self._kept < 1000 / MAX_RATE:
      self._left_out = position
    else:
      self.positions.append(position)
      self._kept, self._left_out = time, None

  def end_stroke(self) -> None:
    """Keeps the last position before something else happened."""
    if self._left_out:
      self.positions.append(self._left_out)
      self._left_out = None


def replay_icons(batches: Sequence[Batch], *, thin: bool = False) -> Icons:
  """Replays a page of icons; `thin` as in `replay_grid`."""
  visit = replay_visit(batches)
  page = Icons(visit, [], [], [], [], {}, round(visit.ended - visit.opened), None, False)
  trace = _Trace(thin, visit.opened)
  for time, event in timed(batches):
    at = round(time - visit.opened)
    match event:
      case events.Move():
        trace.add(time, event.x, event.y)
        continue
      case events.Drag():
        page.drags.append(Position(at, event.x, event.y))
      case events.Tab():
        page.tabs.append(TabVisit(at, event.k, event.s in _KEYBOARD))
      case events.Put():
        start, end = page.icons.get(event.c), (event.x, event.y)
        action = 'move' if start else 'add'
        page.actions.append(IconAction(at, action, event.c, start, end, event.s))
        page.icons[event.c] = end
      case events.Remove() if start := page.icons.pop(event.c, None):
        page.actions.append(IconAction(at, 'remove', event.c, start, None, event.s))
      case events.Box():
        page.box = event
      case events.Broken():
        page.is_reported = True
    trace.end_stroke()
  trace.end_stroke()
  page.trace, page.icons = trace.positions, dict(sorted(page.icons.items()))
  return page
