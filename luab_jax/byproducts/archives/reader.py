"""Streams the members of tar, tar.gz and zip archives and of class folders.

Nothing is extracted to disk, and at most one member is in memory. Archives are not trusted:
absolute names, `..`, links, devices and oversized members are refused, and a truncated or damaged
archive raises a UserError.
"""

import contextlib
import gzip
import hashlib
import io
import os
import pathlib
import posixpath
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO

from luab_jax.byproducts.archives import member_names
from luab_jax.byproducts.archives.entries import (
  Entry,
  Progress,
  iter_folder,
  iter_tar,
  iter_zip,
  visible,
)
from luab_jax.errors import UserError

MIB = 1 << 20
MAX_MEMBER_BYTES = 64 * MIB  # the largest ILSVRC2012 image is 15 MiB
_GZIP, _ZIP = b'\x1f\x8b', b'PK'  # first bytes
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError)
# On headers that make no sense, tarfile and zipfile also raise these.
_BAD_HEADER = (ValueError, LookupError, ArithmeticError, RuntimeError, struct.error)

# Called with the (escaped) name of a refused member and the reason.
Refused = Callable[[str, str], None]


def require(path: str | os.PathLike, source: str) -> pathlib.Path:
  """Returns `path`; raises a UserError that says where to get the file if it does not exist."""
  path = pathlib.Path(path)
  if not path.exists():
    raise UserError(
      f'{path} is missing: get {path.name} from {source} and put it into {path.parent.resolve()}'
    )
  return path


