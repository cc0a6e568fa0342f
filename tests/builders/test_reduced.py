"""Reduced data sets: images are smaller; clicks, icons and boxes stay on the same content."""

import csv
import io
import json
import pathlib
import tarfile

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from luab_jax.data import image_files
from luab_jax.tools.own_data.__main__ import main as own_data
from tests.painted_data import encode, find_dot, paint
from tfds_builders import build
from tfds_builders.coco_ab import small_release as small_coco
from tfds_builders.image_config import ImageConfig
from tfds_builders.imagenet_ab import small_release
from tfds_builders.imagenet_ab.imagenet_ab_dataset_builder import Builder

DOT = (0.3, 0.6)


def load(path, split):
  """({file name: example}, metadata), without the builder's code."""
  builder = tfds.builder_from_directory(path)
  rows = {row['file_name'].decode(): row for row in tfds.as_numpy(builder.as_dataset(split))}
  return rows, json.loads((pathlib.Path(path) / 'metadata.json').read_text())


def check_dot(image, point=DOT):
  found = find_dot(image.astype(np.float32).mean(-1) / 255)
  np.testing.assert_allclose(found, point, atol=1 / min(image.shape[:2]))


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'CMYK'])
def test_a_large_file_is_reduced_and_a_small_one_stored_as_it_is(kind):
  data = encode(paint(300, 452, [DOT], radius=12), kind)
  reduced = image_files.encode(data, reduction=image_files.Reduction(100))
  assert reduced.size == (300, 452) and reduced.stored_size == (100, 151)
  assert len(reduced.data) < len(data)
  pixels = np.asarray(PIL.Image.open(io.BytesIO(reduced.data)))
  assert pixels.shape == (100, 151, 3)
  check_dot(pixels)
  for short_side in (300, 301):
    same = image_files.encode(data, reduction=image_files.Reduction(short_side))
    assert same == image_files.encode(data) and same.stored_size == same.size


def test_a_photograph_on_its_side_is_reduced_upright():
  file, exif = io.BytesIO(), PIL.Image.Exif()
  exif[0x0112] = 6
  turned = np.rot90(paint(300, 452, [DOT], radius=12))
  PIL.Image.fromarray(turned).save(file, 'JPEG', quality=95, exif=exif)
  reduction = image_files.Reduction(100)
  for upright, shape in ((True, (100, 151)), (False, (151, 100))):
    reduced = image_files.encode(file.getvalue(), upright=upright, reduction=reduction)
    picture = PIL.Image.open(io.BytesIO(reduced.data))
    assert reduced.stored_size == shape and not picture.getexif()
    pixels = np.asarray(picture)
    check_dot(pixels if upright else np.rot90(pixels, -1))


@pytest.mark.slow
def test_imagenet_ab(tmp_path, capsys):
  """The XML header has no image size, so the box is in pixels of the full-size image."""
  large = encode(paint(300, 452, [DOT], radius=12))
  click = small_release.metadata(clicks=[(*DOT, small_release.T)])
  box = small_release.voc('cat', (113, 30, 226, 150), size=(0, 0))
  raw = small_release.write_release(
    tmp_path / 'raw',
    classes={'cat': {'1.JPEG': large, '2.JPEG': small_release.image('white')}},
    xmls={'cat/1': small_release.xml(box + click)},
  )
  builder = Builder(
    config=ImageConfig(name='local_short100', short_side=100, jpeg_quality=80),
    data_dir=tmp_path / 'data',
  )
  builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw))
  rows, metadata = load(builder.data_dir, 'train')
  assert metadata['short_side'] == 100 and metadata['quality'] == 80 and metadata['train']
  row = rows['1.JPEG']
  assert row['image'].shape == (100, 151, 3)
  assert row['image_size'] == {'height': 100, 'width': 151}
  check_dot(row['image'], (row['clicks']['x'][0], row['clicks']['y'][0]))
  np.testing.assert_allclose(row['objects']['bbox'], [[0.1, 0.25, 0.5, 0.5]])
  assert rows['2.JPEG']['image'].shape == (8, 12, 3)
  summary = capsys.readouterr().out
  assert 'Summary of imagenet_ab/local_short100' in summary
  assert [line.split() for line in summary.splitlines() if 'reduced' in line] == [
    ['images', 'reduced', '1']
  ]


