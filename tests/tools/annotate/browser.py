"""Debian's Chromium as the workers' browser, driven by Playwright."""

import contextlib
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import time

import pytest
from playwright.sync_api import expect

from luab_jax.tools.annotate import replay
from luab_jax.tools.annotate.study import hash_token

PATIENCE = 60_000  # ms; the machine may be busy
expect.set_options(timeout=PATIENCE)

_ARGUMENTS = (
  '--headless=new --no-sandbox --disable-quic --disable-background-networking --disable-sync '
  '--disable-component-update --no-first-run --remote-debugging-port=0 --disable-gpu'
).split()


class Chromium:
  """A Chromium process; the folder `profile` outlives it."""

  def __init__(self, playwright, profile):
    program = shutil.which('chromium')
    if not program:
      pytest.fail('no chromium here: apt-get install chromium')
    port = pathlib.Path(profile) / 'DevToolsActivePort'
    port.unlink(missing_ok=True)
    self.process = subprocess.Popen(
      [program, *_ARGUMENTS, f'--user-data-dir={profile}', 'about:blank'],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      start_new_session=True,
    )
    end = time.monotonic() + PATIENCE / 1000
    while not port.exists() or '\n' not in port.read_text():
      assert self.process.poll() is None and time.monotonic() < end, 'chromium does not start'
      time.sleep(0.02)
    self.endpoint = f'http://127.0.0.1:{port.read_text().split()[0]}'
    self.browser = playwright.chromium.connect_over_cdp(self.endpoint)

  def kill(self):
    """Kills all its processes with SIGKILL, so that they cannot write anything."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.process.pid, signal.SIGKILL)
    self.process.wait()


class Worker:
  """A tab with the worker's page; records in `wrong` what a page must never do."""

  def __init__(self, context, server):
    self.server, self.wrong, self.posts = server, [], []
    context.set_default_timeout(PATIENCE)
    self.page = context.new_page()
    self.page.on('request', self._requested)
    self.page.on('pageerror', lambda error: self.wrong.append(str(error)))
    self.page.on('console', self._said)
    self.page.emulate_media(reduced_motion='reduce')

  def _requested(self, request):
    if not request.url.startswith(self.server.url + '/'):
      self.wrong.append(request.url)
    if request.method == 'POST':
      self.posts.append(request.url.rpartition('/')[2])

  def _said(self, message):
    # Chromium logs failed requests, which tests cause, and violations of the security policy.
    if 'Failed to load resource' not in message.text:
      self.wrong.append(message.text)

  def open(self, token):
    """Opens a link and waits for the first button."""
    self.page.goto(f'{self.server.url}/w#{token}')
    self.page.locator('button').first.wait_for()
    return self

  def start(self, token):
    """Does the practice page of a personal link, consents, and waits for all images of the page."""
    client = self.server.client(token)
    client.join()
    client.practise()
    self.open(token)
    self.press('I agree, start')
    return self.ready()

  def press(self, label):
    self.page.get_by_role('button', name=label, exact=True).click()

  def ready(self):
    """Waits until every image of the grid can be selected."""
    self.page.locator('.tile').first.wait_for()
    expect(self.page.locator('.tile:not([data-state=ready])')).to_have_count(0)
    return self

  def tile(self, slot):
    return self.page.locator('.tile').nth(slot)

  def rect(self, locator):
    """(left, top, width, height) in CSS px of the window."""
    return locator.evaluate(
      'e => (({x, y, width, height}) => [x, y, width, height])(e.getBoundingClientRect())'
    )

  def says(self, text):
    expect(self.page.get_by_text(text).first).to_be_visible()

  def status(self, word):
    expect(self.page.locator('.status')).to_have_attribute('data-state', word)

  def submit(self):
    self.page.locator('#submit').click()


def leases_of(folder, token):
  """Ids of the leases of work pages of the worker with a personal link, in order."""
  with contextlib.closing(sqlite3.connect(folder / 'study.db')) as db:
    rows = db.execute(
      'SELECT lease.id FROM lease JOIN page ON page.id = lease.page JOIN worker '
      "ON worker.id = lease.worker WHERE page.kind = 'work' AND worker.token = ? ORDER BY lease.id",
      (hash_token(token),),
    ).fetchall()
  return [lease for (lease,) in rows]


def batches_of(folder, lease):
  """The batches that the server stored for a lease, in order of their numbers."""
  with contextlib.closing(sqlite3.connect(folder / 'study.db')) as db:
    rows = db.execute('SELECT events FROM batch WHERE lease = ?', (lease,)).fetchall()
  return replay.decode(blob for (blob,) in rows)


def events_of(folder, lease, *kinds):
  """The events of some kinds in a lease, in the order in which they happened."""
  return [e for batch in batches_of(folder, lease) for e in batch.events if isinstance(e, kinds)]
