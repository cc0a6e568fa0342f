"""imagenet_ab: TFDS's own checks, every value, every refusal, and the real command line."""

import hashlib
import io
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.datasets.imagenet2012 import imagenet2012_dataset_builder as imagenet2012

from luab_jax.errors import UserError
from tfds_builders import build, build_summary
from tfds_builders.imagenet_ab import example, imagenet_ab_dataset_builder

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
XML = 'imagenet_ab_v1_0.tar.gz'


def image(color, *, size=(12, 8), mode='RGB', form='JPEG'):
  """Returns the file of a plain picture; `size` is (width, height)."""
  file = io.BytesIO()
  Image.new(mode, size, color).save(file, form)
  return file.getvalue()


def write_tar(path, members, mode='w'):
  """Writes (name, bytes) to a tar file or file object."""
  with tarfile.open(path if isinstance(path, pathlib.Path) else None, mode,
                    fileobj=None if isinstance(path, pathlib.Path) else path) as tar:
    for name, data in members:
      info = tarfile.TarInfo(name)
      info.size = len(data)
      tar.addfile(info, io.BytesIO(data))


def write_class_tars(path, classes):
  """Writes {class: {file: bytes}} as a tar of class tars."""
  members = []
  for name, files in classes.items():
    inner = io.BytesIO()
    write_tar(inner, files.items())
    members.append((f'{name}.tar', inner.getvalue()))
  write_tar(path, members)


def metadata(*, selected=True, clicks=(), trace=(), hovers=(), extra=''):
  """Returns one `metadata` block; points are (x, y, time)."""
  rows = [f'<{tag}><time>{t}</time><x>{x}</x><y>{y}</y></{tag}>'
          for tag, points in (('selectedRecord', clicks), ('mouseTracking', trace))
          for x, y, t in points]
  rows += [f'<hoveredRecord><action>{action}</action><time>{t}</time></hoveredRecord>'
           for action, t in hovers]
  return (f'<metadata><worker_id>W1</worker_id><selected>{selected}</selected>'
          f'<estimateTime>463</estimateTime>{"".join(rows)}{extra}</metadata>')


def voc(name, box, size=(12, 8)):
  """Returns a VOC header with one box (xmin, ymin, xmax, ymax)."""
  sides = ''.join(f'<{side}>{value}</{side}>'
                  for side, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), box, strict=True))
  return (f'<size><width>{size[0]}</width><height>{size[1]}</height></size><object>'
          f'<name>{name}</name><truncated>1</truncated><bndbox>{sides}</bndbox></object>')


def xml(body):
  return f'<annotation>{body}</annotation>'.encode()


T = 1640942069944
CLICKED = xml(
    voc('cat', (3, 2, 15, 6))
    + metadata(clicks=[(0.25, 0.5, T + 1), (1.25, -0.5, T + 3)], trace=[(0.1, 0.2, T)],
               hovers=[('enter', T - 5), ('leave', T + 9)],
               extra='<imagePosition><x>857</x><y>1976</y></imagePosition>')
    + metadata(selected=False, trace=[(0.3, 0.4, T + 7)]))
CLASSES = {
    'cat': {'1.JPEG': image('red'), '2.JPEG': image('white'), '3.JPEG': image('black')},
    'dog': {'1.JPEG': image('blue', size=(5, 7)), '2.png': image('green', form='PNG')},
}


def write_release(folder, classes=None, xmls=None, validation=None):
  """Writes a small `local` release with the usual XMLs."""
  folder.mkdir(parents=True, exist_ok=True)
  write_class_tars(folder / 'my_img_train.tar', CLASSES if classes is None else classes)
  write_class_tars(folder / 'my_img_val.tar', validation or {'cat': {'9.JPEG': image('pink')}})
  xmls = {'cat/1': CLICKED, 'dog/1': xml(metadata(selected=False))} if xmls is None else xmls
  members = [(f'train_xml/{name}.xml', data) for name, data in xmls.items()]
  members.insert(1, ('train_xml/cat/._1.xml', b'\x00\x05\x16\x07'))
  write_tar(folder / XML, members, 'w:gz')
  return folder


