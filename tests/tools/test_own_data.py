"""Own data end to end: converted, built and read, with each click on a painted dot."""

import csv
import json
import os
import re
import shlex

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from luab_jax.byproducts.archives import reader
from luab_jax.errors import UserError
from luab_jax.tools.own_data import __main__ as own_data
from tests.own_photos import first_batch, paint_photos, read_counts, size, write_csv
from tests.painted_data import BACKGROUND, encode, find_dot, paint
from tfds_builders import build

pytestmark = pytest.mark.slow


@pytest.fixture
def photos(tmp_path):
  """(folder of 18 images of two classes with one dot each, {path in it: (x, y) of the dot})."""
  return tmp_path / 'photos', paint_photos(tmp_path / 'photos')


@pytest.mark.end_to_end
def test_from_a_folder_and_a_csv_to_a_batch(photos, tmp_path, capsys):
  folder, dots = photos
  rows = [(name, *(dot * size(folder / name)), 1000) for name, dot in dots.items()]
  rows[0] = (rows[0][0].replace('/', '\\'), *rows[0][1:])  # from Windows
  rows[1] = (str(folder / rows[1][0]), *rows[1][1:])
  # A second, earlier click at another place.
  rows.append((rows[2][0], *(0.9 * np.array(size(folder / rows[2][0]))), 900))
  bad = [
    ('dog/1.jpg', -1, 5, 1),
    ('dog/99.jpg', 5, 5, 1),
    ('2.jpg', 5, 5, 1),
    ('dog/1.jpg', 'nan', 5, 1),
    ('dog/1.jpg', '', 5, 1),
    ('dog/bad.jpg', 5, 5, 1),
  ]
  (folder / 'dog/bad.jpg').write_bytes((folder / 'dog/1.jpg').read_bytes()[:300])
  (folder / 'dog/list.txt').write_text('no image')
  (folder / 'alone.jpg').write_bytes((folder / 'dog/1.jpg').read_bytes())
  write_csv(tmp_path / 'clicks.csv', ('File', 'x', 'y', 'time'), rows + bad, delimiter=';')
  raw = tmp_path / 'raw'
  arguments = [
    f'--images={folder}',
    f'--clicks={tmp_path / "clicks.csv"}',
    f'--out={raw}',
    '--validation_fraction=0.2',
  ]
  own_data.main(arguments)
  output = capsys.readouterr().out
  counts = read_counts(output)
  assert counts == {
    'images found': 20,
    'clicks read': 25,
    'clicks kept': 19,
    'images for training': 14,
    'images for validation': 4,
    'images renamed to keep names unique': 2,
    'image re-encoded as JPEG: rotated by EXIF or in another format': 1,
    'images with nearly the same name as another, kept': 2,
    'file without an image extension, skipped': 1,
    'image outside the class folders, skipped': 1,
    'image unreadable, skipped': 1,
    'clicks without a matching image, skipped': 2,
    'clicks malformed, skipped': 2,
    'click outside the image, skipped': 1,
    'click on an unreadable image, skipped': 1,
  }
  with open(raw / 'problems.csv', newline='') as file:
    problems = list(csv.DictReader(file))
  assert len(problems) == sum(list(counts.values())[7:])  # all but the first seven counts
  assert [row['where'] for row in problems if row['problem'].startswith('click without')] == [
    f'{tmp_path}/clicks.csv:{line}' for line in (22, 23)
  ]
  # Only re-encoded images are copied; the others are linked.
  assert os.path.samefile(raw / 'train/Katze/1.jpg', folder / 'Katze/1.jpg') or os.path.samefile(
    raw / 'val/Katze/1.jpg', folder / 'Katze/1.jpg'
  )
  commands = [shlex.split(line) for line in output.splitlines() if line.startswith('  python')]
  assert commands[0][2] == 'tfds_builders.build' and build.main(commands[0][3:]) == 0
  assert {'images written': 18, 'with XML': 18, 'clicks': 19}.items() <= {
    what: int(number)
    for what, number in re.findall(r'^  (\S.*?)  +(\d+)$', capsys.readouterr().out, re.M)
  }.items()
  unmatched = 18
  for split, count in (('train', 14), ('validation', 4)):
    spec, batch = first_batch(raw / 'built', 'imagenet_ab/local', split, count)
    assert spec.class_names == ['Katze', 'dog'] and batch['point_mask'].all()
    for image, point in zip(batch['image'], batch['point'][:, 0], strict=True):
      dot = find_dot(image.mean(-1) / 255)
      unmatched -= np.abs(np.array(dot) - point).max() < 1.5 / 64
  assert unmatched == 1  # the image with two clicks, whose mean is not the dot
  # A second run recognizes its own folder and tells how to rebuild the data set.
  own_data.main(arguments)
  assert '--overwrite' in capsys.readouterr().out


