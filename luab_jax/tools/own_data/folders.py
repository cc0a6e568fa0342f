"""Writes images in class folders, with their clicks, as the files of `imagenet_ab/local`.

| output | content |
|---|---|
| train/CLASS/, val/CLASS/ | links to the images; only re-encoded or reduced ones are copies |
| imagenet_ab_v1_0.tar.gz | train_xml/CLASS/NAME.xml of each image with clicks |
"""

import argparse
import os
import pathlib
import shlex

from tqdm import tqdm

from luab_jax.byproducts.archives import writer
from luab_jax.byproducts.imagenet_ab import Block
from luab_jax.byproducts.imagenet_ab_writer import Showing, to_record, to_xml
from luab_jax.data.image_files import EncodedImage
from luab_jax.errors import UserError
from luab_jax.tools.own_data import point_files, points
from luab_jax.tools.own_data.images import (
  ImageFile,
  ImageIndex,
  encode,
  find_images,
  hold_out,
  normalize,
  rename_unique,
)
from luab_jax.tools.own_data.problems import Problems, format_class_table

NAME = 'imagenet_ab/local'
_HEADS = ('train', 'with clicks', 'validation', 'with clicks')
_TRAINING = ('train', 'training')
_SPLITS = (*_TRAINING, 'val', 'valid', 'validation', 'dev', 'test', 'testing')  # best first


def convert(args: argparse.Namespace, out: pathlib.Path, problems: Problems) -> list[str]:
  """Converts the inputs given on the command line; returns the lines of the class table.

  Args:
    args: the parsed command line.
    out: existing folder.
    problems: records what is kept and skipped.

  Raises:
    UserError: the input cannot be converted.
  """
  found = _find(args, problems)
  clicks: dict[pathlib.Path, list[points.Point]] = {}
  units = args.click_units
  if args.clicks:
    clicks, units = point_files.read(args.clicks, ImageIndex(found), units, problems, what='click')
  scaler = points.PointScaler(args.clicks, units, problems, what='click')
  _check_classes(found, problems)
  table = {label: [0, 0, 0, 0] for label in sorted({image.label for image in found})}
  with writer.tar_gz(out / 'imagenet_ab_v1_0.tar.gz') as tar:
    for image in tqdm(found, unit='image', desc='own data', disable=None, leave=False):
      encoded = encode(image, problems, args.short_side)
      of_image = _of_its_class(clicks.get(image.path, []), image, set(table), problems)
      if encoded is None:
        for click in of_image:
          problems.add('click on an unreadable image, skipped', click.where, image.name)
        continue
      _place(image, encoded, out, problems)
      kept = scaler.to_fractions(of_image, image, encoded)
      if kept:
        stem = pathlib.PurePath(image.new_name).stem
        writer.add_to_tar(tar, f'train_xml/{image.label}/{stem}.xml', _to_xml(kept))
      column = 0 if image.split == 'train' else 2
      table[image.label][column] += 1
      table[image.label][column + 1] += bool(kept)
      problems.count(f'image for {"training" if image.split == "train" else "validation"}')
  if args.clicks:
    scaler.check_units()
  for split in ('training', 'validation'):
    if not problems.number(f'image for {split}'):
      raise UserError(
        f'{args.images}: no readable {split} images: fix the files or add images'
        f'{problems.first("image")}'
      )
  return format_class_table(table, _HEADS)


def _find(args: argparse.Namespace, problems: Problems) -> list[ImageFile]:
  """Lists the images of both splits, each with a unique name."""
  found = find_images(args.images, 'train', problems, has_classes=True, out=args.out)
  _check_level(found, args.images, set(), problems)
  if args.validation:
    validation = find_images(args.validation, 'val', problems, has_classes=True, out=args.out)
    _check_level(validation, args.validation, {image.label for image in found}, problems)
    first, second = args.images.resolve(), args.validation.resolve()
    if first.is_relative_to(second) or second.is_relative_to(first):
      raise UserError(
        f'--images={args.images} and --validation={args.validation} are nested, so images '
        'would be in both: give separate folders'
      )
    found += validation
  else:
    found = hold_out(found, args.validation_fraction)
  return rename_unique(found, problems)


