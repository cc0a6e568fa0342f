"""Files from outside: the bugs that benchmarks/fuzz.py and reading for it found, each by a test.

tests/test_fuzz_short.py is the short form of benchmarks/fuzz.py itself.
"""

import contextlib
import gzip
import io
import json
import shutil
import struct
import tarfile
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from luab_jax import archives, records
from luab_jax.byproducts import BadRecord, coco, imagenet
from luab_jax.errors import UserError
from tfds_builders.backgrounds_challenge import release, small_release
from tfds_builders.coco_ab.join import Join

GOOD = ('cat/good.xml', b'good')


def _header(name, kind=tarfile.REGTYPE, size=0, **fields):
  """A tar header that may claim anything; its checksum is right."""
  info = tarfile.TarInfo(name)
  info.type, info.size = kind, size
  for field, value in fields.items():
    setattr(info, field, value)
  return info.tobuf(tarfile.GNU_FORMAT)


def _member(name, data=b'', kind=tarfile.REGTYPE, **fields):
  return _header(name, kind, len(data), **fields) + data + bytes(-len(data) % 512)


def _pax(*records):
  """A pax header of b'key=value' records, correctly counted."""
  body = b''
  for record in records:
    length = len(record) + 3
    length = len(f'{length}') + 2 + len(record)
    length = len(f'{length}') + 2 + len(record)
    body += f'{length} '.encode() + record + b'\n'
  return _member('pax', body, tarfile.XHDTYPE)


def _tar(*parts):
  return b''.join(parts) + _member(*GOOD) + bytes(1024)


def _read_tar(tmp_path, data, compressed=False):
  """(members, refused names) of both readers, which must agree, or the UserError."""
  path = tmp_path / 'hostile.tar'
  path.write_bytes(gzip.compress(data, 1) if compressed else data)
  refused = []
  members = list(archives.iter_members(path, refused=lambda name, _: refused.append(name)))
  archives.class_names(path)
  return members, refused


EXTENSIONS = {'pax': tarfile.XHDTYPE, 'global pax': tarfile.XGLTYPE,
              'long name': tarfile.GNUTYPE_LONGNAME, 'long link': tarfile.GNUTYPE_LONGLINK}


@pytest.mark.parametrize('kind', EXTENSIONS)
@pytest.mark.parametrize('compressed', [False, True])
def test_an_extension_header_that_claims_gigabytes_gets_no_memory(tmp_path, kind, compressed):
  """tarfile reads a whole extension header at once, whatever its size."""
  data = _header('x', EXTENSIONS[kind], 10 << 30) + bytes(40 << 20 if compressed else 512)
  tracemalloc.start()
  try:
    with pytest.raises(UserError, match='hostile.tar'):
      _read_tar(tmp_path, data, compressed)
    assert tracemalloc.get_traced_memory()[1] < (len(data) + (8 << 20) if compressed else 8 << 20)
  finally:
    tracemalloc.stop()


@pytest.mark.parametrize('kind', EXTENSIONS)
def test_a_long_chain_of_extension_headers_is_no_recursion(tmp_path, kind):
  part = _member('x', b'9 path=a\n' if 'pax' in kind else b'a\0', EXTENSIONS[kind])
  members, _ = _read_tar(tmp_path, _tar(part * 5000))
  assert [data for _, data in members] == [GOOD[1]]


SPARSE = {
  'old': _header('s', tarfile.GNUTYPE_SPARSE),
  'map is no number': _pax(b'GNU.sparse.map=abc') + _member('s', b'1'),
  'version 1.0 without a map': _pax(b'GNU.sparse.major=1', b'GNU.sparse.minor=0') + _member('s'),
  'version 1.0 that never ends': _pax(b'GNU.sparse.major=1', b'GNU.sparse.minor=0')
                                 + _member('s', b'99999999\n' + b'1' * 600),
  'size is no number': _pax(b'GNU.sparse.size=x') + _member('s'),
}


