"""What the admin page shows, from the tables and the batch log. Times are ms since 1970."""

import itertools
import math
import sqlite3
import statistics
from collections.abc import Iterable

import msgspec

from luab_jax.tools.annotate import evaluation, replay, visits
from luab_jax.tools.annotate.refusals import Refusal

MINUTE, HOUR = 60_000, 3_600_000
ACTIVE_MS = 60_000  # a worker is active this long after a batch
BINS = 32  # of the dwell map, along each side of an image
PAUSE_MS = 1000  # a longer rest of the cursor counts as this much dwell
ROWS = 200  # of a list, per request

# What a page is about: a class, or with icons its image.
_TITLE = """coalesce(nullif(page.class, ''), (SELECT path FROM page_image
  JOIN image ON image.id = image WHERE page_image.page = page.id))"""
# Practice pages do not count as answers.
_WORK = "FROM lease JOIN page ON page.id = lease.page AND page.kind = 'work'"


def status(db: sqlite3.Connection, wanted: int, now: int) -> dict:
  """Returns the counts of the overview; `wanted` is the number of answers per page."""
  pages, done, started, answers, left = db.execute(
    """WITH count AS (
         SELECT (SELECT count(*) FROM lease WHERE page = page.id AND state = 'done') AS done,
                EXISTS (SELECT 1 FROM lease WHERE page = page.id AND state = 'done'
                        OR page = page.id AND state = 'open' AND expires > :now) AS started
         FROM page WHERE kind = 'work')
       SELECT count(*), total(done >= :n), total(done < :n AND started), total(done),
              total(max(:n - done, 0)) FROM count""",
    {'now': now, 'n': wanted},
  ).fetchone()
  reported = db.execute("SELECT path FROM image WHERE state = 'reported' ORDER BY path").fetchall()
  active, rejected, judged = (
    db.execute(query, {'since': now - ACTIVE_MS}).fetchone()[0]
    for query in (
      """SELECT count(DISTINCT worker) FROM lease WHERE state = 'open' AND (SELECT server_ms
         FROM batch WHERE lease = id ORDER BY seq DESC LIMIT 1) > :since""",
      f"SELECT count(*) {_WORK} WHERE state = 'rejected'",
      'SELECT count(*) FROM answer WHERE verdict IS NOT NULL',
    )
  )
  return {
    'pages': {'all': pages, 'done': int(done), 'started': int(started)},
    'answers': {'done': int(answers), 'left': int(left), 'rejected': rejected, 'judged': judged},
    'active': active,
    'reported': [path for (path,) in reported],
    'page_ms': _median_ms(db),
    'end': _expected_end(db, int(left), now),
  }


def _expected_end(db: sqlite3.Connection, left: int, now: int) -> int | None:
  """Returns when the last answer is due at the pace of the last hour, to the minute, or None."""
  count, first = db.execute(
    f"""SELECT count(*), min(issued) {_WORK} JOIN answer ON answer.lease = lease.id
        WHERE lease.state = 'done' AND submitted > ?""",
    [now - HOUR],
  ).fetchone()
  if not count or not left:
    return None
  end = now + left / count * (now - max(first, now - HOUR))
  return round(end / MINUTE) * MINUTE


def _median_ms(db: sqlite3.Connection) -> float | None:
  """Returns the median time in ms that an answered page was visible; None without answers."""
  rows = db.execute(
    f"SELECT features {_WORK} JOIN quality ON lease = lease.id WHERE state = 'done'"
  )
  times = [_seen.decode(features).visible_ms for (features,) in rows]
  return statistics.median(times) if times else None


class _Seen(msgspec.Struct):
  """The part of quality.Features that is shown."""

  visible_ms: float


_seen = msgspec.json.Decoder(_Seen)


