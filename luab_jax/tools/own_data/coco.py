"""Writes images, instances as COCO's and icons in the layout of `coco_ab/local`.

| in the layout | content |
|---|---|
| train2014.zip, val2014.zip | the images, stored as they are |
| annotations_trainval2014.zip | instances of both splits, without polygons |
| coco_ab_v1_0.json | the icons of an image, as a record of a worker who placed them |

The files of instances are read as a whole: 1 GB of memory for a million.
"""

import contextlib
import itertools
import json
import math
import pathlib

from tqdm import tqdm

from luab_jax.byproducts.archives import member_names, writer
from luab_jax.data import image_files
from luab_jax.errors import UserError
from luab_jax.tools.own_data import images, points
from luab_jax.tools.own_data.problems import Report, class_table

NAME = 'coco_ab/local'
HEADS = ('images, train', 'with icon', 'images, validation', 'with icon')


def convert(args, out: pathlib.Path, report: Report) -> list[str]:
  """Converts what the arguments of the command name; returns the table of the classes.

  Raises:
    UserError: what cannot be converted as a whole.
  """
  found = images.find(args.images, 'train', report, classes=False)
  if args.validation:
    found += images.find(args.validation, 'val', report, classes=False)
  found = images.name_anew(found, report)
  names = images.Names(found)
  classes: dict = {}
  entries: dict = {}
  _read(args.coco, 'train', names, classes, entries, report)
  if args.coco_validation:
    _read(args.coco_validation, 'val', names, classes, entries, report)
  else:
    moved = images.split_off([entry['image'] for entry in entries.values()], args.validation_share)
    for image in moved:
      entries[image.path]['image'] = image
  for image in found:
    if image.path not in entries:
      report.problem('image that the instances do not list, left out', str(image.path))
  icons = {}
  if args.icons:
    icons = points.read(args.icons, names, args.click_units, report, what='icons')
  placer = points.Placer(args.icons, args.click_units, report, what='icons')
  table = _write(list(entries.values()), classes, icons, out, placer, report)
  for name, (train, _, validation, _) in table.items():
    if validation and not train:
      report.problem('class in validation only, kept: it cannot be learned', name)
  if args.icons:
    placer.check_units()
  return class_table(table, HEADS)


def _read(path, split, names, classes, entries, report):
  """Reads a file of instances into `classes` {name: id} and `entries` {path of an image: entry}."""
  content = _load(path)
  name_of = {}
  for item in content['categories']:
    try:
      name = name_of[item['id']] = item['name']
      if problem := member_names.class_problem(name) or member_names.checked(name)[1]:
        raise ValueError(problem)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
      raise UserError(
        f'{path}: a category needs an id and a name that a class may have: mend '
        f'{item!r:.80} ({error})'
      ) from error
    classes.setdefault(name, len(classes) + 1)
  of_id = {}
  report.count('images listed', len(content['images']))
  for item in content['images']:
    where = f'{path}: {item!r:.80}'
    try:
      image, problem = names.find(item['file_name'])
      number, listed = item['id'], (int(item['height']), int(item['width']))
      if not isinstance(number, int | str) or min(listed) < 1:
        raise ValueError('id, height or width is not as in COCO')
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
      report.problem('entry of an image that cannot be read, left out', where, repr(error))
      continue
    if image is None:
      report.problem('listed image without a file, left out', where, problem)
    elif image.path in entries or number in of_id:
      report.problem('image listed twice, the first one counts', where)
    else:
      of_id[number] = entries[image.path] = {
        'image': image._replace(split=split),
        'listed': listed,
        'instances': [],
      }
  for item in content['annotations']:
    report.count('instances read')
    instance = _instance(item, of_id, name_of)
    if isinstance(instance, str):
      report.problem('instance that cannot be used, left out', f'{path}: {item!r:.80}', instance)
    else:
      of_id[item['image_id']]['instances'].append(instance)


def _load(path):
  try:
    content = json.loads(path.read_text(encoding='utf-8-sig'))
    parts = {key: content[key] for key in ('images', 'annotations', 'categories')}
    wrong = [key for key, value in parts.items() if not isinstance(value, list)]
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error.strerror}') from error
  except (ValueError, TypeError, KeyError, RecursionError) as error:
    raise UserError(
      f'{path} is no JSON of instances as COCO has them, an object with the lists '
      f'images, annotations and categories ({error!r:.80})'
    ) from error
  if wrong:
    raise UserError(f'{path}: {wrong[0]!r} is no list: write it as COCO does')
  return parts


