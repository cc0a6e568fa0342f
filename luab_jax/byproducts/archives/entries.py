"""Iterates over the files in a tar, a zip or a folder of class folders, without reading them."""

import functools
import pathlib
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

from luab_jax.byproducts.archives import member_names, strict_tar

Progress = Callable[[int], None]  # called with the number of bytes read since the last call


class Entry(NamedTuple):
  """A file in an archive or folder; it can be read until the next one is requested."""

  name: str  # <class>/<file> in a class tar
  size: int  # in bytes, as the header claims
  problem: str  # '' or why it is refused
  read: Callable[[], bytes]


def iter_tar(file: IO[bytes], nested: bool, part: int | None = None) -> Iterator[Entry]:
  """Yields the entries of a tar, except directories and macOS companions.

  Args:
    file: the open tar, seekable.
    nested: whether to yield the members of a member `<class>.tar`, as `<class>/<file>`.
    part: with `nested`, index of the only class tar to read; None: all.

  Raises:
    As strict_tar.iter_members.
  """
  class_tars = 0
  for tar, member in strict_tar.iter_members(file):
    if member.isdir() or member_names.is_companion(member.name):
      continue
    is_file = member.isreg() and not member.issparse()
    if nested and is_file and member.name.endswith('.tar'):
      if part in (None, class_tars):
        inner = tar.extractfile(member)
        assert inner is not None  # None only for links and devices
        for entry in iter_tar(inner, nested=False):
          yield entry._replace(name=f'{member.name.removesuffix(".tar")}/{entry.name}')
      class_tars += 1
    elif part is None:
      problem = '' if is_file else 'it is a link, a device, a pipe or a sparse file'
      yield Entry(
        member.name, member.size, problem, functools.partial(_read_tar_member, tar, member)
      )


def _read_tar_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
  file = tar.extractfile(member)
  assert file is not None  # since it is a regular file
  return file.read()


def iter_zip(file: IO[bytes], progress: Progress) -> Iterator[Entry]:
  """Yields the entries of an open zip, except directories and macOS companions."""
  with zipfile.ZipFile(file) as archive:
    for member in archive.infolist():
      progress(member.compress_size)
      if member.filename.endswith('/') or member_names.is_companion(member.filename):
        continue
      problem = ''
      if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        problem = 'it is a link, a device or a pipe'
      elif member.flag_bits & 1:
        problem = 'it is encrypted'
      elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        problem = 'it is neither stored nor deflated'  # zipfile decompresses these without a limit
      read = functools.partial(_read_zip_member, archive, member)
      yield Entry(member.filename, member.file_size, problem, read)


def _read_zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
  with archive.open(member) as file:
    # Without a size, zipfile would decompress everything, whatever the header claims.
    return file.read(member.file_size)


def iter_folder(root: pathlib.Path, progress: Progress, part: int | None) -> Iterator[Entry]:
  """Yields the files of all class folders, sorted, or only of the one with index `part`."""
  folders = visible(root)
  for folder in folders if part is None else [folders[part]]:
    if not folder.is_dir():
      yield Entry(folder.name, 0, 'it lies outside the class folders', bytes)
      continue
    for file in visible(folder):
      is_file = file.is_file()  # reading a pipe would block forever
      size = file.stat().st_size if is_file else 0
      problem = '' if is_file else 'it is not a regular file'
      yield Entry(f'{folder.name}/{file.name}', size, problem, file.read_bytes)
      progress(size)


def visible(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the content of a folder, sorted, without hidden files."""
  return sorted(entry for entry in folder.iterdir() if not entry.name.startswith('.'))
