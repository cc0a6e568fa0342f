"""Icons in a real browser, by mouse, touch and keyboard: points are recorded where they are put."""

import collections

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from playwright.sync_api import expect

from luab_jax.byproducts.coco_ab import ACTION_NAMES, CLASS_INDEX, CLASS_NAMES
from luab_jax.tools.annotate import coco_pages, events, practice
from tests.tools.annotate.browser import events_of, leases_of
from tests.tools.annotate.hand import Hand, chip, icon, practise, ready
from tests.tools.annotate.serving import annotate
from tfds_builders import build

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  """Images of five shapes, one per worker; workers must look at all pages of icons."""
  folder = tmp_path_factory.mktemp('study')
  (folder / 'images').mkdir()
  for number, size in enumerate([(300, 200), (230, 300), (640, 427), (120, 160), (90, 90)]):
    noise = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
    Image.fromarray(noise).resize(size).save(folder / 'images' / f'{number}.jpg')
  where = [f'--images={folder / "images"}', f'--out={folder / "study"}']
  options = '--workers=3 --answers=1 --pages_per_worker=1 --require_all_pages'
  annotate.main(['init', '--task=icons', *where, *options.split()])
  return folder / 'study'


def _open(worker, server, token):
  """Opens a work page, with the practice page done."""
  practise(server.client(token))
  worker.open(token)
  worker.press('I agree, start')
  ready(worker)


def _fill(server, count):
  """Other workers place one bird each: a single image would not make a data set."""
  bird = {'c': CLASS_INDEX['bird'], 'x': 0.5, 'y': 0.5}
  for _ in range(count):
    client = server.client()
    lease = practise(client)['lease']
    box = {'e': 'box', 't': 1, 'i': 0, 'x': 8, 'y': 8, 'w': 400, 'h': 300}
    client.call('events', client.batch(lease, 0, box, {'e': 'put', 't': 9, 's': 'pen', **bird}))
    client.call('submit', client.end(lease, 0, icons=[bird]))


def _turn(worker, title):
  """Opens a tab of icons; with the new width the strip may have scrolled it out of view."""
  worker.page.get_by_role('tab', name=title).click()


def test_icons_are_recorded_and_exported_where_they_were_dropped(worker, server, study, tmp_path):
  token = next(server.links)
  _open(worker, server, token)
  hand = Hand(worker)
  _drag_with_a_mouse(hand)
  _zoom_and_scroll(hand)
  hand.touch()
  hand.resize(390, 844, 3, mobile=True)
  worker.page.evaluate('scrollTo(0, 0)')
  hand.put('car', (0.402, 0.404))
  hand.move('bus', (0.81, 0.287))  # next to the truck, within touch distance of both
  worker.status('saved')
  (lease,) = leases_of(study, token)
  _check_log(study, lease, hand.done)
  _go_on_after_a_reload(hand)
  worker.status('saved')
  _check_log(study, lease, hand.done)
  for key in ['ArrowLeft', *['ArrowRight'] * 9]:  # the second tab was skipped before
    worker.page.keyboard.press(key)
  worker.submit()
  worker.says('completion code')
  _fill(server, 2)
  _check_records(study, hand.done, tmp_path)


def _drag_with_a_mouse(hand):
  hand.put('person', (0.303, 0.711))
  hand.put('tie', (0.31, 0.7))  # on top of the person, which stays
  hand.move('tie', (0.62, 0.15))
  hand.move('person', (0.62, 0.15))  # onto an icon, too
  hand.put('person', (0.2, 0.9))  # from its tab again: moves it
  hand.resize(1280, 800, 1.5)
  hand.put('handbag', (0.111, 0.222))
  hand.drag(hand.middle(f'{icon("handbag")} .disc'), (-30.5, 200.25))  # out of the window
  hand.expect('handbag', None)
  hand.resize(1280, 800, 2)
  hand.put('handbag', (0.917, 0.531))
  hand.drag(hand.middle(f'{icon("handbag")} .disc'), hand.middle('.contains'))  # off the image
  hand.expect('handbag', None)
  hand.drag(hand.middle(chip('suitcase')), hand.middle('.contains'))  # never placed
  expect(hand.page.locator(icon('suitcase'))).to_have_count(0)


def _zoom_and_scroll(hand):
  page = hand.page
  hand.resize(1024, 640, 1.25)  # the window at a zoom of 125 %
  page.get_by_role('tab', name='Vehicles').click()
  hand.put('bus', (0.451, 0.349))
  hand.resize(1280, 600, 1)
  page.evaluate('scrollTo(0, 113.5)')
  hand.put('truck', (0.77, 0.87))
  hand.click(*hand.middle(chip('boat')))  # without dragging: first the icon, then a place
  hand.worker.says('Now click the boat in the image')
  end, point = hand.at((0.5, 0.62))
  hand.click(*end)
  hand.expect('boat', point)
  page.get_by_role('button', name='Remove tie').click()
  hand.expect('tie', None)


