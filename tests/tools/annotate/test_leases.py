"""Which worker gets which page for how long, and how late and unfinished work is handled."""

import itertools
import subprocess
import sys

import pytest

from luab_jax.tools.annotate import leases, sessions
from luab_jax.tools.annotate.refusals import Refusal
from tests.tools.annotate.desk import Desk
from tests.tools.annotate.serving import ROOT, make_study


@pytest.fixture(scope='module')
def three_pages(tmp_path_factory):
  """A study of three pages of two images, to be answered once each; two pages per worker."""
  return make_study(
    tmp_path_factory.mktemp('leases'),
    '--page_size=2',
    '--pages_per_worker=2',
    '--workers=1',
    '--return_url=https://app.example/complete?cc=1',
    classes=('cat',),
    count=6,
  )


@pytest.fixture
def desk(three_pages, tmp_path):
  return Desk(three_pages, tmp_path / 'study')


def _src(page):
  return {image['src'] for image in page['images']}


def test_pages_are_given_once_and_a_code_at_the_end(desk):
  first, second = desk.worker(), desk.worker()
  pages = [first.lease(), second.lease()]
  assert not _src(pages[0]) & _src(pages[1])
  first.do_page(pages[0])
  last = first.lease()
  assert (last['number'], last['of']) == (2, 2)
  first.do_page(last)
  second.do_page(pages[1])
  ends = [first.lease(), second.lease()]  # the second worker has done all that was left
  assert all(end['done'] and len(end['code']) == 8 for end in ends)
  assert ends[0]['code'] != ends[1]['code']
  assert ends[0]['return_url'] == 'https://app.example/complete?cc=1'
  assert desk.one('SELECT count(*) FROM answer') == 3 + 2  # two of them to practice pages
  late = desk.worker().lease()
  assert late == {'done': True, 'code': None, 'return_url': None, 'submit_to': None}


def test_who_comes_while_others_have_all_pages_waits(desk):
  others = [desk.worker() for _ in range(3)]
  pages = [other.lease() for other in others]
  assert len(set().union(*map(_src, pages))) == 6
  waiting = desk.worker()
  assert waiting.lease() == {'wait': 30}
  desk.now += leases.LENGTH_MS - 1
  others[0].call('events', others[0].batch(pages[0]['lease'], 0))  # renews the lease
  desk.now += 1
  assert _src(waiting.lease()) == _src(pages[1])  # the first page with an expired lease


def test_what_is_done_late_is_kept_and_credited(desk):
  slow, other = desk.worker(), desk.worker()
  page = slow.lease()
  slow.call('events', slow.batch(page['lease'], 0))
  desk.now += leases.LENGTH_MS
  again = other.lease()
  assert _src(again) == _src(page)
  late = slow.call('events', slow.batch(page['lease'], 1))
  assert late['expires'] <= desk.now
  slow.call('submit', slow.end(page['lease'], 1))
  assert slow.lease()['number'] == 2
  other.do_page(again)
  assert desk.one("SELECT count(*) FROM lease WHERE state = 'done'") == 2 + 2


def test_who_comes_back_late_goes_on_if_nobody_took_the_page(desk):
  slow, other = desk.worker(), desk.worker()
  page = slow.lease()
  slow.call('events', slow.batch(page['lease'], 0))
  desk.now += 3 * leases.LENGTH_MS
  back = slow.lease()
  assert (back['lease'], back['next_seq']) == (page['lease'], 1)
  assert _src(other.lease()) != _src(page)
  desk.now += leases.LENGTH_MS
  assert _src(other.lease()) != _src(page)  # still has its own page
  assert desk.one("SELECT count(*) FROM lease WHERE state = 'expired'") == 1


def test_a_late_worker_does_not_take_a_page_from_who_has_it_now(desk):
  slow, other = desk.worker(), desk.worker()
  page = slow.lease()
  desk.now += leases.LENGTH_MS
  assert _src(other.lease()) == _src(page)
  assert _src(slow.lease()) != _src(page)
  other.do_page(other.lease())
  # Neither the finished page nor one that this worker has had is given out again.
  slow.do_page(slow.lease())
  assert _src(slow.lease()) != _src(page)


def test_a_rejected_page_is_asked_of_somebody_else(desk):
  first = desk.worker()
  page = first.lease()
  first.do_page(page)
  desk.db.execute("UPDATE lease SET state = 'rejected' WHERE id = ?", (page['lease'],))
  rest = first.lease()
  assert rest['number'] == 2 and _src(rest) != _src(page)
  assert _src(desk.worker().lease()) == _src(page)


def test_the_page_is_as_it_was_after_a_reload(desk):
  worker = desk.worker()
  page = worker.lease()
  on = {'e': 'on', 't': 5, 'i': 1, 's': 'touch', 'x': 0.25, 'y': 0.75}
  off = {'e': 'off', 't': 6, 'i': 1, 's': 'touch'}
  key = {'e': 'on', 't': 7, 'i': 0, 's': 'key'}
  worker.call('events', worker.batch(page['lease'], 0, on, off, key))
  worker.call('events', worker.batch(page['lease'], 3, on))
  again = worker.lease()
  assert again['lease'] == page['lease']
  assert (again['next_seq'], again['missing']) == (4, [1, 2])
  assert again['state']['selected'] == [
    {'i': 0, 'x': None, 'y': None},
    {'i': 1, 'x': 0.25, 'y': 0.75},
  ]


