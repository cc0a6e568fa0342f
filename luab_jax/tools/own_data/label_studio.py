"""Reads the keypoints of Label Studio's JSON export.

x and y are percentages of the image as the browser shows it, rotated by EXIF; original_width and
original_height are its size in that orientation. image_rotation rotates only the view: the editor
turns the points back before it stores them. Formats: https://labelstud.io/guide/task_format and
https://labelstud.io/tags/keypointlabels.
"""

import datetime
import json
import pathlib
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any, TypeGuard

from luab_jax.data.image_files import EXTENSIONS
from luab_jax.errors import UserError
from luab_jax.tools.own_data.points import Mark, Point, Sitting
from luab_jax.tools.own_data.problems import Problems

FORMAT = 'Label Studio JSON'
RECORD = 'task'
_KEYPOINTS = ('keypointlabels', 'keypoint')  # with its labels, or with those of a Labels tag
_LARGE = 1e9  # beyond any percentage, size in pixels or time in seconds
_UPLOAD = re.compile(r'upload/(?:.*/)?[0-9a-f]{8}-([^/]+)')


def parse(path: pathlib.Path, data: bytes, problems: Problems) -> list[Mark]:
  """Returns the keypoints of an export, as fractions.

  Args:
    path: for messages.
    data: content of the file.
    problems: counts what is read, and records what cannot be.

  Raises:
    UserError: it is not JSON, or not an export of annotated tasks.
  """
  marks: list[Mark] = []
  seen = set()
  for number, task in enumerate(_load(path, data), 1):
    problems.count('task read')
    where = f'{path}: task {_name(task, number)}'
    if not _is_task(task):
      reason = 'it is not an object with data and annotations'
      problems.add('task malformed, skipped', where, reason)
    elif where in seen:
      problems.add('task listed twice, the first entry is used', where)
    else:
      seen.add(where)
      marks += _parse_task(task, where, problems)
  return marks


def _load(path: pathlib.Path, data: bytes) -> list:
  """Returns the tasks of a file."""
  try:
    tasks = json.loads(data.decode('utf-8-sig'))
  except (ValueError, RecursionError) as error:
    raise UserError(f'{path} is not well-formed JSON ({error!s:.80}): export it again') from error
  if isinstance(tasks, dict):
    if 'categories' in tasks:
      raise UserError(f'{path} is a COCO instances file: pass it as --coco')
    tasks = [tasks]
  if not tasks:
    raise UserError(f'{path} contains no tasks: export annotated ones')
  if not any(map(_is_task, tasks)):
    raise UserError(
      f'{path} is not an export of Label Studio with the data and annotations of each task: choose '
      'JSON as its format, not JSON-MIN or another one'
    )
  return tasks


def _is_task(task: Any) -> bool:
  return (
    isinstance(task, dict)
    and isinstance(task.get('data'), dict)
    and isinstance(task.get('annotations'), list)
  )


def _parse_task(task: dict, where: str, problems: Problems) -> Iterator[Mark]:
  """Yields the keypoints of the annotations that count."""
  for number, annotation in enumerate(task['annotations'], 1):
    problems.count('annotation read')
    name = _name(annotation, number)
    of_one = f'{where}, annotation {name}'
    if not isinstance(annotation, dict) or not isinstance(annotation.get('result'), list):
      problems.add('annotation malformed, skipped', of_one, 'it has no list of results')
    elif annotation.get('was_cancelled'):
      problems.count('annotation cancelled, ignored')
    else:
      regions = [region for region in annotation['result'] if isinstance(region, dict)]
      keypoints = [region for region in regions if region.get('type') in _KEYPOINTS]
      problems.count('result of another type, ignored', len(annotation['result']) - len(keypoints))
      tags = {_name(r, 0): _labels(r) for r in regions if r.get('type') == 'labels'}
      sitting = Sitting(name, _worker(annotation.get('completed_by')), _milliseconds(annotation))
      for region in keypoints:
        names, upload = _spellings(_image_of(task['data'], region))
        labels = _labels(region) or tags.get(_name(region, 0)) or ['']
        for point in _parse_region(region, labels, sitting, _time(annotation), of_one):
          yield Mark(names, point, of_one, upload, where)


