"""Many workers on the annotation server, which is killed halfway: lost events and latencies.

Each worker sends a batch of events per second and submits a page every ten seconds, over loopback,
as the page does: a batch is repeated until it is acknowledged. Halfway, the server gets SIGKILL and
is restarted a second later. At the end, every event sent is looked up in the database. Latencies
are those of the requests that got a response, from request to response. Meanwhile, 4 KB are written
and synchronized in the same folder five times per second.

  python -m benchmarks annotate [--workers=50] [--seconds=60] [--rate=60] [--dir=/tmp] [--tiny]
"""

import collections
import contextlib
import http.client
import importlib.metadata
import io
import json
import os
import pathlib
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
from PIL import Image

from benchmarks import harness
from luab_jax.tools.annotate import __main__ as annotate
from luab_jax.tools.annotate import database, replay, study

PAGE_S = 10  # from one submit to the next


class Server:
  """A server process for a study."""

  def __init__(self, folder):
    self.folder, self.port = folder, 0
    self.start()

  def start(self):
    command = [sys.executable, '-m', 'luab_jax.tools.annotate', 'serve', str(self.folder)]
    self.process = subprocess.Popen(
      [*command, f'--port={self.port}'], cwd=harness.ROOT, stdout=subprocess.PIPE, text=True
    )
    first = self.process.stdout.readline()
    self.port = int(re.search(r'http://127\.0\.0\.1:(\d+)', first)[1])

  def end(self, how):
    how()
    self.process.wait()
    self.process.stdout.close()


class Worker(threading.Thread):
  """Works until its time is over, then ends its page."""

  def __init__(self, server, token, number, options, latencies):
    super().__init__()
    self.server, self.token, self.options = server, token, options
    self.latencies = latencies  # {call: [seconds of each request that got a response]}
    self.tab = f'{number:016x}'
    self.sent = []  # batches
    self.longest = 0.0  # seconds from the first try of a request to its response
    self._connection = None

  def run(self):
    time.sleep(int(self.tab, 16) / self.options.workers)  # not all at the same moment
    asked = {'consent': True, 'pointer': 'fine', 'platform': None}
    self.token = self._call('session', asked)['token']
    page = self._page()
    self._send(page, 0, time.time())
    self._end(page, 0)  # the practice page
    start = time.time()
    for second in range(self.options.seconds):
      if second % PAGE_S == 0:
        page = self._page()
      time.sleep(max(start + second + 1 - time.time(), 0))
      self._send(page, second % PAGE_S, start + second)
      if second % PAGE_S == PAGE_S - 1 or second == self.options.seconds - 1:
        self._end(page, second % PAGE_S)
    self._connection.close()

  def _page(self):
    return self._call('lease', {'tab': self.tab})

  def _send(self, page, seq, start):
    """Sends the moves of one second."""
    step = 1000 / self.options.rate
    slot = seq % len(page['images'])
    moves = [
      {'e': 'move', 't': round(k * step, 1), 'i': slot, 'x': 0.512345, 'y': round(k / 100, 6)}
      for k in range(self.options.rate)
    ]
    body = {'lease': page['lease'], 'tab': self.tab, 'seq': seq}
    body |= {'origin': round(start * 1000, 1), 'sent': 1000, 'events': moves}
    self.sent.append(body)
    assert self._call('events', body)['ok'] == seq

  def _end(self, page, seq):
    self._call('submit', {'lease': page['lease'], 'tab': self.tab, 'last_seq': seq})

  def _call(self, name, body):
    """Returns the response to a request, which is repeated until there is one."""
    first, text = time.perf_counter(), json.dumps(body)
    while True:
      began = time.perf_counter()
      try:
        if not self._connection:
          self._connection = http.client.HTTPConnection('127.0.0.1', self.server.port, timeout=20)
        self._connection.request(
          'POST', f'/api/{name}', text, {'Authorization': f'Bearer {self.token}'}
        )
        response = self._connection.getresponse()
        answer = json.loads(response.read())
      except (OSError, http.client.HTTPException, ValueError):
        self._connection.close()
        self._connection = None
        time.sleep(0.1)
        continue
      if response.status != 200:
        raise RuntimeError(f'{name}: {response.status} {answer}')
      now = time.perf_counter()
      self.latencies[name].append(now - began)
      self.longest = max(self.longest, now - first)
      return answer


def measure_disk(folder, is_over, seconds):
  """Appends how long a synchronized write of 4 KB takes, five times per second."""
  with open(folder / 'fdatasync', 'wb', buffering=0) as file:
    while not is_over.wait(0.2):
      began = time.perf_counter()
      file.write(bytes(4096))
      os.fdatasync(file.fileno())
      seconds.append(time.perf_counter() - began)


