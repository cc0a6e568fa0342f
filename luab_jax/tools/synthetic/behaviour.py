"""What workers do: clicks, mouse tracks, hovers and times, simulated from where the object is.

Points are (x right, y down) relative to the image as shown, as the authors' interfaces record them:
whole screen pixels divided by the shown size. Times are whole milliseconds.
"""

import dataclasses

import numpy as np

_WORKERS = 60
_START = 1640942069944  # ms since 1970, within the days in which ImageNet-AB was recorded
_DAYS = 30


@dataclasses.dataclass(frozen=True)
class Target:
  """Where a worker aims: centre (x, y) and radius (rx, ry) relative to the image."""

  center: tuple[float, float]
  radius: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Shown:
  """Size and place of an image on the worker's page, in screen pixels."""

  width: int
  height: int
  left: int
  top: int
  page: int


@dataclasses.dataclass
class Block:
  """One showing of an image in the ImageNet interface: the content of one `metadata` element.

  Attributes:
    shown: Shown, or None where the interface did not record it.
    estimate_time: ms from the cursor's arrival to the decision.
    selected: final state when the page was submitted.
    clicks: (time, x, y) of each toggle-on.
    track: (time, x, y) of the cursor while the image was not selected.
    hovers: (time, 'enter' or 'leave').
  """

  assignment_id: str
  hit_id: str
  worker_id: str
  shown: Shown | None
  estimate_time: int
  selected: bool = True
  clicks: list[tuple[int, float, float]] = dataclasses.field(default_factory=list)
  track: list[tuple[int, float, float]] = dataclasses.field(default_factory=list)
  hovers: list[tuple[int, str]] = dataclasses.field(default_factory=list)


def target_of(obj, scene):
  """The Target of a `scene.Object` in a `scene.Scene`."""
  (x, y), (w, h) = obj.center, (scene.width, scene.height)
  return Target((x / w, y / h), (obj.radius / w, obj.radius / h))


def aim(rng, target, width, height):
  """A click on the object, (x, y) in whole pixels of the shown `width` × `height`.

  A fifth of the radius of normal noise, cut off at 0.45 radii: that far in, every shape's box still
  holds the point (the triangle's incircle has 0.5 radii).
  """
  offset = rng.normal(0, 0.2, 2)
  offset *= min(1.0, 0.45 / np.hypot(*offset))
  point = np.asarray(target.center) + offset * target.radius
  return on_pixels(point, width, height)


def on_pixels(point, width, height):
  """The nearest whole screen pixel, relative again."""
  return round(float(point[0]) * width) / width, round(float(point[1]) * height) / height


def decision_time(rng):
  """Milliseconds from arrival to click: log-normal around 0.6 s, slow ones of up to half a minute,
  and one in thirty within a few milliseconds (bots)."""
  kind = rng.random()
  if kind < 0.03:
    return int(rng.integers(2, 12))
  slow = rng.uniform(3, 12) if kind > 0.98 else 1.0
  return int(np.clip(slow * np.exp(rng.normal(np.log(600), 0.7)), 30, 40_000))


def stroke(rng, start, end, begin, duration, width, height):
  """Cursor positions on the way from `start` to `end`, the last one exactly at `end`.

  Minimum-jerk profile (Flash and Hogan, 1985), bowed a little to one side, with tremor. Events come
  at 60 Hz at most and only while the cursor moves: what is left of a long `duration` is a rest on
  the way.

  Args:
    rng: numpy Generator.
    start, end: (x, y) relative to the image.
    begin: time of the first position, ms.
    duration: ms from the first position to the last, which is then alone if it is below 17.
    width, height: shown size in pixels.

  Returns:
    List of (time, x, y), times strictly increasing.
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
  start, end = np.asarray(start), np.asarray(end)
  across = (end - start)[::-1] * (-1, 1)
  bow = rng.normal(0, 0.12) * np.sin(np.pi * s)
  path = start + s[:, None] * (end - start) + bow[:, None] * across
  path[:-1] += rng.normal(0, 0.004, (len(path) - 1, 2))
  path[-1] = end
  rest_at = rng.uniform(0.2, 0.8) * moving
  time = begin + time + np.where(time > rest_at, duration - moving, 0)
  inside = np.clip(path, 0, 1)
  return [
    (int(t), *on_pixels(point, width, height))
    for t, point in zip(time.tolist(), inside, strict=True)
  ]


def edge_point(rng):
  """Where a cursor enters the image: (x, y) uniform over its four sides."""
  along = float(rng.random())
  return [(0.0, along), (1.0, along), (along, 0.0), (along, 1.0)][rng.integers(4)]


def simulate_blocks(rng, target, image_width, image_height):
  """All showings of one image to workers of the ImageNet interface, 0 to 3 of them."""
  shows = rng.choice(4, p=(0.01, 0.84, 0.12, 0.03))
  return [_simulate_block(rng, target, image_width, image_height) for _ in range(shows)]


def _simulate_block(rng, target, image_width, image_height):
  scale = 150 / min(image_width, image_height)
  shown = Shown(
    width=round(image_width * scale),
    height=round(image_height * scale),
    left=int(rng.integers(0, 1600)),
    top=int(rng.integers(100, 2400)),
    page=int(rng.integers(10)),
  )
  block = Block(
    assignment_id=f'3SYNTHETIC{_hex(rng, 20)}',
    hit_id=f'3SYNTHETIC{_hex(rng, 20)}',
    worker_id=f'SYNTH{int(rng.integers(_WORKERS)):05X}',
    shown=shown if rng.random() < 0.9 else None,
    estimate_time=decision_time(rng),
  )
  clock = _START + int(rng.integers(_DAYS * 86_400_000))
  if rng.random() < 0.15:  # passes over the image without deciding
    clock = _pass_over(rng, block, shown, clock)
  kind = rng.random()
  if kind < 0.04:  # unselected, the cursor never came near
    block.selected = False
    block.track.clear()
    block.hovers.clear()
  elif kind < 0.06:  # unselected, looked at only
    block.selected = False
    _pass_over(rng, block, shown, clock)
  else:
    spots = [aim(rng, target, shown.width, shown.height)]
    if kind < 0.08:  # selected and then deselected for good
      block.selected = False
    elif kind < 0.13:  # clicked in haste, deselected, and clicked again on the object
      spots.insert(0, on_pixels(rng.uniform(0.05, 0.95, 2), shown.width, shown.height))
    _click_on(rng, block, shown, clock, spots)
  return block


def _pass_over(rng, block, shown, clock):
  """The cursor crosses the image and leaves; returns the time a little after."""
  duration = int(rng.uniform(120, 700))
  block.hovers += [(clock, 'enter'), (clock + duration, 'leave')]
  block.track += stroke(
    rng, edge_point(rng), edge_point(rng), clock, duration, shown.width, shown.height
  )
  return clock + duration + int(rng.uniform(200, 5000))


def _click_on(rng, block, shown, clock, spots):
  """The cursor enters, clicks on each of `spots` (deselecting in between) and leaves."""
  block.hovers.append((clock, 'enter'))
  start = edge_point(rng)
  duration = block.estimate_time
  for spot in spots:
    block.track += stroke(rng, start, spot, clock, duration, shown.width, shown.height)
    clock += duration
    block.clicks.append((clock, *spot))
    clock += int(rng.uniform(300, 1500))  # until the click that deselects, which is not recorded
    start, duration = spot, int(rng.uniform(250, 900))
  block.hovers.append((clock, 'leave'))


def _hex(rng, digits):
  return rng.bytes((digits + 1) // 2).hex().upper()[:digits]
