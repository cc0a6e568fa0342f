"""Reads the points of CVAT's export "CVAT for images 1.1" (XML).

x and y are in pixels from the top left corner of the image as CVAT showed it: rotated by EXIF since
April 2022 (cvat-ai/cvat#4529), as stored before that. The listed width and height tell which.
Format: https://docs.cvat.ai/docs/other/xml_format ("Annotation").
"""

import math
import pathlib
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from luab_jax.byproducts import BadRecord, safe_xml
from luab_jax.errors import UserError
from luab_jax.tools.own_data.points import Mark, Point
from luab_jax.tools.own_data.problems import Problems

FORMAT = 'CVAT XML'
RECORD = 'image'


def parse(path: pathlib.Path, data: bytes, problems: Problems) -> list[Mark]:
  """Returns the points of an export, as fractions.

  Args:
    path: for messages.
    data: content of the file.
    problems: counts what is read, and records what cannot be.

  Raises:
    UserError: it is not XML, or not in the format "CVAT for images".
  """
  try:
    root = safe_xml.parse(data)
  except BadRecord as error:
    raise UserError(f'{path} cannot be used: {error}: export it again') from error
  if root.find('track') is not None:
    raise UserError(
      f'{path} contains video tracks: export the task as "CVAT for images 1.1", which stores them '
      'image by image'
    )
  images = root.findall('image') if root.tag == 'annotations' else []
  if not images:
    raise UserError(f'{path} holds no images as "CVAT for images 1.1": export it in that format')
  marks: list[Mark] = []
  seen = set()
  for number, image in enumerate(images, 1):
    problems.count('image in the XML')
    where = f'{path}: image {number}, {image.get("name")!r:.80}'
    if (key := (image.get('task_id'), image.get('id'), image.get('name'))) in seen:
      problems.add('image listed twice, the first entry is used', where)
    else:
      seen.add(key)
      marks += _parse_image(image, where, problems)
  return marks


def _parse_image(image: Element, where: str, problems: Problems) -> Iterator[Mark]:
  """Yields the marks of an image; they do not say who placed them."""
  shapes = image.findall('points')
  problems.count('shape of another type, ignored', len(image) - len(shapes))
  names = [image.get('name', '')]
  try:
    height, width = int(image.get('height', '')), int(image.get('width', ''))
    if min(height, width) < 1:
      raise ValueError('width or height is below 1')
  except ValueError as error:
    problems.add('image listed with invalid values, skipped', where, error)
    return
  places = [(shape, text) for shape in shapes for text in shape.get('points', '').split(';')]
  for number, (shape, text) in enumerate(places):
    of_one = f'{where}, point {number + 1}'
    try:
      x, y = map(float, text.split(','))
      if not math.isfinite(x + y):
        raise ValueError('x or y is not finite')
    except ValueError:
      yield Mark(names, f'{text!r:.80} is not x,y', of_one, record=where)
    else:
      label = shape.get('label', '')
      point = Point(of_one, x / width, y / height, float(number), label, (height, width))
      yield Mark(names, point, of_one, record=where)
