"""Simulates workers of the COCO interface: pages of class icons, dragged onto one image.

Points and times are as in `behaviour`, except that times start when the page is opened.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from luab_jax.byproducts.coco_ab_writer import Action, Point, Visit
from luab_jax.byproducts.imagenet_ab_writer import TimedPoint
from luab_jax.tools.synthetic import behaviour

PAGES = (  # the eleven pages of the interface in order, with the COCO supercategories on each
  ('PersonAccessory', ('person', 'accessory')),
  ('Animal', ('animal',)),
  ('Vehicle', ('vehicle',)),
  ('OutdoorObj', ('outdoor',)),
  ('Sports', ('sports',)),
  ('Kitchenware', ('kitchen',)),
  ('Food', ('food',)),
  ('Furniture', ('furniture',)),
  ('Appliance', ('appliance',)),
  ('Electronics', ('electronic',)),
  ('IndoorObjects', ('indoor',)),
)


@dataclasses.dataclass
class Session:
  """What is recorded while a worker places icons on one image.

  Attributes:
    width, height: size of the image as shown, in pixels.
    time: ms since the page was opened; at the end the time spent.
    actions, visits: of icons and of pages of icons, in order of time.
    trace: (time in ms, x, y) of the cursor.
  """

  width: int
  height: int
  time: int = 0
  actions: list[Action] = dataclasses.field(default_factory=list)
  visits: list[Visit] = dataclasses.field(default_factory=list)
  trace: list[TimedPoint] = dataclasses.field(default_factory=list)

  def open_page(self, index: int, using_keyboard: bool) -> None:
    self.visits.append(Visit(index, PAGES[index][0], self.time, using_keyboard))

  def act(self, action: str, icon: str, from_xy: Point | None, to_xy: Point | None) -> None:
    self.actions.append(Action(action, icon, self.time, from_xy, to_xy))

  def drag(self, rng: np.random.Generator, start: Point, end: Point) -> None:
    """Moves the cursor to `end`; time passes."""
    duration = int(rng.uniform(300, 1500))
    x, y = (min(max(value, 0.0), 1.0) for value in end)
    self.trace += behaviour.stroke(rng, start, (x, y), self.time, duration, self.width, self.height)
    self.time += duration


def simulate_session(
  rng: np.random.Generator,
  targets: Mapping[str, behaviour.Target],
  page_of: Mapping[str, int],
  absent: Sequence[str],
  image_width: int,
  image_height: int,
) -> Session:
  """Simulates one worker's session on one image.

  Of the classes on an image, 8 % are missed, 15 % are dropped elsewhere first and then moved to the
  object, and 3 % are removed again. On 5 % of the images an absent class is placed and removed, on
  2 % it stays.

  Args:
    rng: source of randomness.
    targets: {class name: one of its objects}, the classes on the image.
    page_of: {class name: index into PAGES}.
    absent: names of classes not on the image, one of which a careless worker may pick.
    image_width, image_height: size of the stored image in pixels.
  """
  scale = 450 / max(image_width, image_height)
  session = Session(round(image_width * scale), round(image_height * scale))
  session.time = int(rng.uniform(800, 4000))
  using_keyboard = bool(rng.random() < 0.2)
  mistaken = rng.choice(absent) if rng.random() < 0.07 else None
  for page in range(len(PAGES)):
    session.open_page(page, using_keyboard)
    session.time += int(rng.uniform(150, 900))
    for name in sorted(n for n in targets if page_of[n] == page):
      if rng.random() >= 0.08:
        _place_icon(rng, session, name, targets[name])
    if mistaken is not None and page_of[mistaken] == page:
      _mistake(rng, session, str(mistaken))
  session.time += int(rng.uniform(300, 6000))
  return session


def _place_icon(
  rng: np.random.Generator, session: Session, name: str, target: behaviour.Target
) -> None:
  """Drags an icon onto its object, sometimes in two moves, sometimes only to remove it again."""
  spot = behaviour.aim(rng, target, session.width, session.height)
  kind = rng.random()
  if kind < 0.15:
    first = behaviour.on_pixels(rng.uniform(-0.02, 1.02, 2), session.width, session.height)
    session.drag(rng, behaviour.edge_point(rng), first)
    session.act('add', name, None, first)
    session.drag(rng, first, spot)
    session.act('move', name, first, spot)
  else:
    session.drag(rng, behaviour.edge_point(rng), spot)
    session.act('add', name, None, spot)
  if kind > 0.97:
    session.drag(rng, spot, behaviour.edge_point(rng))
    session.act('remove', name, spot, None)
  session.time += int(rng.uniform(100, 1200))


def _mistake(rng: np.random.Generator, session: Session, name: str) -> None:
  """Places an icon of a class that is not on the image, and mostly removes it again."""
  spot = behaviour.on_pixels(rng.uniform(-0.03, 1.03, 2), session.width, session.height)
  session.drag(rng, behaviour.edge_point(rng), spot)
  session.act('add', name, None, spot)
  if rng.random() < 0.7:
    session.drag(rng, spot, behaviour.edge_point(rng))
    session.act('remove', name, spot, None)
