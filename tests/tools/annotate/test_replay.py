"""Replays of a page's batches, against values worked out by hand."""

import msgspec
import pytest

from luab_jax.tools.annotate import replay, visits
from luab_jax.tools.annotate.events import (
  Batch,
  Box,
  Broken,
  Drag,
  Enter,
  Event,
  Hide,
  Leave,
  Move,
  Off,
  On,
  Page,
  Placed,
  Put,
  Remove,
  Show,
  Tab,
)

ORIGIN = 1_650_000_000_000.4


def _batch(*events: Event, origin: float = ORIGIN, seq: int = 0, sent: float | None = None):
  sent = events[-1].t if sent is None else sent
  return Batch(7, 'a' * 16, seq, origin, sent, list(events))


def _tile(*events: Event, **options):
  return replay.replay_grid([_batch(*events)], **options).tiles[3]


def test_batches_come_in_the_order_of_their_numbers():
  batches = [_batch(Hide(float(seq)), seq=seq) for seq in range(12)]
  blobs = [msgspec.json.encode(batch) for batch in reversed(batches)]
  assert replay.decode(blobs) == batches


def test_a_click_keeps_its_time_place_and_device():
  tile = _tile(
    Page(0, 800, 600, 2), Box(5, 3, 10.4, 20.6, 340, 255), On(100.3, 3, 'mouse', 0.25, 1)
  )
  assert tile.clicks == [(1_650_000_000_101, 0.25, 1.0, 'mouse')]  # 0.4 + 100.3 is rounded once
  assert tile.selected and tile.selected_count == 1
  assert (tile.box.x, tile.box.h) == (10.4, 255)


def test_a_key_selects_without_a_point_and_undo_adds_neither_click_nor_count():
  tile = _tile(
    On(1, 3, 'key'), Off(2, 3, 'key'), On(3, 3, 'touch', 0.5, 0.5), Off(4, 3, 'undo'),
    On(5, 3, 'undo', 0.5, 0.5),
  )  # fmt: skip
  assert tile.selected and tile.selected_count == 2
  assert [click.source for click in tile.clicks] == ['touch']


def test_the_trace_is_kept_while_the_image_is_not_selected():
  tile = _tile(
    Enter(0, 3), Move(10, 3, 0.1, 0.1), On(20, 3, 'mouse', 0.1, 0.1), Move(30, 3, 0.2, 0.2),
    Off(40, 3, 'mouse'), Move(50, 3, 0.3, 0.3), Leave(60, 3),
  )  # fmt: skip
  assert [(round(p.time_ms - ORIGIN), p.x) for p in tile.trace] == [(10, 0.1), (50, 0.3)]
  assert [hover.action for hover in tile.hovers] == ['enter', 'leave']


def test_estimate_time_counts_closed_intervals_hovered_and_unselected_from_the_first_move():
  tile = _tile(
    Enter(0, 3), Move(100, 3, 0.1, 0.1), On(250, 3, 'mouse', 0.1, 0.1),  # 150
    Off(1000, 3, 'mouse'), Leave(1200, 3),  # 200
    Enter(5000, 3), Move(5002, 3, 0.2, 0.1), Leave(5007, 3),  # 7
    Enter(6000, 3),  # still open at the end: does not count
  )  # fmt: skip
  assert tile.estimate_time_ms == 357


@pytest.mark.parametrize(
  ('events', 'expected'),
  [
    ([On(5, 3, 'touch', 0.5, 0.5)], None),  # touch has no hover
    ([Enter(0, 3), Leave(50, 3)], None),  # no move
    ([Enter(0, 3), Move(10, 3, 0, 0)], 0),  # nothing closed
    ([Move(10, 3, 0, 0), Off(30, 3, 'undo'), Leave(40, 3)], 30),
    ([Move(10, 3, 0, 0), Leave(40, 3), Move(100, 3, 0, 0), Leave(107, 3)], 37),  # enter was lost
  ],
)
def test_estimate_time_of_short_visits(events, expected):
  assert _tile(*events).estimate_time_ms == expected


def test_a_reload_drops_the_open_interval_and_goes_on_with_the_selection():
  batches = [
    _batch(Enter(0, 3), Move(10, 3, 0, 0), On(20, 3, 'mouse', 0, 0), Off(30, 3, 'mouse')),
    _batch(Page(0, 9, 9, 1), Leave(5, 3), On(8, 3, 'key'), origin=ORIGIN + 9000, seq=1),
  ]
  tile = replay.replay_grid(batches).tiles[3]
  assert tile.estimate_time_ms == 10
  assert tile.selected


