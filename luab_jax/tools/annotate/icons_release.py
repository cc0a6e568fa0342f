"""Writes the answers with icons as the files of `coco_ab/local`, in the layout of COCO-AB.

The format holds one record per image: of several answers, the one closest to the majority.
"""

import functools
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from luab_jax.byproducts.coco_ab import CocoRecord
from luab_jax.byproducts.coco_ab_writer import Action, Visit, to_actions, to_categories
from luab_jax.data.image_files import EncodedImage
from luab_jax.tools.annotate import replay, voting
from luab_jax.tools.annotate.answers import Answer, Answers
from luab_jax.tools.annotate.grid_release import Written, annotated_file
from luab_jax.tools.annotate.judging import Boxes, Judgement
from luab_jax.tools.annotate.study import Study
from luab_jax.tools.annotate.voting import Point
from luab_jax.tools.own_data import coco_files, images
from luab_jax.tools.own_data.instances import Instance, ListedImage, Listing
from luab_jax.tools.own_data.problems import Problems

NAME = coco_files.NAME


def read_instances(
  study_answers: Answers,
  root: pathlib.Path,
  coco: pathlib.Path,
  coco_validation: pathlib.Path | None,
  problems: Problems,
) -> Listing:
  """Reads the instances of a study's images from files in COCO's format.

  Args:
    study_answers: the answers of the study.
    root: the folder of its images.
    coco: the instances file, or that of the training images.
    coco_validation: the instances file of the validation images, if separate.
    problems: records what is skipped.

  Raises:
    UserError: see `Listing.add_file`.
  """
  files = [annotated_file(root, image, '') for image in study_answers.images.values()]
  index, listing = images.ImageIndex(images.rename_unique(files, problems)), Listing()
  for split, path in (('train', coco), ('val', coco_validation)):
    if path:
      listing.add_file(path, split, functools.partial(index.find, split=''), problems)
  return listing


def boxes_of(study_answers: Answers, root: pathlib.Path, study: Study, listing: Listing) -> Boxes:
  """Returns {image: {class of the study: its boxes as fractions of the image}}."""
  number = {entry.name: index for index, entry in enumerate(study.classes)}
  found: dict[int, dict[int, list]] = {}
  for image, entry in study_answers.images.items():
    if listed := listing.images.get(root / entry.path):
      height, width = listed.size
      boxes = found.setdefault(image, {})
      for instance in listed.instances:
        if instance.label in number:
          x, y, w, h = instance.box
          box = (x / width, y / height, w / width, h / height)
          boxes.setdefault(number[instance.label], []).append(box)
  return found


def write(
  study_answers: Answers,
  judged: Mapping[int, Judgement],
  study: Study,
  listing: Listing | None,
  out: pathlib.Path,
  problems: Problems,
  *,
  fraction: float,
) -> Written:
  """Writes all files.

  Args:
    study_answers: the answers of the study.
    judged: {lease: judgement} of its answers.
    study: the study.
    listing: the user's instances; None: a point for each class and image, by vote.
    out: existing folder.
    problems: records what is kept and skipped.
    fraction: fraction of the images to hold out for validation; 0 if `listing` says which.

  Raises:
    UserError: no image can be used for training, or for validation.
  """
  root = pathlib.Path(study.images)
  by_path = {root / entry.path: image for image, entry in study_answers.images.items()}
  answers = _seen_answers(study_answers, judged)
  problems.count('image in the study', len(by_path))
  reason = 'not in the instances file, skipped' if listing else 'without an answer, skipped'
  listing = listing or _vote(study_answers, answers, study, root, problems)
  problems.count(f'image {reason}', len(by_path.keys() - listing.images.keys()))
  if fraction:
    coco_files.hold_out(listing, fraction)
  used: set[tuple[int, int]] = set()

  def record_of(
    number: int, listed: ListedImage, encoded: EncodedImage | None
  ) -> CocoRecord | None:
    given = answers.get(by_path[listed.file.path], [])
    if encoded is None or not given:
      return None
    placed = [_places(answer) for answer in given]
    answer = given[voting.nearest(placed, voting.majority(placed))]
    page = replay.replay_icons(study_answers.batches(answer), thin=study.track == 'raw')
    problems.count('icon kept', len(page.icons))
    used.add((answer.lease, 0))
    return _to_record(number, encoded.size, answer, page, study)

  table, names = coco_files.write(listing, record_of, out, problems)
  return Written(table, {by_path[path]: name for path, name in names.items()}, used)


def _seen_answers(
  study_answers: Answers, judged: Mapping[int, Judgement]
) -> dict[int, list[Answer]]:
  """Returns {image: its accepted answers}, without those to which the image was not shown."""
  seen: dict[int, list[Answer]] = {}
  for page, answers in study_answers.accepted().items():
    image = study_answers.pages[page].images[0]
    seen.setdefault(image, []).extend(a for a in answers if not judged[a.lease].unseen)
  return seen


def _places(answer: Answer) -> dict[int, Point]:
  return {icon.c: (icon.x, icon.y) for icon in answer.end.icons}


def _vote(
  study_answers: Answers,
  answers: Mapping[int, Sequence[Answer]],
  study: Study,
  root: pathlib.Path,
  problems: Problems,
) -> Listing:
  """Returns the images with an answer; instances are the points that most workers placed."""
  listing = Listing(classes={entry.name: n for n, entry in enumerate(study.classes, 1)})
  seen = [image for image in study_answers.images if answers.get(image)]
  files = [annotated_file(root, study_answers.images[image], '') for image in seen]
  for image, file in zip(seen, images.rename_unique(files, problems), strict=True):
    entry = study_answers.images[image]
    instances = [
      Instance(study.classes[icon].name, _to_point(place, entry.width, entry.height), 0.0, 0)
      for icon, place in voting.majority([_places(a) for a in answers[image]]).items()
    ]
    listing.images[file.path] = ListedImage(
      file, (entry.height, entry.width), instances, is_upright=True
    )
  return listing


def _to_point(place: Point, width: int, height: int) -> list[float]:
  """Returns a box of zero size at a place, which may lie slightly outside the image."""
  x, y = (min(max(value, 0.0), 1.0) for value in place)
  return [x * width, y * height, 0.0, 0.0]


def _to_record(
  number: int, size: tuple[int, int], answer: Answer, page: replay.Icons, study: Study
) -> CocoRecord:
  assert page.box
  height, width = size
  names = [entry.name for entry in study.classes]
  actions = [Action(a.action, names[a.icon], a.time_ms, a.from_xy, a.to_xy) for a in page.actions]
  visits = [Visit(t.index, study.groups[t.index], t.time_ms, t.using_keyboard) for t in page.tabs]
  return CocoRecord(
    image_id=number,
    shown_width=round(page.box.w),
    shown_height=round(page.box.h),
    original_width=width,
    original_height=height,
    time_spent_ms=page.time_spent_ms,
    hit_id=answer.hit_id,
    worker_id=answer.worker,
    page_id=answer.page_idx,
    actions=to_actions(actions),
    categories=to_categories(visits),
    trace_xy=np.array([(p.x, p.y) for p in page.trace], np.float64).reshape(-1, 2),
    trace_time_ms=np.array([p.time_ms for p in page.trace], np.int64),
  )
