"""Scripted workers: the batches that a browser would send for a page, without a browser.

A worker is told where the objects on the page are (`wanted`) and answers in one of the manners
below. Everything is determined by the seed.
"""

import dataclasses
import math
import random

from luab_jax.tools.annotate import events as ev

MANNERS = ('careful', 'hasty', 'teleporting', 'straight', 'all', 'none')
ORIGIN = 1_800_000_000_000.0  # performance.timeOrigin of the first browser
_FRAME = 1000 / 60
_WIDTH, _GAP, _TOP = 340, 4, 150  # of a tile, between tiles, of the first tile; CSS px


@dataclasses.dataclass
class Answer:
  """What a page's browser sends.

  Attributes:
    batches: one per second, numbered from 0; `lease` is 1 and `tab` all zeros until changed.
    submit: the final state.
  """

  batches: list[ev.Batch]
  submit: ev.Submit


class _Browser:
  """Clock, cursor (CSS px of the document) and events so far."""

  def __init__(self, seed, boxes, origin):
    self.random, self.boxes, self.origin = random.Random(seed), boxes, origin
    self.now, self.cursor, self.over, self.events = 900.0, (600.0, 60.0), None, []
    self.still = set()  # selected slots: no moves are recorded on them
    self.add(ev.Page, w=1280, h=720, dpr=1.5)
    for i, (x, y, w, h) in enumerate(boxes):
      self.add(ev.Box, i=i, x=x, y=y, w=w, h=h)

  def add(self, kind, **fields):
    self.events.append(kind(t=round(self.now, 3), **fields))

  def wait(self, ms):
    self.now += ms

  def pixels(self, slot, point):
    x, y, w, h = self.boxes[slot]
    return x + point[0] * w, y + point[1] * h

  def point(self, slot):
    """The cursor in fractions of an image."""
    x, y, w, h = self.boxes[slot]
    return {'x': round((self.cursor[0] - x) / w, 6), 'y': round((self.cursor[1] - y) / h, 6)}

  def _at(self, cursor):
    inside = (
      i
      for i, (x, y, w, h) in enumerate(self.boxes)
      if x <= cursor[0] < x + w and y <= cursor[1] < y + h
    )
    return next(inside, None)

  def step(self, cursor, dragged=None):
    """Moves the cursor there within one frame."""
    self.now += _FRAME
    self.cursor, slot = cursor, self._at(cursor)
    if dragged is not None:
      self.add(ev.Drag, c=dragged, **self.point(0))
      return
    if slot != self.over:
      if self.over is not None:
        self.add(ev.Leave, i=self.over)
      if slot is not None:
        self.add(ev.Enter, i=slot)
      self.over = slot
    if slot is not None and slot not in self.still:
      self.add(ev.Move, i=slot, **self.point(slot))

  def go(self, target, ms, bend=0.15, dragged=None):
    """Moves to `target` in `ms`: on an arc with a slow start and end, or straight if bend=0."""
    (x0, y0), (x1, y1) = self.cursor, target
    frames, bend = max(2, round(ms / _FRAME)), bend * self.random.uniform(-1, 1)
    for k in range(1, frames + 1):
      s = k / frames
      if bend:
        s = s * s * (3 - 2 * s)
      arc = bend * math.sin(math.pi * s)
      x, y = x0 + s * (x1 - x0) - arc * (y1 - y0), y0 + s * (y1 - y0) + arc * (x1 - x0)
      self.step(target if k == frames else (round(x, 2), round(y, 2)), dragged)

  def batches(self):
    """The events in batches of one second."""
    seconds: dict[int, list[ev.Event]] = {}
    for event in self.events:
      seconds.setdefault(int(event.t // 1000), []).append(event)
    return [
      ev.Batch(1, '0' * 16, seq, self.origin, round(events[-1].t + 20, 3), events)
      for seq, events in enumerate(seconds.values())
    ]


def _grid_boxes(shapes):
  """Boxes (x, y, w, h) in CSS px of images of these (width, height), in three columns."""
  boxes, y = [], float(_TOP)
  for row in range(0, len(shapes), 3):
    heights = [min(340.0, _WIDTH * h / w) for w, h in shapes[row : row + 3]]
    for k, ((w, h), height) in enumerate(zip(shapes[row : row + 3], heights, strict=True)):
      width = height * w / h
      x = 126 + k * (_WIDTH + _GAP) + (_WIDTH - width) / 2
      boxes.append((round(x, 3), y, round(width, 3), round(height, 3)))
    y = round(y + max(heights) + _GAP, 3)
  return boxes


def _toggle(browser, slot, source='mouse'):
  browser.still.add(slot)
  browser.add(ev.On, i=slot, s=source, **browser.point(slot))


def grid(manner, shapes, wanted, seed=0, origin=ORIGIN):
  """An answer to a grid.

  Args:
    manner: one of MANNERS.
    shapes: (width, height) of the images, by slot.
    wanted: {slot: (x, y) as fractions} of the images that hold the class.
    seed: of this answer.
    origin: ms since 1970 at which the browser opened the page.
  """
  browser = _Browser(seed, _grid_boxes(shapes), origin)
  draw, chosen = browser.random, []
  for slot in range(len(shapes)):
    point = wanted.get(slot)
    if manner == 'hasty':
      point = (draw.uniform(0.4, 0.6), draw.uniform(0.4, 0.6)) if draw.random() < 0.5 else None
    elif manner == 'all':
      point = (0.5, 0.5)
    elif manner == 'none' or (manner == 'careful' and draw.random() < 0.03):
      point = None
    elif point is not None:
      point = tuple(min(0.99, max(0.01, v + draw.gauss(0, 0.02))) for v in point)
    if manner == 'careful':
      browser.go(browser.pixels(slot, (draw.uniform(0.3, 0.7), draw.uniform(0.3, 0.7))), 260)
      browser.wait(draw.uniform(150, 700))
    if point is None:
      continue
    chosen.append(slot)
    target = browser.pixels(slot, point)
    if manner == 'teleporting':
      browser.wait(400)
      browser.cursor = target
    else:
      ms, bend = {'careful': (420, 0.15), 'hasty': (90, 0.15)}.get(manner, (200, 0))
      browser.go(target, ms, bend)
    browser.wait(draw.uniform(90, 300) if manner == 'careful' else 8)
    _toggle(browser, slot)
  browser.go((600, 60), 300)
  return Answer(browser.batches(), _submit(browser, selected=chosen))


def icons(manner, shape, wanted, tabs, seed=0, origin=ORIGIN):
  """An answer to an image with icons: careful, hasty (one icon) or none.

  Args:
    manner: one of MANNERS.
    shape: (width, height) of the image.
    wanted: {class: (x, y) as fractions} of the objects.
    tabs: lists of classes, one for each tab of the icon bar.
    seed: of this answer.
    origin: ms since 1970 at which the browser opened the page.
  """
  width, height = shape
  shown = (160.0, 120.0, round(450 * width / height, 3), 450.0)
  browser = _Browser(seed, [shown], origin)
  draw, placed = browser.random, {}
  for k, classes in enumerate(tabs):
    if k:
      browser.wait(draw.uniform(300, 900) if manner == 'careful' else 60)
      browser.add(ev.Tab, k=k, s='mouse')
    for c in classes:
      if c not in wanted or manner == 'none' or (manner == 'hasty' and placed):
        continue
      point = wanted[c]
      browser.go((200 + 80 * classes.index(c), 640), 300)  # the bar, below the image
      browser.go(browser.pixels(0, [v + draw.gauss(0, 0.01) for v in point]), 500, 0.1, dragged=c)
      browser.wait(30)
      placed[c] = browser.point(0)
      browser.add(ev.Put, c=c, s='mouse', **placed[c])
  browser.go((1000, 640), 300)
  marks = [ev.Placed(c=c, **point) for c, point in sorted(placed.items())]
  return Answer(browser.batches(), _submit(browser, icons=marks))


def _submit(browser, **state):
  return ev.Submit(1, '0' * 16, len(browser.batches()) - 1, **state)
