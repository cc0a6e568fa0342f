"""Output folders: new files are completed first, then swapped in; no other file is removed.

`.written.json` in an output folder names the command and lists what it wrote, as pairs of a path
and the file's sha256, or 'link' for a link to one of the user's files. A link that has become the
only copy is moved to `kept/` instead of being removed.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Iterable, Iterator

from luab_jax.errors import UserError

_MANIFEST = '.written.json'
_STAGE = 'unfinished'
_LAST = 'README.txt'  # removed first and written last: marks a complete folder
_LINK = 'link'

_Entries = list[tuple[str, str]]  # (path below the folder, sha256 or _LINK)


def refuse_overlap(out: pathlib.Path, inputs: Iterable[pathlib.Path]) -> None:
  """Raises UserError if the output folder is inside an input folder, or an input inside it."""
  for path in inputs:
    if os.path.isdir(path) and _is_inside(out, path):
      raise UserError(f'the output folder {out} is inside the image folder {path}: keep them apart')
    if _is_inside(path, out):
      raise UserError(f'{path} is inside the output folder {out}: keep them apart')


def _is_inside(path: pathlib.Path, folder: pathlib.Path) -> bool:
  """Whether a path is a folder or lies in it, however the two are spelled."""
  path, folder = path.resolve(), folder.resolve()
  with contextlib.suppress(OSError):  # it does not exist, or cannot exist
    there = folder.stat()
    return any(
      os.path.exists(p) and os.path.samestat(p.stat(), there) for p in (path, *path.parents)
    )
  return path.is_relative_to(folder)


@contextlib.contextmanager
def replacing(out: pathlib.Path, command: str) -> Iterator[pathlib.Path]:
  """Yields an empty folder whose files replace those of an earlier call once the block ends.

  If the block raises, nothing changes, except that a BrokenPipeError (like a killed process) leaves
  the unfinished files.

  Args:
    out: the folder, created if necessary. Files with other names in it stay.
    command: name of the writing command, for the manifest; files of other commands are not
      replaced.

  Raises:
    UserError: the folder holds files that an earlier call did not write, or that were changed
      since, or another process is writing to it.
    OSError: it cannot be written.
  """
  out.resolve().mkdir(parents=True, exist_ok=True)  # it may be a dangling link
  with locked(out, f'{out} is being written by another process: wait until it has finished'):
    old, stage = _check(out, command), out / _STAGE
    stage.mkdir()
    _write_manifest(stage, command, [])
    try:
      yield stage
      new = [(path, _identify(stage / path)) for path in _files(stage) if path != _MANIFEST]
      _check_new(out, old, new)
      _write_manifest(out, command, [*old, *new])
    except BrokenPipeError:
      raise
    except BaseException:
      shutil.rmtree(stage, ignore_errors=True)
      raise
    _swap(out, stage, old, new)
    _write_manifest(out, command, new)
    shutil.rmtree(stage)


@contextlib.contextmanager
def locked(folder: pathlib.Path, held: str) -> Iterator[None]:
  """Locks a folder; raises UserError(held) if another process that is still alive has locked it."""
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):  # a file system without locks
      try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError as error:
        raise UserError(held) from error
    yield
  finally:
    os.close(descriptor)


def _check(out: pathlib.Path, command: str) -> _Entries:
  """Returns what an earlier call wrote and removes what a killed one left."""
  stage = out / _STAGE
  if stage.exists():
    _read_manifest(stage, command)
    shutil.rmtree(stage)
  old = _read_manifest(out, command) if any(out.iterdir()) else []
  known = set(old)
  for name in {path.partition('/')[0] for path, _ in old}:
    for below in _files(out / name) if os.path.lexists(out / name) else ():
      full = out / name / below
      path = full.relative_to(out).as_posix()
      if (path, _LINK) not in known and (path, _identify(full)) not in known:
        raise UserError(
          f'{full} was not written by this command, or was changed since: move it away, or use a '
          'new folder'
        )
  return old


def _read_manifest(folder: pathlib.Path, command: str) -> _Entries:
  """Returns what this command wrote into a folder; raises UserError if it did not."""
  with contextlib.suppress(FileNotFoundError, ValueError, TypeError, LookupError):
    written = json.loads((folder / _MANIFEST).read_text())
    if written['command'] == command:
      return [(str(path), str(kind)) for path, kind in written['files']]
  raise UserError(
    f'{folder} is not empty and was not made by this command: move it away, or use a new folder'
  )


def _files(path: pathlib.Path) -> list[str]:
  """Returns the paths of the files below a folder; [''] for a file or a link."""
  if path.is_symlink() or not path.is_dir():
    return ['']
  return sorted(
    (pathlib.Path(folder) / name).relative_to(path).as_posix()
    for folder, folders, names in os.walk(path)
    for name in [*names, *(n for n in folders if os.path.islink(os.path.join(folder, n)))]
  )


def _identify(path: pathlib.Path) -> str:
  """Returns _LINK for a link to a file that exists under another name too, else the sha256."""
  if path.is_symlink() or path.stat().st_nlink > 1:
    return _LINK
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _check_new(out: pathlib.Path, old: _Entries, new: _Entries) -> None:
  """Raises UserError if a new file would replace one that is not in the manifest."""
  ours = {path.partition('/')[0] for path, _ in old}
  for name in sorted({path.partition('/')[0] for path, _ in new} - ours):
    if os.path.lexists(out / name):
      raise UserError(f'{out / name} was not written by this command: move it away')


def _write_manifest(folder: pathlib.Path, command: str, entries: _Entries) -> None:
  partial = folder / f'{_MANIFEST}.partial'
  partial.write_text(json.dumps({'command': command, 'files': entries}, indent=0) + '\n')
  partial.replace(folder / _MANIFEST)


def _swap(out: pathlib.Path, stage: pathlib.Path, old: _Entries, new: _Entries) -> None:
  """Removes the old files and moves the new ones to their places."""
  kept = _unused_name(out, 'kept')
  for path, kind in sorted(old, key=lambda entry: entry[0] != _LAST):
    if kind == _LINK and (out / path).is_file() and _identify(out / path) != _LINK:
      (kept / path).parent.mkdir(parents=True, exist_ok=True)
      (out / path).rename(kept / path)
    else:
      (out / path).unlink(missing_ok=True)
  if kept.exists():
    print(f'{kept} holds images of the previous call whose originals are gone', file=sys.stderr)
  folders = {parent for path, _ in old for parent in pathlib.PurePath(path).parents}
  for folder in sorted(folders - {pathlib.PurePath('.')}, reverse=True):
    with contextlib.suppress(OSError):  # absent, or not empty
      (out / folder).rmdir()
  for path, _ in sorted(new, key=lambda entry: entry[0] == _LAST):
    (out / path).parent.mkdir(parents=True, exist_ok=True)
    (stage / path).rename(out / path)


def _unused_name(folder: pathlib.Path, name: str) -> pathlib.Path:
  """Returns `name`, name_2, ... in a folder, whichever does not exist."""
  path, number = folder / name, 1
  while os.path.lexists(path):
    number += 1
    path = folder / f'{name}_{number}'
  return path
