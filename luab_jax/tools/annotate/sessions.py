"""Sessions of workers: consent begins one, and its bearer token is required in every request."""

import hmac
import secrets
import sqlite3
from typing import Annotated, Any, Literal

import msgspec

from luab_jax.tools.annotate.refusals import Refusal
from luab_jax.tools.annotate.study import Secrets, hash_token, pseudonym, session_token

_PREVIEW = 'ASSIGNMENT_ID_NOT_AVAILABLE'  # MTurk: the HIT is previewed, not accepted
MTURK_HOSTS = ('https://www.mturk.com', 'https://workersandbox.mturk.com')  # of turkSubmitTo

Text = Annotated[str, msgspec.Meta(max_length=200)]


class Platform(msgspec.Struct, forbid_unknown_fields=True):
  """The parameters that Prolific or MTurk adds to the link, under their names."""

  PROLIFIC_PID: Text = ''
  STUDY_ID: Text = ''
  SESSION_ID: Text = ''
  workerId: Text = ''
  hitId: Text = ''
  assignmentId: Text = ''
  turkSubmitTo: Text = ''


class Start(msgspec.Struct, forbid_unknown_fields=True):
  """`POST /api/session`: a worker has read what is recorded, and agrees."""

  consent: Literal[True]
  pointer: Literal['fine', 'coarse']
  platform: Platform | None = None


def start(
  db: sqlite3.Connection, keys: Secrets, token: str, asked: Start, now: int
) -> dict[str, Any]:
  """Begins a session, or continues the one of the same worker and assignment.

  Args:
    db: within a transaction.
    keys: the secrets of the study.
    token: that of the link for everyone, of a personal link, or of a session.
    asked: the request.
    now: ms since 1970.

  Returns:
    {token, worker, practice_done}.

  Raises:
    Refusal: 401 for an unknown token, 403 for a worker who has withdrawn or only previews a HIT,
      422 for parameters that no platform sends.
  """
  platform = asked.platform or Platform()
  if platform.assignmentId == _PREVIEW:
    raise Refusal(403, 'preview', 'Accept the HIT to begin.')
  if platform.turkSubmitTo not in ('', *MTURK_HOSTS):
    raise Refusal(422, 'platform', 'turkSubmitTo is not an address of Mechanical Turk.')
  name, platform_id = _platform_id(platform)
  worker = _known_worker(db, keys, token)
  if worker is None:
    # Ten hex digits, as in the releases.
    worker = pseudonym(keys.salt, f'{name}:{platform_id}')[:10] if name else secrets.token_hex(5)
  db.execute('INSERT OR IGNORE INTO worker (id) VALUES (?)', (worker,))
  (state,) = db.execute('SELECT state FROM worker WHERE id = ?', (worker,)).fetchone()
  if state == 'withdrawn':
    raise Refusal(403, 'withdrawn', 'You have withdrawn from this study.')
  hit, assignment = (
    platform.hitId or platform.STUDY_ID,
    platform.assignmentId or platform.SESSION_ID,
  )
  key = [pseudonym(keys.salt, text).upper()[:30] if text else '' for text in (hit, assignment)]
  session = _session(db, keys, worker, key, asked.pointer, now)
  if name:
    db.execute(
      'INSERT OR REPLACE INTO identities.identity VALUES (?, ?, ?, ?, ?, ?, ?)',
      (session, worker, name, platform_id, hit, assignment, platform.turkSubmitTo),
    )
  return {
    'token': session_token(keys.key, session),
    'worker': worker,
    'practice_done': has_practised(db, worker),
  }


def _platform_id(platform: Platform) -> tuple[str, str]:
  """(platform, id of the person there), or two empty strings."""
  if platform.PROLIFIC_PID:
    return 'prolific', platform.PROLIFIC_PID
  if platform.workerId:
    return 'mturk', platform.workerId
  return '', ''


def _known_worker(db: sqlite3.Connection, keys: Secrets, token: str) -> str | None:
  """The worker of a personal or a session token; None for the link for everyone."""
  if hmac.compare_digest(hash_token(token), hash_token(keys.join)):
    return None
  row = db.execute(
    'SELECT id FROM worker WHERE token = :token UNION SELECT worker FROM session '
    'WHERE token = :token',
    {'token': hash_token(token)},
  ).fetchone()
  if not row:
    raise Refusal(401, 'token', 'This link is not valid: ask for a new one.')
  return row[0]


def _session(
  db: sqlite3.Connection, keys: Secrets, worker: str, key: list[str], pointer: str, now: int
) -> int:
  """The id of the session of a worker and an assignment, created if there is none."""
  row = db.execute(
    'SELECT id FROM session WHERE worker = ? AND hit_id = ? AND assignment_id = ?', (worker, *key)
  ).fetchone()
  if row:
    return row['id']
  # Random, so that the id of a deleted session, and with it its token, is never reused.
  session = secrets.randbits(62)
  db.execute(
    'INSERT INTO session (id, worker, token, hit_id, assignment_id, consent_at, pointer) '
    'VALUES (?, ?, ?, ?, ?, ?, ?)',
    (session, worker, hash_token(session_token(keys.key, session)), *key, now, pointer),
  )
  return session


def has_practised(db: sqlite3.Connection, worker: str) -> bool:
  """Whether a worker has done the practice page."""
  query = (
    'SELECT 1 FROM lease JOIN page ON page.id = lease.page '
    "WHERE worker = ? AND kind = 'practice' AND state = 'done'"
  )
  return db.execute(query, (worker,)).fetchone() is not None


def find(db: sqlite3.Connection, token: str) -> sqlite3.Row:
  """The session of a bearer token; raises Refusal 401 if there is none."""
  row = db.execute('SELECT * FROM session WHERE token = ?', (hash_token(token),)).fetchone()
  if not row:
    raise Refusal(401, 'token', 'This session has ended: open your link again.')
  return row


def delete_worker(db: sqlite3.Connection, worker: str) -> int:
  """Deletes everything that was recorded about a worker, who gets no further pages.

  Returns:
    The number of answers deleted.
  """
  leases = 'IN (SELECT id FROM lease WHERE worker = ?)'
  db.execute(f'DELETE FROM quality WHERE lease {leases}', (worker,))
  answers = db.execute(f'DELETE FROM answer WHERE lease {leases}', (worker,)).rowcount
  db.execute(f'DELETE FROM batch WHERE lease {leases}', (worker,))
  for table in ('lease', 'session', 'identities.identity'):
    db.execute(f'DELETE FROM {table} WHERE worker = ?', (worker,))
  db.execute("UPDATE worker SET state = 'withdrawn' WHERE id = ?", (worker,))
  return answers
