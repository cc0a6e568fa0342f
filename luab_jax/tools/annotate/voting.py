"""Majority votes over the answers of several workers."""

import math
from collections.abc import Iterable, Mapping, Sequence

Point = tuple[float, float]  # (x right, y down) relative to the image as shown


def most_voted(votes: Mapping[str, Sequence[bool]]) -> str:
  """Returns the class that most workers selected an image for.

  Args:
    votes: {class: whether each worker who was asked for it selected the image}.

  Returns:
    The class with the largest share of votes, if that is more than half; of several, the first by
    name. '' if there is none.
  """
  shares = {label: sum(said) / len(said) for label, said in votes.items() if said}
  best = min(shares, key=lambda label: (-shares[label], label), default='')
  return best if shares.get(best, 0) > 0.5 else ''


def majority(answers: Sequence[Mapping[int, Point]]) -> dict[int, Point]:
  """Returns the icons that more than half of the workers placed.

  Args:
    answers: {class: where its icon is} of each worker.

  Returns:
    {class: the one of its points that is closest to the others}, classes ascending.
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
  """Returns the index of the answer whose set of classes differs least from that of `winner`.

  Of several, the one whose icons are closest to those of `winner`, then the first.
  """

  def distance(index: int) -> tuple[int, float, int]:
    icons = answers[index]
    return len(icons.keys() ^ winner.keys()), _distance(icons, winner), index

  return min(range(len(answers)), key=distance)


def _distance(a: Mapping[int, Point], b: Mapping[int, Point]) -> float:
  common: Iterable[int] = a.keys() & b.keys()
  return math.fsum(math.dist(a[icon], b[icon]) for icon in common)
