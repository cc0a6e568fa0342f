"""The coco_ab builder: TFDS's own checks, every value kept, checksums."""

import contextlib
import hashlib
import tempfile
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums

from luab_jax.byproducts import coco_ab
from luab_jax.errors import UserError
from tfds_builders.coco_ab import coco_ab_dataset_builder
from tfds_builders.coco_ab.small_release import build, file_name, jpeg, write_release

pytestmark = pytest.mark.slow

_CONFIGS = {config.name: config for config in coco_ab_dataset_builder.Builder.BUILDER_CONFIGS}


@contextlib.contextmanager
def temporary_release():
  with tempfile.TemporaryDirectory() as folder:
    yield write_release(folder)


class CocoAbTest(tfds.testing.DatasetBuilderTestCase):
  """TFDS's own checks of the configs with COCO-AB, on generated files."""

  DATASET_CLASS = coco_ab_dataset_builder.Builder
  SPLITS = {'train': 3, 'validation': 1}
  BUILDER_CONFIG_NAMES_TO_TEST = ['2014', 'local_short288']
  DL_DOWNLOAD_RESULT = {name: name for name in _CONFIGS['2014'].urls}

  @classmethod
  def setUpClass(cls):
    cls.EXAMPLE_DIR = cls.enterClassContext(temporary_release())
    super().setUpClass()


@pytest.fixture
def release(tmp_path):
  return write_release(tmp_path / 'raw')


def test_every_value_is_kept(release, tmp_path, capsys):
  examples = build(release, tmp_path / 'data')
  assert {s: sorted(e) for s, e in examples.items()} == {'train': [9, 25, 30], 'validation': [42]}
  one = examples['train'][9]
  label = coco_ab.CLASS_INDEX
  assert one['image'] == jpeg(9, (64, 48))
  assert one['file_name'] == b'COCO_train2014_000000000009.jpg'
  assert one['image_size'] == {'height': 48, 'width': 64}
  np.testing.assert_array_equal(one['labels'], [label['person'], label['toothbrush']])
  objects = one['objects']
  np.testing.assert_array_equal(objects['id'], [3, 5, 7])
  np.testing.assert_array_equal(objects['is_crowd'], [True, False, False])
  np.testing.assert_array_equal(
    objects['label'], [label['person'], label['toothbrush'], label['toothbrush']]
  )
  np.testing.assert_allclose(
    objects['bbox'], [[0, 0, 1, 1], [40 / 48, 60 / 64, 1, 1], [0.25, 0.25, 0.75, 0.75]]
  )
  np.testing.assert_array_equal(objects['area'], [12.25] * 3)
  assert one['has_record']
  icons = one['icons']  # replayed: moved, removed and unknown icons
  np.testing.assert_array_equal(icons['label'], [label['person'], label['toothbrush']])
  np.testing.assert_array_equal(icons['x'], np.float32([0.25, 0.75]))
  np.testing.assert_array_equal(icons['y'], np.float32([1.02, -0.125]))
  actions = one['actions']
  np.testing.assert_array_equal(actions['action'], [0, 0, 0, 1, 0, 2])
  assert b' '.join(actions['icon']) == b'toothbrush unicorn person toothbrush cup cup'
  nan = np.nan
  np.testing.assert_array_equal(actions['from_x'], np.float32([nan, nan, nan, 0.5, nan, 0.3]))
  np.testing.assert_array_equal(actions['from_y'], np.float32([nan, nan, nan, 0.5, nan, 0.3]))
  np.testing.assert_array_equal(actions['to_x'], np.float32([0.5, 0.1, 0.25, 0.75, 0.3, nan]))
  np.testing.assert_array_equal(actions['to_y'], np.float32([0.5, 0.1, 1.02, -0.125, 0.3, nan]))
  # Beyond int32 and beyond float32's whole numbers.
  np.testing.assert_array_equal(actions['time_ms'], 3_000_000_000 + np.arange(1, 7))
  categories = one['categories']
  assert (categories['index'].tolist(), categories['name'].tolist()) == ([6], [b'Food'])
  assert (categories['time_ms'].tolist(), categories['using_keyboard'].tolist()) == ([10], [True])
  np.testing.assert_array_equal(one['trace']['x'], [0.5, 1.5])
  np.testing.assert_array_equal(one['trace']['y'], [0.25, -1])
  np.testing.assert_array_equal(one['trace']['time_ms'], [3_000_000_000, 3_000_000_001])
  assert examples['train'][25]['record'] == {
    'shown_width': 451,
    'shown_height': 450,
    'original_width': 0,
    'original_height': 0,
    'time_spent_ms': 8_260_000_000,
    'hit_id': b'H1',
    'worker_id': b'W1',
    'page_id': 19,
  }
  without = examples['train'][30]
  assert not without['has_record'] and len(without['labels']) == len(without['icons']['x']) == 0
  assert set(without['record'].values()) == {0, b''}
  summary = capsys.readouterr().out
  for line in (
    'images 4',
    'instances 5',
    'records 3',
    'with a record 2',
    'icons 2',
    'actions 6',
    'trace points 2',
    'skipped 0',
    'records without an image 1',
    'records with icons of unknown classes 1',
  ):
    assert line in ' '.join(summary.split()), line