def _go_on_after_a_reload(hand):
  page = hand.page
  labels = page.locator('.icon').evaluate_all('all => all.map(e => e.ariaLabel)')
  page.reload()
  ready(hand.worker)
  assert page.locator('.icon').evaluate_all('all => all.map(e => e.ariaLabel)') == labels
  assert len(labels) == 5
  expect(page.get_by_role('tab', selected=True)).to_have_text('Vehicles')
  expect(page.locator('.progress')).to_have_text('2 of 11 pages seen')
  expect(page.locator('.contains li')).to_have_count(5)
  (point,) = [point for c, _, point in hand.done[-1:] if c == CLASS_INDEX['bus']]
  page.get_by_role('button', name='Remove bus').click()
  hand.expect('bus', None, 'mouse')
  page.get_by_role('button', name='Undo').click()
  hand.expect('bus', point, 'undo')


def _check_log(study, lease, expected):
  """The log holds exactly what was done, with points to a tenth of a CSS px."""
  found = events_of(study, lease, events.Put, events.Remove)
  assert [(event.c, event.s) for event in found] == [(c, s) for c, s, _ in expected]
  for event, (_, _, point) in zip(found, expected, strict=True):
    assert isinstance(event, events.Put) == (point is not None)
    if point:
      assert event.x == pytest.approx(point[0], abs=point[2])
      assert event.y == pytest.approx(point[1], abs=point[3])
  drags = events_of(study, lease, events.Drag)
  assert min(drag.x for drag in drags) < 0 and max(drag.y for drag in drags) > 1
  counts = collections.Counter(drag.c for drag in drags)
  dragged = {c for c, _, _ in expected} | {CLASS_INDEX['suitcase']}
  assert counts.keys() == dragged - {CLASS_INDEX['boat']} and min(counts.values()) > 2
  moves = events_of(study, lease, events.Move)
  assert moves and all(0 <= move.x <= 1 and 0 <= move.y <= 1 for move in moves)
  assert [(tab.k, tab.s) for tab in events_of(study, lease, events.Tab)] == [(2, 'mouse')]


def _check_records(study, expected, folder):
  """The built records hold everything that was done, with points to half a pixel of the image."""
  annotate.main(['export', str(study), f'--out={folder}/raw', '--validation_fraction=0.4'])
  where = [f'--manual_dir={folder}/raw', f'--data_dir={folder}/built']
  assert build.main(['coco_ab/local', *where]) == 0
  splits = tfds.load('coco_ab/local', data_dir=f'{folder}/built')
  rows = [row for rows in splits.values() for row in rows.as_numpy_iterator()]
  (row,) = [row for row in rows if row['has_record'] and len(row['actions']['action']) > 3]
  height, width = row['image'].shape[:2]
  placed, found = {}, row['actions']
  assert len(found['action']) == len(expected)
  for number, (c, _, point) in enumerate(expected):
    assert found['icon'][number].decode() == CLASS_NAMES[c]
    action = 'remove' if point is None else 'move' if c in placed else 'add'
    assert ACTION_NAMES[found['action'][number]] == action
    for prefix, place in (('from', placed.pop(c, None)), ('to', point)):
      xy = np.array([found[f'{prefix}_{axis}'][number] for axis in 'xy'])
      errors = np.abs(xy - (place[:2] if place else np.nan)) * (width, height)
      assert errors.max() <= 0.5 if place else np.isnan(errors).all()
    if point:
      placed[c] = point
  assert row['icons']['label'].tolist() == sorted(placed)


# Layout shifts, except of the crosshair and of the rows below a removed one.
_SHIFTS = """
  window.shifts = [];
  new PerformanceObserver(list => shifts.push(...list.getEntries().flatMap(e => e.sources)
    .filter(({node}) => node?.closest?.('.work') && !node.closest('.crosshair, li'))
    .map(({node}) => node.outerHTML))).observe({type: 'layout-shift', buffered: true});
"""


