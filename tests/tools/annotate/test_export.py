"""Exports equal the log, field by field, when read back with the readers of the releases.

The log is interpreted here independently, in another way than in replay.py.
"""

import json

import hypothesis
import msgspec
import numpy as np
import pytest
from hypothesis import strategies as st

from luab_jax.byproducts import coco_ab
from luab_jax.tools.annotate import events as ev
from tests.tools.annotate import recorded

ORIGINS = (1.8e12 + 0.3, 1.8e12 + 90_000.7)  # before and after a reload
NAMES = ['cat/a.png', 'cat/b.png', 'cat/c.png', 'cat/d.png']

_fraction = st.integers(-10, 1_000_010).map(lambda n: n / 1e6)
_pixels = st.integers(1, 4000).map(lambda n: n / 4)
_slot = st.integers(0, 1)  # nothing happens to a third image
_source = st.sampled_from(['mouse', 'touch', 'key', 'undo'])
_icon = st.integers(0, 3)
_window = st.builds(ev.Page, t=st.just(0.0), w=_pixels, h=_pixels, dpr=st.just(1.5))
_at = {'t': st.just(0.0)}
_both = [_window, st.builds(ev.Hide, **_at), st.builds(ev.Show, **_at)]


def _image(kind, slot=_slot, **fields):
  return st.builds(kind, **_at, i=slot, **fields)


_point = {'x': _fraction, 'y': _fraction}
_grid = st.one_of(
  *_both,
  _image(ev.Box, x=_pixels, y=_pixels, w=_pixels, h=_pixels),
  _image(ev.Enter),
  _image(ev.Leave),
  _image(ev.Move, **_point),
  _image(ev.Move, **_point),
  _image(ev.On, s=_source, **_point),
  _image(ev.On, s=st.sampled_from(['key', 'undo'])),
  _image(ev.Off, s=_source),
)
_icons = st.one_of(
  *_both,
  _image(ev.Box, st.just(0), x=_pixels, y=_pixels, w=_pixels, h=_pixels),
  _image(ev.Move, st.just(0), **_point),
  st.builds(ev.Tab, **_at, k=st.integers(0, 1), s=st.sampled_from(['mouse', 'key', 'search'])),
  st.builds(ev.Drag, **_at, c=_icon, **_point),
  st.builds(ev.Put, **_at, c=_icon, s=_source, **_point),
  st.builds(ev.Put, **_at, c=_icon, s=_source, **_point),
  st.builds(ev.Remove, **_at, c=_icon, s=_source),
)


@st.composite
def _answers(draw, kinds, slots):
  """Batches of an answer: times are multiples of 0.1 ms, and the page is reloaded once."""
  events = draw(st.lists(kinds, min_size=10, max_size=40))
  boxes = [ev.Box(0.0, slot, 8.5, 9.4, 339.6, 250.5) for slot in range(slots)]
  events = [ev.Page(0.0, 1280, 720, 2), *boxes, *events]
  cut = draw(st.integers(1, len(events)))
  batches = []
  for origin, part in zip(ORIGINS, (events[:cut], events[cut:]), strict=True):
    time, timed = 0, []
    for event in part:
      time += draw(st.integers(0, 5000))
      timed.append(msgspec.structs.replace(event, t=time / 10))
    for k in range(0, len(timed), 7):
      some = timed[k : k + 7]
      batches.append(ev.Batch(1, '0' * 16, len(batches), origin, some[-1].t + 5, some))
  return batches


def _log(batches):
  return [(batch.origin, batch.origin + e.t, e) for batch in batches for e in batch.events]


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  """Returns (study of a task without pages and answers, export folder); reuses the studies."""
  folder = tmp_path_factory.mktemp('studies')
  recorded.paint(folder / 'images', NAMES)
  made = {}

  def make(task):
    if task not in made:
      groups = ('first', 'second')
      classes = ['cat'] if task == 'grid' else [(f'c{i}', groups[i % 2]) for i in range(4)]
      made[task] = recorded.Recorder(folder / task, folder / 'images', task, classes, groups)
      for name in NAMES:
        made[task].add_image(name, 'cat' if task == 'grid' else '')
    for table in ('answer', 'batch', 'lease', 'session', 'page_image', 'page'):
      made[task].db.execute(f'DELETE FROM {table}')
    return made[task], folder / f'{task}_out'

  return make


