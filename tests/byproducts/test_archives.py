"""Archives: which members are read and which refused, and that damage is always noticed."""

import gzip
import hashlib
import io
import os
import tarfile
import zipfile

import pytest

from luab_jax.byproducts.archives import reader
from luab_jax.errors import UserError
from tests.byproducts.archive_files import KEPT, MEMBERS, PACKS, make_tar, make_zip, write


def _special(name, kind, target=''):
  info = tarfile.TarInfo(name)
  info.type, info.linkname = kind, target
  return info


@pytest.mark.parametrize('pack', PACKS.values(), ids=PACKS)
def test_members_are_complete_in_order_and_without_companions(tmp_path, pack):
  path = write(tmp_path / 'archive', pack(MEMBERS))
  read = []
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  assert list(reader.iter_members(path, sha256=digest, progress=read.append)) == KEPT
  assert 0 < sum(read) <= path.stat().st_size
  if pack is not make_zip:
    assert sum(read) == path.stat().st_size


@pytest.mark.parametrize('tar_format', [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_longer_than_a_header_field_and_not_ascii(tmp_path, tar_format):
  names = ['n' * 300 + '/é.xml', 'second']
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w', format=tar_format) as tar:
    for name in names:
      tar.addfile(tarfile.TarInfo(name))
  path = write(tmp_path / 'long.tar', file.getvalue())
  assert [name for name, _ in reader.iter_members(path)] == names


HOSTILE = {
  'absolute': ('/etc/passwd', 'absolute'),
  'up': ('a/../../b', 'outside'),
  'up with backslashes': ('a\\..\\b', 'outside'),
  'drive': ('C:\\b', 'absolute'),
  'symlink': (_special('a/link', tarfile.SYMTYPE, '/etc/passwd'), 'link'),
  'hard link': (_special('a/hard', tarfile.LNKTYPE, 'a/1.xml'), 'link'),
  'device': (_special('a/null', tarfile.CHRTYPE), 'device'),
  'pipe': (_special('a/pipe', tarfile.FIFOTYPE), 'pipe'),
  'large': ('a/large', 'more than 100'),
}


@pytest.mark.parametrize('case', HOSTILE)
def test_hostile_tar_members_are_refused_and_the_rest_is_read(tmp_path, case):
  member, reason = HOSTILE[case]
  size = 101 if case == 'large' else 0
  path = write(tmp_path / 'hostile.tar', make_tar([(member, b'x' * size), ('good', b'good')]))
  refused = []
  members = reader.iter_members(
    path, max_bytes=100, refused=lambda name, why: refused.append((name, why))
  )
  assert list(members) == [('good', b'good')]
  assert len(refused) == 1 and reason in refused[0][1]
  with pytest.raises(UserError, match=f'hostile.tar: member .* is refused: .*{reason}'):
    list(reader.iter_members(path, max_bytes=100))


@pytest.mark.parametrize(('name', 'mode'), [('../b', 0), ('/b', 0), ('link', 0o120777)])
def test_hostile_zip_members_are_refused(tmp_path, name, mode):
  info = zipfile.ZipInfo(name)
  info.external_attr = mode << 16
  path = write(tmp_path / 'hostile.zip', make_zip([(info, b'/etc/passwd'), ('good', b'good')]))
  refused = []
  members = reader.iter_members(path, refused=lambda name, why: refused.append(name))
  assert list(members) == [('good', b'good')]
  assert refused == [name]


def test_class_tars_and_class_folders_give_the_same(tmp_path):
  images = {'cat': [('1.jpg', b'c1'), ('2.jpg', b'c2')], 'dog': [('1.jpg', b'd1')]}
  nested = [(f'{name}.tar', make_tar(members)) for name, members in images.items()]
  flat = [(f'./{name}/{file}', data) for name, files in images.items() for file, data in files]
  for name, files in images.items():
    (tmp_path / 'folder' / name).mkdir(parents=True)
    for file, data in files:
      (tmp_path / 'folder' / name / file).write_bytes(data)
  (tmp_path / 'folder' / '.hidden').mkdir()
  expected = [('cat', '1.jpg', b'c1'), ('cat', '2.jpg', b'c2'), ('dog', '1.jpg', b'd1')]
  for path in (
    write(tmp_path / 'nested.tar', make_tar(nested)),
    write(tmp_path / 'flat.tar', make_tar(flat)),
    tmp_path / 'folder',
  ):
    assert list(reader.iter_class_members(path)) == expected
    assert reader.class_names(path) == {'cat', 'dog'}


def test_parts_together_hold_all_members(tmp_path):
  cat = make_tar([('1.jpg', b'1' * 700), ('../2.jpg', b''), ('owl/3.jpg', b'3')])
  path = tmp_path / 'a.tar'
  path.write_bytes(
    make_tar(
      [
        ('cat.tar', cat),
        ('._cat.tar', b'x'),
        ('sub/dog.tar', make_tar([('1', b'd')])),
        ('cat.tar', make_tar([('4.jpg', b'4')])),
      ]
    )
  )
  for name in ('cat/1.jpg', 'dog/2.jpg', '.git/3.jpg'):
    (tmp_path / 'folder' / name).parent.mkdir(parents=True)
    (tmp_path / 'folder' / name).write_bytes(name.encode())
  for source, count, refusals in ((path, 3, 1), (tmp_path / 'folder', 2, 0)):
    in_one_go, in_parts = ([], []), ([], [])
    assert reader.count_class_parts(source) == count
    for (members, refused), parts in ((in_one_go, [None]), (in_parts, range(count))):
      for part in parts:
        members.extend(
          reader.iter_class_members(
            source, part=part, refused=lambda *what, log=refused: log.append(what)
          )
        )
    assert in_one_go == in_parts
    assert len(in_one_go[1]) == refusals and len(in_one_go[0]) > 1


@pytest.mark.parametrize('odd', ['cat/1.jpg', '1.jpg', '../cat.tar', 'link'])
def test_a_tar_of_anything_but_class_tars_has_no_parts(tmp_path, odd):
  member = _special('owl.tar', tarfile.SYMTYPE, 'cat.tar') if odd == 'link' else odd
  path = tmp_path / 'a.tar'
  path.write_bytes(make_tar([('cat.tar', make_tar([('1.jpg', b'1')])), (member, b'')]))
  assert reader.count_class_parts(path) == 0
  path.write_bytes(gzip.compress(make_tar([('cat.tar', make_tar([('1.jpg', b'1')]))])))
  assert reader.count_class_parts(path) == 0
  path.write_bytes(make_tar([('cat.tar', make_tar([('1.jpg', b'1' * 700)]))])[:1200])
  with pytest.raises(UserError, match='a.tar is truncated'):
    reader.count_class_parts(path)


def test_hostile_members_within_a_class_tar_are_refused_too(tmp_path):
  inner = make_tar([(_special('link', tarfile.SYMTYPE, '/etc/passwd'), b''), ('1.jpg', b'1')])
  path = write(tmp_path / 'train.tar', make_tar([('cat.tar', inner), ('loose.jpg', b'')]))
  refused = []
  members = reader.iter_class_members(path, refused=lambda name, why: refused.append(name))
  assert list(members) == [('cat', '1.jpg', b'1')]
  assert refused == ['cat/link', 'loose.jpg']


def test_folders_refuse_pipes_and_nested_folders(tmp_path):
  (tmp_path / 'cat' / 'deeper').mkdir(parents=True)
  os.mkfifo(tmp_path / 'cat' / 'pipe')
  (tmp_path / 'readme.txt').write_text('loose')
  (tmp_path / 'cat' / '1.jpg').write_bytes(b'1')
  refused = []
  members = reader.iter_class_members(tmp_path, refused=lambda name, why: refused.append(name))
  assert list(members) == [('cat', '1.jpg', b'1')]
  assert refused == ['cat/deeper', 'cat/pipe', 'readme.txt']


def test_a_missing_file_says_where_to_get_it(tmp_path):
  with pytest.raises(
    UserError,
    match=r'absent.tar is missing: get absent.tar from example.org '
    rf'and put it into {tmp_path}',
  ):
    list(reader.iter_members(tmp_path / 'absent.tar', source='example.org'))


@pytest.mark.parametrize('pack', PACKS.values(), ids=PACKS)
def test_a_wrong_sha256_is_reported_with_a_remedy(tmp_path, pack):
  path = write(tmp_path / 'archive', pack(MEMBERS))
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  with pytest.raises(
    UserError, match=f'archive has sha256 {digest}, expected {"0" * 64}: .* again from example.org'
  ):
    list(reader.iter_members(path, sha256='0' * 64, source='example.org'))


def test_the_sha256_covers_bytes_after_the_last_member(tmp_path):
  data = make_tar(MEMBERS)
  path = write(tmp_path / 'a.tar', data + b'appended')
  with pytest.raises(UserError, match='has sha256'):
    list(reader.iter_members(path, sha256=hashlib.sha256(data).hexdigest()))


def test_a_zip_member_is_streamed_and_a_missing_one_named(tmp_path):
  path = write(tmp_path / 'a.zip', make_zip([('x.json', b'[1, 2]')]))
  with reader.open_zip_member(path, 'x.json') as file:
    assert file.read(3) + file.read() == b'[1, 2]'
  missing = reader.open_zip_member(path, 'y.json')
  with pytest.raises(UserError, match='a.zip has no member y.json'), missing:
    pass


def test_open_verified_checks_the_digest_before_anything_is_read(tmp_path):
  path = write(tmp_path / 'file', b'abc' * 1000)
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  with reader.open_verified(path, sha256=digest) as file:
    assert file.read(4) == b'abca'
  with pytest.raises(UserError, match='has sha256'), reader.open_verified(path, sha256='ab'):
    pytest.fail('opened')


def test_members_are_not_kept_in_memory(tmp_path):
  """Unlike in tarfile, which keeps every header it has read."""
  import tracemalloc

  path = write(tmp_path / 'many.tar', make_tar([(f'{i}', b'') for i in range(6000)]))
  tracemalloc.start()
  count = sum(1 for _ in reader.iter_members(path))
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert count == 6000
  assert peak < 500_000  # all headers would take 4 MB
