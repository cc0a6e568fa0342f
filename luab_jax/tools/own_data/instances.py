"""Reads COCO instances files: images with the boxes of several classes.

A file is read as a whole, which takes 1 GB of memory per million instances.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from luab_jax.byproducts.archives import member_names
from luab_jax.errors import UserError
from luab_jax.tools.own_data.images import ImageFile
from luab_jax.tools.own_data.problems import Problems

Find = Callable[[str], tuple[ImageFile | None, str]]

# What reading a malformed entry raises.
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, OverflowError)


class Instance(NamedTuple):
  """One annotated object."""

  label: str
  box: list[float]  # x, y, width, height in pixels
  area: float  # square pixels
  is_crowd: int  # 0 or 1


class ListedImage(NamedTuple):
  """An image of an instances file, with its objects."""

  file: ImageFile
  size: tuple[int, int]  # (height, width) in pixels, as listed; the boxes refer to it
  instances: list[Instance]
  is_upright: bool = False  # whether the boxes are known to be in the frame of the upright image

  def turn(self, orientation: int) -> 'ListedImage':
    """Returns the entry with size and boxes turned upright, for EXIF orientations 5 to 8."""
    height, width = self.size

    def turn_box(box: list[float]) -> list[float]:
      x, y, box_width, box_height = box
      left = height - y - box_height if orientation in (6, 7) else y
      top = width - x - box_width if orientation in (7, 8) else x
      return [left, top, box_height, box_width]

    turned = [instance._replace(box=turn_box(instance.box)) for instance in self.instances]
    return self._replace(size=(width, height), instances=turned)


@dataclasses.dataclass
class Listing:
  """The images and classes of all instances files."""

  classes: dict[str, int] = dataclasses.field(default_factory=dict)  # name -> category id
  images: dict[pathlib.Path, ListedImage] = dataclasses.field(default_factory=dict)

  def add_file(self, path: pathlib.Path, split: str, find: Find, problems: Problems) -> None:
    """Adds the content of an instances file.

    Args:
      path: the file.
      split: the split of its images, 'train' or 'val'.
      find: `ImageIndex.find`, for the file names it lists.
      problems: records what is skipped.

    Raises:
      UserError: the file is not in COCO's format, a category cannot be a class, or there is no
        instance on an image that was found.
    """
    content = _load(path)
    names = _parse_categories(content['categories'], path)
    for name in names.values():
      self.classes.setdefault(name, len(self.classes) + 1)
    by_id = self._add_images(content['images'], path, split, find, problems)
    for item in content['annotations']:
      problems.count('instance read')
      instance = _parse_instance(item, by_id, names)
      if isinstance(instance, str):
        problems.add('instance unusable, skipped', f'{path}: {item!r:.80}', instance)
      else:
        by_id[item['image_id']].instances.append(instance)
    if not any(listed.instances for listed in by_id.values()):
      noun = 'instance' if by_id else 'image'
      raise UserError(f'{path} lists no usable {noun}s{problems.first(noun)}')

  def _add_images(
    self, items: list, path: pathlib.Path, split: str, find: Find, problems: Problems
  ) -> dict[int | str, ListedImage]:
    """Adds the images of a file; returns them by their ids."""
    by_id: dict[int | str, ListedImage] = {}
    problems.count('image listed', len(items))
    for item in items:
      where = f'{path}: {item!r:.80}'
      try:
        file, reason = find(item['file_name'])
        number, size = item['id'], (int(item['height']), int(item['width']))
        if not isinstance(number, int | str) or min(size) < 1:
          raise ValueError('id, height or width is not as in COCO')
      except _MALFORMED as error:
        problems.add('image listed with invalid values, skipped', where, repr(error))
        continue
      if file is None:
        problems.add('image listed but not found, skipped', where, reason)
      elif file.path in self.images or number in by_id:
        problems.add('image listed twice, the first entry is used', where)
      else:
        listed = ListedImage(file._replace(split=split), size, [])
        by_id[number] = self.images[file.path] = listed
    return by_id


def _load(path: pathlib.Path) -> dict[str, list]:
  """Returns the lists images, annotations and categories of a file."""
  try:
    content = json.loads(path.read_text(encoding='utf-8-sig'))
    parts = {key: content[key] for key in ('images', 'annotations', 'categories')}
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error.strerror}') from error
  except (ValueError, TypeError, KeyError, RecursionError) as error:
    raise UserError(
      f'{path} is not a COCO instances file, a JSON object with the lists images, annotations and '
      f'categories ({error!r:.80})'
    ) from error
  if wrong := [key for key, value in parts.items() if not isinstance(value, list)]:
    raise UserError(f'{path}: {wrong[0]!r} is not a list as in COCO')
  return parts


def _parse_categories(items: list, path: pathlib.Path) -> dict[int | str, str]:
  """Returns {id: name}; raises UserError for a category that cannot be a class."""
  names = {}
  for item in items:
    try:
      name = names[item['id']] = item['name']
      if problem := member_names.class_problem(name) or member_names.normalize(name)[1]:
        raise ValueError(problem)
    except _MALFORMED as error:
      raise UserError(
        f'{path}: a category needs an id and a name that a class may have: fix '
        f'{item!r:.80} ({error})'
      ) from error
  return names


def _parse_instance(item: Any, by_id: dict, names: dict) -> Instance | str:
  """Returns an annotation, or why it cannot be used."""
  try:
    if item['image_id'] not in by_id:
      return 'its image is not listed, or was skipped'
    if item['category_id'] not in names:
      return 'no such category'
    if not item.get('bbox'):
      return 'it has no bbox'
    box = [float(value) for value in item['bbox']]
    area = float(item.get('area') or box[2] * box[3])
    is_crowd = int(item.get('iscrowd') or 0)
  except _MALFORMED as error:
    return repr(error)
  if len(box) != 4 or not math.isfinite(sum(box) + area) or min(*box[2:], area) < 0:
    return 'bbox is not x, y, width, height in pixels'
  return Instance(names[item['category_id']], box, area, is_crowd)
