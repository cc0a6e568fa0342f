"""From photographs to TFDS records: every click and icon is on the dot that was painted there."""

import io
import shlex

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from playwright.sync_api import expect

from luab_jax.tools.annotate import __main__ as annotate
from tests.painted_data import encode, find_dot, paint
from tests.tools.annotate.browser import Worker
from tests.tools.annotate.desk import Desk
from tests.tools.annotate.serving import serving
from tfds_builders import build

pytestmark = pytest.mark.slow

SIZES = [(120, 90), (90, 131), (200, 70), (101, 103), (64, 96), (150, 150)]  # (width, height)
GPS, ORIENTATION = 0x8825, 0x0112


def _photograph(size, dot, orientation):
  """A JPEG with GPS data, its pixels stored as by a camera held in that orientation."""
  stored = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]
  exif = Image.Exif()
  exif[ORIENTATION] = orientation
  exif.get_ifd(GPS)[1] = 'N'
  exif.get_ifd(GPS)[2] = (52.0, 31.0, 12.0)
  file = io.BytesIO()
  pixels = np.rot90(paint(size[1], size[0], [dot]), stored)
  Image.fromarray(pixels).save(file, 'JPEG', quality=95, exif=exif)
  return file.getvalue()


@pytest.fixture
def photographs(tmp_path):
  """Twelve images of two classes with one dot each, some rotated by EXIF."""
  rng = np.random.default_rng(1)
  for label in ('cat', 'dog'):
    for number, size in enumerate(SIZES):
      path = tmp_path / 'photos' / label / f'{number}.jpg'
      path.parent.mkdir(parents=True, exist_ok=True)
      dot = rng.uniform(0.2, 0.8, 2)
      turned = (1, 6, 8, 3)[number % 4]
      data = _photograph(size, dot, turned) if number < 4 else encode(paint(*size[::-1], [dot]))
      path.write_bytes(data)
  return tmp_path / 'photos'


def _find_served_dot(data, size):
  """(x, y) of the dot on a served image, which must be upright, of `size`, and without metadata."""
  with Image.open(io.BytesIO(data)) as served:
    assert not served.getexif()
    assert served.info.keys() <= {'jfif', 'jfif_version', 'jfif_unit', 'jfif_density'}
    assert served.size == size
    return find_dot(np.asarray(served.convert('L'), np.float32) / 255)


def _click_dots(worker):
  """Clicks each image of the open page on its dot."""
  for slot in range(worker.page.locator('.tile').count()):
    image = worker.tile(slot).locator('img')
    image.scroll_into_view_if_needed()
    size = tuple(image.evaluate('e => [e.naturalWidth, e.naturalHeight]'))
    source = worker.server.url + image.get_attribute('src')
    x, y = _find_served_dot(worker.page.request.get(source).body(), size)
    left, top, width, height = worker.rect(image)
    worker.page.mouse.click(left + float(x) * width, top + float(y) * height)
    expect(worker.tile(slot)).to_have_attribute('aria-pressed', 'true')


def _put_icons(desk):
  """A worker puts an icon on the dot of each served image, to a tenth of a CSS px."""
  person = desk.join()
  practice = person.lease()
  put = {'e': 'put', 't': 5, 'c': 0, 's': 'mouse', 'x': 0.5, 'y': 0.5}
  person.call('events', person.batch(practice['lease'], 0, put))
  person.call('submit', person.end(practice['lease'], 0, icons=[{'c': 0, 'x': 0.5, 'y': 0.5}]))
  while 'lease' in (page := person.lease()):
    (image,) = page['images']
    data = (desk.folder / 'renditions' / image['src'].removeprefix('/i/')).read_bytes()
    dot = _find_served_dot(data, (image['width'], image['height']))
    width, height = 339.6, 339.6 * image['height'] / image['width']
    x = round(round(float(dot[0]) * width, 1) / width, 6)
    y = round(round(float(dot[1]) * height, 1) / height, 6)
    events = [
      {'e': 'box', 't': 1, 'i': 0, 'x': 8.25, 'y': 9.5, 'w': width, 'h': height},
      # First dropped elsewhere, then moved.
      {'e': 'put', 't': 20, 'c': 1, 's': 'mouse', 'x': 0.1, 'y': 0.9},
      {'e': 'put', 't': 30, 'c': 1, 's': 'touch', 'x': x, 'y': y},
    ]
    person.call('events', person.batch(page['lease'], 0, *events))
    person.call('submit', person.end(page['lease'], 0, icons=[{'c': 1, 'x': x, 'y': y}]))


def _check_built(task, study, out, capsys):
  """Exports, builds with the printed command, and compares each point with its image's dot."""
  capsys.readouterr()
  annotate.main(['export', str(study), f'--out={out}', '--validation_fraction=0.2'])
  said = capsys.readouterr().out
  assert '12  images in the study' in said
  command = next(line for line in said.splitlines() if 'tfds_builders.build' in line)
  assert build.main(shlex.split(command)[3:]) == 0
  name = 'imagenet_ab/local' if task == 'grid' else 'coco_ab/local'
  errors = []
  for rows in tfds.load(name, data_dir=f'{out}/built').values():
    for row in rows.as_numpy_iterator():
      points = row['clicks'] if task == 'grid' else row['icons']
      assert len(points['x']) == 1
      height, width = row['image'].shape[:2]
      dot = find_dot(row['image'].mean(-1) / 255)
      errors.append(
        max(abs(points['x'][0] - dot[0]) * width, abs(points['y'][0] - dot[1]) * height)
      )
  assert len(errors) == 12
  print(f'{task}: at most {max(errors):.3f} px of the original')
  assert max(errors) <= 0.5


def test_clicks_in_a_browser_are_on_the_dots_of_the_built_images(
  chromium, photographs, tmp_path, capsys
):
  study = tmp_path / 'study'
  where = [f'--images={photographs}', f'--out={study}']
  annotate.main(['init', '--task=grid', *where, '--workers=1'])
  with serving(study) as server:
    context = chromium.browser.new_context(viewport={'width': 1000, 'height': 700})
    worker = Worker(context, server).start(*server.keys.personal.values())
    for number in (1, 2):
      worker.says(f'Page {number} of 2')
      _click_dots(worker.ready())
      worker.submit()
    worker.says('completion code')
    context.close()
  assert worker.wrong == []
  _check_built('grid', study, tmp_path / 'raw', capsys)


def test_icons_are_on_the_dots_of_the_built_images(photographs, tmp_path, capsys):
  annotate.main(['init', '--task=icons', f'--images={photographs}', f'--out={tmp_path}/study'])
  desk = Desk(tmp_path / 'study', tmp_path / 'desk')
  _put_icons(desk)
  _check_built('icons', desk.folder, tmp_path / 'raw', capsys)
