"""A server that is killed, a full disk, and a study that changes while it is served."""

import itertools
import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from luab_jax.tools.annotate import __main__ as annotate
from tests.tools.annotate.serving import ROOT, Client, make_study, serving

pytestmark = pytest.mark.slow


def _insist(client, name, body):
  """Repeats a call until it succeeds, as the page does."""
  while True:
    try:
      status, answer = client.post(name, body)
    except (OSError, ValueError):  # refused, reset, or cut off in the middle
      time.sleep(0.02)
      continue
    if status == 200:
      return answer
    assert status in (429, 503, 507), answer
    time.sleep(0.02)


def _work(client, sent, stop):
  """Does pages until `stop` is set; records {(lease, seq): batch} in `sent`."""
  page = _insist(client, 'lease', {'tab': client.tab})
  while not stop.is_set():
    for seq in range(page['next_seq'], page['next_seq'] + 15):
      moves = [{'e': 'move', 't': 10 * seq + k, 'i': 0, 'x': 0.5, 'y': k / 60} for k in range(60)]
      sent[page['lease'], seq] = client.batch(page['lease'], seq, *moves)
      assert _insist(client, 'events', sent[page['lease'], seq])['ok'] == seq
    _insist(client, 'submit', client.end(page['lease'], seq))
    page = _insist(client, 'lease', {'tab': client.tab})
    assert not page.get('done')


def test_a_killed_server_loses_nothing_and_stores_nothing_twice(tmp_path):
  folder = make_study(
    tmp_path, '--answers=9', '--page_size=1', '--pages_per_worker=999', classes=('cat',), count=200
  )
  with serving(folder) as server:
    sent, stop, clients = {}, threading.Event(), [server.client() for _ in range(4)]
    for client in clients:
      client.join()
    threads = [threading.Thread(target=_work, args=(c, sent, stop)) for c in clients]
    for thread in threads:
      thread.start()
    for kill in range(3):
      while len(sent) < 60 * (kill + 1):
        time.sleep(0.01)
      server.kill()  # most likely in the middle of a page and of a commit
      server.start()
    stop.set()
    for thread in threads:
      thread.join()
    assert server.stop() in (0, 130)
  with sqlite3.connect(folder / 'study.db') as db:
    stored = {
      (lease, seq): raw for lease, seq, raw in db.execute('SELECT lease, seq, events FROM batch')
    }
    assert {key: json.loads(raw) for key, raw in stored.items()} == sent
    assert db.execute('PRAGMA integrity_check').fetchone() == ('ok',)
    assert db.execute('SELECT count(*), count(DISTINCT lease) FROM answer').fetchone()[0] > 4


def test_a_full_disk_says_so_and_goes_on_when_there_is_room(tmp_path):
  folder = make_study(tmp_path)
  with serving(folder) as server:
    client = server.client()
    client.join()
    page = client.practise()
    client.call('events', client.batch(page['lease'], 0))
    body = client.batch(page['lease'], 1)
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    # Simulates a full disk: no file may grow beyond one page of the database.
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (4096, before[1]))
    for name, asked in (('events', body), ('submit', client.end(page['lease'], 0))):
      status, answer = client.post(name, asked)
      assert (status, answer['error']) == (507, 'full')
    assert client.ask('GET', '/w')[0] == 200
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)
    assert client.call('events', body)['ok'] == 1
    assert client.lease()['next_seq'] == 2
    client.call('submit', client.end(page['lease'], 1))
  with sqlite3.connect(folder / 'study.db') as db:
    assert db.execute('PRAGMA integrity_check').fetchone() == ('ok',)


def test_the_demo_is_ready_to_be_tried_out(tmp_path):
  command = [sys.executable, '-m', 'luab_jax.tools.annotate', 'demo', '--task=icons', '--out=demo']
  for _ in range(2):  # the second time the demo study exists already
    process = subprocess.Popen(
      [*command, '--port=0'],
      cwd=tmp_path,
      env={**os.environ, 'PYTHONPATH': str(ROOT), 'DISPLAY': '', 'WAYLAND_DISPLAY': ''},
      stdout=subprocess.PIPE,
      text=True,
    )
    said = ''.join(itertools.islice(process.stdout, 3))
    port, token = re.search(r'everyone: +http://127\.0\.0\.1:(\d+)/w#(\S+)', said).groups()
    client = Client(int(port), token)
    client.join()
    page = client.lease()
    assert page['kind'] == 'practice' and 'kite' in {icon['name'] for icon in page['classes']}
    admin = 'Bearer ' + re.search(r'/admin#(\S+)', said)[1]
    assert client.ask('GET', '/admin/api/status', Authorization=admin)[0] == 200
    process.send_signal(signal.SIGINT)
    assert process.wait() in (0, 130)
    process.stdout.close()


def test_a_worker_is_forgotten_while_the_study_is_served(tmp_path, capsys):
  folder = make_study(tmp_path)
  with serving(folder) as server:
    client, other = server.client(), server.client()
    worker = client.join(PROLIFIC_PID='5f0somebody')['worker']
    page = client.practise()
    client.do_page(page)
    other.join()
    other.practise()
    annotate.main(['forget', str(folder), worker])
    assert f'Deleted worker {worker}: 2 answers' in capsys.readouterr().out
    assert client.post('lease', {'tab': client.tab})[0] == 401
    assert other.lease()['kind'] == 'work'
    files = b''.join(path.read_bytes() for path in folder.glob('*.db*'))
    assert b'5f0somebody' not in files and client.tab.encode() not in files
    assert other.tab.encode() in files
    assert server.stop() in (0, 130)
