"""When a page was open and visible, by the browser's clock."""

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from luab_jax.tools.annotate import events
from luab_jax.tools.annotate.events import Batch, Event

PAUSE_MS = 10_000.0  # a longer pause between two events counts as this much active time


class Window(NamedTuple):
  """Size of the window, in CSS px, from a time on."""

  time_ms: int
  width: float
  height: float
  dpr: float  # device pixels per CSS px


@dataclasses.dataclass
class Visit:
  """The time that a worker spent on a page."""

  opened: float = 0.0  # ms since 1970
  ended: float = 0.0  # when the last batch was closed
  visible_ms: float = 0.0  # while the tab was visible
  active_ms: float = 0.0  # the same, with pauses capped at PAUSE_MS
  windows: list[Window] = dataclasses.field(default_factory=list)
  sources: dict[str, int] = dataclasses.field(default_factory=dict)  # of actions, by device


def replay_visit(batches: Sequence[Batch]) -> Visit:
  """Returns how long the page was open and visible; time across a reload does not count."""
  visit, sources = Visit(opened=_opened(batches)), collections.Counter[str]()
  last: float | None = None  # time of the last event
  is_visible, origin = True, 0.0
  for batch in batches:
    if batch.origin != origin:
      is_visible, last, origin = True, None, batch.origin
    for event in [*batch.events, None]:  # None: the batch was closed
      time = batch.origin + (event.t if event else batch.sent)
      if is_visible and last is not None:
        visit.visible_ms += max(time - last, 0.0)
        visit.active_ms += min(max(time - last, 0.0), PAUSE_MS)
      if isinstance(event, events.Hide | events.Show):
        is_visible = isinstance(event, events.Show)
      elif isinstance(event, events.Page):
        visit.windows.append(Window(round(time), event.w, event.h, event.dpr))
      elif event and hasattr(event, 's'):
        sources[event.s] += 1
      last = time
    visit.ended = batch.origin + batch.sent
  visit.sources = dict(sorted(sources.items()))
  return visit


def _opened(batches: Sequence[Batch]) -> float:
  """Returns when the page was opened for the first time; 0 without a batch."""
  pages = (time for time, event in timed(batches) if isinstance(event, events.Page))
  return next(itertools.chain(pages, (time for time, _ in timed(batches))), 0.0)


def timed(batches: Sequence[Batch]) -> Iterator[tuple[float, Event]]:
  """Yields (ms since 1970, event)."""
  return ((batch.origin + event.t, event) for batch in batches for event in batch.events)
