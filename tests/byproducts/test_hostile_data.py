"""Hostile records, masks, data sets and names: every bug found by tests.stress.fuzz or by review,
and that names from untrusted files stay text in the pages.
"""

import html.parser
import io
import json
import shutil
import struct
import zipfile

import numpy as np
import pytest

from configs import quickstart
from luab_jax.byproducts import BadRecord, coco_ab, imagenet_ab
from luab_jax.data import tfrecords
from luab_jax.errors import UserError
from luab_jax.report import data_page
from tfds_builders import build
from tfds_builders.backgrounds_challenge import release, small_release
from tfds_builders.coco_ab.join import Join
from tfds_builders.imagenet_ab import small_release as imagenet_release


def _zip(members):
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, data in members:
      archive.writestr(name, data)
  return file.getvalue()


def test_flags_of_a_box_are_0_or_1():
  """2 ** 40 is a whole number but no int32: TFDS used to stop the build with a traceback."""
  for flag, ok in (('0', True), ('1', True), ('1099511627776', False), ('-3', False)):
    xml = (
      f'<annotation><object><name>n</name><truncated>{flag}</truncated><bndbox><xmin>1</xmin>'
      '<ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object></annotation>'
    ).encode()
    if ok:
      assert imagenet_ab.parse_xml(xml).boxes[0].truncated == int(flag)
    else:
      with pytest.raises(BadRecord, match=f'<truncated> is {flag!r}, neither 0 nor 1'):
        imagenet_ab.parse_xml(xml)


@pytest.mark.parametrize('x', [1e308, -1e308, 10**30, 1001, -1001.5])
@pytest.mark.parametrize('place', ['trace', 'action'])
def test_absurd_coordinates_of_coco_are_corrupt(tmp_path, x, place):
  """1e308 is finite in float64, but infinite in the float32 that is stored."""
  point = {'x': x, 'y': 0.5}
  fields = (
    {'mouseTracking': [{**point, 'timeAt': 1}]}
    if place == 'trace'
    else {
      'actionHistories': [
        {'actionType': 'add', 'iconType': 'cup', 'pointTo': point, 'timeAt': 1},
        {'actionType': 'move', 'iconType': 'cup', 'pointTo': {'x': -x, 'y': 0}, 'timeAt': 2},
      ]
    }
  )
  path = tmp_path / coco_ab.FILE_NAME
  path.write_text(json.dumps([{'image_id': 1, **fields}, {'image_id': 2}]))
  bad, good = coco_ab.read_records(path)
  assert '1000.0 - at' in bad.reason and bad.image_id == 1
  assert good.image_id == 2


def _instances(tmp_path, **changes):
  path = tmp_path / 'annotations_trainval2014.zip'
  annotation = {
    'id': 1,
    'image_id': 1,
    'category_id': 1,
    'bbox': [1, 1, 5, 5],
    'area': 25,
    'iscrowd': 0,
    **changes,
  }
  path.write_bytes(
    _zip(
      [
        (
          'i.json',
          json.dumps(
            {
              'images': [{'file_name': 'a.jpg', 'id': 1, 'width': 12, 'height': 8}],
              'annotations': [annotation],
              'categories': [{'id': 1, 'name': 'cup'}],
            }
          ),
        )
      ]
    )
  )
  return path


@pytest.mark.parametrize(
  'changes',
  [
    {'area': 1e300},
    {'area': -1e300},
    {'area': -1},
    {'bbox': [1, 1, 1e300, 1]},
    {'bbox': '1234'},
    {'bbox': {'1': 0, '2': 0, '3': 0, '4': 0}},
    {'bbox': [[[[1]]]] * 4},
  ],
  ids=str,
)
def test_absurd_instances_stop_the_build_in_one_line(tmp_path, changes):
  with pytest.raises(UserError, match=r"i.json is not in COCO's format: .*\$.annotations\[0\]"):
    Join().add_instances(_instances(tmp_path, **changes), 'i.json')


