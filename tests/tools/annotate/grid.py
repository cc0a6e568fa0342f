"""A study of grids, and a worker's mouse on its pages."""

import numpy as np
from PIL import Image
from playwright.sync_api import expect

from tests.tools.annotate.serving import annotate

IMAGES = 12  # on a page
_SIZES = ((300, 200), (200, 300), (260, 260), (450, 150), (150, 450), (320, 240))


def make_study(folder):
  """A study of two pages of 12 images, of six shapes, for eight workers; keeps raw mouse traces."""
  (folder / 'images' / 'bird').mkdir(parents=True)
  for number in range(2 * IMAGES):
    image = np.random.default_rng(number).integers(0, 255, (3, 4, 3), np.uint8)
    image = Image.fromarray(image).resize(_SIZES[number % len(_SIZES)])
    image.save(folder / 'images' / 'bird' / f'{number:02}.jpg')
  options = f'--page_size={IMAGES} --answers=9 --workers=8 --track=raw --pages_per_worker=2'
  paths = [f'--images={folder / "images"}', f'--out={folder / "study"}']
  annotate.main(['init', '--task=grid', *paths, *options.split()])
  return folder / 'study'


def place(slot):
  """A point of an image, (x, y) in fractions, different for each slot."""
  return 0.2 + 0.031 * slot, 0.8 - 0.029 * slot


def select(worker, slot):
  """Clicks an image at its `place` and waits until it is selected."""
  tile = worker.tile(slot)
  tile.scroll_into_view_if_needed()
  left, top, width, height = worker.rect(tile)
  x, y = place(slot)
  worker.page.mouse.click(left + x * width, top + y * height)
  expect(tile).to_have_attribute('aria-pressed', 'true')
