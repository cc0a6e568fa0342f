"""imagenet_ab: TFDS's own checks, every value of an example, and what is borrowed from TFDS."""

import hashlib
import io
import os
import pathlib
import tempfile
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.datasets.imagenet2012 import imagenet2012_dataset_builder as imagenet2012

from luab_jax.data import image_files
from tfds_builders import build_summary
from tfds_builders.imagenet_ab import imagenet_ab_dataset_builder, release
from tfds_builders.imagenet_ab.small_release import (
  CLASSES,
  CLICKED,
  XML_NAME,
  T,
  build_local,
  image,
  metadata,
  voc,
  write_class_tars,
  write_release,
  write_tar,
  xml,
)

pytestmark = pytest.mark.slow


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
  'n02077923': {'n02077923_14822.JPEG': CMYK[:-60]},  # damaged: left out
  'n02105855': {'n02105855_2933.JPEG': image('green', form='PNG')},
  'n99999999': {'n99999999_1.JPEG': image('red')},  # not one of the 1000 classes: left out
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
    write_tar(
      folder / 'ILSVRC2012_img_val.tar',
      [
        (f'ILSVRC2012_val_{number:08d}.JPEG', image(color))
        for number, color in ((1, 'red'), (50_000, 'blue'))
      ],
    )
    write_tar(
      folder / 'ILSVRC2012_bbox_val_v3.tgz',
      [('val/ILSVRC2012_val_00000001.xml', xml(voc('n01751748', (0, 0, 6, 4))))],
      'w:gz',
    )
    write_tar(folder / XML_NAME, [('train_xml/n01739381/n01739381_1.xml', CLICKED)], 'w:gz')
    digest = hashlib.sha256((folder / XML_NAME).read_bytes()).hexdigest()
    cls._patches = [
      mock.patch.object(release, 'XML_SHA256', digest),
      mock.patch.dict(os.environ, {build_summary.MAX_BAD_SHARE_VARIABLE: '1'}),
    ]
    for patch in cls._patches:
      patch.start()
    super().setUpClass()

  @classmethod
  def tearDownClass(cls):
    super().tearDownClass()
    for patch in cls._patches:
      patch.stop()
    cls._folder.cleanup()

  def _download_and_prepare_as_dataset(self, builder):
    super()._download_and_prepare_as_dataset(builder)
    rows = {
      row['file_name'].decode(): row
      for split in builder.as_dataset(decoders={'image': tfds.decode.SkipDecoding()}).values()
      for row in tfds.as_numpy(split)
    }
    label = builder.info.features['label'].int2str
    self.assertLen(builder.info.features['label'].names, 1000)
    # The labels of the first and the last validation image, as TFDS's imagenet2012 has them.
    self.assertEqual(label(rows['ILSVRC2012_val_00000001.JPEG']['label']), 'n01751748')
    self.assertEqual(label(rows['ILSVRC2012_val_00050000.JPEG']['label']), 'n02437616')
    np.testing.assert_allclose(
      rows['ILSVRC2012_val_00000001.JPEG']['objects']['bbox'], [[0, 0, 0.5, 0.5]]
    )
    self.assertFalse(rows['ILSVRC2012_val_00000001.JPEG']['has_xml'])
    self.assertLen(rows['n01739381_1.JPEG']['clicks']['x'], 2)
    self.assertEqual(
      rows['n01739381_1.JPEG']['image'], ILSVRC_TRAIN['n01739381']['n01739381_1.JPEG']
    )
    for name, color in (
      ('n01739381_1309.JPEG', (0, 255, 255)),
      ('n02105855_2933.JPEG', (0, 128, 0)),
    ):
      fixed = Image.open(io.BytesIO(rows[name]['image']))
      self.assertEqual((fixed.format, fixed.mode), ('JPEG', 'RGB'))
      np.testing.assert_allclose(np.asarray(fixed)[4, 6], color, atol=4)


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  folder = tmp_path_factory.mktemp('local')
  return build_local(write_release(folder / 'raw'), folder / 'data')


def test_images_are_byte_identical(built):
  assert {name: row['image'] for name, row in built['train'].items()} == {
    f'{label}/{file}': data for label, files in CLASSES.items() for file, data in files.items()
  }
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


def test_what_is_borrowed_from_tfds_is_what_it_was():
  assert len(set(imagenet2012.CMYK_IMAGES)) == 22 and len(imagenet2012.PNG_IMAGES) == 1
  read = release.tfds_file
  labels = pathlib.Path(read('labels.txt')).read_text().split()
  validation = pathlib.Path(read('validation_labels.txt')).read_text().split()
  assert len(set(labels)) == 1000 and labels == sorted(labels)
  assert len(validation) == 50_000 and set(validation) == set(labels)


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'BMP', 'GIF'])
def test_the_formats_that_the_manual_names_are_accepted(form):
  assert image_files.encode(image('red', form=form)).size == (8, 12)


def test_further_splits_get_their_boxes_too(synthetic_imagenet_ab):
  for split in ('validation', 'uncorrelated'):
    data = tfds.load('imagenet_ab/local', split=split, data_dir=synthetic_imagenet_ab)
    assert [len(item['objects']['label']) for item in data.as_numpy_iterator()] == [1] * 40
