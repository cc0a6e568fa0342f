"""COCO instances files with their own folders, and files that hold nothing to learn from."""

import csv
import json
import shlex

import numpy as np
import pytest
import tensorflow_datasets as tfds

from luab_jax.errors import UserError
from luab_jax.tools.own_data import __main__ as own_data
from tests.painted_data import encode
from tfds_builders import build

pytestmark = pytest.mark.slow

BOX = [5, 5, 20, 20]


def _images(folder, numbers, value):
  """Writes images of 96 x 64 px in one grey value."""
  folder.mkdir(parents=True, exist_ok=True)
  for number in numbers:
    (folder / f'{number:04}.png').write_bytes(encode(np.full((64, 96, 3), value, np.uint8), 'PNG'))


def _instances(path, names, annotation=None, classes=('cup', 'wug')):
  annotation = {'bbox': BOX} if annotation is None else annotation
  content = {
    'images': [
      {'id': number, 'file_name': name, 'height': 64, 'width': 96}
      for number, name in enumerate(names, 1)
    ],
    'annotations': [
      {'image_id': number, 'category_id': 1 + number % len(classes), **annotation}
      for number in range(1, len(names) + 1)
      if annotation
    ],
    'categories': [{'id': number, 'name': name} for number, name in enumerate(classes, 1)],
  }
  path.write_text(json.dumps(content))
  return path


def _convert(tmp_path, capsys, *arguments):
  """({split: examples} of the data set built by the printed command, the printed text)."""
  own_data.main([*map(str, arguments), f'--out={tmp_path}/raw'])
  output = capsys.readouterr().out
  command = next(line for line in output.splitlines() if 'tfds_builders.build' in line)
  assert build.main(shlex.split(command)[3:]) == 0
  capsys.readouterr()
  examples = tfds.load('coco_ab/local', data_dir=f'{tmp_path}/raw/built')
  return {split: list(rows.as_numpy_iterator()) for split, rows in examples.items()}, output


# Folders next to each other, with the same last name, and one inside the other, both ways.
@pytest.mark.parametrize(
  ('train', 'val', 'prefix'),
  [
    ('train', 'val', 'train/'),
    ('train/images', 'val/images', 'train/images/'),
    ('all', 'all/val', ''),
    ('all/train', 'all', ''),
    ('train', 'val', '/tmp/another/machine/train/'),
  ],
)
def test_each_file_is_looked_up_in_its_own_folder(train, val, prefix, tmp_path, capsys):
  train, val = tmp_path / train, tmp_path / val
  _images(train, range(6), 50)
  _images(val, range(3), 200)
  files = [
    _instances(tmp_path / 'train.json', [f'{prefix}{n:04}.png' for n in range(6)]),
    _instances(tmp_path / 'val.json', [f'{n:04}.png' for n in range(3)]),
  ]
  icons = [(train / '0001.png', 30, 32), (val / '0001.png', 60, 16)]
  with open(tmp_path / 'icons.csv', 'w', newline='') as file:
    csv.writer(file).writerows(
      [('file', 'class', 'x', 'y'), *((str(path), 'cup', x, y) for path, x, y in icons)]
    )
  examples, output = _convert(
    tmp_path,
    capsys,
    f'--images={train}',
    f'--validation={val}',
    f'--coco={files[0]}',
    f'--coco_validation={files[1]}',
    f'--icons={tmp_path}/icons.csv',
  )
  assert '9  images found' in output and '9  instances kept' in output
  assert '2  icons kept' in output
  for split, count, value, icon in (
    ('train', 6, 50, (30 / 96, 0.5)),
    ('validation', 3, 200, (60 / 96, 0.25)),
  ):
    assert [row['image'].mean() for row in examples[split]] == [value] * count
    placed = [row['icons'] for row in examples[split] if len(row['icons']['x'])]
    assert [(i['x'][0], i['y'][0]) for i in placed] == [pytest.approx(icon)]