def _parse_region(
  region: dict, labels: list[str], sitting: Sitting, time: float, where: str
) -> list[Point] | list[str]:
  """Returns a keypoint, once for each of its labels, or why it cannot be used."""
  value = region.get('value')
  x, y = (value.get('x'), value.get('y')) if isinstance(value, dict) else (None, None)
  if not (_is_number(x) and _is_number(y)):
    return ['its x or y is not a number']
  if region.get('is_positive') is False:
    return ['it is a negative point, placed off the object']
  size, height, width = None, region.get('original_height'), region.get('original_width')
  if _is_number(height) and _is_number(width) and min(height, width) >= 1:
    size = (height, width)
  return [Point(where, x / 100, y / 100, time, label, size, sitting) for label in labels]


def _labels(region: dict) -> list[str]:
  """Returns the labels that a keypoint has, or that a Labels tag gives to the region of its id."""
  value = region.get('value')
  labels = value.get(region['type']) if isinstance(value, dict) else None
  return [label for label in labels if isinstance(label, str)] if isinstance(labels, list) else []


def _image_of(data: dict, region: dict) -> str:
  """Returns the entry of a task's data that names the image of a region; '' if none does."""
  item, named = region.get('item_index'), {}
  for key, value in data.items():
    if isinstance(value, list) and isinstance(item, int) and 0 <= item < len(value):
      value = value[item]
    if isinstance(value, str) and _is_image(value):
      named[key] = value
  likely = sorted(named, key=lambda key: (key != region.get('to_name'), key != 'image'))
  return named[likely[0]] if likely else ''


def _is_image(text: str) -> bool:
  parts = re.split('[?&]', urllib.parse.unquote(text).lower())
  return any(part.endswith(EXTENSIONS) for part in parts)


def _spellings(text: str) -> tuple[list[str], str]:
  """Returns the names that an image's address may stand for, and the name of an uploaded file.

  An address is a path, a URL with percent-encoding, or /data/local-files/?d=PATH. The name of an
  uploaded file is prefixed with eight random hex digits.
  """
  try:
    address = urllib.parse.urlsplit(text)
  except ValueError:  # such as http://[
    return [text], ''
  path = urllib.parse.unquote(address.path)
  names = [text, path]
  for part in address.query.split('&'):
    if part.startswith('d='):
      names += [urllib.parse.unquote(part[2:]), urllib.parse.unquote_plus(part[2:])]
  upload = _UPLOAD.search(path)
  return names, upload[1] if upload else ''


def _is_number(value: Any) -> TypeGuard[float]:
  return isinstance(value, int | float) and abs(value) < _LARGE  # neither NaN nor infinite


def _name(item: Any, number: int) -> str:
  """Returns the id of a task, annotation or region, or its position in the list."""
  name = item.get('id') if isinstance(item, dict) else None
  return _clean(name) if isinstance(name, int | str) else f'at position {number}'


def _worker(completed_by: Any) -> str:
  """Returns the id of a user, which exports hold alone or along with name and e-mail address."""
  if isinstance(completed_by, dict):
    completed_by = completed_by.get('id')
  return _clean(completed_by) if isinstance(completed_by, int | str) else ''


def _clean(text: int | str) -> str:
  """Returns an id without characters that XML or a console cannot hold."""
  return re.sub(r'[^-\w.@+ ]', '_', str(text))[:80]


def _milliseconds(annotation: dict) -> int | None:
  """Returns the time that an annotation took; None if it was not recorded."""
  seconds = annotation.get('lead_time')
  return round(1000 * seconds) if _is_number(seconds) and seconds >= 0 else None


def _time(annotation: dict) -> float:
  """Returns when an annotation was made, in ms since 1970; 0 if that is not recorded."""
  try:
    return datetime.datetime.fromisoformat(annotation['created_at']).timestamp() * 1000
  except (LookupError, TypeError, ValueError, OverflowError):
    return 0.0
