"""The server in its own process: its answers, and requests that must change nothing."""

import json
import re
import socket
import sqlite3

import pytest

from luab_jax.tools.annotate import web
from tests.tools.annotate.serving import make_study, serving


@pytest.fixture(scope='module')
def server(tmp_path_factory):
  """A server for a study of two pages of four images, answered by many workers, two pages each."""
  options = ('--pages_per_worker=2', '--answers=99', '--title=Cats </script><b>')
  with serving(make_study(tmp_path_factory.mktemp('server'), *options)) as server:
    yield server


@pytest.fixture
def worker(server):
  """A worker in the middle of the first page, one batch of which is stored."""
  client = server.client()
  client.join()
  client.page = client.practise()
  client.call('events', client.batch(client.page['lease'], 0))
  return client


def _files(server):
  return b''.join(path.read_bytes() for path in sorted(server.folder.glob('*.db*')))


def _dump(server):
  with sqlite3.connect(f'file:{server.folder}/study.db?mode=ro', uri=True) as db:
    return list(db.iterdump())


def test_a_worker_goes_from_consent_to_a_code(server):
  client = server.client()
  session = client.join()
  assert len(session['worker']) == 10 and not session['practice_done']
  page = client.practise()
  for number in (1, 2):
    assert (page['kind'], page['number'], page['of']) == ('work', number, 2)
    assert page['class']['name'] in ('cat', 'dog') and len(page['images']) == 4
    for image in page['images']:
      status, headers, data = client.ask('GET', image['src'])
      assert (status, headers['Content-Type'], data[:2]) == (200, 'image/jpeg', b'\xff\xd8')
    assert client.call('report', {'lease': page['lease'], 'slot': 3}) == {'ok': True}
    client.do_page(page)
    page = client.lease()
  assert page['done'] and len(page['code']) == 8
  assert client.lease() == page
  again = server.client(client.token)
  assert again.join() == {**session, 'practice_done': True}


def test_nothing_is_recorded_before_consent(server):
  stored = _files(server)
  client = server.client()
  assert client.ask('GET', '/w')[0] == client.ask('GET', '/static/app.js')[0] == 200
  assert client.post('session', {'consent': False, 'pointer': 'fine'})[0] == 422
  assert _files(server) == stored


def test_only_mechanical_turk_may_frame_the_page_of_its_studies():
  headers = web._headers(is_mturk=True)['Content-Security-Policy']
  assert 'frame-ancestors https://worker.mturk.com https://www.mturk.com' in headers
  assert 'form-action https://www.mturk.com https://workersandbox.mturk.com' in headers


def test_the_page_holds_the_settings_and_is_safe(server):
  status, headers, page = server.client().ask('GET', '/w')
  assert status == 200
  embedded = re.search(rb'<script type="application/json" id="study">(.*?)</script>', page)[1]
  settings = json.loads(embedded)
  assert settings['title'] == 'Cats </script><b>' and settings['pages'] == 2
  assert b'<b>' not in page
  policy = dict(part.split(' ', 1) for part in headers['Content-Security-Policy'].split('; '))
  assert policy['default-src'] == policy['frame-ancestors'] == "'none'"
  assert policy['script-src'] == "'self'" and 'unsafe' not in str(policy)
  assert headers['X-Content-Type-Options'] == 'nosniff'
  assert 'Set-Cookie' not in headers and 'Server' not in headers
  for name in set(re.findall(rb'/static/[\w.]+', page)):
    assert server.client().ask('GET', name.decode())[0] == 200, name