def test_a_name_in_both_folders_is_ambiguous_only_where_nothing_tells(tmp_path, capsys):
  train, val = tmp_path / 'data/train', tmp_path / 'data/val'
  _images(train, range(2), 50)
  _images(val, range(1), 200)
  _instances(tmp_path / 'train.json', ['0000.png', '0001.png'])
  _instances(tmp_path / 'val.json', ['0000.png'])
  rows = ['0000.png', 'train/0000.png', 'val/0001.png', '0001.png']  # no 0001 in val
  (tmp_path / 'icons.csv').write_text('file,class,x,y\n' + ''.join(f'{r},cup,9,9\n' for r in rows))
  own_data.main(
    [
      f'--images={train}',
      f'--validation={val}',
      f'--coco={tmp_path}/train.json',
      f'--coco_validation={tmp_path}/val.json',
      f'--icons={tmp_path}/icons.csv',
      f'--out={tmp_path}/raw',
    ]
  )
  output = capsys.readouterr().out
  assert '2  icons kept' in output
  with open(tmp_path / 'raw/problems.csv', newline='') as file:
    details = [row['detail'] for row in csv.DictReader(file)]
  assert details == [
    f"'0000.png': 2 images match, write a longer path: {train}/0000.png and {val}/0000.png",
    "'val/0001.png': no such image in the instances file",
  ]


@pytest.mark.parametrize(
  ('annotation', 'icons', 'message'),
  [
    ({}, '', 'i.json lists no usable instances$'),
    (
      {'segmentation': {'counts': 'abc', 'size': [64, 96]}},
      '',
      'instance unusable.*it has no bbox',
    ),
    ({'bbox': BOX, 'category_id': 9}, '', 'instance unusable.*no such category'),
    ({'bbox': BOX}, 'file,class,x,y\n0.png,Cup,1,9\n', 'none of its rows .*no such image in the'),
    ({'bbox': BOX}, 'file,class,x,y\n0001.png,Cup,1,9\n', "no icon could be used.*class.*'Cup'"),
  ],
)
def test_nothing_usable_is_an_error(annotation, icons, message, tmp_path):
  _images(tmp_path / 'photos', range(6), 50)
  _instances(tmp_path / 'i.json', [f'{n:04}.png' for n in range(6)], annotation)
  arguments = [f'--images={tmp_path}/photos', f'--coco={tmp_path}/i.json', f'--out={tmp_path}/raw']
  if icons:
    (tmp_path / 'icons.csv').write_text(icons)
    arguments.append(f'--icons={tmp_path}/icons.csv')
  with pytest.raises(UserError, match=message) as error:
    own_data.main(arguments)
  assert '\n' not in str(error.value)


def test_images_with_and_without_instances_are_held_out(tmp_path, capsys):
  _images(tmp_path / 'photos', range(40), 50)
  path = _instances(tmp_path / 'i.json', [f'{n:04}.png' for n in range(40)])
  content = json.loads(path.read_text())
  content['annotations'] = content['annotations'][:2]  # of the first two images
  path.write_text(json.dumps(content))
  examples, _ = _convert(tmp_path, capsys, f'--images={tmp_path}/photos', f'--coco={path}')
  labels = {split: [len(row['labels']) for row in rows] for split, rows in examples.items()}
  assert sorted(labels['validation']) == [0] * 4 + [1]
  assert sorted(labels['train']) == [0] * 34 + [1]


def test_a_validation_file_without_instances_is_an_error(tmp_path):
  _images(tmp_path / 'photos', range(6), 50)
  _instances(tmp_path / 'i.json', ['0000.png', '0001.png'])
  _instances(tmp_path / 'v.json', ['0002.png'], {})
  with pytest.raises(UserError, match='v.json lists no usable instances'):
    own_data.main(
      [
        f'--images={tmp_path}/photos',
        f'--coco={tmp_path}/i.json',
        f'--coco_validation={tmp_path}/v.json',
        f'--out={tmp_path}/raw',
      ]
    )


def test_class_folders_inside_one_another_are_refused(tmp_path):
  for folder in ('photos/cat', 'photos/dog', 'photos/val/cat'):
    _images(tmp_path / folder, range(3), 50)
  with pytest.raises(UserError, match='are nested, so images would be in both'):
    own_data.main(
      [
        f'--images={tmp_path}/photos',
        f'--validation={tmp_path}/photos/val',
        f'--out={tmp_path}/raw',
      ]
    )
