"""From the export of a labelling tool to a data set whose points lie on the painted dots."""

import csv
import json
import shlex

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow_datasets as tfds

from configs import own_data as own_config
from luab_jax import models
from luab_jax.errors import UserError
from luab_jax.report import draw_run
from luab_jax.tools.own_data import __main__ as own_data
from tests import labelling_exports
from tests.own_photos import read_counts
from tests.painted_data import encode, find_dot, paint
from tests.small_models import OneBlock
from tfds_builders import build

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def one_block(monkeypatch):
  """These tests spend most of their time compiling."""
  monkeypatch.setattr(models, 'TinyConv', OneBlock)


WRITERS = {
  'Label Studio JSON': labelling_exports.write_label_studio,
  'CVAT XML': labelling_exports.write_cvat,
}
SIZE = (96, 144)  # of the pixels as stored


def _photograph(path, orientation, dots, colours=None):
  """Stores an image of SIZE that viewers rotate; returns (height, width) as they show it.

  `dots`: [(x, y)] in fractions of the image as shown.
  """
  shown = SIZE if orientation < 5 else SIZE[::-1]
  pixels = PIL.Image.fromarray(paint(*shown, dots, colours=colours))
  undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # {EXIF: Pillow's inverse Transpose}
  if orientation > 1:
    pixels = pixels.transpose(PIL.Image.Transpose(undo[orientation]))
  exif = PIL.Image.Exif()
  exif[0x0112] = orientation
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels.save(path, quality=95, subsampling=0, exif=exif)
  with PIL.Image.open(path) as image:  # what a viewer shows, by Pillow
    assert image.size == SIZE[::-1]
    upright = np.asarray(PIL.ImageOps.exif_transpose(image))
  assert upright.shape[:2] == shown
  if len(dots) == 1:
    np.testing.assert_allclose(find_dot(upright.mean(-1) / 255), dots[0], atol=0.3 / 96)
  return shown


def _stored(x, y, orientation):
  """(x, y) in the stored pixels of a point on the shown image, found by rotating a painted dot."""
  shown = PIL.Image.fromarray(paint(*SIZE[::-1], [(x, y)]))
  undo = {5: 5, 6: 2, 7: 6, 8: 4}[orientation]
  return find_dot(np.asarray(shown.transpose(PIL.Image.Transpose(undo))).mean(-1) / 255)


def _build(arguments, capsys):
  """(rows of the data set built by the printed command, own_data's counts, its name, data_dir)."""
  own_data.main(arguments)
  output = capsys.readouterr().out
  command = next(line for line in output.splitlines() if 'tfds_builders.build' in line)
  words = shlex.split(command)[3:]
  assert build.main(words) == 0
  data_dir = words[2].removeprefix('--data_dir=')
  rows = []
  for split in ('train', 'validation'):
    rows += tfds.as_numpy(tfds.load(words[0], split=split, data_dir=data_dir))
  return rows, read_counts(output), words[0], data_dir


def _train(name, data_dir, folder):
  """Trains two steps and draws their report."""
  config = own_config.get_config()
  config.data.name, config.data.data_dir = name, data_dir
  config.data.image_size = config.data.eval_resize = 32
  config.model.name = 'tiny_conv'
  config.batch_size, config.total_steps, config.report_images = 8, 2, 2
  config.eval_every_epochs, config.log_every = 0.0, 1
  draw_run.train_and_report(config, folder)
  lines = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
  losses = [line['loss'] for line in lines if line['split'] == 'train']
  assert len(losses) == 2 and np.isfinite(losses).all()


@pytest.mark.parametrize('tool', WRITERS)
def test_clicks_are_where_they_were_placed_on_photographs_of_every_orientation(
  tool, tmp_path, capsys
):
  rng = np.random.default_rng(0)
  places = []
  for orientation in range(1, 9):
    for label in ('cat', 'dog'):
      x, y = rng.uniform(0.15, 0.85, 2)
      name = f'{label}/{orientation}.jpg'
      shown = _photograph(tmp_path / 'photos' / name, orientation, [(x, y)])
      if orientation >= 5 and label == 'dog':  # annotated in a tool that ignores EXIF
        shown, (x, y) = SIZE, _stored(x, y, orientation)
      places.append((name, shown, [(x, y, label)]))
  other = [('cat/1.jpg', SIZE, [(0.5, 0.5, 'dog'), (1.2, 0.5, 'cat')])]
  other.append(('dog/2.jpg', (96, 100), [(0.5, 0.5, 'dog')]))  # cropped since it was annotated
  WRITERS[tool](tmp_path / 'export', [*places, *other])
  arguments = [f'--images={tmp_path}/photos', f'--clicks={tmp_path}/export']
  rows, counts, name, data_dir = _build([*arguments, f'--out={tmp_path}/raw'], capsys)
  assert {
    f'file of clicks, read as {tool}': 1,
    'clicks read': 19,
    'clicks kept': 16,
    'clicks on the stored orientation, turned upright': 4,
    'click labelled with another class, skipped': 1,
    'click outside the image, skipped': 1,
    'click on an image of another shape, skipped': 1,
    'images rotated by EXIF, clicks assumed to refer to the upright image': 6,
  }.items() <= counts.items()
  assert len(rows) == 16
  for row in rows:
    height, width = row['image'].shape[:2]
    assert row['clicks']['x'].shape == (1,)
    x, y = find_dot(row['image'].mean(-1) / 255)
    error = np.hypot((row['clicks']['x'][0] - x) * width, (row['clicks']['y'][0] - y) * height)
    assert error < 0.5, row['file_name']
  _train(name, data_dir, tmp_path / 'run')