def _check_sidecar(out, answers):
  """Each event of the log is in the sidecar exactly once, unchanged."""
  _, lines = recorded.read_sidecar(out)
  stored = [
    (batch['origin'], event)
    for line in lines
    for batch in line['batches']
    for event in batch['events']
  ]
  sent = [
    (batch.origin, json.loads(msgspec.json.encode(e)))
    for batches in answers
    for batch in batches
    for e in batch.events
  ]
  assert stored == sent


def _estimate(log):
  """estimateTime of an image: sums the gaps between events, by the state at each gap's start."""
  total, has_moved, hovered, selected = 0.0, False, False, False
  gaps = [e for e in log if isinstance(e[2], ev.Enter | ev.Leave | ev.On | ev.Off | ev.Move)]
  pending = 0.0  # not yet closed by an enter, leave or toggle
  after = [*gaps, (0.0, 0.0, None)][1:]
  for (origin, time, event), (next_origin, until, following) in zip(gaps, after, strict=True):
    match event:
      case ev.Enter() | ev.Leave():
        hovered = isinstance(event, ev.Enter)
      case ev.On() | ev.Off():
        selected = isinstance(event, ev.On)
      case ev.Move() if not selected:
        hovered = has_moved = True
    counts = has_moved and hovered and not selected
    if origin != next_origin:
      pending, hovered = 0.0, False
    elif counts:
      pending += until - time
    if not isinstance(following, ev.Move | None):
      total, pending = total + pending, 0.0
  return total if has_moved else None


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(answers=st.lists(_answers(_grid, 3), min_size=1, max_size=2))
def test_a_grid_is_exported_as_it_was_logged(answers, study):
  made, out = study('grid')
  page = made.add_page(NAMES[:3], 'cat')
  for worker, batches in enumerate(answers, 1):
    made.add_answer(page, f'{worker:010x}', batches, recorded.submit('grid', batches))
  made.export(out)
  found = recorded.read_xmls(out)
  for slot, name in enumerate('abc'):
    record = found[f'train_xml/cat/{name}.xml']
    assert [block.worker_id for block in record.blocks] == [
      f'{worker:010x}' for worker in range(1, len(answers) + 1)
    ]
    for index, batches in enumerate(answers):
      log = [entry for entry in _log(batches) if getattr(entry[2], 'i', None) == slot]
      _check_block(record, index, log)
  _check_sidecar(out, answers)


def _check_block(record, index, log):
  block = record.blocks[index]
  toggles = [e for _, _, e in log if isinstance(e, ev.On | ev.Off)]
  assert block.selected == (bool(toggles) and isinstance(toggles[-1], ev.On))
  made = [(t, e) for _, t, e in log if isinstance(e, ev.On) and e.s != 'undo']
  assert block.selected_count == len(made)
  assert _points(record.clicks, index) == [(round(t), e.x, e.y) for t, e in made if e.x is not None]
  is_on, trace = False, []
  for _, time, event in log:
    if isinstance(event, ev.On | ev.Off):
      is_on = isinstance(event, ev.On)
    elif isinstance(event, ev.Move) and not is_on:
      trace.append((round(time), event.x, event.y))
  assert _points(record.trace, index) == trace
  hovers = [e for e in log if isinstance(e[2], ev.Enter | ev.Leave)]
  here = record.hovers.block == index
  assert record.hovers.time_ms[here].tolist() == [round(time) for _, time, _ in hovers]
  assert [a for a, h in zip(record.hovers.action, here, strict=True) if h] == [
    type(event).__name__.lower() for _, _, event in hovers
  ]
  estimate = _estimate(log)
  assert block.estimate_time_ms == (None if estimate is None else pytest.approx(estimate, abs=0.51))
  box = [e for _, _, e in log if isinstance(e, ev.Box)][-1]
  shown = (block.shown_x, block.shown_y, block.shown_width, block.shown_height)
  assert shown == (round(box.x), round(box.y), round(box.w), round(box.h))
  assert (block.original_width, block.original_height, block.page_idx) == (48, 32, 0)


