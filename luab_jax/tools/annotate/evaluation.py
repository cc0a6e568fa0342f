"""Features and flags of the answers, kept in the table `quality` and brought up to date here."""

import collections
import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from luab_jax.tools.annotate import quality, replay
from luab_jax.tools.annotate.events import Batch, Submit

_PAGES = 20  # evaluated at once, at most

_features = msgspec.json.Decoder(quality.Features)


class Row(NamedTuple):
  """A row of `quality`."""

  lease: int
  features: bytes
  flags: str


def evaluate(db: sqlite3.Connection, task: str) -> list[Row]:
  """Returns the rows of `quality` that answers have changed since the table was written.

  An answer is compared with the others to its page, so a new one changes them, too; and it moves
  the study's median time. Of many new pages some are left for the next call.
  """
  new = db.execute(
    """SELECT DISTINCT page FROM lease JOIN page ON page.id = page AND kind = 'work'
       JOIN answer ON answer.lease = lease.id LEFT JOIN quality ON quality.lease = lease.id
       WHERE quality.lease IS NULL LIMIT ?""",
    [_PAGES],
  ).fetchall()
  if not new:
    return []
  kept = {row[0]: Row(*row) for row in db.execute('SELECT lease, features, flags FROM quality')}
  features = {lease: _features.decode(row.features) for lease, row in kept.items()}
  for (page,) in new:
    features |= _evaluate_page(db, task, page)
  median = quality.median_ms_per_image(features.values())
  rows = (
    Row(lease, msgspec.json.encode(found), ' '.join(quality.flags(found, median)))
    for lease, found in features.items()
  )
  return [row for row in rows if row != kept.get(row.lease)]


def _evaluate_page(db: sqlite3.Connection, task: str, page: int) -> dict[int, quality.Features]:
  """Returns the features of all answers to a page, by lease; those rejected count for no other."""
  answers = db.execute(
    """SELECT lease.id, lease.state, answer.state FROM lease JOIN answer ON answer.lease = lease.id
       WHERE page = ?""",
    [page],
  ).fetchall()
  gold = dict(db.execute('SELECT slot, gold FROM page_image WHERE page = ?', [page]).fetchall())
  chosen = {lease: _chosen(state) for lease, lease_state, state in answers if lease_state == 'done'}
  found = {}
  for lease, _, _ in answers:
    batches = log(db, lease)
    others = [other for key, other in chosen.items() if key != lease]
    if task == 'grid':
      known = {slot: bool(value) for slot, value in gold.items() if value is not None}
      grid = replay.replay_grid(batches)
      found[lease] = quality.grid_features(grid, len(gold), known, others)
    else:
      found[lease] = quality.icon_features(replay.replay_icons(batches), others)
  return found


def _chosen(state: bytes) -> set[int]:
  """The slots, or the classes, of a final state."""
  submit = msgspec.json.decode(state, type=Submit)
  return {*submit.selected, *(icon.c for icon in submit.icons)}


def log(db: sqlite3.Connection, lease: int) -> list[Batch]:
  """Returns the batches of a lease."""
  rows = db.execute('SELECT events FROM batch WHERE lease = ? ORDER BY seq', [lease])
  return replay.decode(events for (events,) in rows)


def keep(db: sqlite3.Connection, rows: Iterable[Row]) -> None:
  """Writes rows of `quality`, within a transaction; answers may have been deleted meanwhile."""
  db.executemany(
    'INSERT OR REPLACE INTO quality SELECT ?1, ?2, ?3 WHERE EXISTS '
    '(SELECT 1 FROM answer WHERE lease = ?1)',
    rows,
  )


def forget_page(db: sqlite3.Connection, page: int) -> None:
  """Has the answers to a page evaluated again, as one of them came to count, or no more."""
  db.execute('DELETE FROM quality WHERE lease IN (SELECT id FROM lease WHERE page = ?)', [page])


def of_workers(db: sqlite3.Connection) -> dict[str, tuple[quality.Features, list[str]]]:
  """Returns {worker: (features, flags) of all answers that were not rejected}."""
  answers = collections.defaultdict(list)
  for worker, features in db.execute(
    """SELECT worker, features FROM quality JOIN lease ON lease.id = lease WHERE state = 'done'"""
  ):
    answers[worker].append(_features.decode(features))
  median = quality.median_ms_per_image(each for found in answers.values() for each in found)
  merged = {worker: quality.merge(found) for worker, found in answers.items()}
  return {worker: (found, quality.flags(found, median)) for worker, found in merged.items()}