def build_local(manual_dir, data_dir):
  """Builds and returns {split: {file name: example}} with the image files undecoded."""
  path = build.build('imagenet_ab/local', manual_dir=manual_dir, data_dir=data_dir)
  builder = tfds.builder_from_directory(path)  # as without the builder's code
  names = builder.info.features['label'].names
  splits = builder.as_dataset(decoders={'image': tfds.decode.SkipDecoding()})
  return {
      split: {f'{names[row["label"]]}/{row["file_name"].decode()}': row
              for row in tfds.as_numpy(rows)}
      for split, rows in splits.items()
  }


class LocalTest(tfds.testing.DatasetBuilderTestCase):
  """TFDS's checks of `local`, with a third split and a folder of class folders."""

  DATASET_CLASS = imagenet_ab_dataset_builder.Builder
  BUILDER_CONFIG_NAMES_TO_TEST = ['local']
  SPLITS = {'train': 5, 'validation': 1, 'sketch': 1}

  @classmethod
  def setUpClass(cls):
    cls._folder = tempfile.TemporaryDirectory()
    cls.EXAMPLE_DIR = cls._folder.name
    write_release(pathlib.Path(cls.EXAMPLE_DIR))
    sketch = pathlib.Path(cls.EXAMPLE_DIR) / 'my_img_sketch' / 'cat'
    sketch.mkdir(parents=True)
    (sketch / '1.JPEG').write_bytes(image('gray'))
    super().setUpClass()

  @classmethod
  def tearDownClass(cls):
    super().tearDownClass()
    cls._folder.cleanup()


CMYK = image((255, 0, 0, 0), mode='CMYK')
ILSVRC_TRAIN = {
    'n01739381': {'n01739381_1309.JPEG': CMYK, 'n01739381_1.JPEG': image('red')},
    'n02105855': {'n02105855_2933.JPEG': image('green', form='PNG')},
}


class Ilsvrc2012Test(tfds.testing.DatasetBuilderTestCase):
  """TFDS's checks of `ilsvrc2012`, with one CMYK image and the PNG."""

  DATASET_CLASS = imagenet_ab_dataset_builder.Builder
  BUILDER_CONFIG_NAMES_TO_TEST = ['ilsvrc2012']
  SPLITS = {'train': 3, 'validation': 2}

  @classmethod
  def setUpClass(cls):
    cls._folder = tempfile.TemporaryDirectory()
    cls.EXAMPLE_DIR = cls._folder.name
    folder = pathlib.Path(cls.EXAMPLE_DIR)
    write_class_tars(folder / 'ILSVRC2012_img_train.tar', ILSVRC_TRAIN)
    write_tar(folder / 'ILSVRC2012_img_val.tar', [
        (f'ILSVRC2012_val_{number:08d}.JPEG', image(color))
        for number, color in ((1, 'red'), (50_000, 'blue'))])
    write_tar(folder / 'ILSVRC2012_bbox_val_v3.tgz', [
        ('val/ILSVRC2012_val_00000001.xml', xml(voc('n01751748', (0, 0, 6, 4))))], 'w:gz')
    write_tar(folder / XML, [('train_xml/n01739381/n01739381_1.xml', CLICKED)], 'w:gz')
    digest = hashlib.sha256((folder / XML).read_bytes()).hexdigest()
    cls._digest = mock.patch.object(imagenet_ab_dataset_builder, 'XML_SHA256', digest)
    cls._digest.start()
    super().setUpClass()

  @classmethod
  def tearDownClass(cls):
    super().tearDownClass()
    cls._digest.stop()
    cls._folder.cleanup()

  def _download_and_prepare_as_dataset(self, builder):
    super()._download_and_prepare_as_dataset(builder)
    rows = {row['file_name'].decode(): row
            for split in builder.as_dataset(decoders={'image': tfds.decode.SkipDecoding()}).values()
            for row in tfds.as_numpy(split)}
    label = builder.info.features['label'].int2str
    self.assertLen(builder.info.features['label'].names, 1000)
    # The labels of the first and the last validation image, as TFDS's imagenet2012 has them.
    self.assertEqual(label(rows['ILSVRC2012_val_00000001.JPEG']['label']), 'n01751748')
    self.assertEqual(label(rows['ILSVRC2012_val_00050000.JPEG']['label']), 'n02437616')
    np.testing.assert_allclose(
        rows['ILSVRC2012_val_00000001.JPEG']['objects']['bbox'], [[0, 0, 0.5, 0.5]])
    self.assertFalse(rows['ILSVRC2012_val_00000001.JPEG']['has_xml'])
    self.assertLen(rows['n01739381_1.JPEG']['clicks']['x'], 2)
    self.assertEqual(
        rows['n01739381_1.JPEG']['image'], ILSVRC_TRAIN['n01739381']['n01739381_1.JPEG'])
    for name, color in (
        ('n01739381_1309.JPEG', (0, 255, 255)), ('n02105855_2933.JPEG', (0, 128, 0))):
      fixed = Image.open(io.BytesIO(rows[name]['image']))
      self.assertEqual((fixed.format, fixed.mode), ('JPEG', 'RGB'))
      np.testing.assert_allclose(np.asarray(fixed)[4, 6], color, atol=4)


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  folder = tmp_path_factory.mktemp('local')
  return build_local(write_release(folder / 'raw'), folder / 'data')


