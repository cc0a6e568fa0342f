"""Assigns pages to workers by leases of 20 minutes, which every batch prolongs."""

import secrets
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from luab_jax.tools.annotate import events, replay, sessions, settings
from luab_jax.tools.annotate.study import Study

LENGTH_MS = 20 * 60 * 1000
_WAIT_S = 30  # seconds until the browser asks again for a free page

# Number of a page's answers that are submitted or being worked on.
_TAKEN = """(
  SELECT count(*) FROM lease AS other WHERE other.page = page.id
  AND (other.state = 'done' OR other.state = 'open' AND other.expires > :now))"""
_GIVE = f"""
INSERT INTO lease (page, worker, session, tab, issued, expires)
SELECT page.id, :worker, :session, :tab, :now, :expires FROM page
WHERE kind = 'work' AND {_TAKEN} < :answers
  AND NOT EXISTS (SELECT 1 FROM lease WHERE lease.page = page.id AND worker = :worker)
ORDER BY position LIMIT 1"""
_REOPEN = f"""
UPDATE lease SET state = 'open', expires = :expires WHERE id = :lease AND state = 'expired'
AND EXISTS (
  SELECT 1 FROM page WHERE page.id = lease.page AND (kind = 'practice' OR {_TAKEN} < :answers))"""


class Ask(msgspec.Struct, forbid_unknown_fields=True):
  """`POST /api/lease`."""

  tab: events.TabId


class Times(NamedTuple):
  """The current time, and when a lease that is given or prolonged now expires; ms since 1970."""

  now: int
  expires: int


def give(
  db: sqlite3.Connection, study: Study, session: sqlite3.Row, tab: str, now: int
) -> dict[str, Any]:
  """Gives a worker the page that is open, the practice page, or the next one.

  Args:
    db: within a transaction that began IMMEDIATE.
    study: the study.
    session: the worker's session.
    tab: the tab that asks; from now on only it may write to the lease.
    now: ms since 1970.

  Returns:
    The page; {done, code, return_url, submit_to}; or {wait: seconds}.
  """
  times = Times(now, now + LENGTH_MS)
  db.execute("UPDATE lease SET state = 'expired' WHERE state = 'open' AND expires <= ?", (now,))
  lease = _resume(db, study, session, tab, times)
  if lease is None and not sessions.has_practised(db, session['worker']):
    lease = _give_practice(db, session, tab, times)
  answered = _answered(db, session)
  if lease is None and answered < study.pages_per_worker:
    lease = give_page(db, study, session, tab, times)
  if lease is None:
    return _end(db, study, session, answered)
  return _describe(db, study, lease, answered, times)


def give_page(
  db: sqlite3.Connection, study: Study, session: sqlite3.Row, tab: str, times: Times
) -> int | None:
  """Leases the first page that lacks answers and that this worker never had; None if none is left.

  A single statement counts and takes a place, so that no two workers take the same one.
  """
  names = {'worker': session['worker'], 'session': session['id'], 'tab': tab}
  cursor = db.execute(_GIVE, {**names, **times._asdict(), 'answers': study.answers})
  return cursor.lastrowid if cursor.rowcount else None


def _give_practice(
  db: sqlite3.Connection, session: sqlite3.Row, tab: str, times: Times
) -> int | None:
  return db.execute(
    'INSERT INTO lease (page, worker, session, tab, issued, expires) '
    "SELECT id, ?, ?, ?, ?, ? FROM page WHERE kind = 'practice'",
    (session['worker'], session['id'], tab, *times),
  ).lastrowid


def _resume(
  db: sqlite3.Connection, study: Study, session: sqlite3.Row, tab: str, times: Times
) -> int | None:
  """Takes over the lease that a worker left unfinished, if its page still needs an answer."""
  left = db.execute(
    "SELECT id FROM lease WHERE worker = ? AND state IN ('open', 'expired') "
    'ORDER BY state DESC, issued DESC',  # an open one first
    (session['worker'],),
  ).fetchall()
  for row in left:
    if prolong(db, study, row['id'], times):
      db.execute(
        'UPDATE lease SET tab = ?, session = ? WHERE id = ?', (tab, session['id'], row['id'])
      )
      return row['id']
  return None


def prolong(db: sqlite3.Connection, study: Study, lease: int, times: Times) -> bool:
  """Prolongs a lease, even an expired one if nobody else has taken its place.

  Returns:
    Whether the lease is open.
  """
  names = {**times._asdict(), 'lease': lease, 'answers': study.answers}
  update = "UPDATE lease SET expires = :expires WHERE id = :lease AND state = 'open'"
  return any(db.execute(statement, names).rowcount for statement in (update, _REOPEN))


def _answered(db: sqlite3.Connection, session: sqlite3.Row) -> int:
  """Number of pages that were answered in a session, including those rejected later."""
  (count,) = db.execute(
    'SELECT count(*) FROM lease JOIN answer ON answer.lease = lease.id '
    "JOIN page ON page.id = lease.page WHERE session = ? AND kind = 'work'",
    (session['id'],),
  ).fetchone()
  return count


