"""Joins COCO's images, instances and byproduct records by image id, in memory."""

import collections
import os
from collections.abc import Iterable, Iterator
from typing import Annotated, NamedTuple, TypeVar

import msgspec

from luab_jax.byproducts.archives import member_names, reader
from luab_jax.byproducts.coco_ab import CLASS_INDEX, CLASS_NAMES, CocoRecord
from luab_jax.byproducts.localized_narratives import Line, Narrative
from luab_jax.errors import UserError

COCO_URL = 'http://images.cocodataset.org'


class Listed(NamedTuple):
  """An image as its instances file lists it; sizes in pixels."""

  image_id: int
  width: int
  height: int


class Instance(msgspec.Struct, gc=False):
  """One annotated object; box (x right, y down) and area in pixels of the image as listed."""

  id: int
  label: int  # index of the class
  x: float
  y: float
  width: float
  height: float
  area: float
  is_crowd: bool


class Joined(NamedTuple):
  """An image and what belongs to it."""

  where: str  # archive and member, for messages
  file_name: str
  data: bytes
  listed: Listed
  instances: list[Instance]
  byproducts: CocoRecord | list[Narrative] | None


# One of COCO's instances files; fields that are not needed are ignored.
_Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_Size = Annotated[int, msgspec.Meta(ge=1, le=(1 << 31) - 1)]
# 2^53 is exact as a double and finite as the float32 that is stored.
_Position = Annotated[float, msgspec.Meta(ge=-(2.0**53), le=2.0**53)]
_Extent = Annotated[float, msgspec.Meta(ge=0, le=2.0**53)]
_AtLeastOne = msgspec.Meta(min_length=1)


class _Image(msgspec.Struct, gc=False):
  id: _Int64
  file_name: str
  width: _Size
  height: _Size


class _Annotation(msgspec.Struct, gc=False):
  id: _Int64
  image_id: _Int64
  category_id: _Int64
  bbox: tuple[_Position, _Position, _Extent, _Extent]
  area: _Extent
  iscrowd: Annotated[int, msgspec.Meta(ge=0, le=1)]


class _Category(msgspec.Struct, gc=False):
  id: _Int64
  name: str


class _CategoriesOnly(msgspec.Struct):
  categories: Annotated[list[_Category], _AtLeastOne]


class _InstancesFile(_CategoriesOnly):
  images: Annotated[list[_Image], _AtLeastOne]
  annotations: Annotated[list[_Annotation], _AtLeastOne]


_File = TypeVar('_File')


def class_names(archive: str | os.PathLike, members: Iterable[str]) -> tuple[str, ...]:
  """Returns the classes of custom instances files, read from their categories.

  Args:
    archive: the zip.
    members: names of the instances files in it.

  Returns:
    COCO's 80 classes if all names are among them, else the names in the order of their ids.

  Raises:
    UserError: a file is missing or damaged, or a category cannot be a class.
  """
  names: dict[int, str] = {}
  for member in members:
    for category in _decode(archive, member, _CategoriesOnly).categories:
      name = category.name
      problem = member_names.class_problem(name) or member_names.normalize(name.strip('/'))[1]
      if names.setdefault(category.id, name) != name:
        problem = f'the id is also that of {names[category.id]!r:.40}'
      elif list(names.values()).count(name) > 1:
        problem = 'two ids have this name'
      if problem:
        raise UserError(
          f'{archive}: {member}: category {category.id} ({name!r:.80}) cannot be used: {problem}; '
          'fix it in all instances files'
        )
  if CLASS_INDEX.keys() >= set(names.values()):
    return CLASS_NAMES
  return tuple(name for _, name in sorted(names.items()))


class Join:
  """Annotations and records that wait for their image; `take` removes them.

  Attributes:
    class_index: class name -> index.
  """

  def __init__(self, class_index: dict[str, int] = CLASS_INDEX):
    self.class_index = class_index
    self._listed: dict[str, Listed] = {}  # by file name
    self._ids: set[int] = set()  # of listed images
    self._taken: set[int] = set()  # ids of images
    self._instances: dict[int, list[Instance]] = collections.defaultdict(list)  # by image id
    self._records: dict[int, CocoRecord] = {}  # by image id
    self._lines: dict[int, list[Line]] = collections.defaultdict(list)  # by image id

  def add_records(self, records: Iterable[CocoRecord]) -> Iterator[CocoRecord]:
    """Stores the records; if an image has several, the last is kept and the others are yielded."""
    for record in records:
      if replaced := self._records.pop(record.image_id, None):
        yield replaced
      self._records[record.image_id] = record

  def add_line(self, line: Line) -> None:
    """Stores the position of a narrative; an image may have several."""
    self._lines[line.image_id].append(line)

  def add_instances(self, archive: str | os.PathLike, member: str) -> None:
    """Reads one of COCO's instances files out of its zip.

    Raises:
      UserError: the zip or the member is missing, damaged or not in COCO's format.
    """
    content = _decode(archive, member, _InstancesFile)
    for image in content.images:
      if image.file_name in self._listed or image.id in self._ids:
        raise _not_coco(archive, member, f'image {image.id} ({image.file_name!r:.80}) occurs twice')
      self._listed[image.file_name] = Listed(image.id, image.width, image.height)
      self._ids.add(image.id)
    labels = {}
    for category in content.categories:
      if category.name not in self.class_index:
        problem = (
          f'category {category.name!r:.80} is not one of the {len(self.class_index)} classes'
        )
        raise _not_coco(archive, member, problem)
      labels[category.id] = self.class_index[category.name]
    for item in content.annotations:
      if item.category_id not in labels:
        problem = f'annotation {item.id} has category_id {item.category_id}, which is not listed'
        raise _not_coco(archive, member, problem)
      self._instances[item.image_id].append(
        Instance(
          item.id, labels[item.category_id], *item.bbox, item.area, is_crowd=bool(item.iscrowd)
        )
      )

  def listed(self, file_name: str) -> Listed | None:
    """Returns the image's entry in the instances files; None if there is none."""
    return self._listed.get(file_name)

  def take(self, image_id: int) -> tuple[list[Instance], CocoRecord | list[Line] | None] | None:
    """Returns what belongs to a listed image, instances in the order of their ids.

    None if they have already been taken.
    """
    if image_id in self._taken:
      return None
    self._taken.add(image_id)
    instances = sorted(self._instances.pop(image_id, []), key=lambda instance: instance.id)
    record = self._records.pop(image_id, None)
    return instances, record or self._lines.pop(image_id, None)

  def unused(self) -> tuple[int, int, int]:
    """Returns how many (listed images, records or narratives, instances) were not taken."""
    return (
      len(self._ids) - len(self._taken),
      len(self._records) + sum(map(len, self._lines.values())),
      sum(map(len, self._instances.values())),
    )


def _decode(archive: str | os.PathLike, member: str, kind: type[_File]) -> _File:
  with reader.open_zip_member(archive, member, source=_annotations_url(member)) as file:
    data = file.read()
  try:
    return msgspec.json.decode(data, type=kind)
  except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
    raise _not_coco(archive, member, member_names.escape(str(error))) from error


def _not_coco(archive: str | os.PathLike, member: str, problem: str) -> UserError:
  return UserError(
    f"{archive}: {member} is not in COCO's format: {problem}; fix it, or get the file from "
    f'{_annotations_url(member)}'
  )


def _annotations_url(member: str) -> str:
  year = member.removesuffix('.json')[-4:]
  return f'{COCO_URL}/annotations/annotations_trainval{year}.zip'
