"""Writes images, instances and icons as the files of `coco_ab/local`.

| output | content |
|---|---|
| train2014.zip, val2014.zip | the images, stored as they are or reduced |
| annotations_trainval2014.zip | instances of both splits, without polygons |
| coco_ab_v1_0.json | one record for each image with icons: how they were placed |
"""

import itertools
import json
import pathlib
from collections.abc import Callable

from tqdm import tqdm

from luab_jax.byproducts.archives import writer
from luab_jax.byproducts.coco_ab import CocoRecord, replay_icons
from luab_jax.byproducts.coco_ab_writer import to_json
from luab_jax.data.image_files import EncodedImage
from luab_jax.errors import UserError
from luab_jax.tools.own_data import images
from luab_jax.tools.own_data.instances import ListedImage, Listing
from luab_jax.tools.own_data.problems import Problems, format_class_table

NAME = 'coco_ab/local'
_HEADS = ('images, train', 'with icon', 'images, validation', 'with icon')
_SPLITS = {'train': 'training', 'val': 'validation'}

# (id in the output, entry, image or None if it cannot be read) -> record or None.
RecordOf = Callable[[int, ListedImage, EncodedImage | None], CocoRecord | None]


def hold_out(listing: Listing, fraction: float) -> None:
  """Moves a fraction of the images with instances, and of those without, to validation."""
  for is_empty in (False, True):
    files = [x.file for x in listing.images.values() if (not x.instances) == is_empty]
    for file in images.hold_out(files, fraction):
      listing.images[file.path] = listing.images[file.path]._replace(file=file)


def write(
  listing: Listing,
  record_of: RecordOf,
  out: pathlib.Path,
  problems: Problems,
  *,
  short_side: int = 0,
) -> tuple[list[str], dict[pathlib.Path, str]]:
  """Writes all files.

  Args:
    listing: the images, each with a split and a unique new name, and the classes.
    record_of: returns the record of an image with the given id.
    out: existing folder.
    problems: records what is kept and skipped.
    short_side: short side in pixels that larger images are reduced to; 0 keeps their size. Boxes
      and listed sizes stay those of the full-size image.

  Returns:
    (lines of the class table, {path of an image: its name in the output}).

  Raises:
    UserError: a split has no usable image or instance.
  """
  table = {name: [0, 0, 0, 0] for name in listing.classes}
  content: dict[str, dict[str, list]] = {s: {'images': [], 'annotations': []} for s in _SPLITS}
  records, names, ids = [], {}, itertools.count(1)
  with (
    writer.zip_file(out / 'train2014.zip') as train_zip,
    writer.zip_file(out / 'val2014.zip') as val_zip,
  ):
    zips = {'train': train_zip, 'val': val_zip}
    rows = tqdm(listing.images.values(), unit='image', disable=None, leave=False)
    for number, listed in enumerate(rows, 1):
      split = listed.file.split
      encoded = images.encode(listed.file, problems, short_side)
      record = record_of(number, listed, encoded)
      if encoded is None:
        problems.count('instance of an unreadable image, skipped', len(listed.instances))
        continue
      listed = listed if listed.is_upright else _in_frame(listed, encoded, problems)
      path = pathlib.PurePath(listed.file.new_name)
      name = str(path.with_suffix(encoded.suffix or path.suffix))
      names[listed.file.path] = f'{split}2014/{name}'
      writer.add_to_zip(zips[split], f'{split}2014/{name}', encoded.data)
      height, width = listed.size
      content[split]['images'].append(
        {'id': number, 'file_name': name, 'height': height, 'width': width}
      )
      content[split]['annotations'] += _annotations(listed, number, ids, listing.classes)
      _count(listed, record, listing.classes, table, problems)
      if record:
        records.append(record)
    _write_instances(content, listing.classes, out, problems)
  with writer.replacing(out / 'coco_ab_v1_0.json') as file:
    file.write(to_json(records))
  for name, (train, _, validation, _) in table.items():
    if validation and not train:
      problems.add('class in validation only: cannot be learned, kept', name)
  return format_class_table(table, _HEADS), names


def _in_frame(listed: ListedImage, image: EncodedImage, problems: Problems) -> ListedImage:
  """Returns an entry whose boxes are in the frame of the upright image.

  The listed size shows whether the file refers to the upright or to the stored pixels, unless the
  image is rotated by 180 degrees, mirrored or square.
  """
  where, size = str(listed.file.path), image.size
  if image.orientation >= 5 and _is_portrait(listed.size) != _is_portrait(size):
    problems.count('image listed in the stored orientation: boxes turned upright with the pixels')
    listed = listed.turn(image.orientation)
  elif image.orientation in (2, 3, 4) or (image.orientation >= 5 and size[0] == size[1]):
    problems.add('image rotated by EXIF, boxes assumed to refer to the upright image', where)
  if size != listed.size:
    problems.add(
      'image whose size differs from the listed one, kept',
      where,
      f'{size[1]} x {size[0]}, listed {listed.size[1]} x {listed.size[0]} px',
    )
  return listed


def _is_portrait(size: tuple[int, int]) -> bool:
  return size[0] > size[1]


def _annotations(
  listed: ListedImage, number: int, ids: itertools.count, classes: dict[str, int]
) -> list[dict]:
  """Returns the annotations of an image in COCO's format."""
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
  listed: ListedImage,
  record: CocoRecord | None,
  classes: dict[str, int],
  table: dict[str, list[int]],
  problems: Problems,
) -> None:
  """Counts an image that is written, its instances and its icons."""
  is_train = listed.file.split == 'train'
  problems.count('instance kept', len(listed.instances))
  problems.count(f'image for {_SPLITS[listed.file.split]}')
  present = {instance.label for instance in listed.instances}
  placed = set(replay_icons(record.actions, classes)[0]) if record else set()
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
  """Writes the instances files of both splits into one zip."""
  categories = [{'id': number, 'name': name} for name, number in classes.items()]
  with writer.zip_file(out / 'annotations_trainval2014.zip') as archive:
    for split, lists in content.items():
      for key, noun in (('images', 'image'), ('annotations', 'instance')):
        if not lists[key]:
          raise UserError(f'no usable {noun}s for {_SPLITS[split]}{problems.first(noun)}')
      data = json.dumps(lists | {'categories': categories}).encode()
      name = f'annotations/instances_{split}2014.json'
      writer.add_to_zip(archive, name, data, compress=True)
