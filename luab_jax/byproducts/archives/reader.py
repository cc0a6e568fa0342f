"""Reads the members of tar, tar.gz and zip archives and of class folders, one after the other.

Nothing is ever extracted to disk and at most one member is in memory. Hostile or damaged archives
are expected: absolute names, `..`, links, devices and oversized members are refused, a truncated
or damaged archive is a UserError, and a sha256 is checked in the same pass that reads the data.
Pure Python, no TensorFlow.
"""

import contextlib
import gzip
import io
import os
import pathlib
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

from luab_jax.byproducts.archives import member_names, zip_members
from luab_jax.byproducts.archives.forward_files import HashedFile, Part
from luab_jax.byproducts.archives.tar_headers import iter_headers, read_data
from luab_jax.errors import UserError

MIB = 1 << 20
MAX_MEMBER_BYTES = 64 * MIB  # the largest ILSVRC2012 image has 15 MiB
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError)

# Called with the name and the reason of every member that is refused; the name is fit for a log.
Refused = Callable[[str, str], None]
# Called with the number of bytes of the archive read since the last call.
Progress = Callable[[int], None]


class ClassPart(NamedTuple):
  """A class tar within a tar, or a class folder: it can be read without what lies before it."""

  folder: str  # of its members; the class is the last part of it
  offset: int = 0  # of a class tar's first byte in the tar
  size: int = 0  # bytes of the class tar


def require(path: str | os.PathLike, source: str) -> pathlib.Path:
  """Returns `path`; raises a UserError that says where to get it if it does not exist."""
  path = pathlib.Path(path)
  if not path.exists():
    raise UserError(
      f'{path} is missing: get {path.name} from {source} and put it into {path.parent.resolve()}'
    )
  return path


@contextlib.contextmanager
def open_verified(
  path: str | os.PathLike,
  *,
  sha256: str = '',
  source: str = 'its publisher',
  progress: Progress | None = None,
) -> Iterator[IO[bytes]]:
  """Opens a file for one forward read; on leaving the block, its sha256 must be the given one.

  What the block did not read is read then, so every byte counts and the file is read once.

  Args:
    path: the file.
    sha256: expected digest in hex; '' skips the check.
    source: where to get the file, for the message.
    progress: told of the bytes read.

  Yields:
    An object with `read(size)`.

  Raises:
    UserError: the file is missing or unreadable, or its digest is another one.
  """
  path = require(path, source)
  with _damage(path, source), open(path, 'rb') as file:
    reader = HashedFile(file, sha256, progress)
    yield reader  # type: ignore[misc]
    got = reader.drain()
  if got != sha256:
    raise UserError(
      f'{path} has sha256 {got}, expected {sha256}: it is incomplete or another '
      f'version; get it again from {source}'
    )


@contextlib.contextmanager
def _damage(path: pathlib.Path, source: str) -> Iterator[None]:
  """Turns what the readers of damaged archives raise into one UserError."""
  try:
    yield
  except _DAMAGED as error:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    raise UserError(
      f'{path} is truncated or damaged ({reason:.200}): get it again from {source}'
    ) from error


def iter_members(
  path: str | os.PathLike,
  *,
  sha256: str = '',
  source: str = 'its publisher',
  max_bytes: int = MAX_MEMBER_BYTES,
  refused: Refused | None = None,
  progress: Progress | None = None,
) -> Iterator[tuple[str, bytes]]:
  """Yields (name, bytes) of every regular member of a tar, tar.gz, zip or folder of class folders.

  Directories and macOS companions (`._*`, `.DS_Store`) are passed over. Archives are read in
  their own order, folders in sorted order (`<class>/<file>`, one level deep; links in a folder
  are the user's own and are followed, links in an archive are refused).

  Args:
    path: the archive or folder.
    sha256: expected digest of the archive in hex, checked once the last member was yielded ('':
      not checked). A tar is hashed while it is read, a zip before, since it is read out of order.
    source: where to get the archive, for error messages.
    max_bytes: a member with more bytes than this is refused.
    refused: called with (name, reason) of each refused member; without it the first one raises.
    progress: called with the number of bytes of the archive (folder: of the files) read.

  Raises:
    UserError: the archive is missing, truncated, damaged or has another sha256, or a member was
      refused and `refused` is None. The remedy is in the message.
  """
  path = require(path, source)
  refuse = _refusal(path, refused)
  if path.is_dir():
    members = _iter_folder(path, max_bytes, refuse, progress)
  elif _magic(path, source) == b'PK':
    members = _iter_zip(path, sha256, source, max_bytes, refuse, progress)
  else:
    members = _iter_tar_file(path, sha256, source, max_bytes, refuse, progress, nested=False)
  yield from members