def make_study(folder, options):
  """Creates a study with more pages than a worker needs, each for all workers."""
  (folder / 'images' / 'cat').mkdir(parents=True)
  for number in range(2 + options.seconds // PAGE_S):
    Image.new('RGB', (32, 24), (number, 90, 90)).save(folder / 'images' / 'cat' / f'{number}.jpg')
  out = folder / 'study'
  command = ['init', '--task=grid', f'--images={folder / "images"}', f'--out={out}']
  command += ['--page_size=1', f'--answers={options.workers}', '--pages_per_worker=1000']
  with contextlib.redirect_stdout(io.StringIO()):
    annotate.main(command)
  return out


def count(folder, workers):
  """Returns (events sent, events lost, events stored more than once or never sent)."""
  sent = collections.Counter(
    (batch['lease'], batch['seq'], event['t'])
    for worker in workers
    for batch in worker.sent
    for event in batch['events']
  )
  db = database.connect(folder)
  stored = collections.Counter(
    (batch.lease, batch.seq, event.t)
    for batch in replay.decode(row['events'] for row in db.execute('SELECT events FROM batch'))
    for event in batch.events
  )
  assert db.execute('PRAGMA integrity_check').fetchone()[0] == 'ok'
  db.close()
  return sent.total(), (sent - stored).total(), (stored - sent).total()


def run(folder, options):
  """Runs once; returns {name: figures} of the disk, of batches and of submits."""
  out = make_study(folder, options)
  server, latencies = Server(out), collections.defaultdict(list)
  token = study.read_secrets(out).join
  workers = [Worker(server, token, n, options, latencies) for n in range(options.workers)]
  is_over, synced = threading.Event(), []
  disk = threading.Thread(target=measure_disk, args=(folder, is_over, synced))
  for thread in (disk, *workers):
    thread.start()
  time.sleep(options.seconds / 2)
  server.end(server.process.kill)
  time.sleep(1)
  server.start()
  for worker in workers:
    worker.join()
  is_over.set()
  disk.join()
  server.end(server.process.terminate)
  sent, lost, twice = count(out, workers)
  figures = {
    name: dict(zip(('p50, ms', 'p99, ms'), 1000 * np.quantile(seconds, (0.5, 0.99)), strict=True))
    for name, seconds in (
      ('fdatasync of 4 KB, meanwhile', synced),
      ('batch', latencies['events']),
      ('submit', latencies['submit']),
    )
  }
  longest = max(worker.longest for worker in workers)
  figures['submit'] |= {'sent': sent, 'lost': lost, 'twice': twice, 'longest': longest}
  return figures


def main():
  parser = harness.parser(__doc__, rounds=1)
  parser.add_argument('--workers', type=int, default=50)
  parser.add_argument('--seconds', type=int, default=60, help='working time of each worker')
  parser.add_argument('--rate', type=int, default=60, help='events per second of each worker')
  parser.add_argument('--dir', default=None, help='where the temporary folder goes')
  parser.add_argument('--tiny', action='store_true', help='four workers, three seconds, for tests')
  options = parser.parse_args()
  if options.tiny:
    options.workers, options.seconds = 4, 3
  turns = []
  for _ in range(options.rounds):
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
      turns.append(run(pathlib.Path(name), options))
  by_name = {name: [turn[name] for turn in turns] for name in turns[0]}
  first = next(iter(by_name.values()))
  result = {
    'case': f'annotation server, {options.workers} workers, {options.rate} events per second each, '
    f'{options.seconds} s, one SIGKILL',
    'unit': '',
    'rounds': options.rounds,
    'show': ['p50, ms', 'p99, ms'],
    'alternatives': {name: harness.summarise(figures, first) for name, figures in by_name.items()},
  }
  for name in by_name:
    shown = (f'{key} {harness.digits(harness.median(result, name, key))}' for key in result['show'])
    print(f'  {name}:', ', '.join(shown))
  worst = {key: max(turn['submit'][key] for turn in turns) for key in ('lost', 'twice', 'longest')}
  goals = [
    harness.goal('events lost', worst['lost'], at_most=0),
    harness.goal('events stored twice', worst['twice'], at_most=0),
    harness.goal('p99 of submit, ms', harness.median(result, 'submit', 'p99, ms'), at_most=200),
  ]
  notes = [
    f'{turns[0]["submit"]["sent"]:,} events per run. A request that the server did not answer was '
    f'repeated; the longest wait for an answer, over the kill and the restart, was '
    f'{worst["longest"]:.1f} s. Workers and server share the machine.'
  ]
  versions = {name: importlib.metadata.version(name) for name in ('starlette', 'uvicorn')}
  versions['sqlite'] = sqlite3.sqlite_version
  harness.record('annotate', result, goals, notes=notes, versions=versions, results=options.results)
