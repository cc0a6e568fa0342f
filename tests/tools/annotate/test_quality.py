"""Features of answers against values worked out by hand, and flags of scripted workers."""

import collections

import pytest

from luab_jax.tools.annotate import quality, replay
from luab_jax.tools.annotate.events import Batch, Box, Drag, Enter, Leave, Move, On, Page, Put
from tests.tools.annotate import scripted

SHAPES = [(4, 3), (3, 4), (1, 1)] * 16
WANTED = {slot: (0.2 + 0.01 * slot, 0.6) for slot in range(0, 48, 3)}
GOLD = {3: True, 12: True, 33: True, 45: True, 1: False, 2: False, 10: False, 47: False}


def _page(*events):
  return replay.replay_grid([Batch(1, '0' * 16, 0, 1.7e12, events[-1].t, list(events))])


def test_wilson_interval():
  assert quality.wilson(0, 0) == (0, 1)
  assert quality.wilson(0, 10) == pytest.approx((0, 0.27753), abs=1e-5)
  assert quality.wilson(9, 10) == pytest.approx((0.59585, 0.98212), abs=1e-5)
  assert quality.wilson(10, 10)[1] == pytest.approx(1)


def test_features_of_a_grid():
  page = _page(
    Page(0, 1280, 720, 1), Box(0, 0, 0, 0, 100, 100), Box(0, 1, 100, 0, 100, 100),
    *[Move(10.0 * n, 0, n / 10, 0.5) for n in range(10)], Enter(95, 0), On(100, 0, 'mouse', 1, 0.5),
    On(200, 1, 'mouse', 0.125, 0.5), On(900, 2, 'touch', 0.5, 0.5),
  )  # fmt: skip
  found = quality.grid_features(
    page, 4, {0: True, 1: False, 3: True}, [{0}, {0, 1, 3}], {0: [(0.9, 0, 0.1, 1)], 1: []}
  )
  assert (found.images, found.chosen, found.pages_all, found.pages_none) == (4, 3, 0, 0)
  assert (found.gold_found, found.gold_positive) == (1, 2)
  assert (found.gold_false, found.gold_negative) == (1, 1)
  assert (found.agreed, found.compared) == (1 + 2, 3 + 4)
  assert (found.mouse_clicks, found.unmoved_clicks) == (2, 1)  # slot 1 was never entered
  assert (found.movements, found.straight_movements) == (1, 1)
  assert (found.boxed, found.in_box) == (2, 1)
  assert found.active_ms == 900
  assert found.points == {'1.00 0.50': 1, '0.12 0.50': 1, '0.50 0.50': 1}


def test_features_of_icons():
  events = [
    Box(0, 0, 0, 0, 600, 400),
    *[Drag(100 + 10 * n, 7, n / 10, (n % 2) / 10) for n in range(6)],
    Put(160, 7, 'mouse', 0.5, 0.5),
    Put(300, 2, 'mouse', 0.1, 0.1),
    Put(400, 3, 'key', 0.1, 0.1),
  ]
  page = replay.replay_icons([Batch(1, '0' * 16, 0, 1.7e12, 500, events)])
  boxes = {7: [(0.4, 0.4, 0.2, 0.2)], 5: [(0, 0, 1, 1)]}
  found = quality.icon_features(page, [{7}, {2, 9}], boxes)
  assert (found.chosen, found.gold_found, found.gold_positive) == (3, 1, 2)
  assert (found.agreed, found.compared) == (2, 3 + 4)
  assert (found.mouse_clicks, found.unmoved_clicks) == (2, 1)
  assert (found.movements, found.straight_movements) == (1, 0)
  assert (found.boxed, found.in_box) == (3, 1)


def test_merged_features_are_sums():
  a = quality.Features(pages=1, images=48, active_ms=2, points={'0.50 0.50': 3, '0.10 0.10': 1})
  b = quality.Features(pages=1, images=48, gold_found=4, points={'0.50 0.50': 2})
  total = quality.merge([a, b])
  assert (total.pages, total.images, total.active_ms, total.gold_found) == (2, 96, 2, 4)
  assert total.points == {'0.50 0.50': 5, '0.10 0.10': 1}
  assert a.points == {'0.50 0.50': 3, '0.10 0.10': 1}
  assert quality.median_ms_per_image([a, b]) == pytest.approx(1 / 48)
  assert quality.median_ms_per_image([]) == 0


def test_nothing_is_conspicuous_about_no_answer():
  assert quality.flags(quality.Features()) == []


def test_a_still_cursor_that_toggles_again_has_moved():
  page = _page(Enter(0, 5), Move(10, 5, 0.5, 0.5), *[On(100.0 * n, 5, 'mouse', 0.5, 0.5) for n in
               range(1, 7)])  # fmt: skip
  found = quality.grid_features(page, 48, {})
  assert (found.mouse_clicks, found.unmoved_clicks) == (6, 0)
  page = _page(Enter(0, 5), Leave(50, 5), On(100, 5, 'mouse', 0.5, 0.5))
  assert quality.grid_features(page, 48, {}).unmoved_clicks == 1


def _flags_of_workers(manner, workers, pages=5):
  """Yields the flags of scripted workers, each compared with two careful ones per page."""
  careful = {
    seed: replay.replay_grid(scripted.grid('careful', SHAPES, WANTED, seed).batches)
    for seed in range(8)
  }
  median = quality.median_ms_per_image(
    quality.grid_features(page, 48, {}) for page in careful.values()
  )
  chosen = [{slot for slot, t in page.tiles.items() if t.selected} for page in careful.values()]
  for worker in range(workers):
    answers = []
    for page in range(pages):
      batches = scripted.grid(manner, SHAPES, WANTED, 1000 + worker * pages + page).batches
      others = [chosen[(worker + page) % 8], chosen[(worker + page + 3) % 8]]
      answers.append(quality.grid_features(replay.replay_grid(batches), 48, GOLD, others))
    yield quality.flags(quality.merge(answers), median)


EXPECTED = {
  'hasty': {'gold_missed', 'disagrees', 'fast'},
  'teleporting': {'no_moves'},
  'straight': {'straight', 'fast'},
  'all': {'false_alarms', 'disagrees', 'all', 'same_point'},
  'none': {'gold_missed', 'disagrees', 'none'},
}


@pytest.mark.parametrize('manner', scripted.MANNERS)
def test_scripted_workers(manner):
  workers = 12 if manner == 'careful' else 4
  found = list(_flags_of_workers(manner, workers))
  counts = collections.Counter(flag for flags in found for flag in flags)
  print(f'{manner}: {workers} workers of 5 pages: {dict(counts)}')
  if manner == 'careful':
    assert sum(map(bool, found)) == 0, 'false alarms'
  for flags in found:
    assert EXPECTED.get(manner, set()) <= set(flags)