def test_repeats_change_nothing(server, worker):
  lease = worker.page['lease']
  first = worker.batch(lease, 0)
  on = worker.batch(lease, 1, {'e': 'on', 't': 5, 'i': 2, 's': 'pen', 'x': 0.5, 'y': 0.5})
  worker.call('events', on)
  end = worker.end(lease, 1, [2])
  stored = _dump(server)
  assert worker.call('events', on) == worker.call('events', on)
  assert _dump(server) == stored
  for _ in range(2):
    assert worker.call('events', first)['ok'] == 0
    assert worker.call('events', on)['ok'] == 1
    assert worker.call('submit', end) == {'ok': True}
  stored = _dump(server)
  for name, body in (('events', first), ('events', on), ('submit', end)):
    worker.call(name, body)
  assert _dump(server) == stored
  assert worker.post('submit', {**end, 'selected': []})[1]['error'] == 'done'
  assert worker.post('events', worker.batch(lease, 2))[1]['error'] == 'done'
  assert _dump(server) == stored


def _with(body, **changes):
  return json.dumps({**body, **changes}).encode()


def _event(worker, **fields):
  return worker.batch(worker.page['lease'], 1, {'t': 1, **fields})


# {case: (call, function of a worker that returns the body, status, error)}
_REFUSED = {
  'another batch of the same number': (
    'events',
    lambda w: _with(w.batch(w.page['lease'], 0), sent=99),
    *(409, 'conflict'),
  ),
  'a lease that is not there': ('events', lambda w: w.batch(1 << 50, 0), 404, 'lease'),
  'another tab': (
    'events',
    lambda w: _with(w.batch(w.page['lease'], 1), tab='0' * 16),
    409,
    'moved',
  ),
  'not a number': (
    'events',
    lambda w: json.dumps(_event(w, e='move', i=0, x=float('nan'), y=0)).encode(),
    *(400, 'json'),
  ),
  'infinity': ('events', lambda w: _with(w.batch(1, 0)).replace(b'1280', b'1e999'), 422, 'range'),
  'a slot too far': ('events', lambda w: _event(w, e='off', i=4, s='key'), 422, 'range'),
  'a negative slot': ('events', lambda w: _event(w, e='off', i=-1, s='key'), 422, 'range'),
  'a time before the page': ('events', lambda w: _event(w, e='hide', t=-1), 422, 'range'),
  'an event of the other task': (
    'events',
    lambda w: _event(w, e='put', c=0, s='key', x=0, y=0),
    *(422, 'range'),
  ),
  'an unknown event': ('events', lambda w: _event(w, e='fly'), 422, 'range'),
  'an unknown field': ('events', lambda w: _event(w, e='hide', more=1), 422, 'range'),
  'a field too many': ('events', lambda w: _with(w.batch(1, 0), more=1), 422, 'range'),
  'no events': ('events', lambda w: _with(w.batch(w.page['lease'], 1), events=[]), 422, 'range'),
  'too many events': (
    'events',
    lambda w: w.batch(w.page['lease'], 1, *[{'e': 'hide', 't': 1}] * 4001),
    *(422, 'range'),
  ),
  'a huge body': ('events', lambda w: b' ' * (256 << 10) + b'{}', 413, 'size'),
  'not JSON': ('events', lambda w: b'{"lease": ', 400, 'json'),
  'not UTF-8': ('lease', lambda w: b'{"tab": "\xff"}', 400, 'json'),
  'deep JSON': ('lease', lambda w: b'{"tab": ' + b'[' * 200_000, 422, 'range'),
  'a gap': ('submit', lambda w: w.end(w.page['lease'], 3), 409, 'missing'),
  'less than was sent': (
    'submit',
    lambda w: w.call('events', w.batch(w.page['lease'], 1)) and w.end(w.page['lease'], 0),
    *(422, 'state'),
  ),
  'another final state': ('submit', lambda w: w.end(w.page['lease'], 0, [1]), 422, 'state'),
  'icons of a grid': (
    'submit',
    lambda w: w.end(w.page['lease'], 0, icons=[{'c': 0, 'x': 0, 'y': 0}]),
    *(422, 'state'),
  ),
  'a report of no image': ('report', lambda w: {'lease': w.page['lease'], 'slot': 9}, 422, 'range'),
  'no consent': ('session', lambda w: {'consent': False, 'pointer': 'fine'}, 422, 'range'),
  'a tab that is none': ('lease', lambda w: {'tab': '../../etc'}, 422, 'range'),
}


