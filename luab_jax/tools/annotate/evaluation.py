"""Features and flags of the answers, kept up to date in the table `quality`."""

import collections
import contextlib
import pathlib
import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from luab_jax.tools.annotate import judging, quality, replay
from luab_jax.tools.annotate.answers import Answers
from luab_jax.tools.annotate.events import Batch

_PAGES = 20  # evaluated per call, at most

_features = msgspec.json.Decoder(quality.Features)


class Row(NamedTuple):
  """A row of `quality`."""

  lease: int
  features: bytes
  flags: str


def evaluate(db: sqlite3.Connection, folder: pathlib.Path, task: str) -> list[Row]:
  """Returns the rows of `quality` that have changed because of new answers.

  An answer is compared with the others to its page, so a new one changes theirs, too; it also
  shifts the study's median time. If there are many new pages, some are left for the next call.

  Args:
    db: database of the study.
    folder: folder of the study.
    task: 'grid' or 'icons'.
  """
  rows = db.execute(
    """SELECT DISTINCT page FROM lease JOIN page ON page.id = page AND kind = 'work'
       JOIN answer ON answer.lease = lease.id LEFT JOIN quality ON quality.lease = lease.id
       WHERE quality.lease IS NULL LIMIT ?""",
    [_PAGES],
  )
  new = {page for (page,) in rows}
  if not new:
    return []
  kept = {row[0]: Row(*row) for row in db.execute('SELECT lease, features, flags FROM quality')}
  features = {lease: _features.decode(row.features) for lease, row in kept.items()}
  written = {lease: row.features for lease, row in kept.items()}
  with contextlib.closing(Answers(folder)) as answers:
    accepted = answers.accepted()
    for answer in answers.answers:
      if answer.page in new and answer.state != 'unfinished':
        judged = judging.judge_answer(answers, answer, accepted.get(answer.page, []), task)
        features[answer.lease] = judged.features
        written[answer.lease] = msgspec.json.encode(judged.features)
  count = {answer.lease for found in accepted.values() for answer in found}
  median = quality.median_ms_per_image(f for lease, f in features.items() if lease in count)
  found = (
    Row(lease, written[lease], ' '.join(quality.flags(each, median)))
    for lease, each in features.items()
  )
  return [row for row in found if row != kept.get(row.lease)]


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
  """Has the answers to a page evaluated again, after a verdict on one of them."""
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
