"""Takes in what workers send: batches of events and the ends of pages, each stored only once."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from luab_jax.tools.annotate import events, leases, replay
from luab_jax.tools.annotate.refusals import Refusal
from luab_jax.tools.annotate.study import Study

_GRID = (events.On, events.Off)
_ICONS = (events.Tab, events.Drag, events.Put, events.Remove)
_MAX_MISSING = 1000  # numbers listed in a response
_TOLERANCE = 1e-9  # for rounding: the page sends the same numbers in both


class Report(msgspec.Struct, forbid_unknown_fields=True):
  """`POST /api/report`: an image does not load."""

  lease: events.LeaseId
  slot: events.Slot


def store_batch(
  db: sqlite3.Connection, study: Study, worker: str, batch: events.Batch, raw: bytes, now: int
) -> dict[str, Any]:
  """Stores a batch; sending it again changes nothing and gets the same response.

  An expired lease accepts it as well, so that late work is kept.

  Args:
    db: within a transaction.
    study: the study.
    worker: who sent it.
    batch: what `raw` holds.
    raw: the request as received.
    now: ms since 1970.

  Raises:
    Refusal: 404 for an unknown lease or another worker's, 409 `conflict` for a different batch with
      the same number, 409 `done` after the end of the page, 409 `moved` if another tab has taken
      over, 422 for events that the page cannot have.
  """
  lease = _own_lease(db, worker, batch.lease)
  stored = db.execute(
    'SELECT events FROM batch WHERE lease = ? AND seq = ?', (batch.lease, batch.seq)
  ).fetchone()
  if stored:
    if stored['events'] != raw:
      raise Refusal(409, 'conflict', f'Another batch {batch.seq} of this page is stored already.')
    return {'ok': batch.seq, 'expires': lease['expires']}
  if lease['state'] in ('done', 'rejected'):
    raise Refusal(409, 'done', 'This page has been submitted.')
  _check_tab(lease, batch.tab)
  _check_events(db, study, lease['page'], batch.events)
  db.execute(
    'INSERT INTO batch VALUES (?, ?, ?, ?, ?)',
    (batch.lease, batch.seq, batch.origin + batch.sent, now, raw),
  )
  times = leases.Times(now, now + leases.LENGTH_MS)
  is_open = leases.prolong(db, study, batch.lease, times)
  return {'ok': batch.seq, 'expires': times.expires if is_open else lease['expires']}


def submit(
  db: sqlite3.Connection, study: Study, worker: str, end: events.Submit, raw: bytes, now: int
) -> dict[str, Any]:
  """Ends a page; sending the request again changes nothing and gets the same response.

  Raises:
    Refusal: 404 and 409 `moved` as `store_batch`, 409 `missing` with the numbers of the missing
      batches, 409 `done` if the page has ended with another result, 422 `state` if the final state
      differs from that of the events.
  """
  lease = _own_lease(db, worker, end.lease)
  answer = db.execute('SELECT state FROM answer WHERE lease = ?', (end.lease,)).fetchone()
  if answer:
    said = msgspec.json.decode(answer['state'], type=events.Submit)
    if (said.last_seq, said.selected, said.icons) != (end.last_seq, end.selected, end.icons):
      raise Refusal(409, 'done', 'This page has been submitted already, with another result.')
    return {'ok': True}
  _check_tab(lease, end.tab)
  rows = db.execute('SELECT events FROM batch WHERE lease = ?', (end.lease,)).fetchall()
  batches = replay.decode(row['events'] for row in rows)
  numbers = {batch.seq for batch in batches}
  if missing := sorted(set(range(end.last_seq + 1)) - numbers):
    raise Refusal(
      409, 'missing', 'Part of this page has not arrived yet.', missing=missing[:_MAX_MISSING]
    )
  if max(numbers) > end.last_seq or not _agree(replay.final_state(study.task, batches), end):
    raise Refusal(422, 'state', 'The result does not match the recorded events.')
  db.execute(
    'INSERT INTO answer (lease, last_seq, state, submitted) VALUES (?, ?, ?, ?)',
    (end.lease, end.last_seq, raw, now),
  )
  db.execute("UPDATE lease SET state = 'done' WHERE id = ?", (end.lease,))
  return {'ok': True}


def report(db: sqlite3.Connection, worker: str, broken: Report) -> dict[str, Any]:
  """Notes that an image does not load, for the admin page.

  Raises:
    Refusal: 404 as `store_batch`, 422 if the page has no such slot.
  """
  lease = _own_lease(db, worker, broken.lease)
  done = db.execute(
    "UPDATE image SET state = 'reported' "
    'WHERE id = (SELECT image FROM page_image WHERE page = ? AND slot = ?)',
    (lease['page'], broken.slot),
  )
  if not done.rowcount:
    raise Refusal(422, 'range', f'The page has no image {broken.slot}.')
  return {'ok': True}


def _own_lease(db: sqlite3.Connection, worker: str, lease: int) -> sqlite3.Row:
  row = db.execute('SELECT * FROM lease WHERE id = ? AND worker = ?', (lease, worker)).fetchone()
  if not row:
    raise Refusal(404, 'lease', 'This page is not yours.')
  return row


def _check_tab(lease: sqlite3.Row, tab: str) -> None:
  if lease['tab'] != tab:
    raise Refusal(409, 'moved', 'This page continues in another tab.')


def _check_events(
  db: sqlite3.Connection, study: Study, page: int, sent: Sequence[events.Event]
) -> None:
  """Raises Refusal 422 for events of the other task, and unknown slots and classes."""
  kind, slots = db.execute(
    'SELECT kind, count(*) FROM page JOIN page_image ON page = page.id WHERE page.id = ?', (page,)
  ).fetchone()
  classes = study.classes if kind == 'work' else study.practice.classes
  foreign = _ICONS if study.task == 'grid' else _GRID
  for event in sent:
    if isinstance(event, foreign):
      raise Refusal(422, 'range', f'This task has no event {event.__struct_config__.tag!r}.')
    if getattr(event, 'i', -1) >= slots or getattr(event, 'c', -1) >= len(classes):
      raise Refusal(422, 'range', 'An event names an image or a class that the page lacks.')


def _agree(state: replay.State, end: events.Submit) -> bool:
  """Whether the final state of the events is the one that the page sent."""
  found, said = ({icon.c: (icon.x, icon.y) for icon in icons} for icons in (state.icons, end.icons))
  return (
    state.selected == end.selected
    and len(end.icons) == len(said)
    and found.keys() == said.keys()
    and all(abs(a - b) <= _TOLERANCE for c in found for a, b in zip(found[c], said[c], strict=True))
  )
