"""Hostile tars and zips: every bug found by tests.stress.fuzz or by review."""

import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile

import pytest

from luab_jax.byproducts.archives import reader
from luab_jax.errors import UserError

GOOD = ('cat/good.xml', b'good')


def _header(name, kind=tarfile.REGTYPE, size=0, **fields):
  """A tar header that may claim anything, with a valid checksum."""
  info = tarfile.TarInfo(name)
  info.type, info.size = kind, size
  for field, value in fields.items():
    setattr(info, field, value)
  return info.tobuf(tarfile.GNU_FORMAT)


def _member(name, data=b'', kind=tarfile.REGTYPE, **fields):
  return _header(name, kind, len(data), **fields) + data + bytes(-len(data) % 512)


def _pax(*records):
  """A pax header of b'key=value' records with correct lengths."""
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
  """(members, refused names) of iter_members; class_names has to cope with the file as well."""
  path = tmp_path / 'hostile.tar'
  path.write_bytes(gzip.compress(data, 1) if compressed else data)
  refused = []
  members = list(reader.iter_members(path, refused=lambda name, _: refused.append(name)))
  reader.class_names(path)
  return members, refused


EXTENSIONS = {
  'pax': tarfile.XHDTYPE,
  'global pax': tarfile.XGLTYPE,
  'long name': tarfile.GNUTYPE_LONGNAME,
  'long link': tarfile.GNUTYPE_LONGLINK,
}


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
def test_a_long_chain_of_extension_headers_is_a_user_error(tmp_path, kind):
  """tarfile would recurse once per header."""
  part = _member('x', b'9 path=a\n' if 'pax' in kind else b'a\0', EXTENSIONS[kind])
  with pytest.raises(UserError, match='hostile.tar is truncated or damaged'):
    _read_tar(tmp_path, _tar(part * 5000))


def test_a_damaged_pax_header_never_ends_a_tar_silently(tmp_path):
  """tarfile silently stops reading at a record that claims a length of 0."""
  with pytest.raises(UserError, match='hostile.tar is truncated or damaged'):
    _read_tar(tmp_path, _member('first') + _tar(_member('x', b'0 path=a\n', tarfile.XHDTYPE)))


SPARSE = {
  'old': _header('s', tarfile.GNUTYPE_SPARSE),
  'map is no number': _pax(b'GNU.sparse.map=abc') + _member('s', b'1'),
  'version 1.0 without a map': _pax(b'GNU.sparse.major=1', b'GNU.sparse.minor=0') + _member('s'),
  'version 1.0 that never ends': _pax(b'GNU.sparse.major=1', b'GNU.sparse.minor=0')
  + _member('s', b'99999999\n' + b'1' * 600),
  'size is no number': _pax(b'GNU.sparse.size=x') + _member('s'),
}


@pytest.mark.parametrize('case', SPARSE)
def test_sparse_files_are_refused_or_damage(tmp_path, case):
  try:
    assert _read_tar(tmp_path, _tar(SPARSE[case])) == ([GOOD], ['s'])
  except UserError as error:
    assert 'hostile.tar is truncated or damaged' in str(error) and case != 'old'


def test_a_sparse_file_whose_map_is_cut_off(tmp_path):
  header = bytearray(_header('s', tarfile.GNUTYPE_SPARSE))
  header[482] = 1  # the map goes on in the next block
  header[148:156] = b' ' * 8
  header[148:156] = b'%06o\0 ' % sum(header)
  with pytest.raises(UserError, match='hostile.tar'):
    _read_tar(tmp_path, bytes(header))


@pytest.mark.parametrize('size', [-1, -512, -(1 << 40)])
@pytest.mark.parametrize('kind', [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.SYMTYPE, b'Z'])
@pytest.mark.parametrize('compressed', [False, True])
def test_a_negative_size_is_damage(tmp_path, size, kind, compressed):
  with pytest.raises(UserError, match='hostile.tar'):
    _read_tar(tmp_path, _tar(_member('first', b'1'), _header('x', kind, size)), compressed)


@pytest.mark.parametrize('name', ['a\nb/1.jpg', 'a/1\x1b[2J.jpg', 'a/1\u2028.jpg', 'a/1\x85.jpg'])
def test_names_with_control_characters_are_refused(tmp_path, name):
  """They would forge lines in the log, and classes in TFDS's labels.txt."""
  members, refused = _read_tar(tmp_path, _tar(_member(name)))
  assert members == [GOOD] and refused == [repr(name)[1:-1]]
  assert reader.class_names(tmp_path / 'hostile.tar') == {'cat'}


