"""A temporary table of raw XMLs, looked up by class and file stem.

The byproducts come in one archive in no useful order, the images in another. The raw XMLs of all
images (5 GB) do not fit into memory, so they wait in SQLite.
"""

import os
import posixpath
import sqlite3
import tempfile


class XmlStore:
  """Raw XML files by (class, stem) in an unnamed temporary file."""

  def __init__(self, folder: str | os.PathLike):
    """Opens an empty store in `folder`: about 5 GB for all of ImageNet-AB."""
    handle, path = tempfile.mkstemp(dir=folder, prefix='imagenet_ab_', suffix='.sqlite')
    os.close(handle)
    # TFDS may generate a split in a thread other than the one that opened the store, but only one.
    self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    # Nothing to roll back, since nothing is kept. 64 MiB of cache hold the index.
    self._database.execute('PRAGMA journal_mode=OFF')
    self._database.execute('PRAGMA synchronous=OFF')
    self._database.execute('PRAGMA cache_size=-65536')
    self._database.execute('CREATE TABLE xml (key TEXT PRIMARY KEY, data BLOB)')
    os.unlink(path)
    self._database.execute('BEGIN')
    self._used = bytearray()  # one flag per row

  def add(self, folder: str, stem: str, data: bytes) -> bool:
    """Stores one XML; returns False and keeps the old one if the name is taken."""
    cursor = self._database.execute(
      'INSERT OR IGNORE INTO xml VALUES (?, ?)', (posixpath.join(folder, stem), data)
    )
    if not cursor.rowcount:
      return False
    self._used.append(0)
    return True

  def get(self, folder: str, stem: str) -> bytes | None:
    """Returns the XML of an image, or None."""
    row = self._database.execute(
      'SELECT rowid, data FROM xml WHERE key = ?', (posixpath.join(folder, stem),)
    ).fetchone()
    if row is None:
      return None
    self._used[row[0] - 1] = 1
    return row[1]

  def unused(self) -> int:
    """Returns the number of XMLs that no image has asked for."""
    return self._used.count(0)

  def __enter__(self):
    return self

  def __exit__(self, *_) -> None:
    self._database.close()
