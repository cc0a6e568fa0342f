"""How images are dealt to the pages of a study."""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

Gold = int | None  # 1, 0: known to hold the class or not; None: not known


class Page(NamedTuple):
  """Images of a page by slot, each with whether it is known to hold the class."""

  label: str  # of the class that is asked for; '' for icons
  images: list[tuple[str, Gold]]


def deal_grid(
  candidates: Mapping[str, Sequence[str]],
  gold: Mapping[str, Mapping[str, int]],
  page_size: int,
  seed: int,
) -> list[Page]:
  """Deals the images of each class to pages of nearly the same size, in random order.

  The gold images of a class are spread over its pages, mixed with the others.

  Args:
    candidates: {class: names of its images}.
    gold: {class: {name: 1 or 0}}, possibly of images that are not candidates.
    page_size: images per page, at most.
    seed: seed of the random order.

  Returns:
    The pages in the order in which they are assigned, classes taking turns.
  """
  rng = random.Random(seed)
  by_class = []
  for label, names in candidates.items():
    known = gold.get(label, {})
    others: list[tuple[str, Gold]] = [(name, None) for name in names if name not in known]
    marked: list[tuple[str, Gold]] = list(known.items())
    rng.shuffle(others)
    rng.shuffle(marked)
    everything = marked + others
    count = math.ceil(len(everything) / page_size)
    pages = [everything[k::count] for k in range(count)]  # gold first, to spread it evenly
    for page in pages:
      rng.shuffle(page)
    by_class.append([Page(label, page) for page in pages])
  rng.shuffle(by_class)
  return _in_turns(by_class)


def _in_turns(queues: Iterable[Sequence[Page]]) -> list[Page]:
  queues = list(queues)
  longest = max(map(len, queues), default=0)
  return [queue[k] for k in range(longest) for queue in queues if k < len(queue)]


def deal_icons(names: Iterable[str], seed: int) -> list[Page]:
  """A page for each image, in random order."""
  pages = [Page('', [(name, None)]) for name in names]
  random.Random(seed).shuffle(pages)
  return pages