def test_class_names_that_tfds_would_change_are_refused(tmp_path):
  """TFDS strips class names when it loads them, so 'cat' and 'cat ' would become one class."""
  path = tmp_path / 'images.tar'
  path.write_bytes(_tar(_member('cat /1.jpg'), _member('\u3000/1.jpg')))
  refused = []
  members = reader.iter_class_members(path, refused=lambda name, _: refused.append(name))
  assert list(members) == [('cat', 'good.xml', b'good')]
  assert refused == ['cat /1.jpg', '\\u3000/1.jpg']
  for name in ('cat', 'cat ', 'a\nb'):
    (tmp_path / 'folder' / name).mkdir(parents=True)
  assert reader.class_names(path) == reader.class_names(tmp_path / 'folder') == {'cat'}


def test_refused_names_are_short_lines(tmp_path):
  """A name may be up to 1 MiB long."""
  _, (refused,) = _read_tar(tmp_path, _tar(_pax(b'path=../' + b'a\n\x1b' * 50_000), _member('x')))
  assert len(refused) == 200 and refused.isprintable()


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
  members = list(reader.iter_members(path, refused=lambda name, why: refused.append(why)))
  return members, refused


def test_a_zip_member_is_not_decompressed_beyond_its_claimed_size(tmp_path):
  """zipfile alone decompresses up to a gigabyte at once, then truncates it."""
  data = _in_directory(_zip([('bomb', bytes(50 << 20))]), 24, '<I', 10)
  tracemalloc.start()
  try:
    with pytest.raises(UserError, match='hostile.zip'):
      _read_zip(tmp_path, data)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
  finally:
    tracemalloc.stop()


def test_a_zip_member_that_claims_a_gigabyte_gets_the_memory_of_one(tmp_path):
  data = _in_directory(_zip([('claim', b'1')]), 20, '<I', 1 << 30)
  data = _in_directory(data, 24, '<I', 64 << 20)
  tracemalloc.start()
  try:
    with pytest.raises(UserError, match='hostile.zip'):
      _read_zip(tmp_path, data)
    assert tracemalloc.get_traced_memory()[1] < reader.MAX_MEMBER_BYTES + (1 << 20)
  finally:
    tracemalloc.stop()


def test_zip_compressions_without_a_limit_are_refused(tmp_path):
  """zipfile decompresses bz2 and lzma a whole chunk at a time, up to 100,000 times its size."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w') as archive:
    archive.writestr('bomb', bytes(1000), zipfile.ZIP_BZIP2)
    archive.writestr('good', b'good')
  members, refused = _read_zip(tmp_path, file.getvalue())
  assert members == [('good', b'good')] and refused == ['it is neither stored nor deflated']


DAMAGED_ZIPS = {
  'offset before the file': (42, '<i', -5),
  'name is no UTF-8': (8, '<H', 0x800),
  'patched data': (8, '<H', 0x20),
  'strong encryption': (8, '<H', 0x40),
}


@pytest.mark.parametrize('case', DAMAGED_ZIPS)
def test_damaged_zip_directories_are_a_user_error(tmp_path, case):
  data = _in_directory(_zip([('\xff', b'1')]), *DAMAGED_ZIPS[case])
  data = data.replace('\xff'.encode(), b'\xff\xff')
  with pytest.raises(UserError, match='hostile.zip is truncated or damaged'):
    _read_zip(tmp_path, data)


def test_a_zip_member_without_a_name_is_refused(tmp_path):
  """zipfile's is_dir() indexes the last character of the name."""
  data = _zip([('a', b'1'), ('good', b'good')])
  start = data.index(b'PK\1\2')
  struct.pack_into('<HH', data, start + 28, 0, 1)  # no name, and one byte of extra field
  members, refused = _read_zip(tmp_path, data)
  assert members == [('good', b'good')] and refused == ['it has no name']


def test_a_damaged_zip_does_not_fill_the_log(tmp_path):
  """zipfile quotes the name in the local header, up to 64 KiB of it."""
  data = _zip([('a' * 60_000, b'1')])
  data[30] = ord('b')
  with pytest.raises(UserError) as error:
    _read_zip(tmp_path, data)
  assert len(str(error.value)) < 500 and '\n' not in str(error.value)


def test_an_encrypted_member_of_the_annotations_is_a_user_error(tmp_path):
  path = tmp_path / 'annotations.zip'
  path.write_bytes(_in_directory(_zip([('x.json', b'{}')]), 8, '<H', 1))
  member = reader.open_zip_member(path, 'x.json')
  with pytest.raises(UserError, match='annotations.zip .*encrypted'), member:
    pass