def test_images_are_byte_identical(built):
  assert {name: row['image'] for name, row in built['train'].items()} == {
      f'{label}/{file}': data for label, files in CLASSES.items() for file, data in files.items()}
  size = built['train']['dog/1.JPEG']['image_size']
  assert (size['height'], size['width']) == (7, 5)


def test_every_value_of_a_record_arrives(built):
  row = built['train']['cat/1.JPEG']
  assert row['has_xml']
  np.testing.assert_array_equal(row['clicks']['x'], np.float32([0.25, 1.25]))
  np.testing.assert_array_equal(row['clicks']['y'], np.float32([0.5, -0.5]))
  np.testing.assert_array_equal(row['clicks']['time_ms'], [T + 1, T + 3])
  assert row['clicks']['time_ms'].dtype == np.int64
  np.testing.assert_array_equal(row['clicks']['block'], [0, 0])
  np.testing.assert_array_equal(row['trace']['x'], np.float32([0.1, 0.3]))
  np.testing.assert_array_equal(row['trace']['y'], np.float32([0.2, 0.4]))
  np.testing.assert_array_equal(row['trace']['time_ms'], [T, T + 7])
  np.testing.assert_array_equal(row['trace']['block'], [0, 1])
  assert list(row['hovers']['action']) == [b'enter', b'leave']
  np.testing.assert_array_equal(row['hovers']['time_ms'], [T - 5, T + 9])
  blocks = row['blocks']
  assert list(blocks['worker_id']) == [b'W1', b'W1'] and list(blocks['hit_id']) == [b'', b'']
  np.testing.assert_array_equal(blocks['selected'], [True, False])
  np.testing.assert_array_equal(blocks['selected_known'], [True, True])
  np.testing.assert_array_equal(blocks['estimate_time_ms'], [463, 463])
  np.testing.assert_array_equal(blocks['shown_x'], np.float32([857, np.nan]))
  np.testing.assert_array_equal(blocks['shown_y'], np.float32([1976, np.nan]))
  assert np.isnan(blocks['page_idx']).all() and len(blocks['page_idx']) == 2
  # The box ends 3 px to the right of the image: clipped.
  np.testing.assert_allclose(row['objects']['bbox'], [[2 / 8, 3 / 12, 6 / 8, 1]])
  assert list(row['objects']['label']) == [b'cat']
  assert list(row['objects']['truncated']) == [1] and list(row['objects']['difficult']) == [-1]


def test_an_image_without_xml_has_empty_lists(built):
  row = built['train']['cat/2.JPEG']
  assert not row['has_xml'] and not len(row['objects']['bbox'])
  for table in ('blocks', 'clicks', 'trace', 'hovers'):
    assert {len(column) for column in row[table].values()} == {0}
  assert row['clicks']['time_ms'].dtype == np.int64 and row['blocks']['selected'].dtype == bool


