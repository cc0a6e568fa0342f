"""Opens zips and their members; whatever is wrong with them is a zipfile.BadZipFile."""

import contextlib
import os
import struct
import zipfile
from collections.abc import Iterator
from typing import IO

# What zipfile raises as well, for sizes, positions, names and versions that cannot be.
_DAMAGED = (struct.error, ValueError, LookupError, OverflowError, RuntimeError)


@contextlib.contextmanager
def open_zip(path: str | os.PathLike) -> Iterator[zipfile.ZipFile]:
  """Opens a zip; what the caller raises passes through."""
  with contextlib.ExitStack() as opened:
    with _damage():
      archive = opened.enter_context(zipfile.ZipFile(path))
    yield archive


@contextlib.contextmanager
def open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
  """Opens a member for reading; what the caller raises passes through."""
  if reason := unreadable(member):
    raise zipfile.BadZipFile(f'{member.filename!r:.80}: {reason}')
  with contextlib.ExitStack() as opened:
    with _damage():
      file = opened.enter_context(archive.open(member))
    yield file


@contextlib.contextmanager
def _damage() -> Iterator[None]:
  try:
    yield
  except _DAMAGED as error:
    raise zipfile.BadZipFile(str(error) or type(error).__name__) from error


def unreadable(member: zipfile.ZipInfo) -> str:
  """Returns '' or why a member of a zip is not read."""
  if member.flag_bits & 1:
    return 'it is encrypted'
  # zipfile decompresses the other kinds without a limit to their size.
  known = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
  return '' if known else 'it is neither stored nor deflated'
