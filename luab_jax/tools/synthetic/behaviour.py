"""Simulates workers of the ImageNet interface: clicks, mouse traces, hovers and times.

Points are (x right, y down) relative to the image as shown, as the authors' interfaces record them:
whole screen pixels divided by the shown size. Times are whole milliseconds.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from luab_jax.byproducts.imagenet_ab import Block
from luab_jax.byproducts.imagenet_ab_writer import Showing, TimedPoint
from luab_jax.tools.synthetic.scene import Object, Scene

_WORKERS = 60
_START = 1640942069944  # ms since 1970, within the days in which ImageNet-AB was recorded
_DAYS = 30

Point = tuple[float, float]  # (x, y)


@dataclasses.dataclass(frozen=True)
class Target:
  """Where a worker aims: center (x, y) and radius (rx, ry) relative to the image."""

  center: Point
  radius: Point


def target_of(obj: Object, scene: Scene) -> Target:
  """Returns an object of a scene as a target."""
  (x, y), (w, h) = obj.center, (scene.width, scene.height)
  return Target((x / w, y / h), (obj.radius / w, obj.radius / h))


def aim(rng: np.random.Generator, target: Target, width: int, height: int) -> Point:
  """Draws a click on the object, (x, y) at a whole pixel of the shown `width` × `height`.

  The noise is normal, with a standard deviation of 0.2 radii, clipped at 0.45 radii so that the
  point lies in the box of every shape (the triangle's incircle has 0.5 radii).
  """
  offset = rng.normal(0, 0.2, 2)
  offset *= min(1.0, 0.45 / np.hypot(*offset))
  point = np.asarray(target.center) + offset * target.radius
  return on_pixels(point, width, height)


def on_pixels(point: Sequence[float] | np.ndarray, width: int, height: int) -> Point:
  """Rounds a relative point to the nearest whole screen pixel."""
  return round(float(point[0]) * width) / width, round(float(point[1]) * height) / height


def decision_time(rng: np.random.Generator) -> int:
  """Draws the milliseconds from arrival to click.

  Log-normal around 0.6 s; 2 % are slower, up to 40 s, and 3 % take a few milliseconds (bots).
  """
  kind = rng.random()
  if kind < 0.03:
    return int(rng.integers(2, 12))
  slow = rng.uniform(3, 12) if kind > 0.98 else 1.0
  return int(np.clip(slow * np.exp(rng.normal(np.log(600), 0.7)), 30, 40_000))


def stroke(
  rng: np.random.Generator,
  start: Point,
  end: Point,
  begin: int,
  duration: int,
  width: int,
  height: int,
) -> list[TimedPoint]:
  """Simulates cursor positions on the way from `start` to `end`, the last one exactly at `end`.

  Minimum-jerk profile (Flash and Hogan, 1985), slightly curved, with tremor. Events come at 60 Hz
  at most and only while the cursor moves; the rest of a long `duration` is a pause on the way.

  Args:
    rng: source of randomness.
    start, end: (x, y) relative to the image.
    begin: time of the first position in ms.
    duration: ms from the first position to the last; below 17, only the last is returned.
    width, height: size of the image as shown, in pixels.

  Returns:
    (time, x, y) of each position, times strictly increasing.
  """
  moving = min(duration, int(rng.uniform(250, 1100)))
  gaps = 17 + np.floor(rng.exponential(4.0, size=moving // 17))
  clock = np.cumsum(gaps)
  clock = clock[clock < moving]
  time = np.concatenate([[0], clock, [moving]])
  if len(clock) and moving - clock[-1] < 17:  # the last gap keeps to 60 Hz as well
    time = np.delete(time, -2)
  if moving < 17:
    time = np.array([moving])
  s = time / max(moving, 1)
  s = s**3 * (10 - 15 * s + 6 * s**2)
  way = np.subtract(end, start)
  across = way[::-1] * (-1, 1)
  bow = rng.normal(0, 0.12) * np.sin(np.pi * s)
  path = np.asarray(start) + s[:, None] * way + bow[:, None] * across
  path[:-1] += rng.normal(0, 0.004, (len(path) - 1, 2))
  path[-1] = end
  rest_at = rng.uniform(0.2, 0.8) * moving
  time = begin + time + np.where(time > rest_at, duration - moving, 0)
  inside = np.clip(path, 0, 1)
  return [
    (int(t), *on_pixels(point, width, height))
    for t, point in zip(time.tolist(), inside, strict=True)
  ]


def edge_point(rng: np.random.Generator) -> Point:
  """Draws where a cursor enters the image: (x, y) uniform over its four sides."""
  along = float(rng.random())
  return [(0.0, along), (1.0, along), (along, 0.0), (along, 1.0)][rng.integers(4)]


def simulate_showings(
  rng: np.random.Generator, target: Target, image_width: int, image_height: int
) -> list[Showing]:
  """Simulates all showings of one image to workers of the ImageNet interface, 0 to 3 of them."""
  count = rng.choice(4, p=(0.01, 0.84, 0.12, 0.03))
  return [_simulate_showing(rng, target, image_width, image_height) for _ in range(count)]


def _simulate_showing(
  rng: np.random.Generator, target: Target, image_width: int, image_height: int
) -> Showing:
  scale = 150 / min(image_width, image_height)
  cursor = _Cursor(rng, round(image_width * scale), round(image_height * scale))
  place: dict[str, Any] = {
    'shown_width': cursor.width,
    'shown_height': cursor.height,
    'shown_x': int(rng.integers(0, 1600)),
    'shown_y': int(rng.integers(100, 2400)),
    'page_idx': int(rng.integers(10)),
    'original_width': image_width,
    'original_height': image_height,
  }
  ids: dict[str, Any] = {
    'assignment_id': f'3SYNTHETIC{_hex(rng, 20)}',
    'hit_id': f'3SYNTHETIC{_hex(rng, 20)}',
    'worker_id': f'SYNTH{int(rng.integers(_WORKERS)):05X}',
  }
  if rng.random() >= 0.9:
    place = {}  # not recorded
  estimate_time = decision_time(rng)
  cursor.clock = _START + int(rng.integers(_DAYS * 86_400_000))
  if rng.random() < 0.15:  # passes over the image without deciding
    cursor.pass_over()
  kind = rng.random()
  if kind < 0.04:  # not selected, the cursor never came near
    cursor.trace.clear()
    cursor.hovers.clear()
  elif kind < 0.06:  # not selected, only looked at
    cursor.pass_over()
  else:
    spots = [aim(rng, target, cursor.width, cursor.height)]
    if 0.08 <= kind < 0.13:  # clicked in haste, deselected, and clicked again on the object
      spots.insert(0, on_pixels(rng.uniform(0.05, 0.95, 2), cursor.width, cursor.height))
    cursor.click_on(spots, estimate_time)
  block = Block(
    **ids,
    **place,
    selected=kind >= 0.08,  # from 0.06 to 0.08, it is deselected for good after the click
    selected_count=len(cursor.clicks),
    estimate_time_ms=estimate_time,
  )
  return Showing(block, cursor.clicks, cursor.trace, cursor.hovers)


class _Cursor:
  """The mouse over one showing of an image.

  Attributes:
    width, height: size of the image as shown, in pixels.
    clock: current time in ms since 1970.
    clicks, trace, hovers: as in Showing; the trace is recorded while the image is not selected.
  """

  def __init__(self, rng: np.random.Generator, width: int, height: int):
    self._rng = rng
    self.width = width
    self.height = height
    self.clock = 0
    self.clicks: list[TimedPoint] = []
    self.trace: list[TimedPoint] = []
    self.hovers: list[tuple[int, str]] = []

  def pass_over(self) -> None:
    """Crosses the image and leaves."""
    rng = self._rng
    duration = int(rng.uniform(120, 700))
    self.hovers += [(self.clock, 'enter'), (self.clock + duration, 'leave')]
    self._move(edge_point(rng), edge_point(rng), duration)
    self.clock += int(rng.uniform(200, 5000))

  def click_on(self, spots: list[Point], duration: int) -> None:
    """Enters, clicks on each of `spots` (deselecting in between) and leaves.

    Args:
      spots: (x, y) relative to the image.
      duration: ms to the first click.
    """
    rng = self._rng
    self.hovers.append((self.clock, 'enter'))
    start = edge_point(rng)
    for spot in spots:
      self._move(start, spot, duration)
      self.clicks.append((self.clock, *spot))
      self.clock += int(rng.uniform(300, 1500))  # to the click that deselects, not recorded
      start, duration = spot, int(rng.uniform(250, 900))
    self.hovers.append((self.clock, 'leave'))

  def _move(self, start: Point, end: Point, duration: int) -> None:
    self.trace += stroke(self._rng, start, end, self.clock, duration, self.width, self.height)
    self.clock += duration


def _hex(rng: np.random.Generator, digits: int) -> str:
  return rng.bytes((digits + 1) // 2).hex().upper()[:digits]