@pytest.mark.parametrize('case', SPARSE)
def test_sparse_files_are_refused_whatever_their_map_says(tmp_path, case):
  members, refused = _read_tar(tmp_path, _tar(SPARSE[case]))
  assert members == [GOOD] and refused == ['s']


def test_a_sparse_file_whose_map_is_cut_off(tmp_path):
  header = bytearray(_header('s', tarfile.GNUTYPE_SPARSE))
  header[482] = 1  # the map goes on in the next block
  header[148:156] = b' ' * 8
  header[148:156] = b'%06o\0 ' % sum(header)
  with pytest.raises(UserError, match='hostile.tar'):
    _read_tar(tmp_path, bytes(header))


def test_a_pax_header_of_digits_takes_no_quadratic_time(tmp_path):
  start = time.process_time()
  try:
    _read_tar(tmp_path, _tar(_member('x', b'1' * 200_000, tarfile.XHDTYPE)))
  except UserError:
    pass
  assert time.process_time() - start < 2


@pytest.mark.parametrize('size', [-1, -512, -(1 << 40)])
@pytest.mark.parametrize('kind', [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.SYMTYPE, b'Z'])
@pytest.mark.parametrize('compressed', [False, True])
def test_a_negative_size_is_damage(tmp_path, size, kind, compressed):
  with pytest.raises(UserError, match='hostile.tar'):
    _read_tar(tmp_path, _tar(_member('first', b'1'), _header('x', kind, size)), compressed)


@pytest.mark.parametrize('name', ['a\nb/1.jpg', 'a/1\x1b[2J.jpg', 'a/1\u2028.jpg', 'a/1\x85.jpg'])
def test_names_with_control_characters_are_refused(tmp_path, name):
  """They forge lines in the log and classes in TFDS's labels.txt, which has one a line."""
  members, refused = _read_tar(tmp_path, _tar(_member(name)))
  assert members == [GOOD] and refused == [repr(name)[1:-1]]
  assert archives.class_names(tmp_path / 'hostile.tar') == {'cat'}


def test_class_names_that_tfds_would_change_are_refused(tmp_path):
  """TFDS strips class names when it loads them: 'cat' and 'cat ' would become one, twice."""
  path = tmp_path / 'images.tar'
  path.write_bytes(_tar(_member('cat /1.jpg'), _member('\u3000/1.jpg')))
  refused = []
  members = archives.iter_class_members(path, refused=lambda name, _: refused.append(name))
  assert list(members) == [('cat', 'good.xml', b'good')]
  assert refused == ['cat /1.jpg', '\\u3000/1.jpg']
  for name in ('cat', 'cat ', 'a\nb'):
    (tmp_path / 'folder' / name).mkdir(parents=True)
  assert archives.class_names(path) == archives.class_names(tmp_path / 'folder') == {'cat'}


def test_messages_are_short_lines_whatever_the_file_says(tmp_path):
  """A name had up to a MiB, a bad coordinate 4 MiB, and both went into the log as they were."""
  _, (refused,) = _read_tar(tmp_path, _tar(_pax(b'path=../' + b'a\n\x1b' * 50_000), _member('x')))
  assert len(refused) == 200 and refused.isprintable()
  point = '<x>' + 'a' * 100_000 + '</x><y>1</y><time>1</time>'
  with pytest.raises(BadRecord) as error:
    imagenet.parse_xml(f'<annotation><metadata><mouseTracking>{point}</mouseTracking></metadata>'
                       '</annotation>'.encode())
  assert len(str(error.value)) < 200
  data = small_release.npy(np.zeros((8, 12), [(f'field{i}', 'u1') for i in range(100)]))
  with pytest.raises(release.BadMask) as error:
    release.read_mask(data, (8, 12))
  assert len(str(error.value)) < 200


def _zip(members):
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, data in members:
      archive.writestr(name, data)
  return bytearray(file.getvalue())


