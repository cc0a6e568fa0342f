"""The practice pages, and the tabs of COCO's icons."""

import collections
import io

import numpy as np
from PIL import Image

from luab_jax.byproducts.coco_ab import CLASS_NAMES
from luab_jax.tools.annotate import coco_pages, practice


def _pixels(drawing):
  with Image.open(io.BytesIO(drawing.jpeg)) as image:
    assert image.format == 'JPEG' and image.size == (drawing.width, drawing.height)
    return np.asarray(image, np.int16)


def _has(pixels, color):
  """bool[H, W]: which pixels have a colour '#rrggbb', up to JPEG artefacts."""
  return np.abs(pixels - list(bytes.fromhex(color[1:]))).max(-1) < 16


def test_the_right_answers_of_the_grid_are_the_images_with_a_kite():
  page = practice.grid()
  assert 0 < len(page.answers) < len(page.images) == 12
  assert page.answers == tuple(
    slot
    for slot, drawing in enumerate(page.images)
    if _has(_pixels(drawing), '#d62f6f').sum() > 100
  )


def test_a_spot_is_on_its_thing():
  page = practice.icons()
  pixels = _pixels(page.image)
  names = [name for name, _ in page.classes]
  expected = {'sun': '#ffc94d', 'tree': '#3f9b57', 'ball': '#2a6fba'}
  for spot in page.answers:
    assert 0.02 < spot.r < 0.2
    if color := expected.get(names[spot.c]):
      assert _has(pixels[int(spot.y * page.image.height), int(spot.x * page.image.width)], color)
  there = {names[spot.c] for spot in page.answers}
  assert there == {'sun', 'tree', 'house', 'ball', 'kite'} and len(page.answers) == 6
  assert len({group for _, group in page.classes}) == 2, 'workers can practise changing tabs'


def test_the_eleven_pages_hold_the_80_classes():
  assert tuple(name for name, _ in coco_pages.CLASSES) == CLASS_NAMES
  counts = collections.Counter(group for _, group in coco_pages.CLASSES)
  assert [counts[group] for group in coco_pages.GROUPS] == [6, 10, 8, 5, 10, 7, 10, 6, 5, 6, 7]
  assert coco_pages.title('OutdoorObj') == 'Outdoors' and coco_pages.title('Tools') == 'Tools'