def _check_level(
  images: list[ImageFile], folder: pathlib.Path, known: set[str], problems: Problems
) -> None:
  """Refuses a folder that is one level above the class folders.

  Args:
    images: all images found in it, of one split.
    folder: the folder.
    known: the training classes for validation images, else empty.
    problems: records classes whose images all lie in several subfolders.

  Raises:
    UserError: not all folders are known classes, and they are named like splits; or there is only
      one, and most of its images lie in several subfolders.
  """
  subfolders: dict[str, list[str]] = {}  # of each class, the subfolder or '' of each image
  for image in images:
    parts = image.name.split('/')
    subfolders.setdefault(image.label, []).append(parts[1] if len(parts) > 2 else '')
  for label, names in subfolders.items():
    if all(names) and len(set(names)) > 1:
      problems.add(
        'class with all images in several subfolders, kept',
        f'{folder}/{label}',
        ', '.join(sorted(set(names))),
      )
  if set(subfolders) <= known:
    return
  option = '--images' if images[0].split == 'train' else '--validation'
  if all(normalize(label) in _SPLITS for label in subfolders):
    raise UserError(_format_splits(folder, list(subfolders), option))
  label, names = next(iter(subfolders.items()))
  distinct = set(names) - {''}
  if len(subfolders) == 1 and len(distinct) > 1 and 2 * sum(map(bool, names)) > len(names):
    raise UserError(
      f'{folder}: its only class folder, {label!r}, holds {len(distinct)} folders of images: if '
      f'these are the classes, pass {shlex.quote(f"{option}={folder / label}")}'
    )


def _format_splits(folder: pathlib.Path, labels: list[str], option: str) -> str:
  """Returns the message for a folder of splits, with the arguments to pass instead."""
  splits = sorted(labels, key=lambda label: _SPLITS.index(normalize(label)))
  others = [label for label in splits[1:] if normalize(label) not in _TRAINING]
  if option == '--images':
    arguments = [f'--images={folder / splits[0]}']
    arguments += [f'--validation={folder / label}' for label in others[:1]]
  else:
    arguments = [f'--validation={folder / (others or splits)[0]}']
  return (
    f'{folder} holds {" and ".join(splits)}, which look like splits, not classes: pass '
    f'{shlex.join(arguments)}'
  )


def _check_classes(images: list[ImageFile], problems: Problems) -> None:
  """Reports a single class, classes missing from one split, and nearly identical names."""
  train, validation = ({i.label for i in images if i.split == s} for s in ('train', 'val'))
  if len(train) == 1:
    problems.add('single class: nothing to classify, kept', *train)
  for label in sorted(validation - train):
    problems.add('class in validation only: cannot be learned, kept', label)
  for label in sorted(train - validation):
    problems.add('class without validation images, kept', label)
  seen: dict[str, str] = {}
  for label in sorted(train | validation):
    other = seen.setdefault(normalize(label), label)
    if other != label:
      problems.add('class with nearly the same name as another, kept', label, f'similar to {other}')


def _of_its_class(
  clicks: list[points.Point], image: ImageFile, classes: set[str], problems: Problems
) -> list[points.Point]:
  """Returns the clicks on an image without those labelled with another class."""
  kept = []
  for click in clicks:
    if click.label == image.label or click.label not in classes:
      kept.append(click)
    else:
      detail = f'{click.label!r} on {image.name}'
      problems.add('click labelled with another class, skipped', click.where, detail)
  return kept


def _place(image: ImageFile, encoded: EncodedImage, out: pathlib.Path, problems: Problems) -> None:
  """Puts an image into its class folder: a link where possible, else a file."""
  target = out / image.split / image.label / image.new_name
  target.parent.mkdir(parents=True, exist_ok=True)
  if encoded.suffix:
    target.with_suffix(encoded.suffix).write_bytes(encoded.data)
    return
  source = image.path.resolve()
  try:
    os.link(source, target)
  except OSError:  # on another disk, or a file system without hard links
    target.symlink_to(source)
    problems.count('image linked symbolically: keep the originals until the data set is built')


def _to_xml(clicks: list[points.Point]) -> bytes:
  """Returns the XML of an image, with one block per sitting, or per click without a sitting."""
  sittings: dict[str, list[points.Point]] = {}
  for click in clicks:
    sittings.setdefault(click.where, []).append(click)
  showings = []
  for of_one in sittings.values():
    sitting = of_one[0].sitting or points.Sitting('', '', None)
    block = Block(
      assignment_id=sitting.number,
      worker_id=sitting.worker,
      selected=True,
      selected_count=1,
      estimate_time_ms=sitting.estimate_ms,
    )
    showings.append(Showing(block, [(round(click.time), click.x, click.y) for click in of_one]))
  return to_xml(to_record(showings), indent=False)