def test_click_fractions_and_a_validation_folder(photos, tmp_path, capsys):
  folder, dots = photos
  (tmp_path / 'val/dog').mkdir(parents=True)
  (tmp_path / 'val/owl').mkdir()
  for name in ('dog/1.jpg', 'owl/1.jpg'):
    (tmp_path / 'val' / name).write_bytes(encode(paint(60, 60, [(0.5, 0.5)])))
  rows = [(f'photos/{name}', *dot) for name, dot in dots.items()]
  write_csv(
    tmp_path / 'clicks.csv',
    ('x', 'worker', 'y', 'file'),
    [(x, 'w', y, name) for name, x, y in [*rows, ('val/dog/1.jpg', 0.25, 0.25)]],
  )
  arguments = [
    f'--images={folder}',
    f'--validation={tmp_path / "val"}',
    f'--clicks={tmp_path / "clicks.csv"}',
    f'--out={tmp_path / "raw"}',
  ]
  own_data.main([*arguments, '--click_units=fraction'])
  counts = read_counts(capsys.readouterr().out)
  assert counts['clicks kept'] == 19 and counts['images for validation'] == 2
  assert counts['class in validation only: cannot be learned, kept'] == 1
  assert counts['class without validation images, kept'] == 1
  # Images of the same name in both folders have their own records.
  xmls = {
    f'{label}/{name}': data
    for label, name, data in reader.iter_class_members(tmp_path / 'raw/imagenet_ab_v1_0.tar.gz')
  }
  assert b'<x>0.25</x>' in xmls['dog/1_2.xml'] and b'<x>0.25</x>' not in xmls['dog/1.xml']
  assert (tmp_path / 'raw/val/dog/1_2.jpg').is_file() and len(xmls) == 19
  with pytest.raises(UserError, match='no x or y is above 1.*--click_units=fraction'):
    own_data.main(arguments)


def _dots(height, width, points):
  """A PNG with dots in red, green and blue for classes 0, 1 and 2, from {class: (x, y)}."""
  colours = np.array(
    [(255, BACKGROUND, BACKGROUND), (BACKGROUND, 255, BACKGROUND), (BACKGROUND, BACKGROUND, 255)]
  )
  return encode(
    paint(height, width, list(points.values()), colours=[colours[c] for c in points]), 'PNG'
  )


@pytest.mark.parametrize('classes', [['bolt', 'nut', 'washer/large'], ['person', 'dog', 'cup']])
def test_from_instances_and_icons_to_a_batch(classes, tmp_path, capsys):
  rng = np.random.default_rng(0)
  (tmp_path / 'photos').mkdir()
  content = {
    'images': [],
    'annotations': [],
    'categories': [{'id': 10 * (i + 1), 'name': name} for i, name in enumerate(classes)],
  }
  icons, dots = [], {}
  for number in range(10):
    height, width = (int(side) for side in rng.integers(70, 100, 2))
    # Far enough apart to be told apart.
    points = {
      c: np.array([0.3 + 0.2 * c, rng.uniform(0.3, 0.7)]) for c in range(3) if (number + c) % 3
    }
    (tmp_path / f'photos/{number}.png').write_bytes(_dots(height, width, points))
    content['images'].append(
      {'id': f'i{number}', 'file_name': f'{number}.png', 'height': height, 'width': width}
    )
    for c, (x, y) in points.items():
      content['annotations'].append(
        {
          'image_id': f'i{number}',
          'category_id': 10 * (c + 1),
          'bbox': [x * width - 5, y * height - 5, 10, 10],
        }
      )
      icons.append((f'{number}.png', classes[c], 1, 1, 5))  # placed, then moved
      icons.append((f'{number}.png', classes[c], x * width, y * height, 7))
    dots[number] = points
  content['annotations'] += [
    {'image_id': 'i77', 'category_id': 10, 'bbox': [0, 0, 1, 1]},
    {'image_id': 'i1', 'category_id': 10, 'bbox': [0, 0, -1, 1]},
    {'image_id': 'i1', 'category_id': 10, 'bbox': [0, 0, 10**400, 1]},
    {'image_id': 'i1', 'category_id': 10, 'bbox': [0, 0, 1, 1], 'iscrowd': float('inf')},
  ]
  content['images'].append({'id': 'x', 'file_name': 'absent.png', 'height': 9, 'width': 9})
  content['images'].append(
    {'id': 'y', 'file_name': 'unlisted.png', 'height': float('inf'), 'width': 9}
  )
  (tmp_path / 'photos/unlisted.png').write_bytes(_dots(60, 60, {}))
  (tmp_path / 'instances.json').write_text(json.dumps(content))
  icons += [('0.png', 'anvil', 1, 1, 1), ('0.png', classes[0], 1e6, 1, 1)]
  write_csv(tmp_path / 'icons.csv', ('file', 'class', 'x', 'y', 'time'), icons)
  own_data.main(
    [
      f'--images={tmp_path}/photos',
      f'--coco={tmp_path}/instances.json',
      f'--icons={tmp_path}/icons.csv',
      f'--out={tmp_path}/raw',
    ]
  )
  output = capsys.readouterr().out
  placed = sum(map(len, dots.values()))
  assert {
    'images found': 11,
    'images listed': 12,
    'images for training': 9,
    'image for validation': 1,
    'image not in the instances file, skipped': 1,
    'image listed with invalid values, skipped': 1,
    'image listed but not found, skipped': 1,
    'instances read': placed + 4,
    'instances kept': placed,
    'instances unusable, skipped': 4,
    'icons read': 2 * placed + 2,
    'icons kept': 2 * placed,
    'icon of an unknown class, skipped': 1,
    'icon outside the image, skipped': 1,
  }.items() <= read_counts(output).items()
  command = next(line for line in output.splitlines() if 'tfds_builders.build' in line)
  assert build.main(shlex.split(command)[3:]) == 0
  assert '--config.data.name=coco_ab/local' in output
  seen = 0
  for split, count in (('train', 9), ('validation', 1)):
    spec, batch = first_batch(tmp_path / 'raw/built', 'coco_ab/local', split, count)
    own = 'bolt' in classes
    assert spec.class_names == classes if own else len(spec.class_names) == 80
    indices = [spec.class_names.index(name) for name in classes]
    for image, label, point, mask in zip(
      batch['image'], batch['label'], batch['point'], batch['point_mask'], strict=True
    ):
      for colour, c in enumerate(indices):
        others = np.delete(image, colour, axis=-1).max(-1)
        dot = find_dot(np.where(others < 100, image[..., colour], 0) / 255)
        assert label[c] == mask[c] == (dot is not None)
        if dot is not None:
          np.testing.assert_allclose(point[c], dot, atol=1.5 / 64)
          seen += 1
      assert label.sum() == label[indices].sum()
  assert seen == placed


