"""Writes byte-identical archives on every run: fixed dates and owners, no names in gzip headers.

Each archive is written beside its destination and moved there once it is complete, so that an
interrupted run leaves no truncated archive under the final name.
"""

import contextlib
import gzip
import io
import os
import pathlib
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO

_MTIME = 1640995200  # 2022-01-01 00:00 UTC, the date in the mini release
_ZIP_DATE = (2022, 1, 1, 0, 0, 0)


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[IO[bytes]]:
  """Yields a binary file that becomes `path` once the block ends without an error."""
  partial = path.with_name(path.name + '.partial')
  try:
    with open(partial, 'wb') as file:
      yield file
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


@contextlib.contextmanager
def gzip_file(path: pathlib.Path) -> Iterator[gzip.GzipFile]:
  """Yields a gzip file for writing, without a time or a name in its header."""
  with (
    replacing(path) as file,
    gzip.GzipFile(filename='', mode='wb', compresslevel=6, fileobj=file, mtime=0) as stream,
  ):
    yield stream


@contextlib.contextmanager
def tar_gz(path: pathlib.Path) -> Iterator[tarfile.TarFile]:
  """Yields a TarFile for writing, compressed as in `gzip_file`."""
  with gzip_file(path) as stream, tarfile.open(fileobj=stream, mode='w') as tar:
    yield tar


def add_to_tar(tar: tarfile.TarFile, name: str, data: bytes) -> None:
  """Adds `data` as the regular file `name`, owned by root."""
  member = tarfile.TarInfo(name)
  member.size = len(data)
  member.mtime = _MTIME
  tar.addfile(member, io.BytesIO(data))


@contextlib.contextmanager
def tar_of_tars(path: pathlib.Path, names: Iterable[str]) -> Iterator[dict[str, tarfile.TarFile]]:
  """Yields {name: TarFile} for writing; they become the members `<name>.tar` of the tar `path`."""
  buffers = {name: io.BytesIO() for name in names}
  tars = {n: tarfile.open(fileobj=buffers[n], mode='w') for n in names}  # noqa: SIM115
  yield tars
  with replacing(path) as file, tarfile.open(fileobj=file, mode='w') as outer:
    for name in names:
      tars[name].close()
      add_to_tar(outer, f'{name}.tar', buffers[name].getvalue())


def add_tar(outer: tarfile.TarFile, name: str, members: Iterable[tuple[str, bytes]]) -> None:
  """Adds a tar of (name, data) as the file `name`; it is first written to a temporary file."""
  with tempfile.TemporaryFile() as file:
    with tarfile.open(fileobj=file, mode='w') as tar:
      for member in members:
        add_to_tar(tar, *member)
    info = tarfile.TarInfo(name)
    info.size, info.mtime = file.tell(), _MTIME
    file.seek(0)
    outer.addfile(info, file)


@contextlib.contextmanager
def zip_file(path: pathlib.Path) -> Iterator[zipfile.ZipFile]:
  """Yields a ZipFile for writing."""
  with replacing(path) as file, zipfile.ZipFile(file, 'w') as archive:
    yield archive


def add_to_zip(archive: zipfile.ZipFile, name: str, data: bytes, compress: bool = False) -> None:
  """Adds `data` as the file `name`; compression is worthwhile for text, not for JPEGs."""
  member = zipfile.ZipInfo(name, _ZIP_DATE)
  member.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
  member.create_system = 3  # Unix everywhere: Windows would write other bytes
  member.external_attr = 0o644 << 16
  archive.writestr(member, data)
