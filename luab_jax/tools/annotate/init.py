"""Makes a study: scans the images, draws renditions, deals the pages, and makes the links."""

import argparse
import os
import pathlib
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from luab_jax.errors import UserError
from luab_jax.tools import output_folder
from luab_jax.tools.annotate import (
  class_files,
  coco_pages,
  database,
  images,
  pages,
  practice,
  study,
)
from luab_jax.tools.annotate.study import Class, Practice, Secrets, Study
from luab_jax.tools.own_data.problems import Problems

_PAGE_SIZE = 48
_MAX_PAGE_SIZE = 200  # slots that events can name
_PAGES = {'grid': 10, 'icons': 20}  # of a worker, as in the releases


class _Files(NamedTuple):
  """The new folder while it is being filled."""

  folder: pathlib.Path
  problems: Problems

  def save(self, rendition: images.Rendition) -> str:
    (self.folder / 'renditions' / rendition.name).write_bytes(rendition.data)
    return rendition.name


def run(args: argparse.Namespace) -> list[str]:
  """Makes a study as the command line says; returns lines about it.

  Raises:
    UserError: the images, the tables or the options cannot be used; nothing is left behind then.
  """
  _check(args)
  output_folder.refuse_overlap(args.out, [args.images])
  args.out.resolve().parent.mkdir(parents=True, exist_ok=True)
  folder = pathlib.Path(tempfile.mkdtemp(prefix='.annotate-', dir=args.out.resolve().parent))
  try:
    (folder / 'renditions').mkdir()
    with open(folder / 'skipped.csv', 'w', encoding='utf-8', errors='replace', newline='') as file:
      files = _Files(folder, Problems(file))
      lines = _fill(args, files)
    folder.chmod(0o700)
    os.replace(folder, args.out.resolve())  # an empty folder may be there
  except BaseException:
    shutil.rmtree(folder, ignore_errors=True)
    raise
  return [*files.problems.format(args.out / 'skipped.csv'), *lines]


def _check(args: argparse.Namespace) -> None:
  """Raises UserError for options that do not go together, and for a folder in use."""
  if args.page_size is not None and args.task == 'icons':
    raise UserError('--page_size is for --task=grid: icons are put on one image a page')
  if not 1 <= (args.page_size or _PAGE_SIZE) <= _MAX_PAGE_SIZE:
    raise UserError(f'--page_size={args.page_size} must be between 1 and {_MAX_PAGE_SIZE}')
  for name in ('candidates', 'gold'):
    if getattr(args, name) and args.task == 'icons':
      raise UserError(f'--{name} is for --task=grid')
  if args.icons and args.task == 'grid':
    raise UserError('--icons is for --task=icons')
  for name in ('answers', 'pages_per_worker', 'workers'):
    if (number := getattr(args, name)) is not None and number < (name != 'workers'):
      raise UserError(f'--{name}={number} is too small')
  if args.return_url and not args.return_url.startswith('https://'):
    raise UserError(f'--return_url={args.return_url} must begin with https://')
  if not args.images.is_dir():
    raise UserError(f'{args.images} is not a folder: give the one that holds the images')
  if os.path.lexists(args.out) and (not args.out.is_dir() or any(args.out.iterdir())):
    raise UserError(f'--out={args.out} is there already: take a new folder')