def test_folders_give_the_same_examples_as_archives(built, tmp_path):
  for label, files in CLASSES.items():
    (tmp_path / 'raw' / 'train' / label).mkdir(parents=True)
    (tmp_path / 'raw' / 'train_xml' / label).mkdir(parents=True)
    for file, data in files.items():
      (tmp_path / 'raw' / 'train' / label / file).write_bytes(data)
  (tmp_path / 'raw' / 'train_xml' / 'cat' / '1.xml').write_bytes(CLICKED)
  (tmp_path / 'raw' / 'train_xml' / 'dog' / '1.xml').write_bytes(xml(metadata(selected=False)))
  rows = build_local(tmp_path / 'raw', tmp_path / 'data')
  assert list(rows) == ['train']
  assert list(rows['train']) == list(built['train'])  # also in the same order
  for name, row in rows['train'].items():
    tf.nest.map_structure(np.testing.assert_array_equal, row, built['train'][name])


def test_bad_input_is_named_counted_and_left_out(tmp_path, monkeypatch, caplog, capsys):
  classes = {'cat': {**CLASSES['cat'], '4.JPEG': image('red')[:-40], '5.JPEG': b'no image'},
             'dog': CLASSES['dog']}
  raw = write_release(tmp_path / 'raw', classes, {
      'cat/1': CLICKED, 'cat/2': CLICKED[:-9], 'cat/3': b'<!DOCTYPE a><annotation/>',
      'dog/77': CLICKED, 'dog/1': xml(metadata() + voc('dog', (4, 2, 4, 6)))})
  monkeypatch.setenv(build_summary.MAX_BAD_SHARE_VARIABLE, '0.6')
  rows = build_local(raw, tmp_path / 'data')['train']
  assert sorted(rows) == ['cat/1.JPEG', 'cat/2.JPEG', 'cat/3.JPEG', 'dog/1.JPEG', 'dog/2.png']
  assert not rows['cat/2.JPEG']['has_xml'] and not rows['cat/3.JPEG']['has_xml']
  assert rows['cat/2.JPEG']['image'] == CLASSES['cat']['2.JPEG']
  for place in ('my_img_train.tar: cat/4.JPEG', 'my_img_train.tar: cat/5.JPEG',
                f'{XML}: cat/2.xml', f'{XML}: cat/3.xml'):
    assert sum(place in message for message in caplog.messages) == 1, place
  counts = dict(line.strip().rsplit(maxsplit=1) for line in
                capsys.readouterr().out.split('Summary of imagenet_ab/local\n')[1].splitlines()
                if line.startswith('  '))
  assert counts == {
      'images read': '8', 'images written': '6', 'with XML': '2', 'selected': '2', 'clicks': '2',
      'boxes': '1', 'skipped: corrupt XML': '2', 'skipped: undecodable image': '2',
      'XMLs of no image': '1', 'boxes without area, left out': '1'}


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
  path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def _flat(path):
  write_tar(path / 'my_img_train.tar', [('1.JPEG', image('red'))])


def _twice(path):
  write_tar(path / 'my_img_train.tar', [('cat/1.JPEG', image('red'))] * 2)


