"""What a worker does in the COCO interface: pages of class icons, dragged onto one image.

Points and times are as in behaviour.py, except that times count from the opening of the page.
"""

import dataclasses

from luab_jax.tools.synthetic import behaviour

PAGES = (  # the interface's eleven pages, in order, with the COCO super-categories on each
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
  """Everything recorded on one image, in the interface's own words.

  Attributes:
    width, height: shown size in pixels.
    time: ms since the page was opened; at the end the time spent.
    actions, categories, track: the lists of `coco_ab_v1_0.json`.
  """

  width: int
  height: int
  time: int = 0
  actions: list[dict] = dataclasses.field(default_factory=list)
  categories: list[dict] = dataclasses.field(default_factory=list)
  track: list[dict] = dataclasses.field(default_factory=list)

  def open_page(self, index, using_keyboard):
    self.categories.append(
      {
        'categoryIndex': index,
        'categoryName': PAGES[index][0],
        'timeAt': self.time,
        'usingKeyboard': using_keyboard,
      }
    )

  def act(self, action, icon, point_from, point_to):
    self.actions.append(
      {
        'actionType': action,
        'iconType': icon,
        'pointFrom': _point(point_from),
        'pointTo': _point(point_to),
        'timeAt': self.time,
      }
    )

  def drag(self, rng, start, end):
    """The cursor's way to `end`; time passes."""
    duration = int(rng.uniform(300, 1500))
    shown_end = [min(max(v, 0.0), 1.0) for v in end]
    for time, x, y in behaviour.stroke(
      rng, start, shown_end, self.time, duration, self.width, self.height
    ):
      self.track.append({'timeAt': time, 'x': x, 'y': y})
    self.time += duration


def simulate_session(rng, targets, page_of, absent, image_width, image_height):
  """One worker's session on one image.

  Args:
    rng: numpy Generator.
    targets: {class name: behaviour.Target of one of its objects}, the classes on the image.
    page_of: {class name: index into PAGES}.
    absent: class names not on the image, of which a careless worker picks one now and then.
    image_width, image_height: of the stored file, pixels.

  Returns:
    A Session. Of a hundred classes on images, 8 are missed, 15 put down at a first place and moved
    to the object, 3 removed again. On 5 images in a hundred an absent class is put somewhere and
    removed, on 2 it stays.
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


def _place_icon(rng, session, name, target):
  """Drags an icon onto its object, at times in two moves, at times to take it off again."""
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


def _mistake(rng, session, name):
  """An icon of a class that is not on the image, most often removed again."""
  spot = behaviour.on_pixels(rng.uniform(-0.03, 1.03, 2), session.width, session.height)
  session.drag(rng, behaviour.edge_point(rng), spot)
  session.act('add', name, None, spot)
  if rng.random() < 0.7:
    session.drag(rng, spot, behaviour.edge_point(rng))
    session.act('remove', name, spot, None)


def _point(point):
  return None if point is None else {'x': point[0], 'y': point[1]}
