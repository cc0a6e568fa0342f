"""Creates a study: scans and renders the images, deals them to pages, and makes the links."""

import argparse
import os
import pathlib
import secrets
import shlex
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

from tqdm import tqdm

from luab_jax.errors import UserError
from luab_jax.tools import output_folder
from luab_jax.tools.annotate import database, images, pages, planning, practice, study
from luab_jax.tools.annotate.images import Rendition
from luab_jax.tools.annotate.planning import Plan
from luab_jax.tools.annotate.study import Class, Practice, Secrets, Study
from luab_jax.tools.own_data.problems import Problems, pluralize

_PAGE_SIZE = 48
_MAX_PAGE_SIZE = 200  # slots that events can name
_PAGES = {'grid': 10, 'icons': 20}  # per worker, as in the releases
_TITLES = {'grid': 'Find the images', 'icons': 'What is in the image?'}


class _Files(NamedTuple):
  """The new folder while it is being filled."""

  folder: pathlib.Path
  problems: Problems

  def save(self, rendition: Rendition) -> str:
    """Writes a rendition and returns its name."""
    (self.folder / 'renditions' / rendition.name).write_bytes(rendition.data)
    return rendition.name


def run(args: argparse.Namespace) -> list[str]:
  """Creates the study that the command line describes; returns lines to print.

  Raises:
    UserError: the images, the tables or the options cannot be used; nothing is left behind.
  """
  _check(args)
  output_folder.refuse_overlap(args.out, [args.images])
  out = args.out.resolve()
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix='.annotate-', dir=out.parent))
    try:
      (folder / 'renditions').mkdir()
      with open(
        folder / 'skipped.csv', 'w', encoding='utf-8', errors='backslashreplace', newline=''
      ) as file:
        files = _Files(folder, Problems(file))
        lines = _fill(args, files)
      folder.replace(out)  # an empty folder may be there
    except BaseException:
      shutil.rmtree(folder, ignore_errors=True)
      raise
  except (OSError, sqlite3.OperationalError) as error:
    raise UserError(f'cannot write to --out={args.out}: {error}') from error
  return [*files.problems.format(args.out / 'skipped.csv'), *lines]


def _check(args: argparse.Namespace) -> None:
  """Raises UserError for conflicting or invalid options, and for a folder in use."""
  if args.page_size is not None and not 1 <= args.page_size <= _MAX_PAGE_SIZE:
    raise UserError(f'--page_size={args.page_size} must be between 1 and {_MAX_PAGE_SIZE}')
  only = {'grid': ('page_size', 'candidates', 'gold'), 'icons': ('icons', 'require_all_pages')}
  for task, names in only.items():
    if used := [name for name in names if task != args.task and getattr(args, name)]:
      raise UserError(f'--{used[0]} is for --task={task}')
  for name in ('answers', 'pages_per_worker', 'workers'):
    if (number := getattr(args, name)) is not None and number < (name != 'workers'):
      raise UserError(f'--{name}={number} is too small')
  if args.return_url and not args.return_url.startswith('https://'):
    raise UserError(f'--return_url={args.return_url} must begin with https://')
  if not args.images.is_dir():
    raise UserError(f'{args.images} is not a folder: give the one that holds the images')
  if os.path.lexists(args.out) and (not args.out.is_dir() or any(args.out.iterdir())):
    raise UserError(f'--out={args.out} already exists: choose a new folder')


def _fill(args: argparse.Namespace, files: _Files) -> list[str]:
  """Fills the folder of the study; returns lines to print."""
  found = images.find(args.images, files.problems)
  if not found:
    endings = ', '.join(images.EXTENSIONS)
    raise UserError(f'{args.images} holds no images: image files end in {endings}')
  plan = planning.plan(args, found, files.problems)
  _save_pictures(args, files, plan.classes)
  needed, rendered = plan.images(), {}
  drawn = images.render_all(args.images, needed, files.problems)
  for name, rendition in tqdm(drawn, 'images', len(needed), disable=None, leave=False):
    files.save(rendition)
    rendered[name] = rendition._replace(data=b'')
  if not rendered:
    raise UserError(f'{args.images} holds no readable images{files.problems.first("image")}')
  plan = plan.without(set(needed) - rendered.keys())
  made, drawings = _study(args, plan)
  if args.task == 'grid':
    dealt = pages.deal_grid(plan.candidates, plan.gold, made.page_size, secrets.randbits(64))
  else:
    dealt = pages.deal_icons(plan.candidates[''], secrets.randbits(64))
  keys = study.make_secrets(args.workers)
  label_of = {name: label for label, names in plan.candidates.items() for name in names}
  with database.create(files.folder) as db:
    db.execute('BEGIN IMMEDIATE')
    ids = {name: _add_image(db, name, label_of.get(name, ''), rendered[name]) for name in rendered}
    for position, page in enumerate(dealt, 1):
      shown = [(ids[name], gold) for name, gold in page.images]
      _add_page(db, (made.task, page.label, position, 'work'), shown)
    _add_practice(db, files, made, drawings)
    _add_workers(db, keys)
  db.close()
  study.write(files.folder, made, keys)
  answers = 'one answer' if args.answers == 1 else f'{args.answers} answers'
  return [
    f'Study of {len(rendered):,} {pluralize(len(rendered), "image")} on {len(dealt):,} '
    f'{pluralize(len(dealt), "page")}, {answers} to each: {args.out}',
    'Next:',
    f'  python -m luab_jax.tools.annotate serve {shlex.quote(str(args.out))}',
  ]


