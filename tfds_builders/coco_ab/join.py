"""Joins COCO's images, instances and byproduct records by image_id, in a temporary SQLite file.

`instances_train2014.json` has 605 thousand instances (gigabytes as Python objects, with TFDS's own
reader too) and `coco_ab_v1_0.json` 83 thousand records, each file in its own order. Both are
streamed once into the file; an image's rows are then looked up when its bytes come by.
"""

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from luab_jax.byproducts.archives import member_names, reader
from luab_jax.byproducts.coco_ab import CLASS_INDEX, CLASS_NAMES, Actions, Categories, CocoRecord
from luab_jax.byproducts.json_stream import JsonStream
from luab_jax.errors import UserError

ANNOTATIONS_URL = 'http://images.cocodataset.org/annotations/annotations_trainval2014.zip'

_MAX_PIXELS = 1 << 53  # exact in a double, finite as a float32

_TABLES = """
CREATE TABLE images (file_name TEXT PRIMARY KEY, image_id INTEGER UNIQUE,
                     width INTEGER, height INTEGER, used INTEGER DEFAULT 0);
CREATE TABLE instances (image_id INTEGER, id INTEGER, category_id INTEGER, x REAL, y REAL,
                        width REAL, height REAL, area REAL, is_crowd INTEGER);
CREATE TABLE records (image_id INTEGER PRIMARY KEY, record TEXT, used INTEGER DEFAULT 0);
"""


class Listed(NamedTuple):
  """An image as its instances file lists it; sizes in pixels."""

  image_id: int
  width: int
  height: int


class Instance(NamedTuple):
  """One annotated object; box in pixels of the stored image, x right, y down."""

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

  where: str  # archive and member
  data: bytes
  listed: Listed
  instances: list[Instance]
  record: CocoRecord | None


def class_names(archive: str | os.PathLike, members: Iterable[str]) -> tuple[str, ...]:
  """The classes of instances files of one's own, read from their categories.

  Args:
    archive: the zip.
    members: names of the instances files in it.

  Returns:
    COCO's 80 classes where all names are among them, else the names in the order of their ids.

  Raises:
    UserError: a file is missing or damaged, or says of a category what cannot be.
  """
  names = {}
  for member in members:
    with reader.open_zip_member(archive, member, source=ANNOTATIONS_URL) as file:
      for key, item in JsonStream(file, f'{archive}: {member}', ANNOTATIONS_URL).member_items():
        if key == 'categories' and (problem := _add_category(names, item)):
          raise UserError(
            f'{archive}: {member} has a category that cannot be used ({problem}; '
            f'{item!r:.80}): mend it in all instances files'
          )
  if CLASS_INDEX.keys() >= set(names.values()):
    return CLASS_NAMES
  return tuple(name for _, name in sorted(names.items()))


def _add_category(names: dict[int, str], item: object) -> str:
  """Adds one of an instances file to {id: name}; returns '' or why it cannot be added."""
  try:
    number, name = int(item['id']), item['name']
    problem = member_names.class_problem(name) or member_names.normalize(name.strip('/'))[1]
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    return f'{type(error).__name__}: {error}'
  if number in names and names[number] != name:
    return f'the id is also that of {names[number]!r:.40}'
  if number not in names and name in names.values():
    return 'two ids have this name'
  names[number] = name
  return problem


