"""Studies with recorded answers, written into their tables without a server."""

import gzip
import hashlib
import json
import pathlib
import sqlite3
import tarfile

import msgspec
import numpy as np

from luab_jax.byproducts import imagenet_ab
from luab_jax.tools.annotate import __main__ as annotate
from luab_jax.tools.annotate import events, replay, study
from tests.painted_data import encode

TABLES = pathlib.Path(study.__file__).with_name('schema.sql').read_text()
ISSUED = 1_790_000_000_000


def paint(folder, names, size=(48, 32)):
  """Writes grey PNG images of `size` (width, height) to the given paths below `folder`."""
  for value, name in enumerate(names):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(np.full((size[1], size[0], 3), 8 * value % 256, np.uint8), 'PNG'))


class Recorder:
  """Writes a study and adds images, pages and answers to it."""

  def __init__(self, folder, images, task, classes, groups=(), **options):
    """`images`: the folder of images; `classes`: [name] or [(name, group)]."""
    folder.mkdir()
    self.folder, self.images, self.task = folder, images, task
    self.study = study.Study(
      version=1, task=task, title='', about='', contact='', images=str(images),
      classes=[study.Class(*([c, '', [], ''] if isinstance(c, str) else [c[0], '', [], c[1]]))
               for c in classes],
      groups=list(groups), page_size=48, pages_per_worker=10, answers=1, pointer='plain',
      blur='off', track=options.pop('track', '60hz'), require_all_pages=True, platform='',
      return_url='', practice=study.Practice(), **options,
    )  # fmt: skip
    study.write(folder, self.study, study.make_secrets(0))
    self.db = sqlite3.connect(folder / 'study.db', isolation_level=None)
    self.db.executescript('PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY;' + TABLES)
    self._ids, self._seen, self._sizes = {}, 0, {}

  def add_image(self, path, label='', size=(48, 32)):
    digest = hashlib.sha256((self.images / path).read_bytes()).hexdigest()
    row = (digest, path, label, *size, f'{len(self._ids):032x}.jpg')
    self._ids[path] = self.db.execute(
      'INSERT INTO image (sha256, path, class, width, height, rendition) VALUES (?,?,?,?,?,?)', row
    ).lastrowid

  def add_page(self, paths, label='', gold=None, kind='work'):
    """Adds a page with these images by slot and returns its id; `gold`: {slot: 0 or 1}."""
    (position,) = self.db.execute('SELECT count(*) + 1 FROM page').fetchone()
    page = self.db.execute(
      'INSERT INTO page (task, class, position, kind) VALUES (?,?,?,?)',
      (self.task, label, position, kind),
    ).lastrowid
    for slot, path in enumerate(paths):
      row = (page, slot, self._ids[path], (gold or {}).get(slot))
      self.db.execute('INSERT INTO page_image VALUES (?,?,?,?)', row)
    return page

  def add_answer(self, page, worker, batches, submit=None, state='done', verdict=None, hit=''):
    """Adds an answer and returns its lease; without `submit` the page was not submitted."""
    self.db.execute('INSERT OR IGNORE INTO worker (id) VALUES (?)', (worker,))
    self.db.execute(
      "INSERT OR IGNORE INTO session VALUES (?,?,?,?,?,?,'fine',NULL)",
      (int(worker, 16), worker, worker, hit, hit, ISSUED),
    )
    lease = self.db.execute(
      'INSERT INTO lease VALUES (NULL,?,?,?,?,?,?,?)',
      (page, worker, int(worker, 16), '0' * 16, ISSUED, ISSUED, state),
    ).lastrowid
    for batch in batches:
      blob = msgspec.json.encode(msgspec.structs.replace(batch, lease=lease))
      row = (lease, batch.seq, batch.origin + batch.sent, ISSUED + batch.seq, blob)
      self.db.execute('INSERT INTO batch VALUES (?,?,?,?,?)', row)
    if submit:
      blob = msgspec.json.encode(msgspec.structs.replace(submit, lease=lease))
      row = (lease, submit.last_seq, blob, ISSUED, verdict)
      self.db.execute('INSERT INTO answer VALUES (?,?,?,?,?)', row)
    return lease

  def export(self, out, *options):
    """Exports into a folder and returns it."""
    annotate.main(['export', str(self.folder), f'--out={out}', *map(str, options)])
    return out


def submit(task, batches):
  """The Submit that a browser sends at the end of a page."""
  selected, icons = replay.final_state(task, batches)
  return events.Submit(1, '0' * 16, len(batches) - 1, selected, icons)


def read_sidecar(out):
  """(head, lines) of answers.jsonl.gz."""
  with gzip.open(out / 'answers.jsonl.gz') as file:
    head, *lines = map(json.loads, file)
  return head, lines


def read_xmls(out):
  """{member name: parsed record} of the exported XMLs."""
  with tarfile.open(out / 'imagenet_ab_v1_0.tar.gz') as tar:
    return {m.name: imagenet_ab.parse_xml(tar.extractfile(m).read()) for m in tar}