def iter_class_members(
  path: str | os.PathLike,
  *,
  sha256: str = '',
  source: str = 'its publisher',
  max_bytes: int = MAX_MEMBER_BYTES,
  refused: Refused | None = None,
  progress: Progress | None = None,
  part: ClassPart | None = None,
) -> Iterator[tuple[str, str, bytes]]:
  """Yields (class, file name, bytes) of a tar of `<class>.tar` or a folder of class folders.

  The class tars are streamed too. A tar of class folders is taken as well. A member without a
  class is refused. Arguments and errors as `iter_members`; of a `part` (see `class_parts`) only
  what lies in it is read, without sha256 and progress.
  """
  path = require(path, source)
  refuse = _refusal(path, refused)
  if path.is_dir():
    members = _iter_folder(path, max_bytes, refuse, progress, part)
  elif part:
    members = _iter_part(path, source, max_bytes, refuse, part)
  else:
    members = _iter_tar_file(path, sha256, source, max_bytes, refuse, progress, nested=True)
  for name, data in members:
    folder, file_name = posixpath.split(name)
    label = posixpath.basename(folder)
    if reason := member_names.class_problem(label):
      refuse(name, reason)
    else:
      yield label, file_name, data


def class_names(path: str | os.PathLike, *, source: str = 'its publisher') -> set[str]:
  """Returns the classes of a tar of `<class>.tar` or a folder, without reading the images.

  Raises:
    UserError: it is missing, truncated or damaged.
  """
  path = require(path, source)
  if path.is_dir():
    names = {
      folder.name
      for folder in path.iterdir()
      if folder.is_dir() and not folder.name.startswith('.')
    }
    return {
      name
      for name in names
      if not member_names.checked(name)[1] and not member_names.class_problem(name)
    }
  compressed = _magic(path, source) == b'\x1f\x8b'
  classes = set()
  with _damage(path, source), (gzip.open if compressed else open)(path, 'rb') as file:
    for member in iter_headers(file):  # type: ignore[arg-type]
      name, reason = member_names.checked(member.name)
      if reason or not member.is_file or member_names.is_companion(name):
        continue
      folder = name[: -len('.tar')] if name.endswith('.tar') else posixpath.dirname(name)
      classes.add(posixpath.basename(folder))
  return {name for name in classes if not member_names.class_problem(name)}


def class_parts(path: str | os.PathLike, *, source: str = 'its publisher') -> list[ClassPart]:
  """Returns the parts of a tar of `<class>.tar` or a folder, in the order they are read.

  Only headers are read. An empty list: it holds anything else, and has to be read in one go.

  Raises:
    UserError: it is missing, truncated or damaged.
  """
  path = require(path, source)
  if path.is_dir():
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith('.'))
    whole = not all(entry.is_dir() for entry in entries)
    return [] if whole else [ClassPart(entry.name) for entry in entries]
  if _magic(path, source) == b'\x1f\x8b':
    return []
  parts = []
  with _damage(path, source), open(path, 'rb') as file:
    for member in iter_headers(file):
      if member.is_dir or member_names.is_companion(member.name):
        continue
      name, reason = member_names.checked(member.name)
      if reason or not member.is_file or not name.endswith('.tar'):
        return []
      parts.append(ClassPart(name[: -len('.tar')], file.tell(), member.size))
  return parts


@contextlib.contextmanager
def open_zip_member(
  path: str | os.PathLike, name: str, *, source: str = 'its publisher'
) -> Iterator[IO[bytes]]:
  """Opens one member of a zip for streaming.

  Raises:
    UserError: the archive is missing or damaged, or has no such member.
  """
  path = require(path, source)
  with _damage(path, source), zip_members.open_zip(path) as archive:
    if name not in archive.NameToInfo:
      raise UserError(f'{path} has no member {name}: get the right archive from {source}')
    with zip_members.open_member(archive, archive.NameToInfo[name]) as member:
      yield member


