"""Files that are read once, forwards: with read(size), tell() and a seek(position) that skips."""

import hashlib
from collections.abc import Callable
from typing import IO

CHUNK = 1 << 20


class _ForwardFile:
  """What such files have in common; `read(size)` moves `_position` on."""

  _position = 0

  def tell(self) -> int:
    return self._position

  def seek(self, position: int) -> None:
    """Skips forwards, as far as there is data."""
    while self._position < position and self.read(min(CHUNK, position - self._position)):
      pass

  def read(self, size: int) -> bytes:
    raise NotImplementedError


class Part(_ForwardFile):
  """The next `size` bytes of a file, as a file to be read forwards once."""

  def __init__(self, file: IO[bytes], size: int):
    self._file = file
    self._size = size

  def read(self, size: int) -> bytes:
    data = self._file.read(min(size, self._size - self._position))
    self._position += len(data)
    return data


class HashedFile(_ForwardFile):
  """A file that is read once, forwards, and hashes and counts what passes through it."""

  def __init__(self, file: IO[bytes], sha256: str, progress: Callable[[int], None] | None):
    self._file = file
    self._hash = hashlib.sha256() if sha256 else None
    self._progress = progress

  def read(self, size: int = -1) -> bytes:
    data = self._file.read(size)
    self._position += len(data)
    if self._hash:
      self._hash.update(data)
    if self._progress and data:
      self._progress(len(data))
    return data

  def drain(self) -> str:
    """Reads to the end of the file and returns the sha256 in hex ('' if none was asked for)."""
    while self.read(CHUNK):
      pass
    return self._hash.hexdigest() if self._hash else ''