@pytest.mark.parametrize('tool', WRITERS)
def test_icons_of_several_classes(tool, tmp_path, capsys):
  classes = ['bolt', 'nut', 'washer']
  colours = 225 * np.eye(3) + 30
  content = {'images': [], 'annotations': [], 'categories': []}
  content['categories'] = [{'id': i, 'name': label} for i, label in enumerate(classes)]
  places = []
  for number in range(8):
    dots = [(0.2 + 0.3 * c, 0.3 + 0.05 * ((number + c) % 8)) for c in range(3)]
    name = f'photo {number}.jpg'
    shown = _photograph(tmp_path / 'photos' / name, number + 1, dots, colours)
    content['images'].append(
      {'id': number, 'file_name': name, 'height': shown[0], 'width': shown[1]}
    )
    content['annotations'] += [
      {'image_id': number, 'category_id': c, 'bbox': [1, 1, 9, 9]} for c in range(3)
    ]
    marks = [(x, y, label) for (x, y), label in zip(dots, classes, strict=True)]
    places.append((name, shown, [(0.5, 0.9, 'anvil'), (0.9, 0.9, 'nut'), *marks]))  # a moved nut
  WRITERS[tool](tmp_path / 'export', places)
  (tmp_path / 'i.json').write_text(json.dumps(content))
  arguments = [f'--images={tmp_path}/photos', f'--coco={tmp_path}/i.json']
  rows, counts, name, data_dir = _build(
    [*arguments, f'--icons={tmp_path}/export', f'--out={tmp_path}/raw'], capsys
  )
  assert counts[f'file of icons, read as {tool}'] == 1 and counts['icons kept'] == 32
  assert counts['icons of an unknown class, skipped'] == 8 and len(rows) == 8
  for row in rows:
    height, width = row['image'].shape[:2]
    assert row['record']['worker_id'] == (b'1' if tool.startswith('Label') else b'')
    assert row['record']['time_spent_ms'] == (4288 if tool.startswith('Label') else 0)
    for c, x, y in zip(*(row['icons'][key] for key in ('label', 'x', 'y')), strict=True):
      others = np.delete(row['image'], c, axis=-1).max(-1)
      dot = find_dot(np.where(others < 100, row['image'][..., c], 0) / 255)
      assert np.hypot((x - dot[0]) * width, (y - dot[1]) * height) < 0.5, row['file_name']
    assert sorted(row['icons']['label']) == [0, 1, 2]
  if tool == 'CVAT XML':
    _train(name, data_dir, tmp_path / 'run')


def test_annotators_and_their_times_are_in_the_data_set(tmp_path, capsys):
  """Each annotation becomes a block, as `data.click=mean` and the worker filters need it."""
  export = labelling_exports
  for name in ('cat/0.png', 'cat/1.png', 'dog/0.png', 'dog/1.png'):
    (tmp_path / 'photos' / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / 'photos' / name).write_bytes(encode(paint(60, 80, [(0.5, 0.5)]), 'PNG'))
  one = export.annotation(export.keypoint(10, 20), export.keypoint(30, 40), number=7, worker=5)
  two = export.annotation(export.keypoint(50, 60), number=8, worker=6, second=9, lead_time=None)
  tasks = [export.task(1, 'cat/0.png', two, one), export.task(2, 'dog/0.png', one)]
  (tmp_path / 'export').write_text(json.dumps(tasks))
  arguments = [f'--images={tmp_path}/photos', f'--clicks={tmp_path}/export']
  rows, *_ = _build([*arguments, f'--out={tmp_path}/raw'], capsys)
  (row,) = [row for row in rows if len(row['clicks']['x']) == 3]
  np.testing.assert_allclose(row['clicks']['x'], [0.1, 0.3, 0.5])
  np.testing.assert_allclose(row['clicks']['y'], [0.2, 0.4, 0.6])
  assert row['clicks']['block'].tolist() == [0, 0, 1]
  blocks = row['blocks']
  assert blocks['worker_id'].tolist() == [b'5', b'6'] and blocks['selected'].all()
  assert blocks['assignment_id'].tolist() == [b'7', b'8']
  assert blocks['estimate_time_known'].tolist() == [True, False]
  assert blocks['estimate_time_ms'].tolist() == [4288, 0]
  assert np.diff(row['clicks']['time_ms']).tolist() == [0, 9000]


def test_percentages_beyond_the_images_are_an_error(tmp_path):
  for name in ('cat/0.jpg', 'dog/0.jpg'):
    _photograph(tmp_path / 'photos' / name, 1, [(0.5, 0.5)])
  labelling_exports.write_label_studio(
    tmp_path / 'export', [('cat/0.jpg', SIZE, [(1.2, 0.5, 'a'), (2, 0.5, 'a'), (0.5, 0.5, 'a')])]
  )
  with pytest.raises(UserError, match='2 of 3 clicks outside the image, so these are not the'):
    own_data.main(
      [f'--images={tmp_path}/photos', f'--clicks={tmp_path}/export', f'--out={tmp_path}/raw']
    )


def test_images_whose_turn_no_size_tells_are_named(tmp_path, capsys):
  places = []
  for number, orientation in enumerate([1, 2, 3, 4, 6], 1):
    shown = _photograph(tmp_path / f'photos/cat/{number}.jpg', orientation, [(0.5, 0.5)])
    places.append((f'cat/{number}.jpg', shown, [(0.5, 0.5, 'cat')]))
  WRITERS['CVAT XML'](tmp_path / 'export', places)
  own_data.main(
    [f'--images={tmp_path}/photos', f'--clicks={tmp_path}/export', f'--out={tmp_path}/raw']
  )
  with open(tmp_path / 'raw/problems.csv', newline='') as file:
    named = [row['where'][-5:] for row in csv.DictReader(file) if 'EXIF' in row['problem']]
  assert named == ['2.jpg', '3.jpg', '4.jpg']
