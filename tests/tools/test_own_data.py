"""Own data end to end: convert, build and read it, and find each click where a dot was painted."""

import csv
import io
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import unicodedata

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from configs import own_data as own_config
from luab_jax.byproducts.archives import reader
from luab_jax.data import pipeline
from luab_jax.errors import UserError
from luab_jax.tools.own_data import __main__ as own_data
from tests.painted_data import BACKGROUND, encode, find_dot, paint
from tfds_builders import build

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPOSED, DECOMPOSED = (unicodedata.normalize(form, 'café') for form in ('NFC', 'NFD'))


def _write_csv(path, head, rows, **options):
  with open(path, 'w', newline='', encoding='utf-8') as file:
    writer = csv.writer(file, **options)
    writer.writerows([head, *rows])


@pytest.fixture
def photos(tmp_path):
  """A folder of 18 images of two classes, with a dot each; {path below it: (x, y) of the dot}."""
  rng = np.random.default_rng(0)
  dots = {}
  names = [f'{label}/{number}.jpg' for label in ('Katze', 'dog') for number in range(7)]
  names += ['dog/5.PNG', 'dog/deep/6.jpg', f'Katze/{COMPOSED}.png', f'Katze/{DECOMPOSED}.png']
  for name in names:
    height, width = rng.integers(60, 120, 2)
    dots[name] = dot = rng.uniform(0.3, 0.7, 2)
    path = tmp_path / 'photos' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = paint(height, width, [dot])
    if name == 'dog/0.jpg':  # as phones store it: to be rotated clockwise
      file = io.BytesIO()
      exif = PIL.Image.Exif()
      exif[0x0112] = 6
      PIL.Image.fromarray(np.rot90(image)).save(file, 'JPEG', quality=95, exif=exif)
      path.write_bytes(file.getvalue())
    else:
      path.write_bytes(encode(image, 'JPEG' if name.endswith('jpg') else 'PNG'))
  return tmp_path / 'photos', dots


def _size(path):
  with PIL.Image.open(path) as image:
    return image.size if image.getexif().get(0x0112) != 6 else image.size[::-1]


def _counts(text):
  """Returns {kind: number} of the lines that start with a number."""
  return {
    what: int(number.replace(',', ''))
    for number, what in re.findall(r'^ +([\d,]+)  (\S.*)$', text, re.M)
  }


def _batch(data_dir, name, split, count):
  config = own_config.get_config().data
  config.data_dir, config.name = str(data_dir), name
  config.image_size = config.eval_resize = 64
  spec = pipeline.dataset_spec(config)
  batches, _ = pipeline.eval_batches(
    config, pipeline.dataset_spec(config), split, pipeline.Rows(count)
  )
  return spec, next(iter(batches))


