"""The lock of a workdir: two runs in it would mix their lines and delete each other's files.

`lock.json` names the host and pid of the holder. The kernel frees an flock when its process ends,
however it ends, so on one machine an unlocked file is stale.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import sys
from typing import Any, TextIO

from luab_jax.errors import UserError

_held: dict[pathlib.Path, TextIO] = {}


def acquire(workdir: pathlib.Path) -> None:
  """Locks an existing workdir until `release` or the end of the process.

  If it takes over the lock of a process that has died, it prints a line to stderr.

  Raises:
    UserError: another process holds it, or the file cannot be written.
  """
  path = workdir / 'lock.json'
  try:
    file = path.open('a+', encoding='utf-8')
  except OSError as error:
    raise UserError(f'cannot write to --workdir={workdir}: {error}') from error
  try:
    _take(path, file)
    taken = _is_file(path, file)
  except BaseException:
    file.close()
    raise
  if taken:
    _held[workdir] = file
  else:  # its holder removed it after we had opened it
    file.close()
    acquire(workdir)


def _take(path: pathlib.Path, file: TextIO) -> None:
  holder, host = _read(file), socket.gethostname()
  if _is_locked(file, holder):
    raise UserError(
      f'{path.parent} is in use by {_describe(holder)}: wait for it, stop it, or choose another '
      '--workdir'
    )
  if holder and holder['host'] != host:
    raise UserError(
      f'{path.parent} is in use by {_describe(holder)}, another machine: choose another --workdir, '
      f'or delete {path} if that process has ended'
    )
  if holder:
    print(
      f'{path.parent}: {_describe(holder)} has ended without unlocking it; taken over',
      file=sys.stderr,
    )
  try:
    file.truncate(0)
    file.write(json.dumps({'host': host, 'pid': os.getpid()}) + '\n')
    file.flush()
  except OSError as error:
    raise UserError(f'{path} cannot be written: {error}') from error


def is_held(workdir: pathlib.Path) -> bool:
  """Whether a process on this machine is training in a workdir."""
  try:
    with (workdir / 'lock.json').open(encoding='utf-8') as file:
      return _is_locked(file, _read(file))
  except OSError:
    return False


def release(workdir: pathlib.Path) -> None:
  """Unlocks a workdir; does nothing if this process does not hold the lock."""
  if file := _held.pop(workdir, None):
    path = workdir / 'lock.json'
    with contextlib.suppress(OSError), file:
      if _is_file(path, file):
        path.unlink()


def release_all() -> None:
  """Unlocks all workdirs of this process before os._exit, so that another machine can resume."""
  for workdir in list(_held):
    release(workdir)


def _is_locked(file: TextIO, holder: dict[str, Any]) -> bool:
  """Whether another process holds the lock; if not, `file` holds it now."""
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return False
  except BlockingIOError:
    return True
  except OSError:  # a file system without locks, such as some Lustre mounts
    with contextlib.suppress(PermissionError):  # the process runs as another user
      try:
        os.kill(holder['pid'], 0)
      except (KeyError, ProcessLookupError):
        return False
    return holder['host'] == socket.gethostname() and holder['pid'] != os.getpid()


def _read(file: TextIO) -> dict[str, Any]:
  """{'host', 'pid'} of the process that wrote the file; {} if it has written nothing yet."""
  file.seek(0)
  try:
    content = json.loads(file.read())
    return {'host': str(content['host']), 'pid': int(content['pid'])}
  except (ValueError, LookupError, TypeError):
    return {}


def _describe(holder: dict[str, Any]) -> str:
  return f'process {holder["pid"]} on {holder["host"]}' if holder else 'another process'


def _is_file(path: pathlib.Path, file: TextIO) -> bool:
  try:
    return os.path.samestat(path.stat(), os.fstat(file.fileno()))
  except FileNotFoundError:
    return False