@pytest.mark.parametrize('shape', ['(100000, 10000)', '(8, 10000000000)', '(-8, -12)', '(8, 13)'])
def test_a_mask_of_another_size_than_it_claims_is_refused(shape):
  data = small_release.npy(np.zeros((8, 12), bool)).replace(b'(8, 12), }', f'{shape}, }}'.encode())
  data = data[:8] + struct.pack('<H', len(data) - 10 - 96) + data[10:]
  with pytest.raises(release.BadMask):
    release.read_mask(data, (8, 12))


def test_masks_of_fortran_order_and_all_number_types():
  mask = np.arange(96).reshape(8, 12) % 5 == 0
  for kind in ('?', 'u1', '<i8', '>i4', '<f2', '<f8', '>f4'):
    for order in 'CF':
      data = small_release.npy(np.array(mask, kind, order=order))
      np.testing.assert_array_equal(release.read_mask(data, (8, 12)), mask)
      with pytest.raises(release.BadMask):
        release.read_mask(data[:-1], (8, 12))


def test_instances_of_images_that_are_not_there_are_counted(tmp_path):
  join = Join()
  join.add_instances(_instances(tmp_path), 'i.json')
  assert join.unused() == (1, 0, 1)
  (instance,), record = join.take(1)
  assert instance.id == 1 and record is None and join.unused() == (0, 0, 0)
  assert join.take(1) is None
  join = Join()
  join.add_instances(_instances(tmp_path, image_id=99), 'i.json')
  assert join.take(1) == ([], None) and join.unused() == (0, 0, 1)


def test_an_image_that_is_listed_twice_is_refused(tmp_path):
  join = Join()
  join.add_instances(_instances(tmp_path), 'i.json')
  with pytest.raises(UserError, match=r"image 1 \('a.jpg'\) occurs twice"):
    join.add_instances(_instances(tmp_path), 'i.json')


@pytest.mark.parametrize(
  'text',
  [
    '{}',
    '{"images": 5}',
    '{"images": [], "annotations": [], "categories": []}',
    '{["a"]: [1]}',
    '{"images": [{"file_name": "a", "id": 1, "width": 1, "height": 1}], "annotations": {}}',
  ],
)
def test_an_instances_file_without_instances_is_refused(tmp_path, text):
  """It used to be taken for one whose images show nothing, giving a data set without labels."""
  path = tmp_path / 'annotations_trainval2014.zip'
  path.write_bytes(_zip([('i.json', text)]))
  with pytest.raises(UserError, match="i.json is not in COCO's format: "):
    Join().add_instances(path, 'i.json')


@pytest.fixture
def built(synthetic_imagenet_ab, tmp_path):
  """A copy of a built data set: (data_dir, folder of its version)."""
  shutil.copytree(synthetic_imagenet_ab, tmp_path / 'data')
  return tmp_path / 'data', tmp_path / 'data' / 'imagenet_ab' / 'local' / '1.0.0'


TENSOR = '"tensorflow_datasets.core.features.tensor_feature.Tensor"'


@pytest.mark.parametrize(
  'change',
  [
    lambda text: text.replace(TENSOR, '"payload.Feature"', 1),
    lambda text: text.replace(
      f'"pythonClassName": {TENSOR}', '"python_class_name": "payload.Feature"', 1
    ),
    lambda text: '{"type": "payload.Feature", "content": {}}',
    lambda text: (
      '{"pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",'
      ' "jsonFeature": {"json": "{\\"a\\": {\\"type\\": \\"payload.Feature\\"}}"}}'
    ),
  ],
  ids=['proto', 'snake case', 'legacy', 'json feature'],
)
def test_a_data_set_cannot_have_a_module_imported(built, monkeypatch, change):
  """TFDS imports the modules that features.json names: arbitrary code of whoever built the set."""
  data_dir, folder = built
  (data_dir / 'payload.py').write_text('raise SystemExit("executed")')
  monkeypatch.syspath_prepend(data_dir)
  path = folder / 'features.json'
  path.write_text(change(path.read_text()))
  with pytest.raises(UserError, match='names a class unknown to TFDS'):
    tfrecords.open_builder('imagenet_ab/local', data_dir)


