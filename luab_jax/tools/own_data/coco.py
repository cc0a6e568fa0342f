"""Writes images, COCO instances and icons as the files of `coco_ab/local`.

| output | content |
|---|---|
| train2014.zip, val2014.zip | the images, stored as they are |
| annotations_trainval2014.zip | instances of both splits, without polygons |
| coco_ab_v1_0.json | one record for each image with icons: how they were placed |
"""

import argparse
import functools
import itertools
import json
import pathlib

from tqdm import tqdm

from luab_jax.byproducts.archives import writer
from luab_jax.byproducts.coco_ab import CocoRecord
from luab_jax.byproducts.coco_ab_writer import Action, to_actions, to_json
from luab_jax.data.image_files import EncodedImage
from luab_jax.errors import UserError
from luab_jax.tools.own_data import images, points
from luab_jax.tools.own_data.images import ImageFile
from luab_jax.tools.own_data.instances import ListedImage, Listing
from luab_jax.tools.own_data.points import Point
from luab_jax.tools.own_data.problems import Problems, format_class_table

NAME = 'coco_ab/local'
_HEADS = ('images, train', 'with icon', 'images, validation', 'with icon')
_SPLITS = {'train': 'training', 'val': 'validation'}


def convert(args: argparse.Namespace, out: pathlib.Path, problems: Problems) -> list[str]:
  """Converts what the command line names; returns the lines of the table of classes.

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
    _hold_out(listing, args.validation_fraction)
  for file in found:
    if file.path not in listing.images:
      problems.add('image not in the instances file, skipped', str(file.path))
  icons = {}
  if args.icons:
    listed_files = [listed.file for listed in listing.images.values()]
    index = images.ImageIndex(listed_files, absent='no such image in the instances file')
    icons = points.read_points(args.icons, index, args.click_units, problems, what='icon')
  scaler = points.PointScaler(args.icons, args.click_units, problems, what='icon')
  table = _write(listing, icons, out, scaler, problems)
  for name, (train, _, validation, _) in table.items():
    if validation and not train:
      problems.add('class in validation only: cannot be learned, kept', name)
  if args.icons:
    scaler.check_units()
  return format_class_table(table, _HEADS)


def _find(args: argparse.Namespace, problems: Problems) -> tuple[list[ImageFile], bool]:
  """Lists the images, each with a unique name; and whether each split has a folder of its own."""
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


def _hold_out(listing: Listing, fraction: float) -> None:
  """Moves a fraction of the images with instances, and of those without, to validation."""
  for is_empty in (False, True):
    files = [x.file for x in listing.images.values() if (not x.instances) == is_empty]
    for file in images.hold_out(files, fraction):
      listing.images[file.path] = listing.images[file.path]._replace(file=file)


def _write(
  listing: Listing,
  icons: dict[pathlib.Path, list[Point]],
  out: pathlib.Path,
  scaler: points.PointScaler,
  problems: Problems,
) -> dict[str, list[int]]:
  """Writes all files; returns the rows of the table of classes."""
  table = {name: [0, 0, 0, 0] for name in listing.classes}
  content: dict[str, dict[str, list]] = {s: {'images': [], 'annotations': []} for s in _SPLITS}
  records, ids = [], itertools.count(1)
  with (
    writer.zip_file(out / 'train2014.zip') as train_zip,
    writer.zip_file(out / 'val2014.zip') as val_zip,
  ):
    zips = {'train': train_zip, 'val': val_zip}
    rows = tqdm(listing.images.values(), unit='image', disable=None, leave=False)
    for number, listed in enumerate(rows, 1):
      split = listed.file.split
      of_image = _of_known_classes(icons.get(listed.file.path, []), listing.classes, problems)
      encoded = images.encode(listed.file, problems)
      if encoded is None:
        _report_unreadable(listed, of_image, problems)
        continue
      listed = _in_frame(listed, encoded, problems)
      path = pathlib.PurePath(listed.file.new_name)
      name = str(path.with_suffix(encoded.suffix or path.suffix))
      writer.add_to_zip(zips[split], f'{split}2014/{name}', encoded.data)
      height, width = listed.size
      content[split]['images'].append(
        {'id': number, 'file_name': name, 'height': height, 'width': width}
      )
      content[split]['annotations'] += _annotations(listed, number, ids, listing.classes)
      kept = scaler.to_fractions(of_image, listed.file, encoded.size)
      _count(listed, kept, table, problems)
      if kept:
        records.append(_to_record(number, encoded.size, kept))
    _write_instances(content, listing.classes, out, problems)
  with writer.replacing(out / 'coco_ab_v1_0.json') as file:
    file.write(to_json(records))
  return table


def _of_known_classes(
  icons: list[Point], classes: dict[str, int], problems: Problems
) -> list[Point]:
  for icon in icons:
    if icon.label not in classes:
      problems.add('icon of an unknown class, skipped', icon.where, repr(icon.label))
  return [icon for icon in icons if icon.label in classes]


def _report_unreadable(listed: ListedImage, icons: list[Point], problems: Problems) -> None:
  for icon in icons:
    problems.add('icon on an unreadable image, skipped', icon.where, listed.file.name)
  problems.count('instance of an unreadable image, skipped', len(listed.instances))


def _in_frame(listed: ListedImage, image: EncodedImage, problems: Problems) -> ListedImage:
  """Returns an entry whose boxes are in the frame of the upright image.

  Whether an instances file has them there or in the frame of the pixels as stored is told by the
  listed size, unless the image is turned by 180 degrees, mirrored or square.
  """
  where, size = str(listed.file.path), image.size
  if image.orientation >= 5 and _is_portrait(listed.size) != _is_portrait(size):
    problems.count('image listed as stored: boxes turned upright with the pixels')
    listed = listed.turn(image.orientation)
  elif image.orientation in (2, 3, 4) or (image.orientation >= 5 and size[0] == size[1]):
    problems.add(
      'image turned by its EXIF orientation, boxes assumed to be of the upright image', where
    )
  if size != listed.size:
    problems.add(
      'image with another size than listed, kept',
      where,
      f'{size[1]} x {size[0]}, listed {listed.size[1]} x {listed.size[0]} px',
    )
  return listed


def _is_portrait(size: tuple[int, int]) -> bool:
  return size[0] > size[1]


def _annotations(
  listed: ListedImage, number: int, ids: itertools.count, classes: dict[str, int]
) -> list[dict]:
  """Returns the annotations of an image as COCO has them."""
  return [
    {
      'id': next(ids),
      'image_id': number,
      'category_id': classes[instance.label],
      'bbox': instance.box,
      'area': instance.area,
      'iscrowd': instance.is_crowd,
    }
    for instance in listed.instances
  ]


def _count(
  listed: ListedImage, icons: list[Point], table: dict[str, list[int]], problems: Problems
) -> None:
  """Counts an image that is written, its instances and its icons."""
  is_train = listed.file.split == 'train'
  problems.count('instance kept', len(listed.instances))
  problems.count(f'image for {_SPLITS[listed.file.split]}')
  present = {instance.label for instance in listed.instances}
  placed = {icon.label for icon in icons}
  problems.count('icon of a class without an instance in the image', len(placed - present))
  column = 0 if is_train else 2
  for label in present | placed:
    table[label][column] += label in present
    table[label][column + 1] += label in placed


def _write_instances(
  content: dict[str, dict[str, list]],
  classes: dict[str, int],
  out: pathlib.Path,
  problems: Problems,
) -> None:
  """Writes the instances files of both splits into their zip."""
  categories = [{'id': number, 'name': name} for name, number in classes.items()]
  with writer.zip_file(out / 'annotations_trainval2014.zip') as archive:
    for split, lists in content.items():
      for key, noun in (('images', 'image'), ('annotations', 'instance')):
        if not lists[key]:
          raise UserError(f'no usable {noun}s for {_SPLITS[split]}{problems.first(noun)}')
      data = json.dumps(lists | {'categories': categories}).encode()
      name = f'annotations/instances_{split}2014.json'
      writer.add_to_zip(archive, name, data, compress=True)


def _to_record(number: int, size: tuple[int, int], icons: list[Point]) -> CocoRecord:
  """Returns the record of an image: each icon of a class after the first one moves it."""
  places: dict[str, tuple[float, float]] = {}
  actions = []
  for icon in icons:
    kind, place = 'move' if icon.label in places else 'add', (icon.x, icon.y)
    actions.append(Action(kind, icon.label, round(icon.time), places.get(icon.label), place))
    places[icon.label] = place
  height, width = size
  return CocoRecord(
    image_id=number, original_width=width, original_height=height, actions=to_actions(actions)
  )
