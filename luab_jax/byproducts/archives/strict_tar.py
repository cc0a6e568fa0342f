"""tarfile, made strict: a damaged or truncated tar raises instead of ending early."""

import sys
import tarfile
from collections.abc import Iterator
from typing import IO, Self

_EXTENSIONS = (
  tarfile.XHDTYPE,
  tarfile.SOLARIS_XHDTYPE,
  tarfile.XGLTYPE,
  tarfile.GNUTYPE_LONGNAME,
  tarfile.GNUTYPE_LONGLINK,
)
_MAX_EXTENSION = 1 << 20  # bytes; a path takes up to 4 KiB, an extended attribute 64 KiB


class _StrictTarInfo(tarfile.TarInfo):
  """A header; tarfile mistakes a bad one, or the end of the file, for the end of the archive."""

  @classmethod
  def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
    try:
      return super().fromtarfile(tar)
    except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the zeros that end an archive
      raise
    except tarfile.EmptyHeaderError as error:  # type: ignore[attr-defined]
      raise tarfile.ReadError('the end of the archive is missing') from error
    except tarfile.HeaderError as error:
      raise tarfile.ReadError(str(error)) from error

  @classmethod
  def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
    header = super().frombuf(buf, encoding, errors)
    limit = _MAX_EXTENSION if header.type in _EXTENSIONS else sys.maxsize
    if not 0 <= header.size <= limit:  # extensions are read into memory
      raise tarfile.ReadError(f'a header claims {header.size} bytes')
    return header


def iter_members(file: IO[bytes]) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
  """Yields (archive, member) of a seekable tar up to the block of zeros that ends it.

  Raises:
    tarfile.ReadError: the tar is damaged or truncated. Some headers that make no sense raise
      ValueError, LookupError, OverflowError or RecursionError instead.
  """
  with tarfile.open(
    fileobj=file, mode='r:', tarinfo=_StrictTarInfo, encoding='utf-8', errors='surrogateescape'
  ) as tar:
    while (member := tar.next()) is not None:
      tar.members.clear()  # type: ignore[attr-defined]  # or it keeps a million headers
      if member.size < 0:  # as a pax header may claim
        raise tarfile.ReadError(f'a header claims {member.size} bytes')
      yield tar, member
