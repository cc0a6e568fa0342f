"""Converts images, COCO instances and icons for `coco_ab/local`, see coco_files.py."""

import argparse
import functools
import pathlib

from luab_jax.byproducts.coco_ab import CocoRecord
from luab_jax.byproducts.coco_ab_writer import Action, to_actions
from luab_jax.data.image_files import EncodedImage
from luab_jax.tools.own_data import coco_files, images, point_files, points
from luab_jax.tools.own_data.images import ImageFile
from luab_jax.tools.own_data.instances import ListedImage, Listing
from luab_jax.tools.own_data.points import Point
from luab_jax.tools.own_data.problems import Problems

NAME = coco_files.NAME


def convert(args: argparse.Namespace, out: pathlib.Path, problems: Problems) -> list[str]:
  """Converts the inputs given on the command line; returns the lines of the class table.

  Args:
    args: the parsed command line.
    out: existing folder.
    problems: records what is kept and skipped.

  Raises:
    UserError: the input cannot be converted.
  """
  found, has_two_folders = _find(args, problems)
  index = images.ImageIndex(found)
  listing = Listing()
  for split, path in (('train', args.coco), ('val', args.coco_validation)):
    if path:
      find = functools.partial(index.find, split=split if has_two_folders else '')
      listing.add_file(path, split, find, problems)
  if not args.coco_validation:
    coco_files.hold_out(listing, args.validation_fraction)
  for file in found:
    if file.path not in listing.images:
      problems.add('image not in the instances file, skipped', str(file.path))
  icons: dict[pathlib.Path, list[Point]] = {}
  units = args.click_units
  if args.icons:
    listed_files = [listed.file for listed in listing.images.values()]
    index = images.ImageIndex(listed_files, absent='no such image in the instances file')
    icons, units = point_files.read(args.icons, index, units, problems, what='icon')
  scaler = points.PointScaler(args.icons, units, problems, what='icon')

  def record_of(
    number: int, listed: ListedImage, encoded: EncodedImage | None
  ) -> CocoRecord | None:
    of_image = _of_known_classes(icons.get(listed.file.path, []), listing.classes, problems)
    if encoded is None:
      for icon in of_image:
        problems.add('icon on an unreadable image, skipped', icon.where, listed.file.name)
      return None
    kept = scaler.to_fractions(of_image, listed.file, encoded)
    return _to_record(number, encoded.size, kept) if kept else None

  table, _ = coco_files.write(listing, record_of, out, problems, short_side=args.short_side)
  if args.icons:
    scaler.check_units()
  return table


def _find(args: argparse.Namespace, problems: Problems) -> tuple[list[ImageFile], bool]:
  """Returns the images, each with a unique name, and whether each split has its own folder."""
  folders = {'train': args.images}
  if args.validation and args.validation.resolve() != args.images.resolve():
    folders['val'] = args.validation
  found = []
  for split, folder in folders.items():
    other = folders.get('val' if split == 'train' else 'train')
    found += images.find_images(
      folder, split, problems, has_classes=False, out=args.out, without=other
    )
  return images.rename_unique(found, problems), len(folders) == 2


def _of_known_classes(
  icons: list[Point], classes: dict[str, int], problems: Problems
) -> list[Point]:
  for icon in icons:
    if icon.label not in classes:
      problems.add('icon of an unknown class, skipped', icon.where, repr(icon.label))
  return [icon for icon in icons if icon.label in classes]


def _to_record(number: int, size: tuple[int, int], icons: list[Point]) -> CocoRecord:
  """Returns the record of an image: further icons of a class become moves of its first one.

  The record names the worker if all icons come from one sitting.
  """
  places: dict[str, tuple[float, float]] = {}
  actions = []
  for icon in icons:
    kind, place = 'move' if icon.label in places else 'add', (icon.x, icon.y)
    actions.append(Action(kind, icon.label, round(icon.time), places.get(icon.label), place))
    places[icon.label] = place
  sittings = {icon.sitting for icon in icons}
  sitting = sittings.pop() if len(sittings) == 1 else None
  height, width = size
  return CocoRecord(
    image_id=number,
    original_width=width,
    original_height=height,
    worker_id=sitting.worker if sitting else '',
    time_spent_ms=(sitting.estimate_ms or 0) if sitting else 0,
    actions=to_actions(actions),
  )
