"""The writer thread: which jobs share a commit, and what a failed job leaves behind."""

import asyncio
import contextlib
import shutil
import sqlite3
import threading

import pytest

from luab_jax.tools.annotate import database
from luab_jax.tools.annotate.refusals import Refusal
from tests.tools.annotate.serving import make_study


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  return make_study(tmp_path_factory.mktemp('database'))


@pytest.fixture
def writer(study, tmp_path):
  writer = database.Writer(shutil.copytree(study, tmp_path / 'study'))
  yield writer
  writer.close()


def _add(name):
  return lambda db: db.execute('INSERT INTO worker (id) VALUES (?)', (name,)).rowcount


async def _together(writer, *jobs):
  """Results or exceptions of jobs that wait for the writer thread at the same time."""
  begun, go = threading.Event(), threading.Event()
  first = asyncio.ensure_future(writer.run(lambda _: begun.set() or go.wait()))
  await asyncio.to_thread(begun.wait)
  waiting = [asyncio.ensure_future(writer.run(job)) for job in jobs]
  await asyncio.sleep(0)
  go.set()
  await first
  return await asyncio.gather(*waiting, return_exceptions=True)


def _workers(writer):
  """The workers that are committed, as another connection sees them."""
  path = writer._connection.execute('PRAGMA database_list').fetchone()['file']
  with contextlib.closing(sqlite3.connect(path)) as db:
    return {name for (name,) in db.execute('SELECT id FROM worker')}


def test_both_databases_wait_for_the_disk(writer):
  for name in ('main', 'identities'):
    pragmas = [f'PRAGMA {name}.{pragma}' for pragma in ('synchronous', 'journal_mode')]
    assert [writer._connection.execute(p).fetchone()[0] for p in pragmas] == [2, 'wal']


def test_jobs_of_a_moment_share_a_commit(writer):
  said = []
  writer._connection.set_trace_callback(said.append)
  assert asyncio.run(_together(writer, *map(_add, 'abcde'))) == [1] * 5
  assert said.count('COMMIT') == 2  # the first job, then all that arrived meanwhile
  assert _workers(writer) == set('abcde')


def test_a_job_that_fails_takes_nobody_along(writer):
  def fail(db):
    _add('lost')(db)
    raise Refusal(409, 'word', 'text')

  kept, refused, broken, after = asyncio.run(
    _together(writer, _add('a'), fail, _add('a'), _add('b'))
  )
  assert (kept, after) == (1, 1) and refused.status == 409
  assert isinstance(broken, sqlite3.IntegrityError)
  assert _workers(writer) == {'a', 'b'}


def test_without_room_all_of_a_commit_are_refused_and_later_it_goes_on(writer):
  (pages,) = writer._connection.execute('PRAGMA page_count').fetchone()
  writer._connection.execute(f'PRAGMA max_page_count = {pages}')
  refused = asyncio.run(_together(writer, _add('a'), _add('b' * 100_000)))
  assert [(r.status, r.answer['error']) for r in refused] == [(507, 'full')] * 2
  assert _workers(writer) == set()
  writer._connection.execute('PRAGMA max_page_count = 100000')
  assert asyncio.run(_together(writer, _add('a'))) == [1]
  assert _workers(writer) == {'a'}


def test_a_database_that_another_process_keeps_is_busy(writer, tmp_path):
  writer._connection.execute('PRAGMA busy_timeout = 1')
  with contextlib.closing(database.connect(tmp_path / 'study')) as other:
    other.execute('BEGIN IMMEDIATE')
    with pytest.raises(Refusal, match='busy'):
      asyncio.run(writer.run(_add('a')))
    other.execute('ROLLBACK')
  assert asyncio.run(writer.run(_add('a'))) == 1