def _refusal(path: pathlib.Path, refused: Refused | None) -> Refused:
  def refuse(name: str, reason: str) -> None:
    name = member_names.shown(name)
    if not refused:
      raise UserError(f'{path}: member {name} is refused: {reason}; remove it from the archive')
    refused(name, reason)

  return refuse


def _magic(path: pathlib.Path, source: str) -> bytes:
  with _damage(path, source), open(path, 'rb') as file:
    return file.read(2)


def _iter_tar_file(path, sha256, source, max_bytes, refuse, progress, nested):
  """Yields (name, bytes) of a tar or tar.gz, which is hashed on the way."""
  compressed = _magic(path, source) == b'\x1f\x8b'
  with open_verified(path, sha256=sha256, source=source, progress=progress) as raw:
    # gzip, not tarfile's own decompression: that one never looks at the checksum in the file.
    # Buffered: a header or a file out of the buffer is no call of Python's.
    file = io.BufferedReader(gzip.GzipFile(fileobj=raw), MIB) if compressed else raw
    yield from _iter_tar(file, '', max_bytes, refuse, nested)
    while compressed and file.read(MIB):
      pass


def _iter_part(path, source, max_bytes, refuse, part):
  """Yields (name, bytes) of one class tar of a tar."""
  with _damage(path, source), open(path, 'rb') as file:
    file.seek(part.offset)
    yield from _iter_tar(Part(file, part.size), part.folder, max_bytes, refuse, nested=False)


def _iter_tar(file, folder, max_bytes, refuse, nested):
  """Yields (name, bytes) of an open tar; with `nested`, `<class>.tar` gives `<class>/<file>`."""
  for member in iter_headers(file):
    if member.is_dir or member_names.is_companion(member.name):
      continue
    name, reason = member_names.checked(member.name)
    inner = nested and name.endswith('.tar')
    if not reason and not member.is_file:
      reason = 'it is a link, a device, a pipe or a sparse file'
    if not reason and not inner:
      reason = member_names.too_big(member.size, max_bytes)
    if reason:
      refuse(posixpath.join(folder, member.name), reason)
    elif inner:
      yield from _iter_tar(
        Part(file, member.size), name[: -len('.tar')], max_bytes, refuse, nested=False
      )
    else:
      yield posixpath.join(folder, name), read_data(file, member.size)


def _iter_zip(path, sha256, source, max_bytes, refuse, progress):
  """Yields (name, bytes) of a zip."""
  if sha256:
    with open_verified(path, sha256=sha256, source=source):
      pass
  with _damage(path, source), zip_members.open_zip(path) as archive:
    for member in archive.infolist():
      if progress:
        progress(member.compress_size)
      if (
        member.filename.endswith('/')
        or member_names.is_companion(member.filename)
        or member.filename.startswith('__MACOSX/')
      ):
        continue
      name, reason = member_names.checked(member.filename)
      kind = stat.S_IFMT(member.external_attr >> 16)
      if not reason and kind not in (0, stat.S_IFREG):
        reason = 'it is a link, a device or a pipe'
      reason = reason or zip_members.unreadable(member)
      reason = reason or member_names.too_big(member.file_size, max_bytes)
      if reason:
        refuse(member.filename, reason)
        continue
      # Not archive.read(): that one decompresses a gigabyte at once, whatever the claimed size.
      with zip_members.open_member(archive, member) as file:
        data = read_data(file, member.file_size)
      yield name, data


def _iter_folder(root, max_bytes, refuse, progress, part=None):
  """Yields (`<class>/<file>`, bytes) of a folder of class folders, or of one of them, sorted."""
  for folder in [root / part.folder] if part else sorted(root.iterdir()):
    if folder.name.startswith('.'):
      continue
    if not folder.is_dir():
      refuse(folder.name, 'it lies outside the class folders')
      continue
    for file in sorted(folder.iterdir()):
      name = f'{folder.name}/{file.name}'
      if file.name.startswith('.'):
        continue
      if not file.is_file():  # a pipe would block for ever
        refuse(name, 'it is not a regular file')
        continue
      size = file.stat().st_size
      reason = member_names.checked(name)[1] or member_names.too_big(size, max_bytes)
      if reason:
        refuse(name, reason)
        continue
      with _damage(file, 'where the folder came from'):
        data = file.read_bytes()
      if progress:
        progress(size)
      yield name, data
