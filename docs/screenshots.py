"""Takes the screenshots of docs/annotate.md in Chromium: both tasks and a replay, on drawn images.

PYTHONPATH=. python docs/screenshots.py
"""

import io
import itertools
import pathlib
import sqlite3
import tempfile

import msgspec
import numpy as np
from PIL import Image, ImageFilter
from playwright.sync_api import sync_playwright

from luab_jax.tools.annotate import __main__ as annotate
from luab_jax.tools.annotate import study
from luab_jax.tools.synthetic import coco_release, scene
from tests.tools.annotate import scripted
from tests.tools.annotate.browser import Chromium, Worker
from tests.tools.annotate.serving import serving

FOLDER = pathlib.Path(__file__).parent
_WINDOW = {'width': 1280, 'height': 800}
_SIZE, _IMAGES = 320, 12
_ASKED = scene.SHAPES.index('star')


def draw_grid(folder):
  """Images of shapes, two in three with a star; returns {path: (x, y) of the star or None}."""
  rng, found = np.random.default_rng(5), {}
  (folder / 'star').mkdir(parents=True)
  others = [shape for shape in range(len(scene.SHAPES)) if shape != _ASKED]
  for number in range(_IMAGES):
    shapes = [int(rng.choice(others)), _ASKED if number % 3 else int(rng.choice(others))]
    drawn = scene.draw_scene(rng, shapes, number % scene.NUM_TEXTURES, _SIZE, (0.15, 0.25))
    stars = [shape for shape in drawn.objects if shape.shape == _ASKED]
    path = f'star/{number:02}.png'
    found[path] = _place(stars[0], drawn) if stars else None
    write_smooth(drawn, folder / path)
  return found


def write_smooth(drawn, path):
  """Writes an image without its noise, which would take up most of a screenshot's bytes."""
  Image.fromarray(drawn.pixels).filter(ImageFilter.MedianFilter(7)).save(path)


def _place(shape, drawn):
  return shape.center[0] / drawn.width, shape.center[1] / drawn.height


def make(folder, task, images, *options):
  out = folder / f'study_{task}'
  annotate.main(
    ['init', f'--task={task}', f'--images={images}', f'--out={out}', '--workers=2', *options]
  )
  return out


def answer(client, page, made):
  """Sends to the server what a scripted worker did on a page."""
  names = {'lease': page['lease'], 'tab': client.tab}
  for batch in made.batches:
    client.call('events', msgspec.to_builtins(msgspec.structs.replace(batch, **names)))
  client.call('submit', msgspec.to_builtins(msgspec.structs.replace(made.submit, **names)))


def shapes_of(page):
  return [(image['width'], image['height']) for image in page['images']]


def save(page, name):
  """Saves a screenshot in 256 colours: a third of the bytes, without a visible difference."""
  picture = Image.open(io.BytesIO(page.screenshot())).convert('RGB')
  few = picture.quantize(256, kmeans=2, dither=Image.Dither.NONE)
  few.save(FOLDER / f'annotate_{name}.png', optimize=True)


def take_grid(chromium, folder):
  """Takes a grid page with some images selected, then the replay of another worker's page."""
  stars = draw_grid(folder / 'grid')
  made = make(folder, 'grid', folder / 'grid', '--answers=2', '--title=Shapes')
  with sqlite3.connect(made / 'study.db') as db:
    paths = dict(db.execute('SELECT rendition, path FROM image'))
  first, second = study.read_secrets(made).personal.values()
  with serving(made) as server:
    worker = Worker(chromium.browser.new_context(viewport=_WINDOW), server).start(first)
    slots = [
      stars[paths[worker.tile(slot).locator('img').get_attribute('src').removeprefix('/i/')]]
      for slot in range(_IMAGES)
    ]
    for slot in range(6):
      if slots[slot]:
        x, y, width, height = worker.rect(worker.tile(slot).locator('img'))
        worker.page.mouse.click(x + slots[slot][0] * width, y + slots[slot][1] * height)
        worker.page.mouse.move(640, 2)
    worker.page.evaluate('scrollTo(0, 0)')
    worker.status('saved')
    save(worker.page, 'grid')
    client = server.client(second)
    client.join()
    page = client.practise()
    wanted = {}
    for image in page['images']:
      if star := stars[paths[image['src'].removeprefix('/i/')]]:
        wanted[image['slot']] = star
    answer(client, page, scripted.grid('careful', shapes_of(page), wanted, 3))
    take_replay(chromium, server)


def take_replay(chromium, server):
  page = chromium.browser.new_page(viewport=_WINDOW)
  page.goto(f'{server.url}/admin#{server.keys.admin}')
  page.get_by_role('link', name='Replay').first.click()
  page.locator('.entry', has_text=' selected').nth(4).click()
  page.wait_for_load_state('networkidle')
  save(page, 'replay')


def take_icons(chromium, folder):
  """Takes an image with icons on it."""
  images = (coco_release.draw(11, 'train', index, 1.0, _SIZE) for index in itertools.count())
  drawn = next(image for image in images if len({shape.shape for shape in image.objects}) == 4)
  (folder / 'icons').mkdir()
  write_smooth(drawn, folder / 'icons/0.png')
  made = make(folder, 'icons', folder / 'icons', '--title=What is in the image?')
  link = next(iter(study.read_secrets(made).personal.values()))
  with serving(made) as server:
    client = server.client(link)
    client.join()
    practice = client.lease()
    spots = [{'c': 0, 'x': 0.5, 'y': 0.5}]
    put = {'e': 'put', 't': 5, 's': 'mouse', **spots[0]}
    client.call('events', client.batch(practice['lease'], 0, put))
    client.call('submit', client.end(practice['lease'], 0, icons=spots))
    worker = Worker(chromium.browser.new_context(viewport=_WINDOW), server).open(link)
    worker.press('I agree, start')
    page = worker.page
    page.locator('.stage[data-state=ready]').wait_for()
    for shape in drawn.objects:
      name, place = coco_release.CLASSES[shape.shape], _place(shape, drawn)
      page.keyboard.press('/')
      page.keyboard.type(name)
      page.keyboard.press('Enter')
      page.locator('.chips.open .chip', has_text=name).first.click()
      x, y, width, height = worker.rect(page.locator('.stage'))
      page.mouse.click(x + place[0] * width, y + place[1] * height)
    worker.status('saved')
    save(page, 'icons')


def main():
  with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
    folder = pathlib.Path(folder)
    (folder / 'profile').mkdir()
    chromium = Chromium(playwright, folder / 'profile')
    try:
      take_grid(chromium, folder)
      take_icons(chromium, folder)
    finally:
      chromium.kill()


if __name__ == '__main__':
  main()
