"""Writes the answers to grids as the files of `imagenet_ab/local`, in the layout of ImageNet-AB.

| output | content |
|---|---|
| ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar | a tar of CLASS.tar of the images |
| imagenet_ab_v1_0.tar.gz | train_xml/CLASS/NAME.xml of each image, one block per answer |
"""

import collections
import pathlib
import tarfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tqdm import tqdm

from luab_jax.byproducts.archives import writer
from luab_jax.byproducts.imagenet_ab import Block
from luab_jax.byproducts.imagenet_ab_writer import Showing, to_record, to_xml
from luab_jax.errors import UserError
from luab_jax.tools.annotate import replay, voting
from luab_jax.tools.annotate.answers import Answer, Answers, Image
from luab_jax.tools.annotate.judging import Judgement
from luab_jax.tools.annotate.replay import Tile
from luab_jax.tools.own_data import images
from luab_jax.tools.own_data.images import ImageFile
from luab_jax.tools.own_data.problems import Problems, format_class_table

NAME = 'imagenet_ab/local'
_HEADS = ('train', 'with clicks', 'validation', 'with clicks')


class Written(NamedTuple):
  """What the release contains of a study."""

  table: list[str]  # lines
  names: dict[int, str]  # id of an image -> its path in the release
  used: set[tuple[int, int]]  # (lease, slot) of the parts of answers that are in the release


def write(
  study_answers: Answers,
  judged: Mapping[int, Judgement],
  root: pathlib.Path,
  out: pathlib.Path,
  problems: Problems,
  *,
  labels: str,
  fraction: float,
  thin: bool,
) -> Written:
  """Writes all files.

  Args:
    study_answers: the answers of the study.
    judged: {lease: judgement} of its answers.
    root: the folder of its images.
    out: existing folder.
    problems: records what is kept and skipped.
    labels: 'given': the class that an image is a candidate for; 'voted': the one that most workers
      selected it for, leaving out images without one.
    fraction: fraction of the images to hold out for validation.
    thin: whether to thin the traces to 60 positions per second.

  Raises:
    UserError: no image can be used for training, or for validation.
  """
  of_image = _voted(study_answers, judged) if labels == 'voted' else _given(study_answers)
  reason = 'of no class, skipped' if labels == 'given' else 'not selected by most workers, skipped'
  files = _files(study_answers, of_image, root, fraction)
  problems.count('image in the study', len(study_answers.images))
  problems.count(f'image {reason}', len(study_answers.images) - len(files))
  renamed = images.rename_unique(list(files.values()), problems)
  files = dict(zip(files, renamed, strict=True))
  names = _write_images(files, out, problems)
  table = {label: [0, 0, 0, 0] for label in sorted({file.label for file in files.values()})}
  for image in names:
    table[files[image].label][0 if files[image].split == 'train' else 2] += 1
  used: set[tuple[int, int]] = set()
  with writer.tar_gz(out / 'imagenet_ab_v1_0.tar.gz') as tar:
    for image, showings, leases in _showings(study_answers, judged, of_image, thin):
      if image not in names or not showings:
        continue
      file, stem = files[image], pathlib.PurePath(names[image]).stem
      xml = to_xml(to_record(showings), folder=file.label, stem=stem)
      writer.add_to_tar(tar, f'train_xml/{file.label}/{stem}.xml', xml)
      clicks = sum(len(showing.clicks) for showing in showings)
      problems.count('click kept', clicks)
      table[file.label][1 if file.split == 'train' else 3] += bool(clicks)
      used |= leases
  return Written(format_class_table(table, _HEADS), names, used)


def _given(study_answers: Answers) -> dict[int, str]:
  return {image: entry.label for image, entry in study_answers.images.items()}


def _voted(study_answers: Answers, judged: Mapping[int, Judgement]) -> dict[int, str]:
  """Returns {image: class}, '' if no class has a majority."""
  votes: dict[int, dict[str, list[bool]]] = {image: {} for image in study_answers.images}
  for page, answers in study_answers.accepted().items():
    label, slots = study_answers.pages[page].label, study_answers.pages[page].images
    for answer in answers:
      for slot in slots.keys() - judged[answer.lease].unseen:
        votes[slots[slot]].setdefault(label, []).append(slot in answer.end.selected)
  return {image: voting.most_voted(said) for image, said in votes.items()}


