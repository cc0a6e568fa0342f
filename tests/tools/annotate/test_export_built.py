"""From photographs to TFDS records: each click is on the dot that was painted where it was made."""

import io
import shlex

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from luab_jax.tools.annotate import __main__ as annotate
from tests.painted_data import encode, find_dot, paint
from tests.tools.annotate.desk import Desk
from tfds_builders import build

pytestmark = pytest.mark.slow

SIZES = [(120, 90), (90, 131), (200, 70), (101, 103), (64, 96), (150, 150)]  # (width, height)
GPS, ORIENTATION = 0x8825, 0x0112


def _photograph(size, dot, orientation):
  """A JPEG with GPS whose pixels are stored as a camera held in that way stores them."""
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
  """Twelve images of two classes with a dot each, some turned by EXIF."""
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


def _annotate(desk, task):
  """A worker looks at what is served and clicks on its dots, to a tenth of a CSS px."""
  person = desk.join()
  practice = person.lease()
  if task == 'grid':
    person.do_page(practice)
  else:
    put = {'e': 'put', 't': 5, 'c': 0, 's': 'mouse', 'x': 0.5, 'y': 0.5}
    person.call('events', person.batch(practice['lease'], 0, put))
    person.call('submit', person.end(practice['lease'], 0, icons=[{'c': 0, 'x': 0.5, 'y': 0.5}]))
  while 'lease' in (page := person.lease()):
    events, icons = [], []
    for image in page['images']:
      slot = image['slot']
      with Image.open(desk.folder / 'renditions' / image['src'].removeprefix('/i/')) as served:
        assert not served.getexif() and served.info.keys() <= {'jfif', 'jfif_version', 'jfif_unit',
                                                              'jfif_density'}  # fmt: skip
        assert served.size == (image['width'], image['height'])
        dot = find_dot(np.asarray(served.convert('L'), np.float32) / 255)
      box = {'x': 8.25, 'y': 9.5, 'w': 339.6, 'h': 339.6 * image['height'] / image['width']}
      width, height = box['w'], box['h']
      x = round(round(float(dot[0]) * width, 1) / width, 6)
      y = round(round(float(dot[1]) * height, 1) / height, 6)
      events.append({'e': 'box', 't': 1, 'i': slot, **box})
      if task == 'grid':
        events.append({'e': 'on', 't': 20, 'i': slot, 's': 'mouse', 'x': x, 'y': y})
      else:
        # Dropped elsewhere first, then moved.
        events.append({'e': 'put', 't': 20, 'c': 1, 's': 'mouse', 'x': 0.1, 'y': 0.9})
        events.append({'e': 'put', 't': 30, 'c': 1, 's': 'touch', 'x': x, 'y': y})
        icons = [{'c': 1, 'x': x, 'y': y}]
    person.call('events', person.batch(page['lease'], 0, *events))
    slots = [image['slot'] for image in page['images']] if task == 'grid' else []
    person.call('submit', person.end(page['lease'], 0, slots, icons))


@pytest.mark.parametrize('task', ['grid', 'icons'])
def test_clicks_are_on_the_dots_of_the_built_images(task, photographs, tmp_path, capsys):
  annotate.main(['init', f'--task={task}', f'--images={photographs}', f'--out={tmp_path}/study'])
  desk = Desk(tmp_path / 'study', tmp_path / 'desk')
  _annotate(desk, task)
  capsys.readouterr()
  annotate.main(['export', str(desk.folder), f'--out={tmp_path}/raw', '--validation_fraction=0.2'])
  said = capsys.readouterr().out
  assert '12  images in the study' in said
  command = next(line for line in said.splitlines() if 'tfds_builders.build' in line)
  assert build.main(shlex.split(command)[3:]) == 0
  name = 'imagenet_ab/local' if task == 'grid' else 'coco_ab/local'
  errors = []
  for rows in tfds.load(name, data_dir=f'{tmp_path}/raw/built').values():
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