def test_another_tab_takes_over(desk):
  worker = desk.worker()
  page, old = worker.lease(), worker.tab
  body = worker.batch(page['lease'], 0)
  worker.call('events', body)
  worker.tab = 'f' * 16
  assert worker.lease()['next_seq'] == 1
  assert worker.call('events', body)['ok'] == 0  # stored before: a repeat
  worker.tab = old
  for name, body in (
    ('events', worker.batch(page['lease'], 1)),
    ('submit', worker.end(page['lease'], 0)),
  ):
    with pytest.raises(Refusal) as refused:
      worker.call(name, body)
    assert refused.value.answer['error'] == 'moved'


def test_a_personal_link_is_the_same_worker_everywhere(desk):
  (worker,), (token,) = desk.keys.personal.keys(), desk.keys.personal.values()
  first, second = desk.join(token), desk.join(token)
  assert first.id == second.id == worker and first.token == second.token
  assert desk.join().id != desk.join().id  # the shared link: a new worker each time


def test_platform_ids_are_kept_apart(desk):
  person = {'workerId': 'A1PERSON', 'turkSubmitTo': 'https://www.mturk.com'}
  first = desk.worker(**person, hitId='3HIT', assignmentId='3ONE')
  for _ in range(2):
    first.do_page(first.lease())
  end = first.lease()
  assert end['submit_to'] == {
    'action': 'https://www.mturk.com/mturk/externalSubmit',
    'fields': {'assignmentId': '3ONE', 'code': end['code']},
  }
  second = desk.join(**person, hitId='3HIT', assignmentId='3TWO')
  assert second.id == first.id and second.token != first.token
  assert second.lease()['number'] == 1  # counted per assignment
  assert desk.join(PROLIFIC_PID='A1PERSON').id != first.id
  stored = '\n'.join(desk.db.iterdump())
  assert first.id in stored and not {'A1PERSON', '3HIT', '3ONE'} & set(stored.split("'"))
  assert desk.one('SELECT platform_id FROM identities.identity') == 'A1PERSON'
  with pytest.raises(Refusal, match='Accept the HIT'):
    desk.join(workerId='A2', assignmentId='ASSIGNMENT_ID_NOT_AVAILABLE')
  with pytest.raises(Refusal, match='not an address of Mechanical Turk'):
    desk.join(workerId='A2', turkSubmitTo='https://evil.example')


def test_all_of_a_worker_is_deleted(desk):
  worker, other = desk.worker(PROLIFIC_PID='somebody'), desk.worker()
  for each in (worker, other):
    each.do_page(each.lease())
  assert desk.do(sessions.delete_worker, worker.id) == 2
  for table in ('lease', 'session', 'identities.identity'):
    assert desk.one(f'SELECT count(*) FROM {table} WHERE worker = ?', worker.id) == 0
  assert desk.one('SELECT count(*) FROM batch') == 4  # those of the other worker
  with pytest.raises(Refusal, match='withdrawn'):
    desk.join(PROLIFIC_PID='somebody')
  with pytest.raises(Refusal, match='session has ended'):
    _ = worker.session
  rest = [desk.worker().lease() for _ in range(2)]
  assert all(page['kind'] == 'work' for page in rest)  # the deleted worker's page is free again


_TAKER = """
import pathlib, random, sys, time
from luab_jax.tools.annotate import database, leases, study

folder, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2])
rng, settings, db = random.Random(seed), study.read(folder), database.connect(folder)
for number in range(1000):
  worker = f'{seed:05x}{number:05x}'
  db.execute('INSERT INTO worker (id) VALUES (?)', (worker,))
  session = db.execute(
    'INSERT INTO session (worker, token, consent_at, pointer) VALUES (?, ?, 0, 0)', (worker, worker)
  ).lastrowid
  who = {'id': session, 'worker': worker}
  for _ in range(rng.randint(1, 9)):
    now = time.time_ns() // 1_000_000
    is_left = rng.random() < 0.15  # abandoned: the lease expires while others are at work
    times = leases.Times(now, now + (5 if is_left else 60_000))
    db.execute('BEGIN IMMEDIATE')
    lease = leases.give_page(db, settings, who, '0' * 16, times)
    db.execute('COMMIT')
    if lease is None:
      break
    if not is_left:
      db.execute("UPDATE lease SET state = 'done' WHERE id = ?", (lease,))
  if db.execute("SELECT count(*) FROM lease WHERE state = 'done'").fetchone()[0] == 3 * 12:
    break
  time.sleep(0.002)
"""


@pytest.mark.slow
def test_processes_give_each_page_exactly_three_times(tmp_path):
  folder = make_study(
    tmp_path, '--answers=3', '--page_size=1', '--pages_per_worker=99', classes=('cat',), count=12
  )
  takers = [
    subprocess.Popen([sys.executable, '-c', _TAKER, str(folder), str(seed)], cwd=ROOT)
    for seed in range(4)
  ]
  assert [taker.wait() for taker in takers] == [0] * 4
  db = Desk(folder, tmp_path / 'copy').db
  done = db.execute(
    "SELECT page, worker FROM lease WHERE state = 'done' ORDER BY page, worker"
  ).fetchall()
  by_page = [len(list(group)) for _, group in itertools.groupby(done, key=lambda row: row['page'])]
  assert by_page == [3] * 12
  assert len({tuple(row) for row in db.execute('SELECT page, worker FROM lease')}) == len(
    db.execute('SELECT 1 FROM lease').fetchall()
  )  # never twice to a worker
  assert (
    db.execute("SELECT count(*) FROM lease WHERE state = 'open'").fetchone()[0] > 0
  )  # abandoned