@pytest.mark.parametrize('case', _REFUSED)
def test_what_is_refused_changes_nothing(server, worker, case):
  name, make, status, word = _REFUSED[case]
  body = make(worker)
  stored = _dump(server)
  answer = worker.post(name, body)
  assert (answer[0], answer[1]['error']) == (status, word), answer
  assert isinstance(answer[1]['message'], str) and '\n' not in answer[1]['message']
  assert _dump(server) == stored
  if word == 'missing':
    assert answer[1]['missing'] == [1, 2, 3]


def test_foreign_tokens_leases_hosts_and_origins_change_nothing(server, worker):
  other = server.client()
  other.join()
  other.page = other.practise()
  lease = worker.page['lease']
  other.tab = worker.tab
  stored = _dump(server)
  for name, body in (
    ('events', other.batch(lease, 1)),
    ('submit', other.end(lease, 0)),
    ('report', {'lease': lease, 'slot': 0}),
  ):
    assert other.post(name, body)[0] == 404
  body = worker.batch(lease, 1)
  for token in ('', 'x', 'é', 'a' * 5000, server.keys.join, server.keys.admin, server.keys.key):
    stranger = server.client(token.encode().decode('latin-1'))
    for name in ('events', 'lease', 'submit', 'withdraw'):
      assert stranger.post(name, body)[0] in (401, 422), (token, name)
  for headers in (
    {'Host': 'evil.example'},
    {'Host': f'127.0.0.1:{server.port}.evil.example'},
    {'Host': ''},
    {'Origin': 'https://evil.example'},
    {'Origin': 'null'},
    {'Origin': f'https://127.0.0.1:{server.port}'},
    {'Authorization': ''},
    {'Authorization': f'Basic {worker.token}'},
    {'Authorization': f'Bearer {worker.token}', 'Origin': ''},
  ):
    status, answer = worker.post('events', body, **headers)
    assert 400 <= status < 500, (headers, answer)
  assert _dump(server) == stored
  worker.call('events', body)
  fine = {'Authorization': f'Bearer {worker.token}', 'Origin': f'http://localhost:{server.port}'}
  assert worker.post('events', body, **fine)[0] == 200


@pytest.mark.parametrize(
  'path',
  [
    '/i/..%2f..%2fsecret.json',
    '/i/%2e%2e/secret.json',
    '/i/../secret.json',
    '/i/' + '0' * 32 + '.jpg',
    '/static/../app.py',
    '/static/..%2fapp.py',
    '/static/worker.html',
    '/static/%00',
    '/api/session',
    '/secret.json',
    '/',
  ],
)
def test_no_other_file_is_served(server, path):
  status, headers, body = server.client().ask('GET', path)
  assert status in (404, 405) and b'import' not in body and 'Content-Security-Policy' in headers


def test_nonsense_on_the_wire_is_answered_or_dropped(server):
  for sent in (b'GET / HTTP/1.1\r\n\r\n', b'\x16\x03\x01\x02\x00' * 50, b'GET ' + b'a' * 100_000):
    with socket.create_connection(('127.0.0.1', server.port), timeout=60) as connection:
      connection.sendall(sent + b'\r\n\r\n')
      assert not connection.recv(1000).startswith(b'HTTP/1.1 2')
  assert server.client().ask('GET', '/w')[0] == 200


def test_too_many_requests_are_refused_for_one_session_alone(server, worker):
  found = {worker.post('lease', {'tab': 'no'})[0] for _ in range(300)}
  assert found == {422, 429}
  other = server.client()
  other.join()
  assert other.lease()['kind'] == 'practice'


def test_withdrawing_deletes_and_ends_the_session(server, worker):
  assert worker.tab.encode() in _files(server)
  assert worker.call('withdraw', {}) == {'ok': True}
  assert worker.tab.encode() not in _files(server)
  assert worker.post('lease', {'tab': worker.tab})[0] == 401
