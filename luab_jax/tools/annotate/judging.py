"""Examines every answer of a study: how it was produced, and which images it cannot tell about."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from luab_jax.tools.annotate import quality, replay
from luab_jax.tools.annotate.answers import Answer, Answers
from luab_jax.tools.annotate.quality import XYWH, Features
from luab_jax.tools.annotate.visits import Visit

Boxes = Mapping[int, Mapping[int, Sequence[XYWH]]]  # {id of an image: {class: its boxes}}


class Judgement(NamedTuple):
  """What is known about an answer besides its result."""

  visit: Visit
  features: Features
  flags: list[str]
  unseen: frozenset[int]  # slots whose image was reported as broken, or never shown


def judge(study_answers: Answers, task: str, boxes: Boxes | None = None) -> dict[int, Judgement]:
  """Returns {lease: judgement} of all answers, including rejected and unfinished ones.

  Args:
    study_answers: the answers of a study.
    task: 'grid' or 'icons'.
    boxes: icons: the boxes of images whose instances are known.
  """
  accepted = study_answers.accepted()
  found = {
    answer.lease: judge_answer(study_answers, answer, accepted.get(answer.page, []), task, boxes)
    for answer in study_answers.answers
  }
  done = [a.lease for answers in accepted.values() for a in answers]
  median = quality.median_ms_per_image(found[lease].features for lease in done)
  return {
    lease: one._replace(flags=quality.flags(one.features, median)) for lease, one in found.items()
  }


def judge_answer(
  study_answers: Answers,
  answer: Answer,
  accepted: Sequence[Answer],
  task: str,
  boxes: Boxes | None = None,
) -> Judgement:
  """Returns the judgement of one answer, without flags.

  Args:
    study_answers: the answers of a study.
    answer: one of them.
    accepted: all accepted answers to its page.
    task: 'grid' or 'icons'.
    boxes: as in `judge`.
  """
  others = [other for other in accepted if other.lease != answer.lease]
  judged = _judge_grid if task == 'grid' else _judge_icons
  return judged(study_answers, answer, others, boxes or {})


def _judge_grid(
  study_answers: Answers, answer: Answer, others: Sequence[Answer], boxes: Boxes
) -> Judgement:
  del boxes  # only for icons
  page = study_answers.pages[answer.page]
  grid = replay.replay_grid(study_answers.batches(answer))
  features = quality.grid_features(
    grid, len(page.images), page.gold, [other.end.selected for other in others]
  )
  seen = {slot for slot, tile in grid.tiles.items() if tile.box and not tile.is_reported}
  return Judgement(grid.visit, features, [], frozenset(page.images.keys() - seen))


def _judge_icons(
  study_answers: Answers, answer: Answer, others: Sequence[Answer], boxes: Boxes
) -> Judgement:
  page = replay.replay_icons(study_answers.batches(answer))
  image = study_answers.pages[answer.page].images[0]
  placed = [[icon.c for icon in other.end.icons] for other in others]
  features = quality.icon_features(page, placed, boxes.get(image))
  is_seen = page.box and not page.is_reported
  return Judgement(page.visit, features, [], frozenset() if is_seen else frozenset([0]))