def test_thinning_keeps_60_a_second_and_the_last_before_a_toggle_or_leave():
  moves = [Move(4.0 * n, 3, n / 1000, 0) for n in range(1000)]  # 250 a second for 4 s
  tile = _tile(*moves, Leave(4000, 3), thin=True)
  assert len(tile.trace) == 200 + 1  # the first of every five samples at 4 ms, and the last
  assert tile.trace[-1].x == 0.999
  gaps = [b.time_ms - a.time_ms for a, b in zip(tile.trace, tile.trace[1:-1], strict=False)]
  assert min(gaps) >= 16
  assert len(_tile(*moves).trace) == 1000


def test_the_final_state_of_a_grid_lists_the_selected_slots():
  events = [On(1, 5, 'key'), On(2, 2, 'key'), On(3, 9, 'key'), Off(4, 2, 'key'), Broken(5, 0)]
  assert replay.final_state('grid', [_batch(*events)]) == ([5, 9], [])
  assert replay.replay_grid([_batch(*events)]).tiles[0].is_reported


def test_icons_are_added_moved_and_removed():
  page = replay.replay_icons(
    [
      _batch(
        Page(100, 800, 600, 1), Box(101, 0, 8, 9, 600, 450), Tab(200, 4, 'key'),
        Drag(210, 7, -0.1, 1.2), Put(300, 7, 'mouse', 0.5, 0.5), Put(400, 2, 'touch', 0.1, 0.2),
        Tab(450, 5, 'mouse'), Put(500, 7, 'mouse', 0.6, 0.6), Remove(600, 2, 'key'),
        Remove(601, 2, 'key'), Put(700, 2, 'undo', 0.1, 0.2), Broken(800, 0), sent=1100.2,
      )
    ]
  )  # fmt: skip
  assert page.actions == [
    (200, 'add', 7, None, (0.5, 0.5), 'mouse'),
    (300, 'add', 2, None, (0.1, 0.2), 'touch'),
    (400, 'move', 7, (0.5, 0.5), (0.6, 0.6), 'mouse'),
    (500, 'remove', 2, (0.1, 0.2), None, 'key'),
    (600, 'add', 2, None, (0.1, 0.2), 'undo'),
  ]
  assert page.tabs == [(100, 4, True), (350, 5, False)]
  assert list(page.icons) == [2, 7]
  assert page.drags == [(110, -0.1, 1.2)]
  assert page.time_spent_ms == 1000
  assert page.is_reported
  assert page.box.h == 450


def test_the_final_state_of_icons_lists_them_by_class():
  batches = [
    _batch(Put(5, 7, 'mouse', 0.5, 0.5), Put(6, 2, 'touch', 0.1, 0.2)),
    _batch(Put(1, 7, 'key', 0.7, 0.5), origin=ORIGIN + 5000, seq=1),
  ]
  expected = ([], [Placed(2, 0.1, 0.2), Placed(7, 0.7, 0.5)])
  assert replay.final_state('icons', batches) == expected
  assert replay.final_state('icons', []) == ([], [])


def test_times_of_icons_go_on_over_a_reload():
  batches = [
    _batch(Page(0, 9, 9, 1), Move(40, 0, 0.1, 0.1)),
    _batch(Page(0, 9, 9, 1), Move(20, 0, 0.2, 0.2), origin=ORIGIN + 5000, seq=1),
  ]
  assert replay.replay_icons(batches).trace == [(40, 0.1, 0.1), (5020, 0.2, 0.2)]


def test_visible_and_active_time_leave_out_a_hidden_tab_a_reload_and_long_pauses():
  batches = [
    _batch(Page(0, 800, 600, 2), On(1000, 0, 'mouse', 0, 0), Hide(3000)),  # 3 s
    _batch(Show(60_000), Off(61_000, 0, 'key'), seq=1, sent=90_000),  # 30 s, 29 of them a pause
    _batch(Page(0, 390, 800, 3), seq=2, origin=ORIGIN + 200_000, sent=500),  # 0.5 s
  ]
  visit = visits.replay_visit(batches)
  assert visit.visible_ms == pytest.approx(33_500, abs=0.01)
  assert visit.active_ms == pytest.approx(3000 + 1000 + visits.PAUSE_MS + 500, abs=0.01)
  assert [(window.width, window.dpr) for window in visit.windows] == [(800, 2), (390, 3)]
  assert visit.sources == {'key': 1, 'mouse': 1}
  assert visit.ended - visit.opened == pytest.approx(200_500, abs=0.01)