def test_keys_alone_do_all_from_consent_to_submit(worker, server, study):
  page, keys = worker.page, worker.page.keyboard
  page.add_init_script(_SHIFTS)
  token = next(server.links)
  worker.open(token)
  for label, tabs in (('I agree, start', 1), ('Next', 1), ('Start practising', 2)):
    worker.says(label)
    for _ in range(tabs):
      keys.press('Tab')
    keys.press('Enter')
  ready(worker)
  drawn = practice.icons()
  names = [name for name, _ in drawn.classes]
  spots = {names[spot.c]: (spot.x, spot.y) for spot in reversed(drawn.answers)}
  _put_by_keys(page, 'boat', (0.5, 0.5))  # not in the image
  for name, spot in list(spots.items())[1:]:
    _put_by_keys(page, name, spot)
  _hand_in(page)
  worker.says(f'Missed: {next(iter(spots))}. Not in the image: boat.')
  keys.press('Enter')
  expect(page.locator('dialog')).to_have_count(0)
  _put_by_keys(page, *next(iter(spots.items())))
  _find(page, 'boat')
  keys.press('Delete')
  _hand_in(page)
  worker.says('Well done')
  keys.press('Enter')
  worker.says('Page 1 of 1')
  ready(worker)
  _put_by_keys(page, 'teddy bear', (0.61, 0.38))
  _put_by_keys(page, 'cat', (0.55, 0.5))
  keys.press('Enter')
  keys.press('Shift+ArrowDown')
  keys.press('Escape')  # cancels the move
  for _ in range(8):  # the cat is the second of ten; the next tab follows
    keys.press('ArrowRight')
  keys.press('ArrowRight')
  expect(page.locator('.chip:focus .name')).to_have_text('bicycle')
  _hand_in(page)
  worker.says('Please look at all pages of icons first')
  for _ in coco_pages.GROUPS:
    keys.press('ArrowRight')
  keys.press('Control+z')
  expect(page.locator('.count')).to_have_text('1 icon')
  _hand_in(page)
  worker.says('completion code')
  assert page.evaluate('shifts') == []
  (lease,) = leases_of(study, token)
  bear, cat = CLASS_INDEX['teddy bear'], CLASS_INDEX['cat']
  found = events_of(study, lease, events.Put, events.Remove)
  assert [(event.c, event.s) for event in found] == [(bear, 'key'), (cat, 'key'), (cat, 'undo')]
  assert [(put.x, put.y) for put in found[:2]] == [(0.61, 0.38), (0.55, 0.5)]
  assert events_of(study, lease, events.Move, events.Drag) == []
  tabs = [(tab.k, tab.s) for tab in events_of(study, lease, events.Tab)]
  assert tabs == [(10, 'search'), (1, 'search'), (2, 'key'), *((k, 'key') for k in range(3, 11))]


def _find(page, name):
  """Searches for an icon, which gets the focus."""
  page.keyboard.press('/')
  page.keyboard.type(name)
  page.keyboard.press('Enter')
  expect(page.locator('.chip:focus .name')).to_have_text(name)


def _put_by_keys(page, name, spot):
  """Searches for an icon and places it, in steps of 5 % and 1 % from the middle."""
  _find(page, name)
  page.keyboard.press('Enter')
  for value, (less, more) in zip(
    spot, (('ArrowLeft', 'ArrowRight'), ('ArrowUp', 'ArrowDown')), strict=True
  ):
    steps = round((value - 0.5) * 100)
    large, small = divmod(abs(steps), 5)
    for key in ['Shift+'] * large + [''] * small:
      page.keyboard.press(key + (more if steps > 0 else less))
  page.keyboard.press('Enter')
  expect(page.locator('.contains li').last).to_contain_text(name)


def _hand_in(page):
  while not page.evaluate("document.activeElement.id === 'submit'"):
    page.keyboard.press('Tab')
  page.keyboard.press('Enter')


def test_an_image_that_does_not_load_is_tried_again_or_reported(worker, server, study):
  page, token, tried = worker.page, next(server.links), []
  page.add_init_script(
    'const wait = setTimeout; setTimeout = (act, ms, ...rest) => wait(act, ms / 20, ...rest)'
  )
  page.route('**/i/*', lambda route: (tried.append(1), route.fulfill(status=404)))
  practise(server.client(token))
  worker.open(token)
  worker.press('I agree, start')
  worker.says('The image does not load.')
  worker.submit()
  worker.says('The image has not loaded yet.')
  worker.press('Try again')
  expect(page.locator('.stage')).to_have_attribute('data-state', 'broken')
  assert len(tried) == 6
  hand = Hand(worker)
  hand.drag(hand.middle(chip('tie')), hand.middle('.stage'))
  expect(page.locator('.icon')).to_have_count(0)
  worker.press('Report')
  worker.submit()
  worker.says('completion code')
  (lease,) = leases_of(study, token)
  assert [event.i for event in events_of(study, lease, events.Broken)] == [0]
  assert events_of(study, lease, events.Put, events.Box) == []