def test_members_without_a_folder_have_their_own_name(tmp_path):
  with zipfile.ZipFile(write_release(tmp_path) / 'val2014.zip', 'w') as archive:
    archive.writestr(file_name('val2014', 42), jpeg(42, (33, 47)))
  examples = build(tmp_path, tmp_path / 'data')
  assert examples['validation'][42]['file_name'].decode() == file_name('val2014', 42)


def test_mini_release(shared, tmp_path, monkeypatch):
  """From another folder, with a relative manual_dir; every image's bytes and every record."""
  folder = shared / 'mini_release/coco_ab'
  (tmp_path / 'elsewhere').mkdir()
  (tmp_path / 'raw').symlink_to(folder)
  monkeypatch.chdir(tmp_path / 'elsewhere')
  examples = build('../raw', tmp_path)
  records = {r.image_id: r for r in coco_ab.read_records(folder / coco_ab.FILE_NAME)}
  assert (len(examples['train']), len(examples['validation'])) == (50, 50)
  with zipfile.ZipFile(folder / 'train2014.zip') as archive:
    for image_id, example in examples['train'].items():
      assert example['image'] == archive.read(f'train2014/{example["file_name"].decode()}')
      assert example['has_record'] == (image_id in records)
      if image_id in records:
        trace = records[image_id].trace_xy.astype(np.float32)
        np.testing.assert_array_equal(example['trace']['x'], trace[:, 0])
        np.testing.assert_array_equal(example['trace']['y'], trace[:, 1])


def registered(folder):
  """Returns the `url_infos` that register the files in `folder` for the config 2014."""
  return {
    url: checksums.UrlInfo(
      size=(folder / name).stat().st_size,
      filename=name,
      checksum=hashlib.sha256((folder / name).read_bytes()).hexdigest(),
    )
    for name, url in _CONFIGS['2014'].urls.items()
  }


def test_2014_takes_verified_files_from_manual_dir(release, tmp_path, monkeypatch):
  monkeypatch.setattr(coco_ab_dataset_builder.Builder, 'url_infos', registered(release))
  examples = build(release, tmp_path / 'data', '2014')
  assert sorted(examples['train']) == [9, 25, 30] and examples['train'][9]['has_record']
  with open(release / coco_ab.FILE_NAME, 'a') as file:
    file.write(' ')
  with pytest.raises(UserError, match='coco_ab_v1_0.json.* has wrong checksum') as error:
    build(release, tmp_path / 'again', '2014')
  assert '\n' not in str(error.value) and '--config=local' in str(error.value)


def test_2014_without_network_names_the_files(tmp_path, monkeypatch):
  def no_network(*_):
    raise OSError('no route to host')

  monkeypatch.setattr(tfds.download.DownloadManager, 'download', no_network)
  with pytest.raises(UserError, match='no route to host.*put train2014.zip, .*--manual_dir'):
    build(tmp_path, tmp_path / 'data', '2014')


def test_registered_checksums_are_the_published_ones():
  ours = coco_ab_dataset_builder.Builder.url_infos
  published = checksums.get_all_url_infos()  # TFDS's own data set coco/2014
  urls = _CONFIGS['2014'].urls | _CONFIGS['narratives'].urls
  for name in urls.keys() - {coco_ab.FILE_NAME}:
    assert ours[urls[name]] == published[urls[name]]
  record = ours[coco_ab.URL]
  assert (record.size, record.checksum, record.filename) == (
    398_322_779,
    coco_ab.SHA256,
    coco_ab.FILE_NAME,
  )
  assert set(ours) == set(urls.values())