def test_from_a_folder_and_a_csv_to_a_batch(photos, tmp_path, capsys):
  folder, dots = photos
  rows = [(name, *(dot * _size(folder / name)), 1000) for name, dot in dots.items()]
  rows[0] = (rows[0][0].replace('/', '\\'), *rows[0][1:])  # from Windows
  rows[1] = (str(folder / rows[1][0]), *rows[1][1:])
  # A second, earlier click at another place.
  rows.append((rows[2][0], *(0.9 * np.array(_size(folder / rows[2][0]))), 900))
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
  _write_csv(tmp_path / 'clicks.csv', ('File', 'x', 'y', 'time'), rows + bad, delimiter=';')
  raw = tmp_path / 'raw'
  arguments = [
    f'--images={folder}',
    f'--clicks={tmp_path / "clicks.csv"}',
    f'--out={raw}',
    '--validation_fraction=0.2',
  ]
  own_data.main(arguments)
  output = capsys.readouterr().out
  counts = _counts(output)
  assert counts == {
    'images found': 20,
    'clicks read': 25,
    'clicks kept': 19,
    'images for training': 14,
    'images for validation': 4,
    'images renamed to keep names unique': 2,
    'image re-encoded as JPEG, as it is turned or of another format': 1,
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
  # Only re-encoded images are copies.
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
    spec, batch = _batch(raw / 'built', 'imagenet_ab/local', split, count)
    assert spec.class_names == ['Katze', 'dog'] and batch['point_mask'].all()
    for image, point in zip(batch['image'], batch['point'][:, 0], strict=True):
      dot = find_dot(image.mean(-1) / 255)
      unmatched -= np.abs(np.array(dot) - point).max() < 1.5 / 64
  assert unmatched == 1  # the image with two clicks, whose mean is not the dot
  # A second run recognizes its own folder, and rebuilds the data set.
  own_data.main(arguments)
  assert '--overwrite' in capsys.readouterr().out


def test_click_fractions_and_a_validation_folder(photos, tmp_path, capsys):
  folder, dots = photos
  (tmp_path / 'val/dog').mkdir(parents=True)
  (tmp_path / 'val/owl').mkdir()
  for name in ('dog/1.jpg', 'owl/1.jpg'):
    (tmp_path / 'val' / name).write_bytes(encode(paint(60, 60, [(0.5, 0.5)])))
  rows = [(f'photos/{name}', *dot) for name, dot in dots.items()]
  _write_csv(
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
  counts = _counts(capsys.readouterr().out)
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
  """An image with a red, a green and a blue dot for the three classes, in this order."""
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
    # Far apart, so that each can be found.
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
  _write_csv(tmp_path / 'icons.csv', ('file', 'class', 'x', 'y', 'time'), icons)
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
  }.items() <= _counts(output).items()
  command = next(line for line in output.splitlines() if 'tfds_builders.build' in line)
  assert build.main(shlex.split(command)[3:]) == 0
  assert '--config.data.name=coco_ab/local' in output
  seen = 0
  for split, count in (('train', 9), ('validation', 1)):
    spec, batch = _batch(tmp_path / 'raw/built', 'coco_ab/local', split, count)
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


# Orientation -> where a box of the image as stored, 96 x 64, is in the upright image, 64 x 96.
TURNED = {5: [24, 10, 6, 12], 6: [34, 10, 6, 12], 7: [34, 74, 6, 12], 8: [24, 74, 6, 12]}


@pytest.mark.parametrize('listed_as_stored', [True, False])
def test_boxes_icons_and_pixels_are_turned_together(listed_as_stored, tmp_path, capsys):
  """For every EXIF orientation that swaps the sides, with a broken tag beside it."""
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
  _write_csv(tmp_path / 'icons.csv', ('file', 'class', 'x', 'y'), icons)
  paths = [f'--images={tmp_path}/photos', f'--coco={tmp_path}/instances.json']
  own_data.main([*paths, f'--icons={tmp_path}/icons.csv', f'--out={tmp_path}/raw'])
  output = capsys.readouterr().out
  assert ('4  images listed as stored: boxes turned' in output) == listed_as_stored
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


def test_mistakes_are_one_line(photos, tmp_path):
  folder, dots = photos
  clicks = tmp_path / 'clicks.csv'
  name = next(iter(dots))

  def failing(match, *arguments, images=folder, out='raw'):
    with pytest.raises(UserError, match=match) as error:
      own_data.main([f'--images={images}', f'--out={tmp_path / out}', *arguments])
    assert '\n' not in str(error.value)

  failing('absent is not a folder', images=tmp_path / 'absent')
  failing('holds no images in class folders', images=folder / 'dog/deep')
  failing('is inside the image folder .*photos', out='photos/raw')
  failing('--clicks is for class folders', '--coco=x.json', f'--clicks={clicks}')
  failing('must be between 0 and 1', '--validation_fraction=1')
  failing('photos/dog is inside the output folder', images=folder / 'dog', out='photos')
  (tmp_path / 'other').mkdir()
  (tmp_path / 'other/mine').write_text('')
  failing('other is not empty and was not made by this command', out='other')
  failing('photos is a folder: --clicks takes a file', f'--clicks={folder}')
  failing('absent is not a folder', f'--validation={tmp_path}/absent')
  failing('i.json cannot be read: No such file', f'--coco={tmp_path}/i.json')
  failing('clicks.csv cannot be read: No such file', f'--clicks={clicks}')
  for rows, match in (
    ([('name', 'x', 'y')], 'the first line must name the columns file,x,y'),
    ([('file', 'x', 'y')], 'clicks.csv has no rows below its first line: .* omit --clicks'),
    ([('file', 'x', 'y'), ('cow.jpg', 1, 2)], "none of its rows .*'cow.jpg': no such image"),
    ([('file', 'x', 'y'), (name, 9999, 9999)], '1 of 1 click outside .*--click_units=fraction'),
  ):
    _write_csv(clicks, rows[0], rows[1:])
    failing(match, f'--clicks={clicks}')
  clicks.write_bytes(b'')
  failing('clicks.csv is empty', f'--clicks={clicks}')
  clicks.write_bytes('file,x,y\nä,1,2'.encode('latin-1'))
  failing('is not a CSV in UTF-8', f'--clicks={clicks}')
  (tmp_path / 'i.json').write_text('{"images": []}')
  failing('i.json is not a COCO instances file.*KeyError.*annotations', f'--coco={tmp_path}/i.json')
  (folder / 'dog ').mkdir()
  (folder / 'dog /1.jpg').write_bytes(b'')
  failing("begins or ends with white space: rename the folder 'dog '")


def test_a_folder_one_level_too_high(photos, tmp_path, capsys):
  folder, _ = photos
  given, out = tmp_path / 'disk/all', f'--out={tmp_path}/raw'
  (given / 'validation/dog').mkdir(parents=True)
  folder.rename(given / 'Train')
  (given / 'validation/dog/1.jpg').write_bytes((given / 'Train/dog/1.jpg').read_bytes())
  right = f'--images={given}/Train --validation={given}/validation'
  for wrong, remedy in (
    ([f'--images={given}'], right),
    ([f'--images={given}', f'--validation={given}/validation'], right),
    ([f'--images={given}/Train', f'--validation={given}'], f'--validation={given}/validation'),
    ([f'--images={given.parent}'], f"'all', holds 2 folders .* pass --images={given}"),
  ):
    with pytest.raises(UserError, match=remedy):
      own_data.main([*wrong, out])
  own_data.main([*right.split(), out])
  # Subfolders of a class are allowed, and so is a class named like a split.
  (given / 'Train').rename(given / 'pets')
  (given / 'validation').rename(given / 'Test')
  own_data.main([f'--images={given}', out])
  output = capsys.readouterr().out
  assert _counts(output)['class with all images in several subfolders, kept'] == 1
  assert f'{given}/pets: Katze, dog' in output


def test_a_single_class_is_reported(photos, tmp_path, capsys):
  folder, _ = photos
  (folder / 'dog').rename(tmp_path / 'dog')
  own_data.main([f'--images={folder}', f'--out={tmp_path}/raw'])
  counts = _counts(capsys.readouterr().out)
  assert counts['class on its own: nothing to classify, kept'] == 1


@pytest.mark.parametrize(
  ('side', 'furthest', 'unit'), [(300, 99, 'percent'), (300, 101, 'pixels'), (150, 99, 'pixels')]
)
def test_clicks_that_may_be_percentages(side, furthest, unit, tmp_path, capsys):
  rng = np.random.default_rng(0)
  rows = []
  for label in ('cat', 'dog'):
    (tmp_path / 'photos' / label).mkdir(parents=True)
    for number in range(15):
      name = f'{label}/{number}.jpg'
      (tmp_path / 'photos' / name).write_bytes(encode(paint(side, side, [(0.5, 0.5)])))
      rows.append((name, *rng.uniform(1, 98, 2)))
  rows[7] = (rows[7][0], furthest, 3)
  _write_csv(tmp_path / 'clicks.csv', ('file', 'x', 'y'), rows)
  own_data.main(
    [f'--images={tmp_path}/photos', f'--clicks={tmp_path}/clicks.csv', f'--out={tmp_path}/raw']
  )
  output = capsys.readouterr().out
  assert (
    'file with no click beyond 100 px: percentages? Divide by 100 and pass '
    '--click_units=fraction' in output
  ) == (unit == 'percent')


def test_files_of_phones_and_browsers(tmp_path, capsys):
  """JFIF is JPEG by another name, AVIF is converted, HEIC is named."""
  for label in ('cat', 'dog'):
    folder = tmp_path / 'photos' / label
    folder.mkdir(parents=True)
    (folder / '0.jfif').write_bytes(encode(paint(60, 80, [(0.25, 0.5)])))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    image = PIL.Image.fromarray(np.rot90(paint(60, 80, [(0.25, 0.5)])))
    image.save(folder / '1.AVIF', quality=95, exif=exif)
    (folder / '2.heic').write_bytes(b'\0\0\0\x18ftypheic' + bytes(100))
  own_data.main([f'--images={tmp_path}/photos', f'--out={tmp_path}/raw'])
  output = capsys.readouterr().out
  counts = _counts(output)
  assert counts['images found'] == 6 and counts['images unreadable, skipped'] == 2
  with open(tmp_path / 'raw/problems.csv', newline='') as file:
    problems = [(row['where'], row['detail']) for row in csv.DictReader(file)]
  reason = 'it is HEIC (or a video), which is not supported: convert it to JPEG'
  assert problems == [(f'{tmp_path}/photos/{label}/2.heic', reason) for label in ('cat', 'dog')]
  command = next(line for line in output.splitlines() if 'tfds_builders.build' in line)
  assert build.main(shlex.split(command)[3:]) == 0
  images = []
  for split, count in (('train', 'images for training'), ('validation', 'image for validation')):
    _, batch = _batch(tmp_path / 'raw/built', 'imagenet_ab/local', split, counts[count])
    images += list(batch['image'])
  assert len(images) == 4
  for image in images:  # the centre crop of 80 x 60 px
    assert find_dot(image.mean(-1) / 255) == pytest.approx((10 / 60, 0.5), abs=0.03)


def test_images_that_are_all_unreadable_are_one_line(tmp_path):
  (tmp_path / 'photos/cat').mkdir(parents=True)
  for number in range(3):
    (tmp_path / f'photos/cat/{number}.heif').write_bytes(b'\0\0\0\x18ftypmif1' + bytes(100))
  with pytest.raises(UserError, match='no readable training images: .*0.heif: it is HEIC'):
    own_data.main([f'--images={tmp_path}/photos', f'--out={tmp_path}/raw'])


@pytest.mark.parametrize('option', ['--help', '--no-such-option'])
def test_help_does_not_import_tensorflow(option):
  code = (
    'import runpy, sys\n'
    f'sys.argv = ["own_data", {option!r}]\n'
    'try:\n  runpy.run_module("luab_jax.tools.own_data", run_name="__main__")\n'
    'except SystemExit:\n  print("tensorflow" in sys.modules)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert done.stdout.splitlines()[-1] == 'False'


def test_closed_stdout(photos, tmp_path):
  """As in `| head`: the exit status of SIGPIPE, nothing on stderr, and complete files."""
  reader, writer = os.pipe()
  os.close(reader)
  done = subprocess.run(
    [
      sys.executable,
      '-m',
      'luab_jax.tools.own_data',
      f'--images={photos[0]}',
      f'--out={tmp_path}/raw',
    ],
    cwd=ROOT,
    stdout=writer,
    stderr=subprocess.PIPE,
    text=True,
  )
  os.close(writer)
  assert (done.returncode, done.stderr) == (141, '')
  assert 'Next, from the folder of run.py' in (tmp_path / 'raw/README.txt').read_text()


def test_paths_are_checked_before_tensorflow_is_imported(tmp_path):
  source = f"""import sys
from luab_jax.tools.own_data.__main__ import UserError, main
for option in ('images=absent', 'validation=absent', 'clicks=absent'):
  try:
    main(['--images={tmp_path}', '--' + option, '--out={tmp_path}/raw'])
  except UserError as error:
    print(error)
print('tensorflow' in sys.modules)"""
  output = subprocess.run(
    [sys.executable, '-c', source], cwd=ROOT, check=True, capture_output=True, text=True
  ).stdout.splitlines()
  assert len(output) == 4 and output[-1] == 'False'


def test_a_damaged_image_leaves_the_console_clean(photos, tmp_path, monkeypatch):
  monkeypatch.delenv('TF_CPP_MIN_LOG_LEVEL')  # set by conftest.py
  folder, _ = photos
  (folder / 'dog/bad.jpg').write_bytes((folder / 'dog/1.jpg').read_bytes()[:-100])
  done = subprocess.run(
    [
      sys.executable,
      '-m',
      'luab_jax.tools.own_data',
      f'--images={folder}',
      f'--out={tmp_path}/raw',
    ],
    cwd=ROOT,
    check=True,
    capture_output=True,
    text=True,
  )
  assert done.stderr == '' and _counts(done.stdout)['image unreadable, skipped'] == 1