def _instance(item, of_id, name_of):
  """(name of the class, box, area, crowd) of an annotation, or why it cannot be used."""
  try:
    if item['image_id'] not in of_id:
      return 'its image is not listed, or was left out'
    if item['category_id'] not in name_of:
      return 'there is no such category'
    box = [float(value) for value in item['bbox']]
    area = float(item.get('area') or box[2] * box[3])
    crowd = int(item.get('iscrowd') or 0)
  except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
    return repr(error)
  if len(box) != 4 or not math.isfinite(sum(box) + area) or min(*box[2:], area) < 0:
    return 'bbox is not x, y, width, height in pixels'
  return name_of[item['category_id']], box, area, crowd


def _write(entries, classes, icons, out, placer, report):
  """Writes all files; returns the rows of the table of classes."""
  table = {name: [0, 0, 0, 0] for name in classes}
  categories = [{'id': number, 'name': name} for name, number in classes.items()]
  lists = {
    split: {'images': [], 'annotations': [], 'categories': categories} for split in ('train', 'val')
  }
  records, ids = [], itertools.count(1)
  with contextlib.ExitStack() as stack:
    zips = {
      split: stack.enter_context(writer.zip_file(out / f'{split}2014.zip'))
      for split in ('train', 'val')
    }
    for number, entry in enumerate(tqdm(entries, unit='image', disable=None, leave=False), 1):
      image, listed = entry['image'], entry['listed']
      of_image = [icon for icon in icons.pop(image.path, []) if _has_class(icon, classes, report)]
      checked = images.check(image, report)
      if checked is None:
        for point in of_image:
          report.problem('icons of an unreadable image, left out', point.where, image.name)
        report.count('instances of images left out', len(entry['instances']))
        continue
      checked = _as_listed(image, checked, listed, report)
      name = pathlib.PurePath(image.new_name)
      name = str(name.with_suffix('.jpg') if checked.anew else name)
      writer.add_to_zip(zips[image.split], f'{image.split}2014/{name}', checked.data)
      lists[image.split]['images'].append(
        {'id': number, 'file_name': name, 'height': listed[0], 'width': listed[1]}
      )
      lists[image.split]['annotations'] += [
        {
          'id': next(ids),
          'image_id': number,
          'category_id': classes[label],
          'bbox': box,
          'area': area,
          'iscrowd': crowd,
        }
        for label, box, area, crowd in entry['instances']
      ]
      report.count('instances kept', len(entry['instances']))
      report.count('images in train' if image.split == 'train' else 'images in validation')
      kept = placer.inside(of_image, image, checked.size)
      present = {instance[0] for instance in entry['instances']}
      placed = {point.label for point, _, _ in kept}
      report.count('icons of classes without an instance there', len(placed - present))
      for label in present | placed:
        column = 0 if image.split == 'train' else 2
        table[label][column] += label in present
        table[label][column + 1] += label in placed
      if kept:
        records.append(_record(number, checked.size, kept))
    annotations = stack.enter_context(writer.zip_file(out / 'annotations_trainval2014.zip'))
    for split, content in lists.items():
      if not content['images']:
        raise UserError(f'no image is left in {split}: see {out}/problems.csv')
      writer.add_to_zip(
        annotations,
        f'annotations/instances_{split}2014.json',
        json.dumps(content).encode(),
        compress=True,
      )
  with writer.replacing(out / 'coco_ab_v1_0.json') as file:
    file.write(json.dumps(records).encode())
  return table


def _as_listed(image, checked, listed, report):
  """The image with the pixels that its boxes are given in, should these be the unturned ones."""
  if checked.size == listed:
    return checked
  raw = image.path.read_bytes()
  with contextlib.suppress(image_files.BadImage):
    if image_files.image_size(raw) == listed:
      report.count('images left unturned, as the instances give their size')
      return images.Checked(raw, False, listed)
  report.problem(
    'image of another size than listed, kept',
    str(image.path),
    f'{checked.size[1]} x {checked.size[0]}, listed {listed[1]} x {listed[0]} px',
  )
  return checked


def _has_class(icon, classes, report):
  if icon.label not in classes:
    report.problem('icons of an unknown class, left out', icon.where, repr(icon.label))
  return icon.label in classes


def _record(number, size, icons):
  """A worker's record: each icon of a class after the first one moves it."""
  actions, places = [], {}
  for point, x, y in icons:
    place = {'x': x, 'y': y}
    actions.append(
      {
        'actionType': 'move' if point.label in places else 'add',
        'iconType': point.label,
        'pointFrom': places.get(point.label),
        'pointTo': place,
        'timeAt': point.time,
      }
    )
    places[point.label] = place
  height, width = size
  return {
    'image_id': number,
    'originalImageHeight': height,
    'originalImageWidth': width,
    'imageHeight': height,
    'imageWidth': width,
    'actionHistories': actions,
    'categoryHistories': [],
    'mouseTracking': [],
  }
