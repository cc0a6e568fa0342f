"""What most workers say, where several answered."""

import math
from collections.abc import Iterable, Mapping, Sequence

Point = tuple[float, float]  # (x right, y down) relative to the image as shown


def most_voted(votes: Mapping[str, Sequence[bool]]) -> str:
  """Returns the class that most workers selected an image for.

  Args:
    votes: {class: whether each worker who was asked for it selected the image}.

  Returns:
    The class with the largest share, if that is more than a half; of several with the same one the
    first by name. '' if there is none.
  """
  shares = {label: sum(said) / len(said) for label, said in votes.items() if said}
  best = min(shares, key=lambda label: (-shares[label], label), default='')
  return best if shares.get(best, 0) > 0.5 else ''


def majority(answers: Sequence[Mapping[int, Point]]) -> dict[int, Point]:
  """Returns the icons that more than half of the workers placed.

  Args:
    answers: {class: where its icon is} of each worker.

  Returns:
    {class: the place, of those that were given, that is closest to the others}, ascending.
  """
  placed: dict[int, list[Point]] = {}
  for answer in answers:
    for icon, point in answer.items():
      placed.setdefault(icon, []).append(point)
  return {
    icon: _central(points)
    for icon, points in sorted(placed.items())
    if 2 * len(points) > len(answers)
  }


def _central(points: Sequence[Point]) -> Point:
  return min(points, key=lambda point: sum(math.dist(point, other) for other in points))


def nearest(answers: Sequence[Mapping[int, Point]], winner: Mapping[int, Point]) -> int:
  """Returns the index of the answer with the fewest classes more or less than `winner`.

  Of several, the one whose icons are closest to its icons, then the first.
  """

  def distance(index: int) -> tuple[int, float, int]:
    icons = answers[index]
    return len(icons.keys() ^ winner.keys()), _distance(icons, winner), index

  return min(range(len(answers)), key=distance)


def _distance(a: Mapping[int, Point], b: Mapping[int, Point]) -> float:
  common: Iterable[int] = a.keys() & b.keys()
  return math.fsum(math.dist(a[icon], b[icon]) for icon in common)
