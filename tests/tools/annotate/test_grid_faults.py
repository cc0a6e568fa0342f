"""The grid in a real browser: kills, a full disk, broken images and second tabs lose no event."""

import collections

import pytest
from playwright.sync_api import expect

from luab_jax.tools.annotate import events
from tests.tools.annotate import browser, grid
from tests.tools.annotate.browser import Worker, batches_of, events_of, leases_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  return grid.make_study(tmp_path_factory.mktemp('study'))


def _wander(worker, start):
  """Moves over an image that is never selected, to five places used by no other move."""
  left, top, width, height = worker.rect(worker.tile(0))
  places = [(0.1 + 0.01 * (start + k), 0.9 - 0.008 * (start + k)) for k in range(5)]
  for x, y in places:
    worker.page.mouse.move(left + x * width, top + y * height)
  return places


def _written(worker, slot):
  """Waits until the click on an image is in the browser's own storage."""
  script = """slot => new Promise(done => {
    const look = () => {
      const all = request.result.transaction('batches').objectStore('batches').getAll();
      all.onsuccess = () => all.result.some(({body}) => JSON.parse(body).events
        .some(({e, i}) => e === 'on' && i === slot)) ? done() : setTimeout(look, 20);
    };
    const request = indexedDB.open('luab_jax');
    request.onsuccess = look;
  })"""
  worker.page.evaluate(script, slot)


def test_every_event_arrives_once_whatever_is_killed(playwright, server, study, tmp_path):
  token = next(server.links)
  chromium = browser.Chromium(playwright, tmp_path)
  try:
    context = chromium.browser.contexts[0]
    worker = Worker(context, server).start(token)
    moved = _wander(worker, 0)
    grid.select(worker, 1)
    server.kill()
    moved += _wander(worker, 5)
    grid.select(worker, 2)
    worker.status('offline')
    server.start()
    worker.status('saved')
    moved += _wander(worker, 10)
    grid.select(worker, 3)
    worker.page.reload()
    worker.ready()
    for slot in (1, 2, 3):
      expect(worker.tile(slot)).to_have_attribute('aria-pressed', 'true')
    context.set_offline(True)  # until the page says so, however long that takes
    moved += _wander(worker, 15)
    grid.select(worker, 4)
    worker.status('offline')
    context.set_offline(False)
    worker.status('saved')
    context.set_offline(True)
    moved += _wander(worker, 20)
    grid.select(worker, 5)
    _written(worker, 5)
  finally:
    chromium.kill()
  chromium = browser.Chromium(playwright, tmp_path)
  try:
    again = Worker(chromium.browser.contexts[0], server).open(token).ready()
    grid.select(again, 6)
    again.submit()
    again.says('Page 2 of 2')
  finally:
    chromium.kill()
  assert worker.wrong == again.wrong == []
  lease = leases_of(study, token)[0]
  found = [(on.i, on.x, on.y) for on in events_of(study, lease, events.On)]
  assert found == [
    (slot, *(pytest.approx(v, abs=1e-4) for v in grid.place(slot))) for slot in range(1, 7)
  ]
  moves = [(round(e.x, 3), round(e.y, 3)) for e in events_of(study, lease, events.Move) if e.i == 0]
  expected = {(round(x, 3), round(y, 3)) for x, y in moved}
  counts = collections.Counter(move for move in moves if move in expected)
  assert set(counts.values()) == {1} and set(counts) == expected


def test_full_disk_another_tab_and_withdrawal(worker, context, server, study):
  token = next(server.links)
  worker.start(token)
  full = {'error': 'full', 'message': 'The disk is full.'}
  context.route('**/api/events', lambda route: route.fulfill(status=507, json=full))
  grid.select(worker, 3)
  worker.says('Not saved')
  context.unroute('**/api/events')
  worker.status('saved')
  (lease,) = leases_of(study, token)
  assert [on.i for on in events_of(study, lease, events.On)] == [3]
  grid.select(worker, 4)
  second = Worker(context, server).open(token).ready()
  worker.says('This page continues in another tab')
  for slot in (3, 4):
    expect(second.tile(slot)).to_have_attribute('aria-pressed', 'true')
  second.press('Withdraw')
  second.press('Delete and stop')
  second.says('You have withdrawn')
  assert leases_of(study, token) == [] and batches_of(study, lease) == []
  assert second.wrong == []


def test_loading_moves_nothing_and_broken_images_are_retried_or_reported(worker, server, study):
  token, tried = next(server.links), collections.Counter()

  def serve(route):
    name = route.request.url
    tried[name] += 1
    place = list(tried).index(name)
    if place == 1 or (place == 2 and tried[name] < 4):
      return route.fulfill(status=404)
    return route.continue_()

  worker.page.add_init_script(
    'window.shifts = []; new PerformanceObserver(list => shifts.push(...list.getEntries()'
    '.map(e => e.sources.map(s => s.node?.outerHTML)))).observe({type: "layout-shift", '
    'buffered: true})'
  )
  worker.page.route('**/i/*', serve)
  client = server.client(token)
  client.join()
  client.practise()
  worker.open(token)
  worker.press('I agree, start')
  broken = worker.page.locator('.broken')
  expect(broken).to_have_count(2)
  grid.select(worker, 5)
  worker.submit()
  worker.says('An image does not load')
  broken.nth(1).get_by_role('button', name='Try again').click()
  expect(broken).to_have_count(1)
  broken.get_by_role('button', name='Report').click()
  worker.says('Reported')
  worker.status('saved')
  (lease,) = leases_of(study, token)
  assert [event.i for event in events_of(study, lease, events.Broken)] == [1]
  assert worker.page.evaluate('shifts') == []
  worker.tile(5).click()  # deselects it
  worker.submit()
  worker.says('You selected no image')
  worker.press('Yes, submit')
  worker.says('Page 2 of 2')