def workers(db: sqlite3.Connection) -> list[dict]:
  """Returns all workers who have consented, those with the most flags first."""
  rows = db.execute(
    f"""SELECT worker.id, codes, total(lease.state = 'done'), total(lease.state = 'rejected'),
          total(verdict > ''), max(consent_at, ifnull(max(issued), 0), ifnull(max(submitted), 0))
        FROM worker JOIN (SELECT worker, max(consent_at) AS consent_at, group_concat(code, ' ')
          AS codes FROM session GROUP BY worker) AS session ON session.worker = worker.id
        LEFT JOIN (SELECT lease.* {_WORK}) AS lease ON lease.worker = worker.id
        LEFT JOIN answer ON answer.lease = lease.id GROUP BY worker.id"""
  ).fetchall()
  quality = evaluation.of_workers(db)
  listed = []
  for worker, codes, done, rejected, judged, seen in rows:
    features, flags = quality.get(worker, (None, []))
    listed.append(
      {
        'worker': worker,
        'codes': codes or '',
        'answers': int(done),
        'rejected': int(rejected),
        'judged': int(judged),
        'page_ms': features and features.visible_ms / features.pages,
        'seen': seen,
        'flags': flags,
      }
    )
  return sorted(listed, key=lambda row: (-len(row['flags']), row['worker']))


def pages(db: sqlite3.Connection, start: int) -> list[dict]:
  """Returns up to ROWS pages in the order in which they are asked, from row `start` on."""
  rows = db.execute(
    f"""SELECT id, {_TITLE}, (SELECT count(*) FROM page_image WHERE page = page.id),
              (SELECT count(*) FROM lease WHERE page = page.id AND state = 'done'),
              (SELECT count(*) FROM lease WHERE page = page.id AND state = 'rejected'),
              (SELECT group_concat(flags, ' ') FROM quality JOIN lease ON lease.id = lease
               WHERE page = page.id AND state = 'done')
       FROM page WHERE kind = 'work' ORDER BY position LIMIT ? OFFSET ?""",
    [ROWS, start],
  )
  return [
    {
      'page': page,
      'number': number,
      'title': name,
      'images': images,
      'answers': done,
      'rejected': rejected,
      'flags': sorted({*(flags or '').split()}),
    }
    for number, (page, name, images, done, rejected, flags) in enumerate(rows, start + 1)
  ]


def answers(
  db: sqlite3.Connection, page: int | None = None, worker: str | None = None, limit: int = ROWS
) -> list[dict]:
  """Returns the answers to a page, by a worker, or all, newest first."""
  rows = db.execute(
    f"""SELECT lease.id, lease.page, {_TITLE}, worker, submitted, verdict, flags, features
        {_WORK} JOIN answer ON answer.lease = lease.id
        LEFT JOIN quality ON quality.lease = lease.id
        WHERE (?1 IS NULL OR lease.page = ?1) AND (?2 IS NULL OR worker = ?2)
        ORDER BY submitted DESC LIMIT ?3""",
    [page, worker, limit],
  )
  return [
    {
      'lease': lease,
      'page': page,
      'title': name,
      'worker': worker,
      'submitted': submitted,
      'verdict': verdict,
      'flags': (flags or '').split(),
      'page_ms': _seen.decode(features).visible_ms if features else None,
    }
    for lease, page, name, worker, submitted, verdict, flags, features in rows
  ]


def _images(db: sqlite3.Connection, page: int) -> list[dict]:
  rows = db.execute(
    """SELECT slot, rendition, width, height, path, gold, state FROM page_image
       JOIN image ON image.id = image WHERE page = ? ORDER BY slot""",
    [page],
  )
  names = ('slot', 'src', 'width', 'height', 'path', 'gold', 'state')
  return [dict(zip(names, (slot, f'/i/{src}', *row), strict=True)) for slot, src, *row in rows]


def page(db: sqlite3.Connection, page_id: int, task: str) -> dict:
  """Returns a page, its answers, and where its images were clicked and the cursor dwelled.

  Each image has `clicks` [(x, y)], one for each answer that selected it or each icon on it, and
  `dwell` {bin: ms}, where bin is BINS * row + column.

  Raises:
    Refusal: 404 without such a page.
  """
  row = db.execute(
    f"""SELECT {_TITLE}, (SELECT count(*) FROM page AS other WHERE other.kind = 'work'
                      AND other.position <= page.position)
       FROM page WHERE id = ? AND kind = 'work'""",
    [page_id],
  ).fetchone()
  if row is None:
    raise Refusal(404, 'page', 'There is no such page.')
  shown = {each['slot']: {**each, 'clicks': [], 'dwell': {}} for each in _images(db, page_id)}
  leases = db.execute("SELECT id FROM lease WHERE page = ? AND state = 'done'", [page_id])
  for (lease,) in leases.fetchall():
    batches = evaluation.log(db, lease)
    if task == 'grid':
      for slot, tile in replay.replay_grid(batches, thin=True).tiles.items():
        last = tile.clicks[-1:] if tile.selected else []
        _add_heat(shown[slot], [(click.x, click.y) for click in last], tile.trace)
    else:
      icons = replay.replay_icons(batches, thin=True)
      _add_heat(shown[0], icons.icons.values(), icons.trace)
  return {
    'number': row[1],
    'title': row[0],
    'images': list(shown.values()),
    'answers': answers(db, page_id),
    'bins': BINS,
  }