def _in_directory(data, offset, format_, value):
  """Overwrites a field of the first entry of a zip's central directory."""
  struct.pack_into(format_, data, data.index(b'PK\1\2') + offset, value)
  return data


def _read_zip(tmp_path, data):
  path = tmp_path / 'hostile.zip'
  path.write_bytes(data)
  refused = []
  members = list(archives.iter_members(path, refused=lambda name, why: refused.append(why)))
  return members, refused


def test_a_zip_member_is_not_decompressed_beyond_its_claimed_size(tmp_path):
  """zipfile decompresses up to a gigabyte at once and cuts it down to the claimed size then."""
  data = _in_directory(_zip([('bomb', bytes(200 << 20))]), 24, '<I', 10)
  tracemalloc.start()
  try:
    with pytest.raises(UserError, match='hostile.zip'):
      _read_zip(tmp_path, data)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
  finally:
    tracemalloc.stop()


def test_a_zip_member_that_claims_a_gigabyte_gets_no_memory(tmp_path):
  data = _in_directory(_zip([('claim', b'1')]), 20, '<I', 1 << 30)
  data = _in_directory(data, 24, '<I', 64 << 20)
  tracemalloc.start()
  try:
    with pytest.raises(UserError, match='hostile.zip'):
      _read_zip(tmp_path, data)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
  finally:
    tracemalloc.stop()