def _study(args: argparse.Namespace, plan: Plan) -> tuple[Study, Sequence[practice.Drawing]]:
  """The settings of the study, and the images of its practice page."""
  drawings: Sequence[practice.Drawing]
  if args.task == 'grid':
    grid = practice.grid()
    practised, drawings = Practice(grid.name, grid.definition, list(grid.answers)), grid.images
  else:
    icons = practice.icons()
    classes = [Class(name, group=group) for name, group in icons.classes]
    practised, drawings = Practice(classes=classes, spots=list(icons.answers)), [icons.image]
  made = Study(
    version=study.VERSION,
    task=args.task,
    title=args.title or _TITLES[args.task],
    about=args.about,
    contact=args.contact,
    images=str(args.images.resolve()),
    classes=plan.classes,
    groups=plan.groups,
    page_size=(args.page_size or _PAGE_SIZE) if args.task == 'grid' else 1,
    pages_per_worker=args.pages_per_worker or _PAGES[args.task],
    answers=args.answers,
    pointer=args.pointer,
    blur=args.blur,
    track=args.track,
    require_all_pages=args.require_all_pages,
    platform=args.platform or '',
    return_url=args.return_url,
    practice=practised,
  )
  return made, drawings


def _save_pictures(args: argparse.Namespace, files: _Files, classes: Sequence[Class]) -> None:
  """Saves the classes' examples and drawings, and enters their names into the classes."""
  for described in classes:
    paths = [args.classes.parent / name for name in described.examples]
    described.examples = [_save_picture(files, path, images.render_example) for path in paths]
  if not args.icons:
    return
  try:
    drawings = {path.stem: path for path in sorted(args.icons.iterdir()) if path.is_file()}
  except OSError as error:
    raise UserError(f'{args.icons} cannot be read: {error.strerror}') from error
  for described in classes:
    if path := drawings.get(described.name):
      described.icon = _save_picture(files, path, images.render_icon)
    else:
      files.problems.count('class without a drawing, shown as text')
  if not any(described.icon for described in classes):
    raise UserError(
      f'{args.icons} holds no drawing named after a class, such as {classes[0].name}.png'
    )


def _save_picture(files: _Files, path: pathlib.Path, render: images.Renderer) -> str:
  made = render(path)
  if isinstance(made, str):
    raise UserError(f'{path} cannot be shown: {made}')
  return files.save(made)


def _add_image(db: sqlite3.Connection, path: str, label: str, image: Rendition) -> int:
  cursor = db.execute(
    'INSERT INTO image (sha256, path, class, width, height, rendition) VALUES (?, ?, ?, ?, ?, ?)',
    (image.sha256, path, label, image.width, image.height, image.name),
  )
  assert cursor.lastrowid is not None
  return cursor.lastrowid


def _add_page(
  db: sqlite3.Connection, values: tuple[str, str, int, str], shown: Sequence[tuple[int, pages.Gold]]
) -> None:
  """Adds a page of (task, class, position, kind) with its images, (id, gold) by slot."""
  page = db.execute(
    'INSERT INTO page (task, class, position, kind) VALUES (?, ?, ?, ?)', values
  ).lastrowid
  db.executemany(
    'INSERT INTO page_image VALUES (?, ?, ?, ?)',
    [(page, slot, image, gold) for slot, (image, gold) in enumerate(shown)],
  )


def _add_practice(
  db: sqlite3.Connection, files: _Files, made: Study, drawings: Sequence[practice.Drawing]
) -> None:
  shown: list[tuple[int, pages.Gold]] = []
  for slot, drawing in enumerate(drawings):
    rendition = images.render(drawing.jpeg)
    files.save(rendition)
    # An absolute path, which no file in the folder of images has.
    shown.append((_add_image(db, f'/practice/{slot}', '', rendition), None))
  _add_page(db, (made.task, made.practice.name, 0, 'practice'), shown)


def _add_workers(db: sqlite3.Connection, keys: Secrets) -> None:
  db.executemany(
    'INSERT INTO worker (id, token) VALUES (?, ?)',
    [(worker, study.hash_token(token)) for worker, token in keys.personal.items()],
  )