def _add_heat(
  image: dict, clicks: Iterable[tuple[float, float]], trace: list[replay.Position]
) -> None:
  image['clicks'] += clicks
  for at, then in itertools.pairwise(trace):
    if 0 <= at.x < 1 and 0 <= at.y < 1:
      spot = BINS * math.floor(at.y * BINS) + math.floor(at.x * BINS)
      ms = min(max(then.time_ms - at.time_ms, 0), PAUSE_MS)
      image['dwell'][spot] = image['dwell'].get(spot, 0) + ms


def answer(db: sqlite3.Connection, lease: int) -> dict:
  """Returns an answer and its events, by time: `t` in ms since the page was opened.

  Raises:
    Refusal: 404 without such an answer.
  """
  row = db.execute(
    f"""SELECT lease.page, {_TITLE}, worker, submitted, verdict, flags, features
        {_WORK} JOIN answer ON answer.lease = lease.id
        LEFT JOIN quality ON quality.lease = lease.id WHERE lease.id = ?""",
    [lease],
  ).fetchone()
  if row is None:
    raise Refusal(404, 'answer', 'There is no such answer.')
  names = ('page', 'title', 'worker', 'submitted', 'verdict', 'flags', 'features')
  found = dict(zip(names, row, strict=True))
  after = db.execute(
    f"""SELECT lease.id {_WORK} JOIN answer ON answer.lease = lease.id WHERE verdict IS NULL
        AND lease.id <> ?1 ORDER BY lease.id < ?1, lease.id LIMIT 1""",
    [lease],
  ).fetchone()
  batches = evaluation.log(db, lease)
  opened = visits.replay_visit(batches).opened
  return {
    **found,
    'lease': lease,
    'next': after and after[0],
    'flags': (found['flags'] or '').split(),
    'features': msgspec.Raw(found['features'] or b'null'),
    'images': _images(db, found['page']),
    'events': sorted(
      (
        {**msgspec.to_builtins(event), 't': round(batch.origin + event.t - opened, 3)}
        for batch in batches
        for event in batch.events
      ),
      key=lambda event: event['t'],
    ),
  }


def judge(db: sqlite3.Connection, lease: int, verdict: str | None, wanted: int, now: int) -> None:
  """Accepts or rejects an answer, or withdraws the verdict; a rejected page is assigned again.

  Args:
    db: within a transaction.
    lease: id of the answer.
    verdict: 'accepted', 'rejected' or None.
    wanted: number of answers to a page.
    now: ms since 1970.

  Raises:
    Refusal: 404 without such an answer; 409 if a rejected answer's page was assigned again.
  """
  row = db.execute(
    f'SELECT page, lease.state {_WORK} JOIN answer ON lease = lease.id WHERE lease.id = ?', [lease]
  ).fetchone()
  if row is None:
    raise Refusal(404, 'answer', 'There is no such answer.')
  page, state = row
  if verdict != 'rejected' and state == 'rejected':
    (taken,) = db.execute(
      """SELECT count(*) FROM lease WHERE page = ?
         AND (state = 'done' OR state = 'open' AND expires > ?)""",
      [page, now],
    ).fetchone()
    if taken >= wanted:
      raise Refusal(409, 'taken', 'Another worker has this page now: the answer stays rejected.')
  state = 'rejected' if verdict == 'rejected' else 'done'
  db.execute('UPDATE lease SET state = ? WHERE id = ?', [state, lease])
  db.execute('UPDATE answer SET verdict = ? WHERE lease = ?', [verdict, lease])
  evaluation.forget_page(db, page)
