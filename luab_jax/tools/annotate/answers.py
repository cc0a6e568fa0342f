"""The answers of a study, read from its database."""

import collections
import hashlib
import pathlib
import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from luab_jax.errors import UserError
from luab_jax.tools.annotate import replay
from luab_jax.tools.annotate.events import Batch, Submit


class Image(NamedTuple):
  """An image of a study."""

  sha256: str  # of the original file
  path: str  # below the folder of images
  label: str  # class that it is a candidate for; '': none
  width: int  # upright, in px
  height: int


class Page(NamedTuple):
  """A page; slots are the places of the images on it."""

  position: int
  label: str  # class that is asked for; '' for icons
  images: dict[int, int]  # slot -> id of the image
  gold: dict[int, bool]  # slot -> whether the image holds the class, where that is known


class Answer(NamedTuple):
  """What a worker did on a page."""

  lease: int
  page: int
  worker: str
  hit_id: str  # in the format of the release; made from the session if there is no platform
  assignment_id: str
  page_idx: int  # among the pages of the session, from 0
  state: str  # 'accepted', 'rejected', or 'unfinished': not submitted
  submitted: int | None  # ms since 1970, by the server's clock
  end: Submit  # what was selected or placed; nothing while unfinished


class StoredBatch(msgspec.Struct):
  """A batch as received; `events` is their JSON."""

  seq: int
  origin: float
  sent: float
  events: msgspec.Raw


_decode_end = msgspec.json.Decoder(Submit).decode
_decode_stored = msgspec.json.Decoder(StoredBatch).decode

_IMAGES = """
SELECT id, sha256, path, class, width, height FROM image WHERE id IN (
  SELECT image FROM page_image JOIN page ON page.id = page WHERE kind = 'work') ORDER BY path"""
_ANSWERS = """
SELECT lease.id, lease.page, page.task, lease.worker, lease.session, session.hit_id,
  session.assignment_id, lease.state, answer.verdict, answer.submitted, answer.state AS end,
  row_number() OVER (PARTITION BY lease.session ORDER BY answer.lease IS NULL, lease.id) AS number
FROM lease JOIN page ON page.id = lease.page JOIN session ON session.id = lease.session
LEFT JOIN answer ON answer.lease = lease.id
WHERE page.kind = 'work' ORDER BY page.position, lease.id"""


class Answers:
  """Images, pages and answers of a study as they were when it was opened, without practice.

  Attributes:
    images: by id, in the order of their paths.
    pages: by id, in the order of their positions.
    answers: in the order of their pages, then of their leases.
  """

  def __init__(self, folder: pathlib.Path) -> None:
    """Opens the database of a study; raises UserError if it cannot be read."""
    path = folder / 'study.db'
    try:
      self._db = sqlite3.connect(f'{path.resolve().as_uri()}?mode=ro', uri=True, timeout=30)
      self._db.execute('BEGIN')  # what is stored from now on is not seen
      self.images = {row[0]: Image(*row[1:]) for row in self._db.execute(_IMAGES)}
      self.pages = self._read_pages()
      self._db.row_factory = sqlite3.Row
      self.answers = [_to_answer(row) for row in self._db.execute(_ANSWERS)]
    except sqlite3.Error as error:
      raise UserError(f'{path} cannot be read ({error}): restore it from a copy') from error

  def close(self) -> None:
    """Closes the database."""
    self._db.close()

  def _read_pages(self) -> dict[int, Page]:
    pages = {
      number: Page(position, label, {}, {})
      for number, position, label in self._db.execute(
        "SELECT id, position, class FROM page WHERE kind = 'work' ORDER BY position"
      )
    }
    for number, slot, image, gold in self._db.execute(
      'SELECT page, slot, image, gold FROM page_image ORDER BY page, slot'
    ):
      if page := pages.get(number):
        page.images[slot] = image
        if gold is not None:
          page.gold[slot] = bool(gold)
    return pages

  def batches(self, answer: Answer) -> list[Batch]:
    """Returns the batches of an answer, in the order of their numbers."""
    return replay.decode(blob for _, blob in self._rows(answer))

  def stored_batches(self, answer: Answer) -> list[tuple[int, StoredBatch]]:
    """Returns (ms since 1970 by the server's clock, batch as received) in the same order."""
    return [(server_ms, _decode_stored(blob)) for server_ms, blob in self._rows(answer)]

  def _rows(self, answer: Answer) -> Iterator[tuple[int, bytes]]:
    return (
      (row['server_ms'], row['events'])
      for row in self._db.execute(
        'SELECT server_ms, events FROM batch WHERE lease = ? ORDER BY seq', (answer.lease,)
      )
    )

  def accepted(self) -> dict[int, list[Answer]]:
    """Returns {page: its accepted answers} for the pages that have any."""
    by_page = collections.defaultdict(list)
    for answer in self.answers:
      if answer.state == 'accepted':
        by_page[answer.page].append(answer)
    return dict(by_page)


def _to_answer(row: sqlite3.Row) -> Answer:
  state = 'unfinished' if row['end'] is None else 'accepted'
  if 'rejected' in (row['state'], row['verdict']):
    state = 'rejected'
  return Answer(
    row['id'],
    row['page'],
    row['worker'],
    _identifier(row, 'hit_id'),
    _identifier(row, 'assignment_id'),
    row['number'] - 1,
    state,
    row['submitted'],
    Submit(row['id'], '', 0) if row['end'] is None else _decode_end(row['end']),
  )


def _identifier(row: sqlite3.Row, name: str) -> str:
  """Returns hex digits that replace a platform's id, as many as it has in the release."""
  digits = hashlib.sha256(f'{name}:{row[name] or row["session"]}'.encode()).hexdigest()
  return digits[:30].upper() if row['task'] == 'grid' else digits[:32]
