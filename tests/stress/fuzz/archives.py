"""Tar and zip archives for tests.stress.fuzz; see records.py for what a check is."""

import collections
import contextlib
import json
import tarfile
import zipfile

from luab_jax.byproducts.archives import member_names, reader
from luab_jax.errors import UserError
from tests.stress.fuzz.inputs import gzip_of, mutate, pick, tar_of, zip_of
from tests.stress.fuzz.outcome import Outcome, refusal

_LIMIT = 5000  # bytes of a member
_GOOD, _REFUSED, _PASSED, _DAMAGE = 'good', 'refused', 'passed over', 'damage'
_NAMES = [
  *((name, _GOOD) for name in ('a/1.jpg', 'a/1.jpg', 'b/é.xml', './c/d.xml', 'a//b')),
  *((name, _GOOD) for name in ('n' * 90 + '/' + 'm' * 90, 'x' * 300 + '/y')),
  *((name, _REFUSED) for name in ('/etc/passwd', '../up', 'a/../../up', 'a\\..\\b', 'C:/b')),
  *((name, _REFUSED) for name in ('a/\nb', '.', 'a/\udcff')),
  *((name, _PASSED) for name in ('a/._1.jpg', 'a/.DS_Store')),
]
_TYPES = [
  *[(tarfile.REGTYPE, '')] * 3,
  (tarfile.AREGTYPE, ''),
  *((kind, _REFUSED) for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE)),
  *((kind, _REFUSED) for kind in (tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE)),
  (b'Z', _REFUSED),
  (tarfile.DIRTYPE, _PASSED),
]
_CLAIMS = [-1, -512, 1 << 24, 10 << 30, 1 << 40, 1 << 62, (1 << 88) - 1]
_EXTENSIONS = [
  (tarfile.XHDTYPE, b'12 path=a/b\n', _GOOD),
  (tarfile.XHDTYPE, b'12 path=../\n', _REFUSED),
  (tarfile.XHDTYPE, b'0 path=a/b\n', _DAMAGE),
  (tarfile.XHDTYPE, b'30 GNU.sparse.map=0,1,2,3,4,5\n', _REFUSED),
  (tarfile.XHDTYPE, b'12 size=-12\n', _DAMAGE),
  (tarfile.XGLTYPE, b'16 comment=none\n', _GOOD),
  (tarfile.GNUTYPE_LONGNAME, b'a/long\0', _GOOD),
  (tarfile.GNUTYPE_LONGLINK, b'/etc/passwd\0', _GOOD),
  (tarfile.GNUTYPE_LONGNAME, b'../up\0', _REFUSED),
]


def _header(name, kind, size):
  info = tarfile.TarInfo(name)
  info.type, info.size, info.linkname = kind, size, '/etc/passwd'
  return info.tobuf(tarfile.GNU_FORMAT, 'utf-8', 'surrogateescape')


def _tar_part(rng):
  """Returns (bytes of a member, the outcome that it must have)."""
  draw = rng.random()
  data = bytes(rng.integers(0, 256, rng.choice([0, 1, 511, 512, 513, 2000]), dtype='u1'))
  padded = data + bytes(-len(data) % 512)
  if draw < 0.1:
    return _header(
      'claim', pick(rng, [b'0', b'x', b'L', b'K', b'g', b'Z']), pick(rng, _CLAIMS)
    ), _DAMAGE
  if draw < 0.25:
    kind, extension, verdict = pick(rng, _EXTENSIONS)
    count = int(rng.choice([1, 1, 1, 400]))
    head = _header('x', kind, len(extension)) + extension + bytes(-len(extension) % 512)
    member = head * count + _header('ok', tarfile.REGTYPE, len(data)) + padded
    return member, _DAMAGE if count > 1 else verdict  # tarfile recurses over a chain
  name, verdict = pick(rng, _NAMES)
  kind, other = pick(rng, _TYPES)
  if draw < 0.3:
    large = bytes(_LIMIT + 1)
    return _header('large', b'0', len(large)) + large + bytes(-len(large) % 512), _REFUSED
  if verdict is _PASSED or other is _PASSED:
    verdict = _PASSED
  elif other:
    verdict = _REFUSED
  has_data = kind not in (b'1', b'2', b'3', b'4', b'5', b'6')
  return _header(name, kind, len(data) if has_data else 0) + (padded if has_data else b''), verdict


def make_tar(rng, corpus):
  """A tar of members with known outcomes, such a tar with changed bytes, or a tar of class tars."""
  parts = [_tar_part(rng) for _ in range(rng.integers(1, 7))]
  whole = b''.join(data for data, _ in parts) + bytes(1024)
  verdicts = [verdict for _, verdict in parts]
  if rng.random() < 0.5:
    whole, verdicts = mutate(rng, whole, [whole, *corpus.xmls]), None
  if rng.random() < 0.2:
    whole = tar_of([('first/1.jpg', b'1'), ('cat.tar', whole), ('dog.tar', tar_of([('2', b'')]))])
    verdicts = None
    if rng.random() < 0.5:
      whole = mutate(rng, whole, [whole])
  if rng.random() < 0.3:
    whole = gzip_of(whole)
    if rng.random() < 0.3:
      whole, verdicts = mutate(rng, whole, [whole]), None
  return {'hostile.tar': whole, 'verdicts': json.dumps(verdicts).encode()}