def _fill(args: argparse.Namespace, files: _Files) -> list[str]:
  """Fills the folder of the study; returns lines about it."""
  names = images.find(args.images, files.problems)
  rendered = {}
  for name, rendition in images.render_all(args.images, names, files.problems):
    files.save(rendition)
    rendered[name] = rendition._replace(data=b'')
  if not rendered:
    endings = ', '.join(images.EXTENSIONS)
    raise UserError(
      f'{args.images} holds no readable images: their names end in {endings}'
      f'{files.problems.first("image")}'
    )
  classes, dealt = (_deal_grid if args.task == 'grid' else _deal_icons)(args, files, rendered)
  practised, drawings = _practice(args.task)
  made = Study(
    version=study.VERSION,
    task=args.task,
    title=args.title or ('Find the images' if args.task == 'grid' else 'Name what you see'),
    about=args.about,
    contact=args.contact,
    images=str(args.images.resolve()),
    classes=classes,
    groups=_groups(args, classes),
    page_size=1 if args.task == 'icons' else args.page_size or _PAGE_SIZE,
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
  keys = study.make_secrets(args.workers)
  _write_database(files, made, keys, rendered, dealt, drawings)
  study.write(files.folder, made, keys)
  shown = sum(len(page.images) for page in dealt)
  return [
    f'Study of {len(rendered):,} images: {len(dealt):,} pages, {shown:,} images on them, '
    f'{args.answers} {"answer" if args.answers == 1 else "answers"} each: {args.out}',
    'Next:',
    f'  python -m luab_jax.tools.annotate serve {args.out}',
  ]


def _deal_grid(
  args: argparse.Namespace, files: _Files, rendered: Mapping[str, images.Rendition]
) -> tuple[list[Class], list[pages.Page]]:
  """The classes of a grid and its pages."""
  if args.candidates:
    candidates = class_files.read_candidates(args.candidates, rendered)
  else:
    candidates = _class_folders(args, files, list(rendered))
  described = class_files.read_classes(args.classes) if args.classes else []
  known = {found.name: found for found in described}
  if described and (unknown := sorted(candidates.keys() - known.keys())):
    raise UserError(
      f'{args.classes} lacks the class {unknown[0]!r}, which has images: add a line for it'
    )
  if unused := sorted(known.keys() - candidates.keys()):
    raise UserError(f'{args.classes} names {unused[0]!r}, which has no images: remove its line')
  classes = [known.get(name, Class(name)) for name in sorted(candidates)]
  for found in classes:
    found.examples = [_example(args.classes, files, name) for name in found.examples]
  gold = class_files.read_gold(args.gold, rendered, sorted(candidates)) if args.gold else {}
  size = args.page_size or _PAGE_SIZE
  return classes, pages.deal_grid(candidates, gold, size, secrets.randbits(64))


def _class_folders(
  args: argparse.Namespace, files: _Files, names: Sequence[str]
) -> dict[str, list[str]]:
  """{class: its images} of class folders."""
  candidates: dict[str, list[str]] = {}
  for name in names:
    label, slash, _ = name.partition('/')
    if not slash:
      files.problems.add('image outside the class folders, skipped', name)
      continue
    if problem := class_files.check_class(label):
      raise UserError(f'{args.images}/{label}: {problem}: rename the folder')
    candidates.setdefault(label, []).append(name)
  if not candidates:
    raise UserError(
      f'{args.images} holds no class folders (FOLDER/CLASS/xxx.jpg): make them, or say with '
      '--candidates=CSV which class to ask for'
    )
  return candidates


def _example(table: pathlib.Path, files: _Files, name: str) -> str:
  made = images.render_example(table.parent / name)
  if isinstance(made, str):
    raise UserError(f'{table}: the example {name} cannot be shown: {made}')
  return files.save(made)


def _deal_icons(
  args: argparse.Namespace, files: _Files, rendered: Mapping[str, images.Rendition]
) -> tuple[list[Class], list[pages.Page]]:
  """The icons, with their drawings, and the pages."""
  if args.classes:
    classes = class_files.read_classes(args.classes)
    if shown := next((found.name for found in classes if found.examples), None):
      raise UserError(f'{args.classes}: {shown!r} has examples, which are for --task=grid')
  else:
    classes = [Class(name, group=group) for name, group in coco_pages.CLASSES]
  if args.icons:
    _add_drawings(args.icons, files, classes)
  return classes, pages.deal_icons(rendered, secrets.randbits(64))


def _add_drawings(folder: pathlib.Path, files: _Files, classes: Sequence[Class]) -> None:
  """Gives each class the drawing that has its name; classes without one are shown as text."""
  try:
    drawings = {path.stem: path for path in sorted(folder.iterdir()) if path.is_file()}
  except OSError as error:
    raise UserError(f'{folder} cannot be read: {error.strerror}') from error
  for found in classes:
    if not (path := drawings.get(found.name)):
      files.problems.count('class without a drawing, shown as text')
      continue
    made = images.render_icon(path)
    if isinstance(made, str):
      raise UserError(f'{path} cannot be shown: {made}: save it as PNG')
    found.icon = files.save(made)
  if not any(found.icon for found in classes):
    raise UserError(f'{folder} holds no drawing named after a class, as in {classes[0].name}.png')


def _groups(args: argparse.Namespace, classes: Sequence[Class]) -> list[str]:
  """The pages of icons, in their order."""
  if args.task == 'grid':
    return []
  return list(dict.fromkeys(c.group for c in classes) if args.classes else coco_pages.GROUPS)


def _practice(task: str) -> tuple[Practice, Sequence[practice.Drawing]]:
  """What is right on the practice page, and its images."""
  if task == 'grid':
    grid = practice.grid()
    return Practice(grid.name, grid.definition, slots=list(grid.answers)), grid.images
  icons = practice.icons()
  classes = [Class(name, group=group) for name, group in icons.classes]
  return Practice(classes=classes, spots=list(icons.answers)), [icons.image]


def _write_database(
  files: _Files,
  made: Study,
  keys: Secrets,
  rendered: Mapping[str, images.Rendition],
  dealt: Sequence[pages.Page],
  drawings: Sequence[practice.Drawing],
) -> None:
  """Writes the images, the pages and the workers with personal links."""
  db = database.create(files.folder)
  db.execute('BEGIN IMMEDIATE')
  class_of = {name: page.label for page in dealt for name, gold in page.images if gold is None}
  ids = {
    name: _add_image(db, name, class_of.get(name, _folder(name, made)), image)
    for name, image in rendered.items()
  }
  for position, page in enumerate(dealt, 1):
    shown = [(ids[name], gold) for name, gold in page.images]
    _add_page(db, (made.task, page.label, position, 'work'), shown)
  drawn = []
  for slot, drawing in enumerate(drawings):
    # No file of the folder can have this name.
    image = images.render(drawing.jpeg)
    files.save(image)
    drawn.append((_add_image(db, f'/practice/{slot}', '', image), None))
  _add_page(db, (made.task, made.practice.name, 0, 'practice'), drawn)
  db.executemany(
    'INSERT INTO worker (id, token) VALUES (?, ?)',
    [(worker, study.hash_token(token)) for worker, token in keys.personal.items()],
  )
  db.execute('COMMIT')
  db.close()


def _folder(name: str, made: Study) -> str:
  """The class of an image that is on no page of its own class."""
  label = name.partition('/')[0]
  return label if any(label == found.name for found in made.classes) else ''


def _add_image(db: sqlite3.Connection, path: str, label: str, image: images.Rendition) -> int:
  cursor = db.execute(
    'INSERT INTO image (sha256, path, class, width, height, rendition) VALUES (?, ?, ?, ?, ?, ?)',
    (image.sha256, path, label, image.width, image.height, image.name),
  )
  assert cursor.lastrowid is not None
  return cursor.lastrowid


def _add_page(
  db: sqlite3.Connection, values: tuple[str, str, int, str], shown: Sequence[tuple[int, pages.Gold]]
) -> None:
  page = db.execute(
    'INSERT INTO page (task, class, position, kind) VALUES (?, ?, ?, ?)', values
  ).lastrowid
  db.executemany(
    'INSERT INTO page_image VALUES (?, ?, ?, ?)',
    [(page, slot, image, gold) for slot, (image, gold) in enumerate(shown)],
  )
