"""The database of a study: WAL, synchronous=FULL, and one thread that writes.

Concurrent requests are committed together: a commit waits for the disk, and fifty workers would
otherwise wait for one another. A request is answered after its commit.
"""

import asyncio
import concurrent.futures
import contextlib
import pathlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from luab_jax.errors import UserError
from luab_jax.tools.annotate.refusals import Refusal

T = TypeVar('T')
Job = Callable[[sqlite3.Connection], Any]

_GROUP = 256  # jobs in one commit, at most
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_IDENTITIES = """
CREATE TABLE IF NOT EXISTS identities.identity (
  session INTEGER PRIMARY KEY,
  worker TEXT NOT NULL,
  platform TEXT NOT NULL,         -- prolific, mturk
  platform_id TEXT NOT NULL,      -- of the person
  hit_id TEXT NOT NULL,           -- Prolific: of the study
  assignment_id TEXT NOT NULL,    -- Prolific: of the session
  submit_to TEXT NOT NULL         -- MTurk: where the HIT is submitted
)"""


def create(folder: pathlib.Path) -> sqlite3.Connection:
  """Creates the databases of a new study in its folder; see schema.sql."""
  schema = pathlib.Path(__file__).with_name('schema.sql').read_text(encoding='utf-8')
  (folder / 'study.db').touch()
  connection = connect(folder)
  connection.executescript(schema)
  return connection


def connect(folder: pathlib.Path) -> sqlite3.Connection:
  """Opens the databases of a study for writing: study.db and, as `identities`, identities.db.

  Callers begin transactions with BEGIN IMMEDIATE; rows can be indexed by column name.

  Raises:
    UserError: there is no database, or it is damaged.
  """
  path = folder / 'study.db'
  if not path.is_file():  # SQLite would make an empty one
    raise UserError(f'{path} is missing: restore it from a copy')
  connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
  connection.row_factory = sqlite3.Row
  try:
    connection.execute('ATTACH ? AS identities', (str(folder / 'identities.db'),))
    for pragma in ('foreign_keys = ON', 'secure_delete = ON'):
      connection.execute(f'PRAGMA {pragma}')
    for name in ('main', 'identities'):
      connection.execute(f'PRAGMA {name}.journal_mode = WAL')
      connection.execute(f'PRAGMA {name}.synchronous = FULL')
    connection.execute(_IDENTITIES)
  except sqlite3.DatabaseError as error:
    connection.close()
    raise UserError(f'{path} or identities.db beside it cannot be used: {error}') from error
  return connection


def empty_log(folder: pathlib.Path) -> None:
  """Empties the write-ahead log, which still holds what was deleted from the tables."""
  with contextlib.closing(connect(folder)) as connection:
    for name in ('main', 'identities'):
      connection.execute(f'PRAGMA {name}.wal_checkpoint(TRUNCATE)')


class Writer:
  """The thread that writes. A job is a function of the connection, within a transaction.

  A job that raises changes nothing, and its exception is passed on to the caller of `run`.
  """

  def __init__(self, folder: pathlib.Path) -> None:
    self._connection = connect(folder)
    self._jobs: queue.SimpleQueue[tuple[Job, concurrent.futures.Future] | None]
    self._jobs = queue.SimpleQueue()
    self._thread = threading.Thread(target=self._work, name='writer', daemon=True)
    self._thread.start()

  async def run(self, job: Callable[[sqlite3.Connection], T]) -> T:
    """Returns what a job returns, once its changes are on disk.

    Raises:
      Refusal: raised by the job; or 507 `full` if the disk has no room, and 503 `busy` if another
        process holds the database.
    """
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    self._jobs.put((job, future))
    return await asyncio.wrap_future(future)

  def close(self) -> None:
    """Ends the thread once all jobs are done, and closes the databases."""
    self._jobs.put(None)
    self._thread.join()
    self._connection.close()

  def _work(self) -> None:
    is_open = True
    while is_open:
      group = [self._jobs.get()]
      while len(group) < _GROUP and not self._jobs.empty():
        group.append(self._jobs.get())
      is_open = None not in group
      self._commit([entry for entry in group if entry])

  def _commit(self, group: list[tuple[Job, concurrent.futures.Future]]) -> None:
    """Runs jobs in one transaction, then sets the result or exception of each."""
    asked = [(job, future) for job, future in group if future.set_running_or_notify_cancel()]
    try:
      self._connection.execute('BEGIN IMMEDIATE')
      done = [(future, *self._attempt(job)) for job, future in asked]
      self._connection.execute('COMMIT')
    except sqlite3.Error as error:
      with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
        self._connection.execute('ROLLBACK')
      done = [(future, None, _explain(error)) for _, future in asked]
    for future, result, problem in done:
      if problem:
        future.set_exception(problem)
      else:
        future.set_result(result)

  def _attempt(self, job: Job) -> tuple[Any, Exception | None]:
    """(result, exception) of a job, one of them None; raises if the database cannot go on."""
    self._connection.execute('SAVEPOINT job')
    try:
      result, error = job(self._connection), None
    except Exception as raised:
      if isinstance(raised, sqlite3.OperationalError):
        raise
      result, error = None, raised
      self._connection.execute('ROLLBACK TO job')
    self._connection.execute('RELEASE job')
    return result, error


def _explain(error: sqlite3.Error) -> Exception:
  code = getattr(error, 'sqlite_errorcode', 0) & 0xFF  # the primary code of an extended one
  if code in _NO_ROOM:
    return Refusal(507, 'full', 'Not saved: the disk of the server is full. Keep this page open.')
  if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
    return Refusal(503, 'busy', 'Not saved yet: the server is busy. Trying again.')
  return error