@contextlib.contextmanager
def open_verified(
  path: str | os.PathLike, *, sha256: str = '', source: str = 'its publisher'
) -> Iterator[IO[bytes]]:
  """Opens a file for reading after checking its sha256.

  Args:
    path: the file.
    sha256: expected digest in hex; '' skips the check.
    source: where to get the file, for error messages.

  Raises:
    UserError: the file is missing or unreadable, has another digest, or turns out to be damaged
      while the block reads it.
  """
  path = require(path, source)
  with _damage_named(path, source), open(path, 'rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest() if sha256 else ''
    if digest != sha256:
      raise UserError(
        f'{path} has sha256 {digest}, expected {sha256}: it is incomplete or another version; '
        f'get it again from {source}'
      )
    file.seek(0)
    yield file


@contextlib.contextmanager
def _damage_named(
  path: str | os.PathLike, source: str, errors: tuple[type[Exception], ...] = _DAMAGE
) -> Iterator[None]:
  try:
    yield
  except errors as error:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
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

  Directories and macOS companions (`._*`, `.DS_Store`) are skipped. Archives are read in their own
  order, folders in sorted order (`<class>/<file>`, one level deep). Links are refused in archives
  and followed in folders, where they are the user's own.

  Args:
    path: the archive or folder.
    sha256: expected digest of the archive in hex, checked first; '' skips the check.
    source: where to get the archive, for error messages.
    max_bytes: larger members are refused.
    refused: called with (name, reason) for each refused member; without it, the first one raises.
    progress: called with the number of bytes of the archive, or of the folder's files, read since
      its last call.

  Raises:
    UserError: the archive is missing, truncated, damaged or has another sha256, or a member was
      refused and `refused` is None.
  """
  entries = _entries(path, sha256, source, progress)
  return _read(path, source, max_bytes, refused, entries)


def iter_class_members(
  path: str | os.PathLike,
  *,
  sha256: str = '',
  source: str = 'its publisher',
  max_bytes: int = MAX_MEMBER_BYTES,
  refused: Refused | None = None,
  progress: Progress | None = None,
  part: int | None = None,
) -> Iterator[tuple[str, str, bytes]]:
  """Yields (class, file name, bytes) from a tar of `<class>.tar`, or class folders in any form.

  Class tars are streamed, too. A member without a class is refused. Arguments and errors are those
  of `iter_members`; with `part` (see `count_class_parts`), only the class tar or class folder with
  that index is read.
  """
  entries = _entries(path, sha256, source, progress, nested=True, part=part)
  for name, data in _read(path, source, max_bytes, refused, entries):
    folder, file_name = posixpath.split(name)
    label = posixpath.basename(folder)
    if reason := member_names.class_problem(label):
      _refuse(path, name, reason, refused)
    else:
      yield label, file_name, data


def class_names(path: str | os.PathLike, *, source: str = 'its publisher') -> set[str]:
  """Returns the classes of a tar of `<class>.tar` or of class folders, without reading the files.

  Raises:
    UserError: it is missing, truncated or damaged.
  """
  path = require(path, source)
  names = []
  if path.is_dir():
    names = [f'{entry.name}/x' for entry in visible(path) if entry.is_dir()]
  else:
    with _damage_named(path, source, _BAD_HEADER):
      names = [entry.name for entry in _entries(path, source=source) if not entry.problem]
  classes = set()
  for name, reason in map(member_names.normalize, names):
    folder = name.removesuffix('.tar') if name.endswith('.tar') else posixpath.dirname(name)
    label = posixpath.basename(folder)
    if not reason and not member_names.class_problem(label):
      classes.add(label)
  return classes


def count_class_parts(path: str | os.PathLike, *, source: str = 'its publisher') -> int:
  """Returns the number of class tars in a tar, or of class folders in a folder.

  Returns 0 if there is anything else in it, or if it is compressed: it has to be read in one go.

  Raises:
    UserError: it is missing, truncated or damaged.
  """
  path = require(path, source)
  if path.is_dir():
    are_parts = [entry.is_dir() for entry in visible(path)]
  elif _magic(path, source) in (_GZIP, _ZIP):
    return 0
  else:
    with _damage_named(path, source, _BAD_HEADER):
      are_parts = [
        not entry.problem
        and entry.name.endswith('.tar')
        and not member_names.normalize(entry.name)[1]
        for entry in _entries(path, source=source)
      ]
  return len(are_parts) if all(are_parts) else 0


@contextlib.contextmanager
def open_zip_member(
  path: str | os.PathLike, name: str, *, source: str = 'its publisher'
) -> Iterator[IO[bytes]]:
  """Opens one member of a zip for streaming.

  Raises:
    UserError: the archive is missing or damaged, or has no such member.
  """
  with open_verified(path, source=source) as file, contextlib.ExitStack() as stack:
    with _damage_named(path, source, _BAD_HEADER):
      archive = stack.enter_context(zipfile.ZipFile(file))
      if name not in archive.namelist():
        raise UserError(f'{path} has no member {name}: get the right archive from {source}')
      member = stack.enter_context(archive.open(name))
    yield member


def _read(
  path: str | os.PathLike,
  source: str,
  max_bytes: int,
  refused: Refused | None,
  entries: Iterator[Entry],
) -> Iterator[tuple[str, bytes]]:
  """Yields (normalized name, bytes) of the entries that are not refused."""
  with _damage_named(path, source, _BAD_HEADER + _DAMAGE):
    for entry in entries:
      name, reason = member_names.normalize(entry.name)
      reason = reason or entry.problem
      if not reason and entry.size > max_bytes:
        reason = f'it has {entry.size} bytes, more than {max_bytes}'
      if reason:
        _refuse(path, entry.name, reason, refused)
        continue
      data = entry.read()
      if len(data) != entry.size:
        raise EOFError(f'unexpected end of data in {name!r:.80}')
      yield name, data


def _refuse(path: str | os.PathLike, name: str, reason: str, refused: Refused | None) -> None:
  name = member_names.escape(name)
  if not refused:
    raise UserError(f'{path}: member {name} is refused: {reason}; remove it from the archive')
  refused(name, reason)


def _entries(
  path: str | os.PathLike,
  sha256: str = '',
  source: str = 'its publisher',
  progress: Progress | None = None,
  nested: bool = False,
  part: int | None = None,
) -> Iterator[Entry]:
  """Yields the entries of an archive or folder."""
  path, progress = require(path, source), progress or (lambda _: None)
  if path.is_dir():
    yield from iter_folder(path, progress, part)
    return
  magic = _magic(path, source)
  with open_verified(path, sha256=sha256, source=source) as file:
    if magic == _ZIP:
      yield from iter_zip(file, progress)
      return
    data: IO[bytes] = file
    if magic == _GZIP:  # not tarfile's own decompression, which ignores the checksum
      data = io.BufferedReader(gzip.GzipFile(fileobj=file), MIB)  # type: ignore[arg-type]
    position = 0
    for entry in iter_tar(data, nested, part):
      yield entry
      progress(file.tell() - position)
      position = file.tell()
    while magic == _GZIP and data.read(MIB):  # up to the checksum, to have it verified
      pass
    progress(file.seek(0, os.SEEK_END) - position)


def _magic(path: pathlib.Path, source: str) -> bytes:
  with _damage_named(path, source), open(path, 'rb') as file:
    return file.read(2)