MISTAKES = {
    'no XMLs': (lambda raw: (raw / XML).unlink(), f'{XML} is missing: get .* from https://'),
    'no images': (lambda raw: [path.unlink() for path in raw.glob('*img*')], 'holds no .*_img_'),
    'empty folder': (lambda raw: [path.unlink() for path in raw.iterdir()], 'does not exist or is'),
    'images cut off': (lambda raw: _cut(raw / 'my_img_train.tar'), 'my_img_train.tar is truncated'),
    'XMLs cut off': (lambda raw: (raw / XML).write_bytes((raw / XML).read_bytes()[:-20]),
                     f'{XML} is truncated or damaged'),
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
  with pytest.raises(UserError, match=f'{XML} has sha256 .*expected 38e67940.* again from https://'):
    build.build('imagenet_ab/ilsvrc2012', manual_dir=raw, data_dir=tmp_path / 'data')
  (raw / 'ILSVRC2012_img_val.tar').unlink()
  with pytest.raises(UserError, match='ILSVRC2012_img_val.tar is missing: get .*image-net.org'):
    build.build('imagenet_ab/ilsvrc2012', manual_dir=raw, data_dir=tmp_path / 'data')


def test_a_decompression_bomb_is_no_image():
  header = image('red', form='PNG')
  bomb = header[:16] + (60_000).to_bytes(4, 'big') * 2 + header[24:]
  with pytest.raises(example.BadImage):
    example.image_size(bomb)


def test_what_is_borrowed_from_tfds_is_what_it_was():
  assert len(set(imagenet2012.CMYK_IMAGES)) == 22 and len(imagenet2012.PNG_IMAGES) == 1
  read = imagenet_ab_dataset_builder._tfds_file
  labels = pathlib.Path(read('labels.txt')).read_text().split()
  validation = pathlib.Path(read('validation_labels.txt')).read_text().split()
  assert len(set(labels)) == 1000 and labels == sorted(labels)
  assert len(validation) == 50_000 and set(validation) == set(labels)


def test_the_shuffle_buffer_is_bounded(tmp_path):
  """TFDS must still take the bound from where we set it, and give it back afterwards."""
  from tensorflow_datasets.core import shuffle

  saved = shuffle.MAX_MEM_BUFFER_SIZE
  with build_summary.small_shuffle_buffer():
    limit = shuffle.MAX_MEM_BUFFER_SIZE
    shuffler = shuffle.Shuffler(tmp_path, 'salt')
    data = bytes(limit // 2)
    shuffler.add('a', data)
    assert not list(tmp_path.iterdir())
    shuffler.add('b', data)
    shuffler.add('c', b'c')
    assert list(tmp_path.iterdir()), 'nothing was spilled to disk'
  assert limit <= 256 << 20 and saved == shuffle.MAX_MEM_BUFFER_SIZE


def _run(*args, cwd, **env):
  return subprocess.run(args, cwd=cwd, capture_output=True, text=True, timeout=280, check=False,
                        env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3', **env})


def test_the_tfds_command_line_builds_and_any_folder_loads(tmp_path):
  """`tfds build` from elsewhere with a relative manual_dir; `tfds.load` without our code."""
  write_release(tmp_path / 'raw')
  tool = pathlib.Path(sys.executable).parent / 'tfds'
  done = _run(tool, 'build', REPOSITORY / 'tfds_builders' / 'imagenet_ab', '--config=local',
              '--manual_dir=raw', '--data_dir=data', cwd=tmp_path, PYTHONPATH='')
  assert done.returncode == 0, done.stderr[-3000:]
  assert 'Summary of imagenet_ab/local' in done.stdout
  done = _run(sys.executable, '-c', (
      'import sys, tensorflow_datasets as tfds\n'
      'rows = list(tfds.as_numpy(tfds.load("imagenet_ab/local", data_dir="data", split="train")))\n'
      'print(len(rows), max(row["clicks"]["time_ms"].max(initial=0) for row in rows))\n'
      'assert not any(name.startswith(("luab_jax", "tfds_builders")) for name in sys.modules)'),
      cwd=tmp_path, PYTHONPATH='')
  assert done.stdout.split() == ['5', str(T + 3)], done.stderr[-3000:]


def test_the_tfds_command_line_prints_a_mistake_as_one_line(tmp_path):
  """It prints SystemExit's text alone, which is why the builder raises BuildStopped."""
  script = ('from tfds_builders import build_summary\n'
            'from luab_jax.errors import UserError\n'
            'with build_summary.one_line_errors():\n  raise UserError("mend it")')
  done = _run(sys.executable, '-c', script, cwd=tmp_path, PYTHONPATH=str(REPOSITORY))
  assert (done.returncode, done.stderr, done.stdout) == (1, 'mend it\n', '')


def test_our_command_line(tmp_path, capsys):
  raw = write_release(tmp_path / 'raw')
  args = ['imagenet_ab/local', f'--manual_dir={raw}', f'--data_dir={tmp_path / "data"}']
  assert build.main(args) == 0
  assert 'images written' in capsys.readouterr().out
  (raw / 'my_img_val.tar').unlink()
  assert build.main(args) == 0
  assert 'Summary' not in capsys.readouterr().out, 'it was built again'
  write_class_tars(raw / 'my_img_train.tar', {'owl': {'1.JPEG': image('red')}})
  assert build.main([*args, '--overwrite']) == 0
  assert 'images written 1 with XML 0' in ' '.join(capsys.readouterr().out.split())
  assert build.main(['imagenet_ab/local', '--manual_dir=/absent']) == 2
  captured = capsys.readouterr()
  assert captured.err.startswith('error: --manual_dir=/absent is no folder')
  assert captured.err.count('\n') == 1