def _files(
  study_answers: Answers, of_image: Mapping[int, str], root: pathlib.Path, fraction: float
) -> dict[int, ImageFile]:
  """Returns {image: its file} of the images with a class, each with its split."""
  files = {
    image: annotated_file(root, entry, of_image[image])
    for image, entry in study_answers.images.items()
    if of_image[image]
  }
  return dict(zip(files, images.hold_out(list(files.values()), fraction), strict=True))


def annotated_file(root: pathlib.Path, image: Image, label: str) -> ImageFile:
  """Returns the file of an image of a study, which must not have changed since it was annotated."""
  size = (image.height, image.width)
  return ImageFile(root / image.path, root, image.path, label, 'train', '', image.sha256, size)


def _write_images(
  files: Mapping[int, ImageFile], out: pathlib.Path, problems: Problems
) -> dict[int, str]:
  """Writes both tars of images; returns {image: its path in them, SPLIT/CLASS/NAME}."""
  names: dict[int, str] = {}
  groups: dict[tuple[str, str], list[tuple[int, ImageFile]]] = {}
  for image, file in files.items():
    groups.setdefault((file.split, file.label), []).append((image, file))
  bar = tqdm(total=len(files), unit='image', desc='export', disable=None, leave=False)

  def members(group: list[tuple[int, ImageFile]]) -> Iterator[tuple[str, bytes]]:
    for image, file in group:
      if encoded := images.encode(file, problems):
        path = pathlib.PurePath(file.new_name)
        name = str(path.with_suffix(encoded.suffix or path.suffix))
        names[image] = f'{file.split}/{file.label}/{name}'
        yield name, encoded.data
      bar.update()

  with bar:
    for split, word in (('train', 'training'), ('val', 'validation')):
      before, path = len(names), out / f'ILSVRC2012_img_{split}.tar'
      with writer.replacing(path) as stream, tarfile.open(fileobj=stream, mode='w') as tar:
        for (_, label), group in sorted(g for g in groups.items() if g[0][0] == split):
          writer.add_tar(tar, f'{label}.tar', members(group))
      problems.count(f'image for {word}', len(names) - before)
      if len(names) == before:
        raise UserError(f'the study has no usable images for {word}{problems.first("image")}')
  return names


def _showings(
  study_answers: Answers, judged: Mapping[int, Judgement], of_image: Mapping[int, str], thin: bool
) -> Iterator[tuple[int, list[Showing], set[tuple[int, int]]]]:
  """Yields (image, its showings, the (lease, slot) of each), once all its pages are read.

  Only pages that asked for the class of the image count.
  """
  accepted = study_answers.accepted()
  # {page: its slots with images of its class}
  asked = {
    number: {s: image for s, image in page.images.items() if of_image[image] == page.label}
    for number, page in study_answers.pages.items()
  }
  left = collections.Counter(image for slots in asked.values() for image in slots.values())
  found: dict[int, list[tuple[tuple[int, int], Showing]]] = {image: [] for image in left}
  for number, slots in asked.items():
    for answer in accepted.get(number, []):
      tiles = replay.replay_grid(study_answers.batches(answer), thin=thin).tiles
      for slot in sorted(slots.keys() - judged[answer.lease].unseen):
        entry = study_answers.images[slots[slot]]
        found[slots[slot]].append(((answer.lease, slot), _showing(answer, tiles[slot], entry)))
    for image in slots.values():
      left[image] -= 1
      if not left[image]:
        rows = found.pop(image)
        yield image, [showing for _, showing in rows], {key for key, _ in rows}


def _showing(answer: Answer, tile: Tile, image: Image) -> Showing:
  assert tile.box
  block = Block(
    assignment_id=answer.assignment_id,
    hit_id=answer.hit_id,
    worker_id=answer.worker,
    selected=tile.selected,
    selected_count=tile.selected_count,
    estimate_time_ms=tile.estimate_time_ms,
    shown_x=round(tile.box.x),
    shown_y=round(tile.box.y),
    shown_width=round(tile.box.w),
    shown_height=round(tile.box.h),
    original_width=image.width,
    original_height=image.height,
    page_idx=answer.page_idx,
  )
  clicks = [(click.time_ms, click.x, click.y) for click in tile.clicks]
  return Showing(block, clicks, tile.trace, tile.hovers)