@pytest.mark.parametrize('name', ['features.json', 'dataset_info.json'])
@pytest.mark.parametrize('text', ['', '{', '[]', '{}', '{"name": 5}', '[' * 100_000, '\xff'])
def test_damaged_metadata_are_a_user_error(built, name, text):
  data_dir, folder = built
  (folder / name).write_text(text, encoding='latin-1')
  with pytest.raises(UserError, match='1.0.0'):
    tfrecords.open_builder('imagenet_ab/local', data_dir)


class _Tags(html.parser.HTMLParser):
  """Tags, attributes and text of a page as a browser would parse them."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.attributes, self.text = set(), [], ''
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.add(tag)
    self.attributes += [(tag, *attribute) for attribute in attrs]

  def handle_data(self, data):
    self.text += data


@pytest.mark.slow
def test_names_out_of_an_archive_stay_text_on_the_page(tmp_path):
  """Hostile names in a tar, through the builder and the pipeline, in data.html."""
  label = '<script>alert(1)<"\'{{7*6}}{%x%}<img src=x onerror=alert(2)>'
  image = imagenet_release.image('red', size=(40, 40))
  files = {f'<svg onload=x>{i}.JPEG': image for i in range(3)}
  xml = imagenet_release.CLICKED.replace(b'<name>cat', b'<name>&lt;script&gt;')
  raw = imagenet_release.write_release(
    tmp_path / 'raw',
    {label: files, 'dog': {'1.JPEG': image}},
    {f'{label}/<svg onload=x>1': xml},
    {label: files},
  )
  build.build('imagenet_ab/local', manual_dir=raw, data_dir=tmp_path / 'data')
  config = quickstart.get_config()
  config.data.data_dir, config.data.train_split = str(tmp_path / 'data'), 'train'
  config.data.eval_splits = {'<b>split</b>': 'validation'}
  config.data.image_size = config.data.eval_resize = 32
  config.batch_size, config.report_images = 2, 2
  data_page.draw(config, tmp_path / '<i>run<')
  page = _Tags((tmp_path / '<i>run<' / 'data.html').read_text())
  assert label in page.text and '<b>split</b>' in page.text and '<i>run<' in page.text
  assert not page.tags & {'script', 'svg', 'b', 'i', 'iframe'}
  assert not [a for a in page.attributes if a[1].startswith('on')]
  assert all(a[2].startswith('data:image/') for a in page.attributes if a[1] == 'src')


def test_messages_are_short_lines_whatever_the_file_says(tmp_path):
  """A bad coordinate of 4 MiB, or a COCO field of 8 MiB, used to be logged in full."""
  point = '<x>' + 'a' * 100_000 + '</x><y>1</y><time>1</time>'
  with pytest.raises(BadRecord) as error:
    imagenet_ab.parse_xml(
      f'<annotation><metadata><mouseTracking>{point}</mouseTracking></metadata>'
      '</annotation>'.encode()
    )
  assert len(str(error.value)) < 200
  data = small_release.npy(np.zeros((8, 12), [(f'field{i}', 'u1') for i in range(100)]))
  with pytest.raises(release.BadMask) as error:
    release.read_mask(data, (8, 12))
  assert len(str(error.value)) < 200
  with pytest.raises(release.BadMask) as error:
    release.read_mask(data.replace(b'(8, 12)', b'(8,!12)'), (8, 12))
  assert len(str(error.value)) < 200
  with pytest.raises(UserError) as error:
    Join().add_instances(_instances(tmp_path, area='é' * 10_000), 'i.json')
  assert len(str(error.value)) < 1000
