"""How an answer was produced: features and flags that help people judge it, and reject nothing.

`grid_features` and `icon_features` describe one answer (of one worker to one page), `merge` adds
up several, such as all of one worker, and `flags` names what is conspicuous about either:

| flag | meaning |
|---|---|
| gold_missed | too few of the known positives are chosen: below GOLD_FOUND with 95 % confidence |
| false_alarms | too many known negatives are: above GOLD_FALSE with 95 % confidence |
| disagrees | shares less than AGREEMENT of what it or another answer chose |
| fast | active time per image below FAST of the median of the study |
| all, none | everything, or nothing, is selected on more than half of the pages |
| same_point | more than half of the clicks are at the same position in their images |
| no_moves | more than half of the clicks and drops by mouse have no movement before them |
| straight | most movements are straight and without a pause (Mok et al., SIGCOMM 2014) |
| outside_boxes | too few points lie in a box of their class: below IN_BOX with 95 % confidence |

Shares of clicks and movements are judged only if there are at least MIN_COUNT.
"""

import itertools
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from luab_jax.tools.annotate.events import Box
from luab_jax.tools.annotate.replay import Grid, Icons, Position
from luab_jax.tools.annotate.visits import Visit

GOLD_FOUND = 0.8
GOLD_FALSE = 0.2
AGREEMENT = 0.5
FAST = 0.33
IN_BOX = 0.5
MIN_COUNT = 5
_Z = 1.959964  # of a 95 % interval
_STRAIGHT = 0.998  # chord / path length, above which a movement counts as straight
_STRAIGHT_SHARE = 0.7
_PAUSE_MS = 100.0
_MIN_POSITIONS, _MIN_PX = 4, 40.0  # shorter movements are not judged

XYWH = tuple[float, float, float, float]  # a box as fractions of the image


class Features(msgspec.Struct):
  """Counts and times of one or several answers."""

  pages: int = 0
  images: int = 0
  active_ms: float = 0.0  # see visits.Visit
  visible_ms: float = 0.0
  chosen: int = 0  # images selected at the end, or icons on the image
  pages_all: int = 0  # everything selected
  pages_none: int = 0
  gold_positive: int = 0  # images known to contain the class, or classes known to be present
  gold_found: int = 0  # of these selected
  gold_negative: int = 0
  gold_false: int = 0
  compared: int = 0  # (image or icon, other answer) where either chose it
  agreed: int = 0  # of these where both did
  mouse_clicks: int = 0  # by mouse, clicks or drops
  unmoved_clicks: int = 0  # of these without a preceding movement
  movements: int = 0  # long enough to be judged
  straight_movements: int = 0  # of these straight and without a pause
  boxed: int = 0  # points of classes whose boxes are known
  in_box: int = 0
  points: dict[str, int] = {}  # {place of clicks, to a hundredth of the image: how many}


def wilson(count: int, of: int) -> tuple[float, float]:
  """Returns the 95 % score interval of a proportion (E. B. Wilson, 1927); (0, 1) if `of` is 0."""
  if not of:
    return 0.0, 1.0
  share, z2 = count / of, _Z * _Z / of
  middle = (share + z2 / 2) / (1 + z2)
  half = _Z * math.sqrt(share * (1 - share) / of + z2 / of / 4) / (1 + z2)
  return max(middle - half, 0.0), min(middle + half, 1.0)


def grid_features(
  page: Grid,
  images: int,
  gold: Mapping[int, bool],
  others: Iterable[Collection[int]] = (),
  boxes: Mapping[int, Sequence[XYWH]] | None = None,
) -> Features:
  """Returns the features of an answer to a grid.

  Args:
    page: the replayed page.
    images: number of images on it.
    gold: {slot: whether it contains the class}, where that is known.
    others: the selected slots of each other answer to this page.
    boxes: {slot: boxes of the class}, where they are known.
  """
  chosen = {slot for slot, tile in page.tiles.items() if tile.selected}
  found = _visit_features(page.visit, images, len(chosen))
  found.pages_all = int(len(chosen) == images > 0)
  found.gold_positive, found.gold_negative = sum(gold.values()), len(gold) - sum(gold.values())
  found.gold_found = sum(gold.get(slot) is True for slot in chosen)
  found.gold_false = sum(gold.get(slot) is False for slot in chosen)
  _compare(found, chosen, others)
  toggles, path = [], []
  for slot, tile in page.tiles.items():
    for click in tile.clicks:
      toggles.append(click.time_ms)
      _count_point(found, click.x, click.y, (boxes or {}).get(slot))
      if click.source == 'mouse':
        before = [hover.action for hover in tile.hovers if hover.time_ms <= click.time_ms]
        found.mouse_clicks += 1
        found.unmoved_clicks += before[-1:] != ['enter']
    path += _in_pixels(tile.trace, tile.box)
  _count_movements(found, sorted(path), sorted(toggles))
  return found


