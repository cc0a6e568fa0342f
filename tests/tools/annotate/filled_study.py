"""A study that scripted workers have answered, written directly into its folder."""

import io
import random
import time

import msgspec
from PIL import Image, ImageDraw

from luab_jax.tools.annotate import database, study
from tests.tools.annotate import scripted

ADMIN, JOIN = 'admin' + 'A' * 17, 'join' + 'J' * 18
SHAPES = ((640, 480), (480, 640), (500, 500), (640, 360), (300, 640))
ICONS = ('dog', 'cat', 'bicycle', 'chair', 'cup', 'pizza')


def make(folder, task='grid', manners=('careful',), pages=2, images=6, answers=1, ended=None):
  """Makes a study whose page k was answered by a worker of each of `manners`.

  Args:
    folder: of the study, created here.
    task: grid or icons (one image per page).
    manners: some of scripted.MANNERS, one worker each.
    pages: number of pages; the last one stays unanswered.
    images: images per grid page.
    answers: answers wanted per page.
    ended: time of the last answer in ms since 1970; now by default.

  Returns:
    {lease: (worker, events.Submit)}.
  """
  (folder / 'renditions').mkdir(parents=True)
  study.write(folder, _study(task, images, answers), _secrets())
  db = database.create(folder)
  ended, done = ended or time.time_ns() // 1_000_000, {}
  images = images if task == 'grid' else 1
  for page in range(1, pages + 1):
    kind = (page, task, 'tench' if task == 'grid' else '', page, 'work')
    db.execute('INSERT INTO page VALUES (?, ?, ?, ?, ?)', kind)
    shapes = [SHAPES[(slot + page) % len(SHAPES)] for slot in range(images)]
    wanted = _draw_page(folder, db, page, shapes, task)
    for number, manner in enumerate(manners if page < pages else ()):
      opened = ended - (pages - page) * 90_000
      if task == 'grid':
        answer = scripted.grid(manner, shapes, wanted, 10 * page + number, float(opened))
      else:
        answer = scripted.icons(
          manner, shapes[0], wanted, [[0, 1, 2], [3, 4, 5]], 10 * page + number, float(opened)
        )
      lease, worker = len(done) + 1, f'{number:010x}'
      _store(db, lease, page, worker, answer, opened)
      done[lease] = worker, answer.submit
  db.close()
  return done


def _study(task, page_size, answers):
  names = ('tench',) if task == 'grid' else ICONS
  return study.Study(
    version=study.VERSION,
    task=task,
    title='Fish in photographs',
    about='',
    contact='lab@example.org',
    images='/nowhere',
    classes=[study.Class(name) for name in names],
    groups=[''],
    page_size=page_size,
    pages_per_worker=10,
    answers=answers,
    pointer='plain',
    blur='off',
    track='60hz',
    require_all_pages=True,
    platform='',
    return_url='',
    practice=study.Practice(),
  )


def _secrets():
  return study.Secrets(key='00' * 32, salt='11' * 32, join=JOIN, admin=ADMIN)


def _draw_page(folder, db, page, shapes, task):
  """Draws images with a disc at each object; returns {slot or class: (x, y) in fractions}."""
  draw, wanted = random.Random(page), {}
  for slot, (width, height) in enumerate(shapes):
    number = 1000 * page + slot
    image = Image.new('RGB', (width, height), tuple(draw.randrange(60, 200) for _ in 'rgb'))
    pen = ImageDraw.Draw(image)
    for key in (slot,) if task == 'grid' else (1, 4, 5):
      x, y = draw.uniform(0.2, 0.8), draw.uniform(0.2, 0.8)
      if task == 'icons' or slot % 3:
        wanted[key] = x, y
        pen.circle((x * width, y * height), 24, fill='orange', outline='white', width=4)
    file = io.BytesIO()
    image.save(file, 'JPEG')
    name = f'{number:032x}.jpg'
    (folder / 'renditions' / name).write_bytes(file.getvalue())
    db.execute(
      'INSERT INTO image VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
      (number, '', f'fish/{number}.jpg', 'tench', width, height, name, 'ok'),
    )
    gold = int(slot in wanted) if task == 'grid' and slot % 4 == 0 else None
    db.execute('INSERT INTO page_image VALUES (?, ?, ?, ?)', (page, slot, number, gold))
  return wanted


def _store(db, lease, page, worker, answer, opened):
  db.execute('INSERT OR IGNORE INTO worker (id) VALUES (?)', (worker,))
  session = int(worker, 16) + 1
  db.execute(
    'INSERT OR IGNORE INTO session (id, worker, token, consent_at, pointer) VALUES (?, ?, ?, ?, ?)',
    (session, worker, f'token {worker}', opened, 'fine'),
  )
  closed = round(opened + answer.batches[-1].sent)
  db.execute(
    'INSERT INTO lease VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
    (lease, page, worker, session, '0' * 16, opened, closed + 1_200_000, 'done'),
  )
  for batch in answer.batches:
    db.execute(
      'INSERT INTO batch VALUES (?, ?, ?, ?, ?)',
      (lease, batch.seq, batch.origin + batch.sent, closed, msgspec.json.encode(batch)),
    )
  db.execute(
    'INSERT INTO answer VALUES (?, ?, ?, ?, NULL)',
    (lease, answer.submit.last_seq, msgspec.json.encode(answer.submit), closed),
  )
