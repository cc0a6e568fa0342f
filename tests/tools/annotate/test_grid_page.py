"""The grid in a real browser: points, traces, keys and links; no other server is contacted."""

import asyncio
import contextlib
import itertools
import math
import sqlite3
import threading
import time

import numpy as np
import pytest
from playwright.async_api import async_playwright
from playwright.sync_api import expect

from luab_jax.tools.annotate import events, replay
from tests.tools.annotate import grid
from tests.tools.annotate.browser import batches_of, events_of, leases_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  return grid.make_study(tmp_path_factory.mktemp('study'))


# Name: width, height, device pixels per CSS px, CSS px by which the page is scrolled. A zoom of
# 125 % is emulated by what it does: fewer CSS px in the window, and more device pixels for each.
_WINDOWS = {
  'scale 1': (1280, 800, 1, 0),
  'scale 1.5': (1280, 800, 1.5, 0),
  'scale 2': (1280, 800, 2, 0),
  'zoom 125 %': (1024, 640, 1.25, 0),
  'scrolled': (1280, 800, 1, 113.5),
}


def _put(worker, cdp, slot, place, press):
  """Presses an image at a place in fractions.

  Returns:
    (x, y, width, height) of pointer and image in CSS px, relative to the image, and the larger
    fractional part of the pointer's window coordinates.
  """
  tile = worker.tile(slot)
  left, top, width, height = worker.rect(tile)
  x, y = round(left + place[0] * width, 2), round(top + place[1] * height, 2)
  press(cdp, x, y)
  expect(tile).to_have_attribute('aria-pressed', 'true')
  dot = worker.rect(tile.locator('.dot'))
  assert (dot[0] + dot[2] / 2, dot[1] + dot[3] / 2) == pytest.approx((x, y), abs=0.6)
  return x - left, y - top, width, height, max(x - math.floor(x), y - math.floor(y))


def _click(cdp, x, y):
  for kind in ('mouseMoved', 'mousePressed', 'mouseReleased'):
    event = {'type': kind, 'x': x, 'y': y, 'button': 'left', 'clickCount': 1}
    cdp.send(
      'Input.dispatchMouseEvent', event if kind != 'mouseMoved' else event | {'button': 'none'}
    )


def _tap(cdp, x, y):
  cdp.send('Input.dispatchTouchEvent', {'type': 'touchStart', 'touchPoints': [{'x': x, 'y': y}]})
  cdp.send('Input.dispatchTouchEvent', {'type': 'touchEnd', 'touchPoints': []})


def test_points_are_where_the_pointer_was(worker, server, study):
  token = next(server.links)
  worker.start(token)
  cdp = worker.page.context.new_cdp_session(worker.page)
  places = itertools.cycle([(0.303, 0.711), (0.777, 0.154), (0.5, 0.5)])
  put = {}

  def resize(width, height, scale, *, mobile=False):
    size = {'width': width, 'height': height, 'deviceScaleFactor': scale, 'mobile': mobile}
    cdp.send('Emulation.setDeviceMetricsOverride', size)

  def press(slot, scroll, how):
    worker.tile(slot).evaluate("e => e.scrollIntoView({block: 'center'})")
    worker.page.evaluate(f'scrollBy(0, {scroll})')
    put[slot] = _put(worker, cdp, slot, next(places), how)

  for number, (width, height, scale, scroll) in enumerate(_WINDOWS.values()):
    resize(width, height, scale)
    press(2 * number, scroll, _click)
    press(2 * number + 1, scroll, _click)
  worker.page.mouse.move(1, 1)
  cdp.send('Emulation.setTouchEmulationEnabled', {'enabled': True})
  resize(390, 844, 3, mobile=True)
  press(10, 0, _tap)
  press(11, 0, _tap)
  worker.status('saved')
  (lease,) = leases_of(study, token)
  found = {event.i: event for event in events_of(study, lease, events.On)}
  assert sorted(found) == sorted(put) == list(range(grid.IMAGES))
  for slot, (x, y, width, height, _) in put.items():
    assert found[slot].x * width == pytest.approx(x, abs=0.1)
    assert found[slot].y * height == pytest.approx(y, abs=0.1)
  # Whole pixels, as in `click` events, would not be exact enough.
  assert max(fraction for *_, fraction in put.values()) > 0.5
  assert [found[slot].s for slot in (0, 9, 10, 11)] == ['mouse', 'mouse', 'touch', 'touch']
  pages = events_of(study, lease, events.Page)
  assert {1, 1.5, 2, 1.25, 3} == {page.dpr for page in pages}
  _boxes_are_right(worker, study, lease)
  # Touch does not hover.
  hovers = events_of(study, lease, events.Enter, events.Move)
  assert hovers and not [hover for hover in hovers if hover.t > pages[-1].t]


def _boxes_are_right(worker, study, lease):
  boxes = {box.i: box for box in events_of(study, lease, events.Box)}
  scroll = worker.page.evaluate('scrollY')
  for slot in range(grid.IMAGES):
    left, top, width, height = worker.rect(worker.tile(slot))
    box = boxes[slot]
    assert (box.x, box.y) == pytest.approx((left, top + scroll), abs=0.02)
    assert (box.w, box.h) == pytest.approx((width, height), abs=0.02)


async def _move_fast(endpoint, url, points):
  """Sends 250 positions per second, without waiting for the page."""
  async with async_playwright() as started:
    found = await started.chromium.connect_over_cdp(endpoint)
    (page,) = [p for context in found.contexts for p in context.pages if p.url == url]
    cdp = await page.context.new_cdp_session(page)
    start, sent = time.monotonic(), []
    for number, (x, y) in enumerate(points):
      await asyncio.sleep(max(0, start + number / 250 - time.monotonic()))
      event = {'type': 'mouseMoved', 'x': x, 'y': y, 'button': 'none'}
      sent.append(asyncio.create_task(cdp.send('Input.dispatchMouseEvent', event)))
    await asyncio.gather(*sent)