def check_tar(files, folder):
  """Runs the readers of tars; counts members by construction or with tarfile."""
  path = folder / 'hostile.tar'
  path.write_bytes(files['hostile.tar'])
  verdicts = json.loads(files['verdicts'])
  flat = _read(reader.iter_members, path)
  for read in (reader.iter_class_members, lambda path, **_: reader.class_names(path)):
    nested = _read(read, path)
    # Class tars inside may be damaged, too; damage to the outer tar must stop both readers.
    assert not flat.refused or nested.refused or read is not reader.iter_class_members
  if verdicts is not None:
    damaged = _DAMAGE in verdicts
    assert damaged == bool(flat.refused), f'{verdicts} gave {flat}'
    if not damaged:
      counts = collections.Counter(verdicts)
      assert counts[_GOOD] == flat.records_out, f'{verdicts} gave {flat}'
      assert counts[_REFUSED] == flat.skipped.total(), f'{verdicts} gave {flat}'
      flat.records_in = counts[_GOOD] + counts[_REFUSED]
  elif not flat.refused:
    flat.records_in = _count_members(path, flat)
  return flat


def _read(read, path):
  outcome = Outcome()
  try:
    for *_, data in read(path, max_bytes=_LIMIT, refused=lambda _, why: outcome.skip(why)):
      assert isinstance(data, (bytes, str)) and len(data) <= _LIMIT
      outcome.records_out += 1
  except UserError as error:
    return refusal(error)
  outcome.records_in = outcome.records_out + outcome.skipped.total()
  return outcome


def _count_members(path, outcome):
  """Returns the number of members that tarfile sees, or our own where it cannot be trusted."""
  data = path.read_bytes()
  if b'GNU.sparse' in data or b'size=' in data or data[:2] == b'\x1f\x8b':
    return outcome.records_in
  with contextlib.suppress(RecursionError), tarfile.open(path, 'r:') as tar:
    return sum(not (member.isdir() or member_names.is_companion(member.name)) for member in tar)
  return outcome.records_in


def make_zip(rng, corpus):
  """A zip of members with known outcomes, or such a zip with changed bytes."""
  members, verdicts = [], []
  for _ in range(rng.integers(1, 6)):
    name, verdict = pick(rng, [entry for entry in _NAMES if '\udcff' not in entry[0]])
    info = zipfile.ZipInfo(name)
    if rng.random() < 0.2:
      mode, kept = pick(
        rng, [(0o120777, False), (0o020666, False), (0o010666, False), (0o100644, True)]
      )
      info.external_attr = mode << 16
      verdict = verdict if kept or verdict is _PASSED else _REFUSED
    if rng.random() < 0.1:
      info.compress_type = zipfile.ZIP_BZIP2
      verdict = verdict if verdict is _PASSED else _REFUSED
    data = pick(rng, [b'', b'a', corpus.xmls[0][:_LIMIT], bytes(_LIMIT), bytes(_LIMIT + 1)])
    if len(data) > _LIMIT and verdict is _GOOD:
      verdict = _REFUSED
    members.append((info, data))
    verdicts.append(verdict)
  whole = zip_of(members)
  if rng.random() < 0.7:
    tail = max(0, len(whole) - 400)  # where the central directory is
    if rng.random() < 0.5:
      whole = whole[:tail] + mutate(rng, whole[tail:], [whole])
    else:
      whole = mutate(rng, whole, [whole])
    verdicts = None
  return {'hostile.zip': whole, 'verdicts': json.dumps(verdicts).encode()}


def check_zip(files, folder):
  """Runs the reader of zips; counts members by construction or with zipfile."""
  path = folder / 'hostile.zip'
  path.write_bytes(files['hostile.zip'])
  outcome = _read(reader.iter_members, path)
  with contextlib.suppress(UserError), reader.open_zip_member(path, 'a/1.jpg') as file:
    assert len(file.read(_LIMIT)) <= _LIMIT
  verdicts = json.loads(files['verdicts'])
  if verdicts is not None:
    counts = collections.Counter(verdicts)
    assert not outcome.refused and counts[_GOOD] == outcome.records_out, f'{verdicts}: {outcome}'
    outcome.records_in = counts[_GOOD] + counts[_REFUSED]
  elif not outcome.refused and path.read_bytes()[:2] == b'PK':
    with zipfile.ZipFile(path) as archive:
      outcome.records_in = sum(
        not (
          member.filename.endswith('/')
          or member_names.is_companion(member.filename)
          or member.filename.startswith('__MACOSX/')
        )
        for member in archive.infolist()
      )
  return outcome