def _points(points, index):
  here = points.block == index
  columns = (points.time_ms[here].tolist(), points.x[here].tolist(), points.y[here].tolist())
  return list(zip(*columns, strict=True))


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(answers=st.lists(_answers(_icons, 1), min_size=2, max_size=2))
def test_icons_are_exported_as_they_were_logged(answers, study):
  # A last icon that is never removed, so that both splits have an instance.
  answers = [
    [*b, ev.Batch(1, '0' * 16, len(b), b[-1].origin, 9e6, [ev.Put(8e6, 0, 'mouse', 0.5, 0.5)])]
    for b in answers
  ]
  made, out = study('icons')
  for worker, (name, batches) in enumerate(zip(NAMES, answers, strict=False), 1):
    page = made.add_page([name])
    made.add_answer(page, f'{worker:010x}', batches, recorded.submit('icons', batches))
  made.export(out)
  records = list(coco_ab.read_records(out / 'coco_ab_v1_0.json'))
  assert [record.worker_id for record in records] == ['0000000001', '0000000002']
  for record, batches in zip(records, answers, strict=True):
    _check_record(record, _log(batches))
  _check_sidecar(out, answers)


def _check_record(record, log):
  opened = log[0][1]
  icons, expected = {}, []
  for _, time, event in log:
    here = icons.get(getattr(event, 'c', None))
    if isinstance(event, ev.Put):
      icons[event.c] = (event.x, event.y)
      expected.append(('move' if here else 'add', event.c, here, icons[event.c], time))
    elif isinstance(event, ev.Remove) and here:
      del icons[event.c]
      expected.append(('remove', event.c, here, None, time))
  actions = record.actions
  assert [
    (coco_ab.ACTION_NAMES[action], int(icon[1:]), _xy(start), _xy(end), time)
    for action, icon, start, end, time in zip(
      actions.action, actions.icon, actions.from_xy, actions.to_xy, actions.time_ms, strict=True
    )
  ] == [(*row[:4], round(row[4] - opened)) for row in expected]
  left, unknown = coco_ab.replay_icons(actions, {f'c{i}': i for i in range(4)})
  assert left == {f'c{icon}': icons[icon] for icon in sorted(icons)} and not unknown
  tabs = [(e.k, round(t - opened), e.s != 'mouse') for _, t, e in log if isinstance(e, ev.Tab)]
  visits = record.categories
  assert (
    list(
      zip(
        visits.index.tolist(), visits.time_ms.tolist(), visits.using_keyboard.tolist(), strict=True
      )
    )
    == tabs
  )
  assert visits.name == tuple(('first', 'second')[k] for k, _, _ in tabs)
  moves = [(e.x, e.y, round(t - opened)) for _, t, e in log if isinstance(e, ev.Move)]
  assert [
    (x, y, time)
    for (x, y), time in zip(record.trace_xy.tolist(), record.trace_time_ms.tolist(), strict=True)
  ] == moves
  box = [e for _, _, e in log if isinstance(e, ev.Box)][-1]
  assert (record.shown_width, record.shown_height) == (round(box.w), round(box.h))
  assert (record.original_width, record.original_height) == (48, 32)
  assert record.time_spent_ms == round(log[-1][0] + 9e6 - opened)


def _xy(point):
  return None if np.isnan(point).any() else tuple(point.tolist())
