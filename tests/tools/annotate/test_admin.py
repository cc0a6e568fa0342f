"""The researcher's side: counts, verdicts and refused requests."""

import json

import pytest

from luab_jax.tools.annotate import admin_queries, database, evaluation, replay, visits
from luab_jax.tools.annotate.refusals import Refusal
from tests.tools.annotate import filled_study
from tests.tools.annotate.serving import make_study, serving

NOW = 1_800_000_000_000
MANNERS = ('careful', 'none')


@pytest.fixture
def db(tmp_path):
  """A study of two pages that need two answers each; the first page has them."""
  filled_study.make(tmp_path / 'study', manners=MANNERS, answers=2, ended=NOW)
  connection = database.connect(tmp_path / 'study')
  yield connection
  connection.close()


def _evaluate(db, folder):
  rows = evaluation.evaluate(db, folder, 'grid')
  evaluation.keep(db, rows)
  return [row.lease for row in rows]


def test_counts(db, tmp_path):
  assert _evaluate(db, tmp_path / 'study') == [1, 2]
  status = admin_queries.status(db, 2, NOW)
  assert status['pages'] == {'all': 2, 'done': 1, 'started': 0}
  assert status['answers'] == {'done': 2, 'left': 2, 'rejected': 0, 'judged': 0}
  (opened,) = db.execute('SELECT min(issued) FROM lease').fetchone()
  # Two answers since then, two are left.
  assert abs(status['end'] - NOW - (NOW - opened)) <= admin_queries.MINUTE / 2
  assert admin_queries.status(db, 2, NOW + 2 * admin_queries.HOUR)['end'] is None
  times = sorted(visits.replay_visit(evaluation.log(db, lease)).visible_ms for lease in (1, 2))
  assert status['page_ms'] == pytest.approx(sum(times) / 2, abs=0.1)


def test_who_works_now(db):
  db.execute("UPDATE lease SET state = 'open' WHERE id = 2")
  (last,) = db.execute('SELECT max(server_ms) FROM batch WHERE lease = 2').fetchone()
  assert admin_queries.status(db, 2, last + 1000)['active'] == 1
  assert admin_queries.status(db, 2, last + 2 * admin_queries.ACTIVE_MS)['active'] == 0


def test_those_with_flags_come_first(db, tmp_path):
  assert _evaluate(db, tmp_path / 'study') and not _evaluate(db, tmp_path / 'study')
  listed = admin_queries.workers(db)
  assert [int(row['worker']) for row in listed] == [1, 0]  # as in MANNERS
  assert 'none' in listed[0]['flags'] and 'none' not in listed[1]['flags']
  db.execute("UPDATE session SET code = 'AB12CD34' WHERE worker = ?", [listed[1]['worker']])
  assert [row['codes'] for row in admin_queries.workers(db)] == ['', 'AB12CD34']


def test_clicks_and_dwell_of_a_page(db):
  page = admin_queries.page(db, 1, 'grid')
  _, state = db.execute('SELECT lease, state FROM answer WHERE lease = 1').fetchone()
  selected = json.loads(state)['selected']
  assert [image['slot'] for image in page['images'] if image['clicks']] == selected
  tiles = replay.replay_grid(evaluation.log(db, 1)).tiles
  for image in page['images']:
    trace = tiles[image['slot']].trace
    assert 0 < sum(image['dwell'].values()) <= trace[-1].time_ms - trace[0].time_ms


def test_a_page_that_was_asked_again_is_not_taken_back(db):
  (worker, session) = db.execute('SELECT worker, session FROM lease WHERE id = 1').fetchone()
  admin_queries.judge(db, 2, 'rejected', 2, NOW)
  admin_queries.judge(db, 2, None, 2, NOW)  # nobody has leased the page yet
  admin_queries.judge(db, 2, 'rejected', 2, NOW)
  db.execute("INSERT INTO worker (id) VALUES ('another')")
  db.execute(
    'INSERT INTO lease (page, worker, session, tab, issued, expires) VALUES (1, ?, ?, ?, ?, ?)',
    ('another', session, '', NOW, NOW + 1000),
  )
  with pytest.raises(Refusal, match='stays rejected'):
    admin_queries.judge(db, 2, 'accepted', 2, NOW)
  admin_queries.judge(db, 2, 'accepted', 2, NOW + 2000)  # that lease has expired
  assert admin_queries.status(db, 2, NOW)['answers']['rejected'] == 0
  with pytest.raises(Refusal, match='no such answer'):
    admin_queries.judge(db, 99, 'accepted', 2, NOW)


