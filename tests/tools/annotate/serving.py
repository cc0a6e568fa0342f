"""Studies that are served by their own process, and plain clients for them."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

from PIL import Image

from luab_jax.tools.annotate import __main__ as annotate
from luab_jax.tools.annotate import study

ROOT = pathlib.Path(__file__).resolve().parents[3]
ORIGIN = 1_800_000_000_000.0


def make_images(folder, classes=('cat', 'dog'), count=4):
  """Writes small JPEGs, each of a different colour, into class folders."""
  for label in classes:
    (folder / label).mkdir(parents=True, exist_ok=True)
    for number in range(count):
      color = (40 + 9 * number, 60 * classes.index(label), 120)
      Image.new('RGB', (32, 24), color).save(folder / label / f'{number}.jpg')
  return folder


def make_study(tmp_path, *options, task='grid', **images):
  """Makes a study of small images and returns its folder."""
  folder = make_images(tmp_path / 'images', **images)
  out = tmp_path / 'study'
  annotate.main(['init', f'--task={task}', f'--images={folder}', f'--out={out}', *options])
  return out


class Serving:
  """A process that serves a study; `port` stays the same over restarts."""

  def __init__(self, folder, *options):
    self.folder, self.options, self.port = folder, options, 0
    self.keys = study.read_secrets(folder)
    self.start()

  def start(self):
    command = [sys.executable, '-m', 'luab_jax.tools.annotate', 'serve', str(self.folder)]
    self.process = subprocess.Popen(
      [*command, f'--port={self.port}', *self.options],
      cwd=ROOT,
      env={**os.environ, 'PYTHONPATH': str(ROOT)},
      stdout=subprocess.PIPE,
      text=True,
    )
    self.said = []
    for line in self.process.stdout:
      self.said.append(line)
      if 'admin:' in line:
        break
    self.port = int(re.search(r'/admin#|:(\d+)/admin#', self.said[-1])[1])

  @property
  def url(self):
    return f'http://127.0.0.1:{self.port}'

  def kill(self):
    """Kills the process with SIGKILL, so that it cannot finish anything."""
    self.process.kill()
    self.process.wait()
    self.process.stdout.close()

  def stop(self):
    """Stops the process as Ctrl-C does; returns the exit status."""
    self.process.send_signal(signal.SIGINT)
    status = self.process.wait()
    self.process.stdout.close()
    return status

  def client(self, token=None):
    return Client(self.port, self.keys.join if token is None else token)


@contextlib.contextmanager
def serving(folder, *options):
  """Serves a study during the block."""
  server = Serving(folder, *options)
  try:
    yield server
  finally:
    if server.process.poll() is None:
      server.kill()


class Client:
  """A browser without a window: calls the server with a bearer token."""

  def __init__(self, port, token):
    self.port, self.token, self.tab = port, token, os.urandom(8).hex()

  def ask(self, method, path, body=None, **headers):
    """(status, headers, body) of the response to a request."""
    connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)
    try:
      connection.request(method, path, body, {k.replace('_', '-'): v for k, v in headers.items()})
      answer = connection.getresponse()
      return answer.status, answer.headers, answer.read()
    finally:
      connection.close()

  def post(self, name, body, **headers):
    """(status, answer) of an API call; `body`: bytes, or a value to send as JSON."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {'Authorization': f'Bearer {self.token}', **headers}
    status, _, answer = self.ask('POST', f'/api/{name}', body, **headers)
    return status, json.loads(answer)

  def call(self, name, body):
    """The answer of a call that succeeds."""
    status, answer = self.post(name, body)
    assert status == 200, answer
    return answer

  def join(self, **platform):
    """Consents and returns the answer; from then on, `token` is that of the session."""
    answer = self.call(
      'session', {'consent': True, 'pointer': 'fine', 'platform': platform or None}
    )
    self.token = answer['token']
    return answer

  def lease(self):
    return self.call('lease', {'tab': self.tab})

  def batch(self, lease, seq, *events):
    """A batch as the browser sends it; by default its only event opens the page."""
    events = events or ({'e': 'page', 't': 10.0 * seq, 'w': 1280, 'h': 720, 'dpr': 1},)
    return {
      'lease': lease,
      'tab': self.tab,
      'seq': seq,
      'origin': ORIGIN,
      'sent': 10.0 * seq + 9,
      'events': list(events),
    }

  def end(self, lease, last_seq, selected=(), icons=()):
    """The body of a submit request."""
    return {
      'lease': lease,
      'tab': self.tab,
      'last_seq': last_seq,
      'selected': list(selected),
      'icons': list(icons),
    }

  def do_page(self, page, slot=0):
    """Selects one image of a page and submits."""
    start = page['next_seq']
    on = {'e': 'on', 't': 10.0 * start + 5, 'i': slot, 's': 'mouse', 'x': 0.25, 'y': 0.5}
    self.call('events', self.batch(page['lease'], start))
    self.call('events', self.batch(page['lease'], start + 1, on))
    self.call('submit', self.end(page['lease'], start + 1, [slot]))

  def practise(self):
    """Does the practice page and returns the first work page."""
    page = self.lease()
    assert page['kind'] == 'practice'
    self.do_page(page)
    return self.lease()
