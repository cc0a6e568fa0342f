"""Reads the released files of the Backgrounds Challenge: images, foreground masks, class mapping.

Nothing in them is trusted: archives are read by `luab_jax.byproducts.archives`, masks are never
unpickled.
"""

import io
import json
import os
import pathlib
import posixpath
import re
import tempfile
import tokenize
import zipfile
from collections.abc import Collection, Iterator

import numpy as np

from luab_jax.byproducts.archives import reader
from luab_jax.errors import UserError
from tfds_builders.build_summary import BuildSummary, progress_bar

_REPOSITORY = 'https://github.com/MadryLab/backgrounds_challenge'
ARCHIVE_NAME = 'backgrounds_challenge_data.tar.gz'
ARCHIVE_URL = f'{_REPOSITORY}/releases/download/data/{ARCHIVE_NAME}'
MAPPING_NAME = 'in_to_in9.json'
MAPPING_URL = f'{_REPOSITORY}/raw/master/{MAPPING_NAME}'
VARIATIONS = (
  'original',
  'mixed_same',
  'mixed_rand',
  'mixed_next',
  'only_fg',
  'no_fg',
  'only_bg_b',
  'only_bg_t',
)
MASKS = 'fg_mask'
NUM_CLASSES = 9

_FOLDERS = (*VARIATIONS, MASKS)
_MEMBER = re.compile(rf'(?:[^/]+/)?({"|".join(_FOLDERS)})/val/([^/]+)/([^/]+)')
# What np.load raises on a damaged file.
_NOT_NPY = (
  ValueError, TypeError, LookupError, SyntaxError, EOFError, OSError, MemoryError, RecursionError,
  ArithmeticError, tokenize.TokenError, zipfile.BadZipFile,
)  # fmt: skip
_JPEG_SUFFIXES = ('.jpeg', '.jpg')

Name = tuple[str, str, str]  # variation or MASKS, class folder, file


class BadMask(ValueError):
  """A mask that cannot be used; the message says why."""


class Spool:
  """Files by name in one unnamed temporary file.

  TFDS generates one split after the other, and a tar.gz can only be read from its start: this way
  it is read once, not once for each split.
  """

  def __init__(self, folder: str | os.PathLike | None):
    """Opens an empty spool in `folder`."""
    self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
    self._places = {}
    self._size = 0

  def add(self, name: Name, data: bytes) -> bool:
    """Stores one file; returns False and keeps the old one if the name is taken."""
    if name in self._places:
      return False
    self._file.write(data)
    self._places[name] = self._size, len(data)
    self._size += len(data)
    return True

  def get(self, name: Name) -> bytes:
    """Returns the bytes of a file."""
    position, size = self._places[name]
    self._file.seek(position)
    return self._file.read(size)

  def names(self, folder: str) -> list[Name]:
    """Returns the names of the files of a variation (or of the masks), sorted."""
    return sorted(name for name in self._places if name[0] == folder)

  def __enter__(self):
    return self

  def __exit__(self, *_) -> None:
    self._file.close()


def find(manual_dir: pathlib.Path) -> pathlib.Path:
  """Returns the archive in a folder or, where there is none, the unpacked folder of variations.

  Raises:
    UserError: there is neither, or more than one folder.
  """
  archive = manual_dir / ARCHIVE_NAME
  if archive.exists():
    return archive
  folders = [
    folder
    for folder in (manual_dir, *sorted(manual_dir.iterdir()))
    if any((folder / name / 'val').is_dir() for name in _FOLDERS)
  ]
  if len(folders) > 1:
    raise UserError(f'{folders[0]} and {folders[1]} are both an unpacked {ARCHIVE_NAME}: keep one')
  return folders[0] if folders else reader.require(archive, ARCHIVE_URL)


def iter_files(
  source: pathlib.Path, folders: Collection[str], summary: BuildSummary
) -> Iterator[tuple[Name, bytes]]:
  """Yields (name, bytes) of the images and masks of some variations.

  Args:
    source: the archive, whose members may have one leading folder, or the folder of variations.
    folders: which of `VARIATIONS` and `MASKS`.
    summary: counts refused members and files that do not belong to the release.
  """
  for folder, label, file_name, data in _iter_release(source, folders, summary):
    suffixes = ('.npy',) if folder == MASKS else _JPEG_SUFFIXES
    if file_name.lower().endswith(suffixes):
      yield (folder, label, file_name), data
    else:
      summary.note('other files, left out')