@pytest.fixture(scope='module')
def server(tmp_path_factory):
  """A server for a study of one page with four images."""
  folder = make_study(tmp_path_factory.mktemp('one'), classes=('cat',))
  with serving(folder) as running:
    yield running


def _admin(server, path, body=None, token=None):
  client = server.client(token or server.keys.admin)
  method = 'GET' if body is None else 'POST'
  status, _, answer = client.ask(
    method,
    f'/admin/api/{path}',
    None if body is None else json.dumps(body),
    Authorization=f'Bearer {client.token}',
  )
  return status, json.loads(answer)


def test_a_rejected_page_is_asked_again(server):
  first, second = server.client(), server.client()
  first.join()
  first.do_page(first.practise())
  second.join()
  assert second.practise().get('done')
  status, answers = _admin(server, 'pages/1')
  ((lease, worker),) = [(each['lease'], each['worker']) for each in answers['answers']]
  assert status == 200 and _admin(server, f'workers/{worker}')[1][0]['lease'] == lease
  assert _admin(server, f'answers/{lease}/verdict', {'verdict': 'rejected'}) == (200, {'ok': True})
  assert _admin(server, 'status')[1]['answers'] == {
    'done': 0,
    'left': 1,
    'rejected': 1,
    'judged': 1,
  }
  assert second.lease()['kind'] == 'work'
  assert first.lease().get('done')  # nobody gets the same page twice
  status, answer = _admin(server, f'answers/{lease}/verdict', {'verdict': 'accepted'})
  assert (status, answer['error']) == (409, 'taken')


def test_the_token_of_the_admin_link_alone_opens_it(server):
  worker = server.client()
  session = worker.join()['token']
  for token in (server.keys.join, session, server.keys.admin[:-1], 'x' * 22):
    for path in ('status', 'workers', 'pages', 'answers/1', 'links'):
      assert _admin(server, path, token=token)[0] == 401
    assert _admin(server, 'answers/1/verdict', {'verdict': 'rejected'}, token)[0] == 401
  assert worker.ask('GET', '/admin/api/status')[0] == 401
  assert _admin(server, 'answers/999')[0] == _admin(server, 'pages/999')[0] == 404
  assert _admin(server, 'pages?from=-1')[0] == 400
  assert _admin(server, 'answers/1/verdict', {'verdict': 'perhaps'})[0] == 422


@pytest.mark.slow
def test_export_says_where_it_is_and_what_comes_next(tmp_path):
  folder = make_study(tmp_path, '--pages_per_worker=2')
  with serving(folder) as server:
    worker = server.client()
    worker.join()
    page = worker.practise()
    while not page.get('done'):
      box = {'e': 'box', 't': 1.0, 'i': 0, 'x': 10.0, 'y': 150.0, 'w': 32.0, 'h': 24.0}
      worker.call('events', worker.batch(page['lease'], page['next_seq'], box))
      worker.do_page({**page, 'next_seq': page['next_seq'] + 1})
      page = worker.lease()
    status, answer = _admin(server, 'export', {})
    (folder / 'study.json').rename(folder / 'moved.json')
    failed, refusal = _admin(server, 'export', {})
  assert failed == 422 and refusal['message'].startswith(f'{folder} holds no study')
  assert status == 200 and 'tfds_builders.build' in answer['text']
  out = tmp_path / 'study_export'
  assert answer['folder'] == str(out) and (out / 'imagenet_ab_v1_0.tar.gz').exists()