@pytest.mark.slow
def test_coco_ab(tmp_path):
  name = small_coco.file_name('train2014', 9)
  large = encode(paint(480, 640, [(0.75, 0.5)], radius=12))
  raw = small_coco.write_release(tmp_path, images={'train2014': {f'train2014/{name}': large}})
  built = build.build('coco_ab/local_short288', manual_dir=raw, data_dir=tmp_path / 'data')
  rows, metadata = load(built, 'train')
  assert metadata['short_side'] == 288 and metadata['quality'] == 90
  assert rows[name]['image'].shape == (288, 384, 3)
  assert rows[name]['image_size'] == {'height': 288, 'width': 384}
  check_dot(rows[name]['image'], (0.75, 0.5))
  boxes = dict(zip(rows[name]['objects']['id'], rows[name]['objects']['bbox'], strict=True))
  np.testing.assert_allclose(boxes[7], [0.25, 0.25, 0.75, 0.75])
  np.testing.assert_allclose(rows[name]['objects']['area'], 12.25)


def test_own_data_reduces_copies_and_takes_clicks_in_pixels_of_the_original(tmp_path, capsys):
  photos, clicks = tmp_path / 'photos', [['file', 'x', 'y']]
  for number in range(4):
    file = photos / 'dog' / f'{number}.jpg'
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encode(paint(300, 452, [DOT], radius=12)))
    clicks.append([f'dog/{number}.jpg', round(DOT[0] * 452), round(DOT[1] * 300)])
  with open(tmp_path / 'clicks.csv', 'w', newline='') as table:
    csv.writer(table).writerows(clicks)
  before = {path: path.read_bytes() for path in photos.rglob('*.jpg')}
  own_data(
    [
      f'--images={photos}',
      f'--clicks={tmp_path / "clicks.csv"}',
      f'--out={tmp_path / "out"}',
      '--short_side=100',
    ]
  )
  assert '4  images reduced to a short side of 100 px' in capsys.readouterr().out
  assert {path: path.read_bytes() for path in photos.rglob('*.jpg')} == before
  images = [*(tmp_path / 'out').rglob('*.jpg')]
  assert len(images) == 4
  for path in images:
    pixels = np.asarray(PIL.Image.open(path))
    assert pixels.shape == (100, 151, 3)
    check_dot(pixels)
  with tarfile.open(tmp_path / 'out' / 'imagenet_ab_v1_0.tar.gz') as tar:
    record = tar.extractfile(tar.getmembers()[0]).read()
  assert b'<x>0.300' in record and b'<y>0.6<' in record


@pytest.mark.slow
def test_own_data_of_several_classes_keeps_boxes_and_icons_of_the_original(tmp_path):
  (tmp_path / 'photos').mkdir()
  images, annotations = [], []
  for number in range(1, 5):
    name = f'{number}.jpg'
    (tmp_path / 'photos' / name).write_bytes(encode(paint(300, 450, [DOT], radius=12)))
    images.append({'id': number, 'file_name': name, 'height': 300, 'width': 450})
    annotations.append(
      {
        'id': number,
        'image_id': number,
        'category_id': 1,
        'bbox': [90, 150, 90, 60],
        'area': 5400,
        'iscrowd': 0,
      }
    )
  instances = {
    'images': images,
    'annotations': annotations,
    'categories': [{'id': 1, 'name': 'bead'}],
  }
  (tmp_path / 'instances.json').write_text(json.dumps(instances))
  (tmp_path / 'icons.csv').write_text(
    'file,class,x,y\n' + ''.join(f'{n}.jpg,bead,{0.3 * 450},{0.6 * 300}\n' for n in range(1, 5))
  )
  own_data(
    [
      f'--images={tmp_path / "photos"}',
      f'--coco={tmp_path / "instances.json"}',
      f'--icons={tmp_path / "icons.csv"}',
      f'--out={tmp_path / "out"}',
      '--validation_fraction=0.25',
      '--short_side=100',
    ]
  )
  built = build.build('coco_ab/local', manual_dir=tmp_path / 'out', data_dir=tmp_path / 'data')
  rows, metadata = load(built, 'train')
  assert len(rows) == 3 and 'short_side' not in metadata
  for row in rows.values():
    assert row['image'].shape == (100, 150, 3)
    check_dot(row['image'], (row['icons']['x'][0], row['icons']['y'][0]))
    np.testing.assert_allclose(row['objects']['bbox'], [[0.5, 0.2, 0.7, 0.4]])