def _end(
  db: sqlite3.Connection, study: Study, session: sqlite3.Row, answered: int
) -> dict[str, Any]:
  """The response without a page: all are done, or others are working on the rest."""
  if not answered and _is_unfinished(db, study, session['worker']):
    return {'wait': _WAIT_S}
  code = session['code']
  if answered and not code:
    code = secrets.token_hex(4).upper()
    db.execute('UPDATE session SET code = ? WHERE id = ?', (code, session['id']))
  row = db.execute(
    'SELECT platform, assignment_id, submit_to FROM identities.identity WHERE session = ?',
    (session['id'],),
  ).fetchone()
  submit_to = None
  if code and row and row['submit_to']:
    submit_to = {
      'action': row['submit_to'] + '/mturk/externalSubmit',
      'fields': {'assignmentId': row['assignment_id'], 'code': code},
    }
  return_url = (code and study.return_url) or None
  return {'done': True, 'code': code, 'return_url': return_url, 'submit_to': submit_to}


def _is_unfinished(db: sqlite3.Connection, study: Study, worker: str) -> bool:
  """Whether a page lacks answers that this worker could still be asked for."""
  query = (
    "SELECT 1 FROM page WHERE kind = 'work' AND (SELECT count(*) FROM lease "
    "WHERE lease.page = page.id AND state = 'done') < ? AND NOT EXISTS "
    '(SELECT 1 FROM lease WHERE lease.page = page.id AND worker = ?) LIMIT 1'
  )
  return db.execute(query, (study.answers, worker)).fetchone() is not None


def _describe(
  db: sqlite3.Connection, study: Study, lease: int, answered: int, times: Times
) -> dict[str, Any]:
  """What the browser needs to show a page, even one in progress."""
  page = db.execute(
    'SELECT page.* FROM page JOIN lease ON lease.page = page.id WHERE lease.id = ?', (lease,)
  ).fetchone()
  images = db.execute(
    'SELECT slot, rendition, width, height FROM page_image JOIN image ON image.id = image '
    'WHERE page = ? ORDER BY slot',
    (page['id'],),
  ).fetchall()
  rows = db.execute('SELECT events FROM batch WHERE lease = ? ORDER BY seq', (lease,)).fetchall()
  batches = replay.decode(row['events'] for row in rows)
  numbers = {batch.seq for batch in batches}
  next_seq = max(numbers, default=-1) + 1
  (pages,) = db.execute("SELECT count(*) FROM page WHERE kind = 'work'").fetchone()
  is_practice = page['kind'] == 'practice'
  return {
    'lease': lease,
    'kind': page['kind'],
    'number': 0 if is_practice else answered + 1,
    'of': min(study.pages_per_worker, pages),
    'class': _class(study, page),
    'images': [
      {
        'slot': image['slot'],
        'src': f'/i/{image["rendition"]}',
        'width': image['width'],
        'height': image['height'],
      }
      for image in images
    ],
    'next_seq': next_seq,
    'missing': sorted(set(range(next_seq)) - numbers),
    'state': state_so_far(batches),
    'expires': times.expires,
    **(_practice(study) if is_practice else {}),
  }


def _class(study: Study, page: sqlite3.Row) -> dict[str, Any] | None:
  """What a page of a grid asks for."""
  if study.task == 'icons':
    return None
  if page['kind'] == 'practice':
    return {'name': study.practice.name, 'definition': study.practice.definition, 'examples': []}
  (found,) = (c for c in study.classes if c.name == page['class'])
  examples = [f'/i/{name}' for name in found.examples]
  return {'name': found.name, 'definition': found.definition, 'examples': examples}


def _practice(study: Study) -> dict[str, Any]:
  """What only the practice page has: the correct answers, and for icons its own classes."""
  practice = study.practice
  if study.task == 'grid':
    return {'answers': practice.slots}
  return {
    'answers': msgspec.to_builtins(practice.spots),
    **settings.icons(practice.classes, list(dict.fromkeys(c.group for c in practice.classes))),
  }


def state_so_far(batches: Sequence[events.Batch]) -> dict[str, Any]:
  """What the page shows when it is opened again: what is selected or placed, and which tab."""
  selected: dict[int, dict[str, Any]] = {}
  icons: dict[int, dict[str, Any]] = {}
  seen = {0}
  tab = 0
  for event in (event for batch in batches for event in batch.events):
    match event:
      case events.On():
        selected[event.i] = {'i': event.i, 'x': event.x, 'y': event.y}
      case events.Off():
        selected.pop(event.i, None)
      case events.Put():
        icons[event.c] = {'c': event.c, 'x': event.x, 'y': event.y}
      case events.Remove():
        icons.pop(event.c, None)
      case events.Tab():
        tab = event.k
        seen.add(tab)
  return {
    'selected': sorted(selected.values(), key=lambda on: on['i']),
    'icons': list(icons.values()),
    'seen': sorted(seen),
    'tab': tab,
  }