def icon_features(
  page: Icons,
  others: Iterable[Collection[int]] = (),
  boxes: Mapping[int, Sequence[XYWH]] | None = None,
) -> Features:
  """Returns the features of an answer to an image with icons.

  Args:
    page: the replayed page.
    others: the classes that each other answer to this image placed.
    boxes: {class: boxes of its instances}; None: not known.
  """
  found = _visit_features(page.visit, 1, len(page.icons))
  if boxes is not None:
    found.gold_positive = len(boxes)
    found.gold_found = len(boxes.keys() & page.icons)
  _compare(found, page.icons.keys(), others)
  for icon, (x, y) in page.icons.items():
    _count_point(found, x, y, None if boxes is None else boxes.get(icon, ()))
  drops = [a for a in page.actions if a.to_xy and a.source != 'undo']
  start = 0
  for drop in drops:
    if drop.source == 'mouse':
      found.mouse_clicks += 1
      found.unmoved_clicks += not any(start < p.time_ms <= drop.time_ms for p in page.drags)
    start = drop.time_ms
  _count_movements(found, _in_pixels(page.drags, page.box), [drop.time_ms for drop in drops])
  return found


def merge(answers: Iterable[Features]) -> Features:
  """Returns the features of several answers together."""
  total = Features()
  for answer in answers:
    for name in Features.__struct_fields__:
      if name == 'points':
        for place, count in answer.points.items():
          total.points[place] = total.points.get(place, 0) + count
      else:
        setattr(total, name, getattr(total, name) + getattr(answer, name))
  return total


def median_ms_per_image(answers: Iterable[Features]) -> float:
  """Returns the median active time per image over the answers of a study; 0 without any."""
  return statistics.median([a.active_ms / a.images for a in answers if a.images] or [0.0])


def flags(features: Features, median_ms: float = 0.0) -> list[str]:
  """Returns the flags that apply, in the order of the table above.

  Args:
    features: of one answer, or merged.
    median_ms: the study's median, see `median_ms_per_image`; 0: not known yet.
  """
  f = features
  clicks = sum(f.points.values())
  found = {
    'gold_missed': wilson(f.gold_found, f.gold_positive)[1] < GOLD_FOUND,
    'false_alarms': wilson(f.gold_false, f.gold_negative)[0] > GOLD_FALSE,
    'disagrees': f.compared >= MIN_COUNT and f.agreed < AGREEMENT * f.compared,
    'fast': f.images > 0 and f.active_ms / f.images < FAST * median_ms,
    'all': 2 * f.pages_all > f.pages,
    'none': 2 * f.pages_none > f.pages,
    'same_point': clicks >= MIN_COUNT and 2 * max(f.points.values()) > clicks,
    'no_moves': f.mouse_clicks >= MIN_COUNT and 2 * f.unmoved_clicks > f.mouse_clicks,
    'straight': f.movements >= MIN_COUNT and f.straight_movements >= _STRAIGHT_SHARE * f.movements,
    'outside_boxes': wilson(f.in_box, f.boxed)[1] < IN_BOX,
  }
  return [name for name, is_found in found.items() if is_found]


def _visit_features(visit: Visit, images: int, chosen: int) -> Features:
  return Features(
    pages=1,
    images=images,
    active_ms=round(visit.active_ms, 1),
    visible_ms=round(visit.visible_ms, 1),
    chosen=chosen,
    pages_none=int(chosen == 0),
  )


def _compare(found: Features, chosen: Collection[int], others: Iterable[Collection[int]]) -> None:
  """Counts what either this answer or another one chose, and what both did."""
  for other in others:
    found.compared += len({*chosen} | {*other})
    found.agreed += len({*chosen} & {*other})


def _count_point(found: Features, x: float, y: float, boxes: Sequence[XYWH] | None) -> None:
  place = f'{x:.2f} {y:.2f}'
  found.points[place] = found.points.get(place, 0) + 1
  if boxes is not None:
    found.boxed += 1
    found.in_box += any(
      left <= x <= left + width and top <= y <= top + height for left, top, width, height in boxes
    )


def _in_pixels(trace: Iterable[Position], box: Box | None) -> list[Position]:
  """Returns a trace in CSS px of the document; nothing of an image that was never shown."""
  if box is None:
    return []
  return [Position(p.time_ms, box.x + p.x * box.w, box.y + p.y * box.h) for p in trace]


def _count_movements(found: Features, path: list[Position], ends: list[int]) -> None:
  """Counts the movements to each click or drop, and those in a straight line without a pause."""
  rest = iter(path)
  position = next(rest, None)
  for end in ends:
    stroke = []
    while position and position.time_ms <= end:
      stroke.append(position)
      position = next(rest, None)
    length = sum(_distance(a, b) for a, b in itertools.pairwise(stroke))
    if len(stroke) < _MIN_POSITIONS or length < _MIN_PX:
      continue
    pause = max(b.time_ms - a.time_ms for a, b in itertools.pairwise(stroke))
    found.movements += 1
    found.straight_movements += (
      pause < _PAUSE_MS and _distance(stroke[0], stroke[-1]) > _STRAIGHT * length
    )


def _distance(a: Position, b: Position) -> float:
  return math.hypot(b.x - a.x, b.y - a.y)