@pytest.mark.parametrize('track', ['raw', '60hz'])
def test_a_busy_page_loses_no_position(worker, server, study, chromium, track):
  token = next(server.links)

  def settings(route):
    answer = route.fetch()
    route.fulfill(response=answer, body=answer.text().replace('"track": "raw"', '"track": "60hz"'))

  if track == '60hz':
    worker.page.route('**/w', settings)
  worker.start(token)
  left, top, width, height = worker.rect(worker.tile(2))
  turns = [number * math.tau / 1000 for number in range(1000)]
  points = [
    (left + width * (0.5 + 0.4 * math.cos(t)), top + height * (0.5 + 0.4 * math.sin(t)))
    for t in turns
  ]
  worker.page.evaluate(
    'busy = setInterval(() => { const end = performance.now() + 80; '
    'while (performance.now() < end); }, 100)'
  )
  url = worker.page.url
  thread = threading.Thread(target=lambda: asyncio.run(_move_fast(chromium.endpoint, url, points)))
  thread.start()
  while thread.is_alive():
    worker.page.wait_for_timeout(100)
  worker.page.evaluate('clearInterval(busy)')
  worker.tile(2).click()
  worker.status('saved')
  (lease,) = leases_of(study, token)
  moves = [move for move in events_of(study, lease, events.Move) if move.i == 2]
  times = [move.t for move in moves]
  assert times == sorted(times)
  if track == 'raw':
    found = [(left + width * move.x, top + height * move.y) for move in moves]
    assert len(found) >= 1000
    assert np.allclose(found[:1000], points, atol=0.01)
    moves = replay.replay_grid(batches_of(study, lease), thin=True).tiles[2].trace
    times = [move.time_ms for move in moves]
    assert times == sorted(times)
  assert 60 < len(times) < 1000
  # 61 positions after any other, about a second must have passed; the very last was forced.
  assert all(late - early >= 998 for early, late in zip(times, times[61:-1], strict=False))


def test_keys_alone_do_all_from_consent_to_submit(worker, server, study):
  worker.open(server.keys.join)
  keys = worker.page.keyboard
  assert worker.posts == []  # nothing before consent
  for label in ('I agree, start', 'Next', 'Start practising'):
    worker.says(label)
    keys.press('Tab')
    if label == 'Start practising':
      keys.press('Tab')  # skips "Back"
    keys.press('Enter')
  worker.ready()
  client = server.client(server.keys.join)
  client.join()
  for slot in client.lease()['answers']:
    _go(worker, slot)
    keys.press('Space')
  _hand_in(worker)
  worker.says('Well done')
  keys.press('Enter')
  for number in (1, 2):
    worker.says(f'Page {number} of 2')
    worker.ready()
    _choose_by_keys(worker)
    _hand_in(worker)
  worker.says('completion code')
  assert len(worker.page.locator('.code').inner_text()) == 8
  with contextlib.closing(sqlite3.connect(study / 'study.db')) as db:
    (lease,) = db.execute('SELECT max(lease) FROM answer').fetchone()
  chosen = [(on.i, on.s, on.x, on.y) for on in events_of(study, lease, events.On)]
  assert chosen == [(1, 'key', None, None), (4, 'key', 0.55, 0.48), (1, 'undo', None, None)]
  assert events_of(study, lease, events.Move) == []


def _go(worker, slot):
  """Moves the focus to an image with the keyboard, from wherever it is."""
  keys = worker.page.keyboard
  while not worker.page.evaluate("!!document.activeElement.closest('.tile')"):
    keys.press('Tab')
  keys.press('Home')
  for _ in range(slot // 3):
    keys.press('ArrowDown')
  for _ in range(slot % 3):
    keys.press('ArrowRight')
  expect(worker.tile(slot)).to_be_focused()


def _choose_by_keys(worker):
  keys = worker.page.keyboard
  _go(worker, 1)
  keys.press('Space')
  keys.press('ArrowDown')
  for key in ('Enter', 'Shift+ArrowRight', 'ArrowUp', 'ArrowUp', 'Enter'):
    keys.press(key)
  expect(worker.tile(4)).to_have_attribute('aria-pressed', 'true')
  _go(worker, 1)
  keys.press('Space')
  keys.press('Control+z')
  expect(worker.page.locator('.count')).to_have_text('2 selected')


def _hand_in(worker):
  keys = worker.page.keyboard
  while not worker.page.evaluate("document.activeElement.id === 'submit'"):
    keys.press('Tab')
  keys.press('Enter')


def test_platforms_add_their_parameters_to_the_link(worker, server, study):
  join, agree = server.keys.join, worker.page.get_by_role('button', name='I agree, start')
  preview = 'assignmentId=ASSIGNMENT_ID_NOT_AVAILABLE&hitId=H'
  worker.page.goto(f'{server.url}/w?{preview}#{join}')
  expect(agree).to_be_disabled()
  worker.says('accept the task to begin')
  # After the fragment, where a platform adds them if it does not parse the link.
  worker.page.goto(f'{server.url}/w#{join}?workerId=W&hitId=H&assignmentId=A&source=mail')
  worker.page.reload()
  worker.press('I agree, start')
  worker.says('1 of 2')
  with contextlib.closing(sqlite3.connect(study / 'identities.db')) as db:
    found = db.execute('SELECT platform, platform_id, hit_id, assignment_id FROM identity')
    assert found.fetchall() == [('mturk', 'W', 'H', 'A')]