class Join:
  """An unnamed temporary file in `folder` (None: the system's), which dies with the process.

  It takes 0.4 GB of disk for the real release, and a few MB of memory.

  Attributes:
    class_index: name of a class -> its index; COCO's 80 until other ones are set.
  """

  def __init__(self, folder: str | os.PathLike | None = None):
    handle, path = tempfile.mkstemp(dir=folder, prefix='coco_ab_', suffix='.sqlite')
    os.close(handle)
    # TFDS may run a split in another thread than the one that opened the file, never in two.
    self._db = sqlite3.connect(path, check_same_thread=False)
    # A crash loses nothing that matters: no journal, no waiting for the disk.
    self._db.executescript('PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;' + _TABLES)
    os.unlink(path)
    self._labels = {}  # category_id -> index of the class
    self.class_index = CLASS_INDEX

  def close(self) -> None:
    """Frees the disk."""
    self._db.close()

  def add_records(self, records: Iterable[CocoRecord]) -> Iterator[CocoRecord]:
    """Stores the records; yields those whose image_id was there before (the first one counts)."""
    with self._db:
      for record in records:
        added = self._db.execute(
          'INSERT OR IGNORE INTO records (image_id, record) VALUES (?, ?)',
          (record.image_id, json.dumps(record, default=np.ndarray.tolist)),
        )
        if not added.rowcount:
          yield record

  def add_instances(self, archive: str | os.PathLike, member: str) -> None:
    """Streams an instances file of COCO's out of its zip.

    Raises:
      UserError: the zip or the member is missing or damaged, or an entry is not what COCO's are.
    """
    with reader.open_zip_member(archive, member, source=ANNOTATIONS_URL) as file, self._db:
      stream = JsonStream(file, f'{archive}: {member}', ANNOTATIONS_URL)
      missing = {'images', 'annotations', 'categories'}
      for key, item in stream.member_items():
        try:
          self._add(key, item)
        except (KeyError, TypeError, ValueError, OverflowError, sqlite3.Error) as error:
          raise UserError(
            f'{archive}: {member} has an entry in {key!r} that is not as in COCO '
            f'({type(error).__name__}: {str(error):.80}; {item!r:.80}): mend it, or get the file '
            f'from {ANNOTATIONS_URL}'
          ) from error
        missing -= {key}
      if missing:
        raise UserError(
          f'{archive}: {member} has nothing in {min(missing)!r}: get the file from '
          f'{ANNOTATIONS_URL}'
        )
      self._db.execute('CREATE INDEX IF NOT EXISTS by_image ON instances (image_id)')
    unknown = self._db.execute('SELECT DISTINCT category_id FROM instances').fetchall()
    unknown = sorted({row[0] for row in unknown} - self._labels.keys())
    if unknown:
      raise UserError(
        f'{archive}: {member} has instances of category_id {unknown[0]}, which its "categories" '
        f'lack: add it there, or get the file from {ANNOTATIONS_URL}'
      )

  def _add(self, key: str, item: dict) -> None:
    if key == 'images':
      row = (item['file_name'], int(item['id']), int(item['width']), int(item['height']))
      if min(row[2:]) < 1:
        raise ValueError('an image has no size')
      self._db.execute('INSERT INTO images VALUES (?, ?, ?, ?, 0)', row)
    elif key == 'annotations':
      box = [float(value) for value in item['bbox']]
      area = float(item['area'])
      sound = type(item['bbox']) is list and len(box) == 4 and min(*box[2:], area) >= 0
      # So that NaN fails as well.
      if not sound or not all(abs(value) <= _MAX_PIXELS for value in [*box, area]):
        raise ValueError('bbox is not x, y, width, height in pixels, or area not in pixels')
      row = (
        int(item['image_id']),
        int(item['id']),
        int(item['category_id']),
        *box,
        area,
        int(item['iscrowd']),
      )
      self._db.execute('INSERT INTO instances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)', row)
    elif key == 'categories':
      if item['name'] not in self.class_index:
        raise ValueError(f'not one of the {len(self.class_index)} classes')
      self._labels[int(item['id'])] = self.class_index[item['name']]

  def listed(self, file_name: str) -> Listed | None:
    """The image's entry in the instances files; None if there is none."""
    row = self._db.execute(
      'SELECT image_id, width, height FROM images WHERE file_name = ?', (file_name,)
    ).fetchone()
    return row and Listed(*row)

  def take_image(self, image_id: int) -> bool:
    """Marks a listed image as used; False if it was marked before."""
    return (
      self._db.execute(
        'UPDATE images SET used = 1 WHERE image_id = ? AND NOT used', (image_id,)
      ).rowcount
      == 1
    )

  def instances(self, image_id: int) -> list[Instance]:
    """All instances of the image, in the order of their ids."""
    rows = self._db.execute(
      'SELECT id, category_id, x, y, width, height, area, is_crowd FROM instances '
      'WHERE image_id = ? ORDER BY id',
      (image_id,),
    )
    return [Instance(row[0], self._labels[row[1]], *row[2:7], bool(row[7])) for row in rows]

  def take_record(self, image_id: int) -> str | None:
    """The record of the image, as `decoded` reads it; it counts as used now. None: no record."""
    row = self._db.execute('SELECT record FROM records WHERE image_id = ?', (image_id,)).fetchone()
    if row is None:
      return None
    self._db.execute('UPDATE records SET used = 1 WHERE image_id = ?', (image_id,))
    return row[0]

  def unused(self) -> tuple[int, int, int]:
    """How many (listed images, records, instances of listed or unknown images) were not taken."""
    return tuple(
      self._db.execute(f'SELECT count(*) FROM {rows}').fetchone()[0]
      for rows in (
        'images WHERE NOT used',
        'records WHERE NOT used',
        'instances WHERE image_id NOT IN (SELECT image_id FROM images WHERE used)',
      )
    )


def decoded(text: str) -> CocoRecord:
  """Returns the record that add_records has written."""
  *fields, actions, categories, trace_xy, trace_time_ms = json.loads(text)
  action, icon, from_xy, to_xy, action_time_ms = actions
  index, name, category_time_ms, using_keyboard = categories
  return CocoRecord(
    *fields,
    Actions(
      np.array(action, np.int64),
      tuple(icon),
      _points(from_xy),
      _points(to_xy),
      np.array(action_time_ms, np.int64),
    ),
    Categories(
      np.array(index, np.int32),
      tuple(name),
      np.array(category_time_ms, np.int64),
      np.array(using_keyboard, bool),
    ),
    _points(trace_xy),
    np.array(trace_time_ms, np.int64),
  )


def _points(rows: list) -> np.ndarray:
  return np.array(rows, np.float64).reshape(-1, 2)