def test_zip_compressions_without_a_limit_are_refused(tmp_path):
  """bz2 and lzma members are decompressed a whole chunk at a time, up to 100,000 fold."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w') as archive:
    archive.writestr('bomb', bytes(1000), zipfile.ZIP_BZIP2)
    archive.writestr('good', b'good')
  members, refused = _read_zip(tmp_path, file.getvalue())
  assert members == [('good', b'good')] and refused == ['it is neither stored nor deflated']


DAMAGED_ZIPS = {
  'offset before the file': (42, '<i', -5), 'name is no UTF-8': (8, '<H', 0x800),
  'patched data': (8, '<H', 0x20), 'strong encryption': (8, '<H', 0x40),
}


@pytest.mark.parametrize('case', DAMAGED_ZIPS)
def test_damaged_zip_directories_are_a_user_error(tmp_path, case):
  data = _in_directory(_zip([('\xff', b'1')]), *DAMAGED_ZIPS[case])
  data = data.replace('\xff'.encode(), b'\xff\xff')
  with pytest.raises(UserError, match='hostile.zip is truncated or damaged'):
    _read_zip(tmp_path, data)


def test_an_encrypted_member_of_the_annotations_is_a_user_error(tmp_path):
  path = tmp_path / 'annotations.zip'
  path.write_bytes(_in_directory(_zip([('x.json', b'{}')]), 8, '<H', 1))
  with pytest.raises(UserError, match='annotations.zip .*encrypted'):
    with archives.open_zip_member(path, 'x.json'):
      pass


def test_flags_of_a_box_are_0_or_1():
  """2 ** 40 is a whole number, but no int32: TFDS stopped the build with a traceback."""
  for flag, ok in (('0', True), ('1', True), ('1099511627776', False), ('-3', False)):
    xml = (f'<annotation><object><name>n</name><truncated>{flag}</truncated><bndbox><xmin>1</xmin>'
           '<ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object></annotation>').encode()
    if ok:
      assert imagenet.parse_xml(xml).boxes[0].truncated == int(flag)
    else:
      with pytest.raises(BadRecord, match=f'<truncated> is {flag!r}, neither 0 nor 1'):
        imagenet.parse_xml(xml)


@pytest.mark.parametrize('x', [1e308, -1e308, 10**30, 1001, -1001.5])
@pytest.mark.parametrize('place', ['trace', 'action'])
def test_absurd_coordinates_of_coco_are_corrupt(tmp_path, x, place):
  """1e308 is finite as a double, but Infinity as the float32 that is stored."""
  point = {'x': x, 'y': 0.5}
  fields = {'mouseTracking': [{**point, 'timeAt': 1}]} if place == 'trace' else {
    'actionHistories': [
      {'actionType': 'add', 'iconType': 'cup', 'pointTo': point, 'timeAt': 1},
      {'actionType': 'move', 'iconType': 'cup', 'pointTo': {'x': -x, 'y': 0}, 'timeAt': 2}]}
  path = tmp_path / coco.FILE_NAME
  path.write_text(json.dumps([{'image_id': 1, **fields}, {'image_id': 2}]))
  bad, good = coco.read_records(path)
  assert bad.reason == 'a coordinate is not finite or absurdly large' and bad.image_id == 1
  assert good.image_id == 2


def _instances(tmp_path, **changes):
  path = tmp_path / 'annotations_trainval2014.zip'
  annotation = {'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [1, 1, 5, 5], 'area': 25,
                'iscrowd': 0, **changes}
  path.write_bytes(_zip([('i.json', json.dumps({
    'images': [{'file_name': 'a.jpg', 'id': 1, 'width': 12, 'height': 8}],
    'annotations': [annotation], 'categories': [{'id': 1, 'name': 'cup'}]}))]))
  return path


@pytest.mark.parametrize('changes', [
  {'area': 1e300}, {'area': -1e300}, {'area': -1}, {'bbox': [1, 1, 1e300, 1]}, {'bbox': '1234'},
  {'bbox': {'1': 0, '2': 0, '3': 0, '4': 0}}, {'bbox': [[[[1]]]] * 4},
], ids=str)
def test_absurd_instances_stop_the_build_in_one_line(tmp_path, changes):
  with contextlib.closing(Join(tmp_path)) as join:
    with pytest.raises(UserError, match="an entry in 'annotations' that is not as in COCO"):
      join.add_instances(_instances(tmp_path, **changes), 'i.json')


def test_records_come_back_from_the_join_as_they_were(tmp_path):
  """They wait in its file as JSON: nothing is ever pickled."""
  path = tmp_path / coco.FILE_NAME
  points = [{'x': 0.1, 'y': -1 / 3, 'timeAt': 5}, {'x': 1e-300, 'y': 2, 'timeAt': 2**62}]
  path.write_text(json.dumps([
    {'image_id': 2**60, 'mouseTracking': points, 'hit_id': 'h\0é😀', 'page_id': 7,
     'actionHistories': [
       {'actionType': 'add', 'iconType': 'a"b', 'pointTo': {'x': 0.3, 'y': 0.7}, 'timeAt': 1},
       {'actionType': 'remove', 'iconType': 'a"b', 'pointFrom': {'x': 0.3, 'y': 0.7},
        'timeAt': 2}],
     'categoryHistories': [
       {'categoryIndex': 3, 'categoryName': 'Food', 'timeAt': 9, 'usingKeyboard': True}]},
    {'image_id': 5}]))
  records = list(coco.read_records(path))
  with contextlib.closing(Join(tmp_path)) as join:
    assert not list(join.add_records(records))
    for record in records:
      np.testing.assert_equal(join.take_record(record.image_id), record, strict=True)
      back = join.take_record(record.image_id)
      for ours, theirs in zip([*back, *back.actions, *back.categories],
                              [*record, *record.actions, *record.categories], strict=True):
        assert type(ours) is type(theirs)
        if isinstance(ours, np.ndarray):
          assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)


@pytest.mark.parametrize('shape', ['(100000, 10000)', '(8, 10000000000)', '(-8, -12)', '(8, 13)'])
def test_a_mask_gets_no_memory_for_the_size_it_claims(shape):
  data = small_release.npy(np.zeros((8, 12), bool)).replace(b'(8, 12), }', f'{shape}, }}'.encode())
  length = len(data) - 10 - 96
  data = data[:8] + struct.pack('<H', length) + data[10:]
  tracemalloc.start()
  try:
    with pytest.raises(release.BadMask):
      release.read_mask(data, (8, 12))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
  finally:
    tracemalloc.stop()


def test_masks_of_fortran_order_and_all_number_types():
  mask = np.arange(96).reshape(8, 12) % 5 == 0
  for kind in ('?', 'u1', '<i8', '>i4', '<f2', '<f8', '>f4'):
    for order in 'CF':
      data = small_release.npy(np.array(mask, kind, order=order))
      np.testing.assert_array_equal(release.read_mask(data, (8, 12)), mask)
      with pytest.raises(release.BadMask):
        release.read_mask(data[:-1], (8, 12))


def test_instances_of_images_that_are_not_there_are_counted(tmp_path):
  with contextlib.closing(Join(tmp_path)) as join:
    join.add_instances(_instances(tmp_path), 'i.json')
    assert join.unused() == (1, 0, 1)
    assert join.take_image(1) and join.unused() == (0, 0, 0)
  with contextlib.closing(Join(tmp_path)) as join:
    join.add_instances(_instances(tmp_path, image_id=99), 'i.json')
    assert join.take_image(1) and join.unused() == (0, 0, 1)


@pytest.mark.parametrize('text', [
  '{}', '{"images": 5}', '{"images": [], "annotations": [], "categories": []}', '{["a"]: [1]}',
  '{"images": [{"file_name": "a", "id": 1, "width": 1, "height": 1}], "annotations": {}}'])
def test_an_instances_file_without_instances_is_refused(tmp_path, text):
  """It was taken for one whose images show nothing: a data set without labels."""
  path = tmp_path / 'annotations_trainval2014.zip'
  path.write_bytes(_zip([('i.json', text)]))
  with contextlib.closing(Join(tmp_path)) as join:
    with pytest.raises(UserError, match="has nothing in '|is not the JSON it should be"):
      join.add_instances(path, 'i.json')


@pytest.fixture
def built(synthetic_imagenet_ab, tmp_path):
  """A copy of a built data set: (data_dir, the folder of its version)."""
  shutil.copytree(synthetic_imagenet_ab, tmp_path / 'data')
  return tmp_path / 'data', tmp_path / 'data' / 'imagenet_ab' / 'local' / '1.0.0'


TENSOR = '"tensorflow_datasets.core.features.tensor_feature.Tensor"'


@pytest.mark.parametrize('change', [
  lambda text: text.replace(TENSOR, '"payload.Feature"', 1),
  lambda text: text.replace(f'"pythonClassName": {TENSOR}',
                            '"python_class_name": "payload.Feature"', 1),
  lambda text: '{"type": "payload.Feature", "content": {}}',
  lambda text: '{"pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",'
               ' "jsonFeature": {"json": "{\\"a\\": {\\"type\\": \\"payload.Feature\\"}}"}}',
], ids=['proto', 'snake case', 'legacy', 'json feature'])
def test_a_data_set_cannot_have_a_module_imported(built, monkeypatch, change):
  """TFDS imports the modules that features.json names: code of whoever built the data set."""
  data_dir, folder = built
  (data_dir / 'payload.py').write_text('raise SystemExit("executed")')
  monkeypatch.syspath_prepend(data_dir)
  path = folder / 'features.json'
  path.write_text(change(path.read_text()))
  with pytest.raises(UserError, match='names a class that is none of TFDS'):
    records.open_builder('imagenet_ab/local', data_dir)


@pytest.mark.parametrize('name', ['features.json', 'dataset_info.json'])
@pytest.mark.parametrize('text', ['', '{', '[]', '{}', '{"name": 5}', '[' * 100_000, '\xff'])
def test_damaged_metadata_are_a_user_error(built, name, text):
  data_dir, folder = built
  (folder / name).write_text(text, encoding='latin-1')
  with pytest.raises(UserError, match='1.0.0'):
    records.open_builder('imagenet_ab/local', data_dir)