def _iter_release(source, folders, summary):
  """Yields (variation, class folder, file, bytes) of the files at the right depth."""

  def refused(name, reason):
    summary.skip('refused member', f'{source}: {name}', reason)

  if source.is_dir():
    for folder in folders:
      path = source / folder / 'val'
      if path.is_dir():
        with progress_bar(path, f'Reading {folder}') as progress:
          for label, file_name, data in reader.iter_class_members(
            path, refused=refused, progress=progress
          ):
            yield folder, label, file_name, data
    return
  with progress_bar(source, f'Reading {source.name}') as progress:
    for name, data in reader.iter_members(
      source, source=ARCHIVE_URL, refused=refused, progress=progress
    ):
      match = _MEMBER.fullmatch(name)
      if not match:
        summary.note('other files, left out')
      elif match[1] in folders:
        yield match[1], match[2], match[3], data


def class_names(spool: Spool, folders: Collection[str], source: pathlib.Path) -> list[str]:
  """Returns the nine class folders, sorted: their index is the label.

  Raises:
    UserError: there are more or fewer, or a variation lacks one of them.
  """
  classes = {folder: {label for _, label, _ in spool.names(folder)} for folder in folders}
  for folder in folders:
    if not classes[folder]:
      raise UserError(
        f'{source} holds no {folder}/val/<class>/<file>: get {ARCHIVE_NAME} again '
        f'from {ARCHIVE_URL}'
      )
  # A folder that only the masks have is not a class: its masks are masks without an image.
  names = sorted(set().union(*(classes[folder] for folder in folders if folder != MASKS)))
  if len(names) != NUM_CLASSES:
    raise UserError(
      f'{source} holds {len(names)} class folders ({", ".join(names[:12])}) where '
      f'ImageNet-9 has {NUM_CLASSES}: get {ARCHIVE_NAME} again from {ARCHIVE_URL}'
    )
  for folder in folders:
    missing = sorted(set(names) - classes[folder])
    if missing:
      raise UserError(
        f'{source} holds no {folder}/val/{missing[0]}: get {ARCHIVE_NAME} again from {ARCHIVE_URL}'
      )
  return names


def read_mapping(path: pathlib.Path) -> list[list[int]]:
  """Returns the ImageNet classes (0 to 999, in the order of the wnids) of each of the nine labels.

  Args:
    path: `in_to_in9.json`: {"<ImageNet class>": <label 0 to 8, or -1 for none of them>}; a missing
      class has no label either.

  Raises:
    UserError: the file is missing or not of this form.
  """
  remedy = f'get {MAPPING_NAME} again from {MAPPING_URL}'
  try:
    mapping = json.loads(reader.require(path, MAPPING_URL).read_bytes())
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f'{path} cannot be read ({error}): {remedy}') from error
  if not isinstance(mapping, dict):
    raise UserError(f'{path} is not a JSON object of ImageNet classes: {remedy}')
  keys = {str(index) for index in range(1000)}
  right = [[] for _ in range(NUM_CLASSES)]
  for key, label in mapping.items():
    if key not in keys or type(label) is not int or not -1 <= label < NUM_CLASSES:
      raise UserError(
        f'{path} maps {key!r:.40} to {label!r:.40}, expected an ImageNet class 0 to '
        f'999 and a label -1 to {NUM_CLASSES - 1}: {remedy}'
      )
    if label >= 0:
      right[label].append(int(key))
  if not all(right):
    raise UserError(f'{path} maps no ImageNet class to the label {right.index([])}: {remedy}')
  return [sorted(indices) for indices in right]


def read_mask(data: bytes, size: tuple[int, int]) -> np.ndarray:
  """Returns a foreground mask, bool [H, W].

  Args:
    data: the npy file: a 2-D array of 0 and 1, of boolean or numeric dtype.
    size: (H, W) of its image.

  Raises:
    BadMask: it is damaged, holds Python objects (which are not unpickled) or other values, has
      more than one channel, or differs in size from the image.
  """
  try:
    array = np.load(io.BytesIO(data), allow_pickle=False)
  except _NOT_NPY as error:
    raise BadMask(f'it is not an npy file: {" ".join(str(error).split())[:100]}') from error
  if not isinstance(array, np.ndarray):
    raise BadMask('it is not an npy file but an archive')
  if array.ndim != 2 or array.dtype.kind not in 'biuf':
    raise BadMask(f'it is a {array.ndim}-D {array.dtype!s:.40} array, expected 2-D of 0 and 1')
  if array.shape != size:
    raise BadMask(f'it has {array.shape[1]} × {array.shape[0]} px, its image {size[1]} × {size[0]}')
  if not np.isin(array, (0, 1)).all():
    raise BadMask('it holds other values than 0 and 1')
  return array == 1


def stem(name: Name) -> tuple[str, str]:
  """Returns (class folder, file name without extension): what an image and its mask share."""
  return name[1], posixpath.splitext(name[2])[0]
