"""imagenet_ab: bad input is left out and counted; mistakes are one line."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from luab_jax.data import image_files
from luab_jax.errors import UserError
from tfds_builders import build, build_summary
from tfds_builders.imagenet_ab.small_release import (
  CLASSES,
  CLICKED,
  XML_NAME,
  build_local,
  image,
  metadata,
  voc,
  write_release,
  write_tar,
  xml,
)


def test_bad_input_is_named_counted_and_left_out(tmp_path, monkeypatch, caplog, capsys):
  classes = {
    'cat': {**CLASSES['cat'], '4.JPEG': image('red')[:-40], '5.JPEG': b'no image'},
    'dog': CLASSES['dog'],
  }
  raw = write_release(
    tmp_path / 'raw',
    classes,
    {
      'cat/1': CLICKED,
      'cat/2': CLICKED[:-9],
      'cat/3': b'<!DOCTYPE a><annotation/>',
      'dog/77': CLICKED,
      'dog/1': xml(metadata() + voc('dog', (4, 2, 4, 6))),
    },
  )
  monkeypatch.setenv(build_summary.MAX_BAD_SHARE_VARIABLE, '0.6')
  rows = build_local(raw, tmp_path / 'data')['train']
  assert sorted(rows) == ['cat/1.JPEG', 'cat/2.JPEG', 'cat/3.JPEG', 'dog/1.JPEG', 'dog/2.png']
  assert not rows['cat/2.JPEG']['has_xml'] and not rows['cat/3.JPEG']['has_xml']
  assert rows['cat/2.JPEG']['image'] == CLASSES['cat']['2.JPEG']
  for place in (
    'my_img_train.tar: cat/4.JPEG',
    'my_img_train.tar: cat/5.JPEG',
    f'{XML_NAME}: cat/2.xml',
    f'{XML_NAME}: cat/3.xml',
  ):
    assert sum(place in message for message in caplog.messages) == 1, place
  counts = dict(
    line.strip().rsplit(maxsplit=1)
    for line in capsys.readouterr().out.split('Summary of imagenet_ab/local\n')[1].splitlines()
    if line.startswith('  ')
  )
  assert counts == {
    'images read': '8',
    'images written': '6',
    'with XML': '2',
    'selected': '2',
    'clicks': '2',
    'boxes': '1',
    'skipped: corrupt XML': '2',
    'skipped: undecodable image': '2',
    'XMLs without an image': '1',
    'boxes without area, left out': '1',
  }


def test_more_than_the_accepted_share_of_bad_input_fails(tmp_path):
  raw = write_release(tmp_path / 'raw', xmls={'cat/1': b'<annotation>'})
  with pytest.raises(UserError, match=r'1 of 5 are bad \(1 × corrupt XML.*0\.01.*LUAB_MAX_BAD'):
    build_local(raw, tmp_path / 'data')
  assert not list((tmp_path / 'data').rglob('*.tfrecord*')), 'a half-built data set was left'


@pytest.mark.parametrize('text', ['one percent', '-0.1', '2', 'nan'])
def test_a_wrong_share_is_explained(tmp_path, monkeypatch, text):
  monkeypatch.setenv(build_summary.MAX_BAD_SHARE_VARIABLE, text)
  with pytest.raises(UserError, match=f'{build_summary.MAX_BAD_SHARE_VARIABLE}={text}'):
    build_local(write_release(tmp_path / 'raw'), tmp_path / 'data')


def _cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flat(path):
  write_tar(path / 'my_img_train.tar', [('1.JPEG', image('red'))])


def _twice(path):
  write_tar(path / 'my_img_train.tar', [('cat/1.JPEG', image('red'))] * 2)


MISTAKES = {
  'no XMLs': (
    lambda raw: (raw / XML_NAME).unlink(),
    f'{XML_NAME} is missing: get .* from https://',
  ),
  'no images': (lambda raw: [path.unlink() for path in raw.glob('*img*')], 'holds no .*_img_'),
  'empty folder': (lambda raw: [path.unlink() for path in raw.iterdir()], 'does not exist or is'),
  'images cut off': (lambda raw: _cut(raw / 'my_img_train.tar'), 'my_img_train.tar is truncated'),
  'XMLs cut off': (
    lambda raw: (raw / XML_NAME).write_bytes((raw / XML_NAME).read_bytes()[:-20]),
    f'{XML_NAME} is truncated or damaged',
  ),
  'no classes': (_flat, 'bad .*refused member'),
  'image given twice': (_twice, 'bad .*image given twice'),
  'split given twice': (lambda raw: (raw / 'other_img_val').mkdir(), 'are both the split'),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_mistakes_are_one_line_with_the_remedy(tmp_path, mistake):
  make, message = MISTAKES[mistake]
  raw = write_release(tmp_path / 'raw')
  make(raw)
  with pytest.raises(UserError, match=message) as error:
    build_local(raw, tmp_path / 'data')
  assert '\n' not in str(error.value)


def test_ilsvrc2012_takes_only_the_released_byproducts(tmp_path):
  raw = write_release(tmp_path / 'raw')
  for split in ('train', 'val'):
    (raw / f'my_img_{split}.tar').rename(raw / f'ILSVRC2012_img_{split}.tar')
  with pytest.raises(
    UserError, match=f'{XML_NAME} has sha256 .*expected 38e67940.* again from https://'
  ):
    build.build('imagenet_ab/ilsvrc2012', manual_dir=raw, data_dir=tmp_path / 'data')
  (raw / 'ILSVRC2012_img_val.tar').unlink()
  with pytest.raises(UserError, match='ILSVRC2012_img_val.tar is missing: get .*image-net.org'):
    build.build('imagenet_ab/ilsvrc2012', manual_dir=raw, data_dir=tmp_path / 'data')


def test_every_format_is_stored_as_tfds_can_read_it(tmp_path, monkeypatch, capsys):
  """The first frame of a GIF, the colours of a palette; one bad image costs that image."""
  red, blue = (Image.new('RGB', (12, 8), colour) for colour in ('red', 'blue'))
  files = {'still.gif': image('red', form='GIF'), 'palette.bmp': io.BytesIO(), 'anim.gif': b''}
  red.quantize(2).save(files['palette.bmp'], 'BMP')
  files['palette.bmp'] = files['palette.bmp'].getvalue()
  red.save(animation := io.BytesIO(), 'GIF', save_all=True, append_images=[blue])
  files['anim.gif'] = animation.getvalue()
  wide = image('red', size=(8000, 1))
  raw = write_release(tmp_path / 'raw', {'cat': {**files, 'wide.jpg': wide}}, {})
  monkeypatch.setenv(build_summary.MAX_BAD_SHARE_VARIABLE, '0.5')
  build.build('imagenet_ab/local', manual_dir=raw, data_dir=tmp_path / 'data')
  assert 'skipped: undecodable image             1' in capsys.readouterr().out
  rows = tfds.load('imagenet_ab/local', split='train', data_dir=tmp_path / 'data')
  seen = {row['file_name'].decode(): row['image'] for row in tfds.as_numpy(rows)}
  assert set(seen) == set(files)
  for pixels in seen.values():
    np.testing.assert_array_equal(pixels, np.full((8, 12, 3), [255, 0, 0], np.uint8))


def test_a_decompression_bomb_is_no_image():
  header = image('red', form='PNG')
  bomb = header[:16] + (60_000).to_bytes(4, 'big') * 2 + header[24:]
  with pytest.raises(image_files.BadImage):
    image_files.encode(bomb)