# {orientation: box [x, y, width, height] in the upright image, 64 x 96 px, of the stored 96 x 64}
TURNED = {5: [24, 10, 6, 12], 6: [34, 10, 6, 12], 7: [34, 74, 6, 12], 8: [24, 74, 6, 12]}


@pytest.mark.parametrize('listed_as_stored', [True, False])
def test_boxes_icons_and_pixels_are_turned_together(listed_as_stored, tmp_path, capsys):
  """For every EXIF orientation that swaps the sides, next to a broken tag."""
  (tmp_path / 'photos').mkdir()
  stored = np.full((64, 96, 3), 255, np.uint8)
  stored[24:30, 10:22] = (255, 0, 0)
  content = {'images': [], 'annotations': [], 'categories': [{'id': 1, 'name': 'bolt'}]}
  icons = []
  for orientation, box in TURNED.items():
    name = f'{orientation}.png'
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x011A] = orientation, 72.0
    block = exif.tobytes().replace(b'\1\x1a\0\5', b'\1\x1a\0\2')  # a resolution that is text
    PIL.Image.fromarray(stored).save(tmp_path / 'photos' / name, exif=block)
    width, height = (96, 64) if listed_as_stored else (64, 96)
    content['images'].append(
      {'id': orientation, 'file_name': name, 'height': height, 'width': width}
    )
    box = [10, 24, 12, 6] if listed_as_stored else box
    content['annotations'].append({'image_id': orientation, 'category_id': 1, 'bbox': box})
    icons.append((name, 'bolt', TURNED[orientation][0] + 3, TURNED[orientation][1] + 6))
  (tmp_path / 'instances.json').write_text(json.dumps(content))
  write_csv(tmp_path / 'icons.csv', ('file', 'class', 'x', 'y'), icons)
  paths = [f'--images={tmp_path}/photos', f'--coco={tmp_path}/instances.json']
  own_data.main([*paths, f'--icons={tmp_path}/icons.csv', f'--out={tmp_path}/raw'])
  output = capsys.readouterr().out
  assert ('4  images listed in the stored orientation: boxes turned' in output) == listed_as_stored
  assert 'No problems found' in output
  assert (
    build.main(['coco_ab/local', f'--manual_dir={tmp_path}/raw', f'--data_dir={tmp_path}']) == 0
  )
  seen = 0
  for split in ('train', 'validation'):
    for row in tfds.as_numpy(tfds.load('coco_ab/local', split=split, data_dir=tmp_path)):
      x, y, width, height = TURNED[int(row['file_name'][:1])]
      square = np.full((96, 64, 3), 255, np.uint8)
      square[y : y + height, x : x + width] = (255, 0, 0)
      np.testing.assert_array_equal(row['image'], square)
      box = row['objects']['bbox'][0] * [96, 64, 96, 64]
      np.testing.assert_allclose(box, [y, x, y + height, x + width], atol=1e-4)
      icon = row['icons']['x'][0] * 64, row['icons']['y'][0] * 96
      np.testing.assert_allclose(icon, [x + 3, y + 6], atol=1e-4)
      seen += 1
  assert seen == 4
