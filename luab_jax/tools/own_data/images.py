"""Finds images in a user's folders, gives each a name of its own, and splits them."""

import hashlib
import pathlib
import shlex
import unicodedata
from typing import NamedTuple

from luab_jax.byproducts.archives import member_names, reader
from luab_jax.data import image_files
from luab_jax.errors import UserError
from luab_jax.tools.own_data.problems import Report

_CLUTTER = ('thumbs.db', 'desktop.ini')
_TRAINING = ('train', 'training')
_SPLITS = (*_TRAINING, 'val', 'valid', 'validation', 'dev', 'test', 'testing')  # best first


class Found(NamedTuple):
  """One image file of the user's."""

  path: pathlib.Path
  folder: str  # name of the folder that was given
  name: str  # path below that folder, with '/'
  label: str  # name of the class folder; '' without class folders
  split: str  # 'train' or 'val'
  new_name: str = ''  # file name in the layout


class Checked(NamedTuple):
  """An image as the pipeline will read it."""

  data: bytes
  anew: bool  # whether these are other bytes than the file's
  size: tuple[int, int]  # (height, width) in pixels


def normal(text: str) -> str:
  """A name without differences of case and of Unicode's several ways to write a letter."""
  return unicodedata.normalize('NFC', text).casefold()


def find(folder: pathlib.Path, split: str, report: Report, *, classes: bool) -> list[Found]:
  """Lists the images of a folder in sorted order; all else is counted.

  Args:
    folder: of class folders (`classes`), which may hold folders themselves; or of images.
    split: 'train' or 'val'.
    report: told of what is left out.
    classes: whether the folders are the classes.

  Raises:
    UserError: no such folder, no image in it, or a class folder whose name cannot be a class.
  """
  if not folder.is_dir():
    raise UserError(f'{folder} is no folder: give the one that holds the images')
  found = []
  for path in sorted(folder.rglob('*')):
    name = path.relative_to(folder).as_posix()
    shown = f'{folder}/{member_names.shown(name)}'
    if path.is_dir():
      if path.is_symlink():
        report.problem('folder that is a link, not followed', shown)
    elif name.startswith('.') or '/.' in name or path.name.lower() in _CLUTTER:
      report.count('hidden files passed over')
    elif path.suffix.lower() not in image_files.EXTENSIONS:
      report.problem('file without the extension of an image, left out', shown)
    else:
      report.count('image files found')
      label = name.partition('/')[0] if classes and '/' in name else ''
      if classes and label and (problem := member_names.class_problem(label)):
        raise UserError(f'{shown}: {problem}: rename the folder {label!r}')
      if not path.is_file():
        report.problem('image that is no regular file, left out', shown)
      elif problem := member_names.checked(name)[1]:
        report.problem('image whose name cannot be used, left out', shown, problem)
      elif classes and not label:
        report.problem('image outside the class folders, left out', shown)
      else:
        found.append(Found(path, folder.resolve().name, name, label, split))
  if not found:
    where = 'class folders (FOLDER/CLASS/xxx.jpg)' if classes else 'it'
    raise UserError(
      f'{folder} holds no images in {where}; their names end in {", ".join(image_files.EXTENSIONS)}'
    )
  return found


def split_off(images: list[Found], share: float) -> list[Found]:
  """Moves a share of each class to the split 'val': the same images on every machine.

  Each class with two images or more gives one at least, and keeps one at least.
  """
  by_class: dict[str, list[Found]] = {}
  for image in images:
    by_class.setdefault(image.label, []).append(image)
  chosen = set()
  for members in by_class.values():
    count = min(max(round(share * len(members)), 1), len(members) - 1)
    members = sorted(members, key=lambda i: hashlib.blake2b(normal(i.name).encode()).digest())
    chosen |= {image.name for image in members[:count]}
  return [image._replace(split='val') if image.name in chosen else image for image in images]


def name_anew(images: list[Found], report: Report) -> list[Found]:
  """Gives each image a file name whose stem no other image of its class has, in either split.

  A record belongs to all images of its class and stem. Names that differ only in extension, case
  or the way Unicode is written may be one image twice: these are reported.
  """
  taken: dict[tuple, Found] = {}
  named = []
  for image in images:
    below = image.name.removeprefix(f'{image.label}/').replace('/', '_')
    stem, suffix = pathlib.PurePath(below).stem, pathlib.PurePath(below).suffix
    other = taken.get((image.label, normal(stem)))
    if other:
      number = 2
      while (image.label, normal(f'{stem}_{number}')) in taken:
        number += 1
      stem = f'{stem}_{number}'
      if other.folder == image.folder and other.path.parent == image.path.parent:
        report.problem(
          'image with nearly the name of another one, kept',
          str(image.path),
          f'is like {other.path.name}: the same image twice?',
        )
      report.count('images that got another name, to tell them apart')
    taken[image.label, normal(stem)] = image
    named.append(image._replace(new_name=stem + suffix))
  return named


def check_levels(
  images: list[Found], folder: pathlib.Path, known: set[str], report: Report
) -> None:
  """Notices a folder that was given one level too high: its folders are no classes.

  Args:
    images: all that `find` found in it, of one split.
    folder: the one that was given.
    known: the classes of training where these are validation images, else empty.
    report: told of classes whose images lie in several folders below theirs.

  Raises:
    UserError: unless these are known classes: the folders are named as splits; or there is one
      only, and most of its images lie in several folders below it.
  """
  below: dict[str, list[str]] = {}  # {class: folder below its own, or '', of each image}
  for image in images:
    parts = image.name.split('/')
    below.setdefault(image.label, []).append(parts[1] if len(parts) > 2 else '')
  for label, inner in below.items():
    if all(inner) and len(set(inner)) > 1:
      report.problem(
        'class whose images all lie in several folders below it, kept',
        f'{folder}/{label}',
        ', '.join(sorted(set(inner))),
      )
  if set(below) <= known:
    return
  option = '--images' if images[0].split == 'train' else '--validation'
  if all(normal(label) in _SPLITS for label in below):
    splits = sorted(below, key=lambda label: _SPLITS.index(normal(label)))
    others = [label for label in splits[1:] if normal(label) not in _TRAINING]
    if option == '--images':
      words = [f'--images={folder / splits[0]}']
      words += [f'--validation={folder / label}' for label in others[:1]]
    else:
      words = [f'--validation={folder / (others or splits)[0]}']
    raise UserError(
      f'{folder} holds {" and ".join(splits)}, which are splits, no classes: give '
      f'{shlex.join(words)}'
    )
  label, inner = next(iter(below.items()))
  if len(below) == 1 and len(set(inner) - {''}) > 1 and 2 * sum(map(bool, inner)) > len(inner):
    raise UserError(
      f'{folder}: its only class folder, {label!r}, holds {len(set(inner) - {""})} '
      f'folders of images: if these are the classes, give '
      f'{shlex.quote(f"{option}={folder / label}")}'
    )


def check_classes(images: list[Found], report: Report) -> None:
  """Reports a single class, classes that one split lacks, and names that are nearly the same."""
  splits = {split: {i.label for i in images if i.split == split} for split in ('train', 'val')}
  if len(splits['train']) == 1:
    report.problem('one class only: there is nothing to tell apart, kept', *splits['train'])
  for label in sorted(splits['val'] - splits['train']):
    report.problem('class in validation only, kept: it cannot be learned', label)
  for label in sorted(splits['train'] - splits['val']):
    report.problem('class without a validation image, kept', label)
  seen: dict[str, str] = {}
  for label in sorted(splits['train'] | splits['val']):
    other = seen.setdefault(normal(label), label)
    if other != label:
      report.problem('class with nearly the name of another one, kept', label, f'like {other}')


def check(image: Found, report: Report) -> Checked | None:
  """Reads an image as the pipeline will, upright; None, reported, where that is not possible."""
  try:
    raw = image.path.read_bytes()
    if too_big := member_names.too_big(len(raw), reader.MAX_MEMBER_BYTES):
      raise image_files.BadImage(too_big)
    data, anew = image_files.as_pipeline_reads(raw)
    size = image_files.image_size(data)
  except (OSError, image_files.BadImage) as error:
    report.problem('unreadable image, left out', str(image.path), error)
    return None
  if anew:
    report.count('images written anew as JPEG: turned as their EXIF says, or WebP or TIFF')
  return Checked(data, anew, size)


class Names:
  """Finds images by what a user calls them."""

  def __init__(self, images: list[Found]):
    """Takes all images of both splits."""
    self._exact: dict[str, list[Found]] = {}
    self._normal: dict[str, list[Found]] = {}
    self._bare: dict[str, list[Found]] = {}
    for image in images:
      for name in {image.name, f'{image.folder}/{image.name}'}:
        self._exact.setdefault(name, []).append(image)
        self._normal.setdefault(normal(name), []).append(image)
      self._bare.setdefault(normal(image.path.name), []).append(image)

  def find(self, name: str) -> tuple[Found | None, str]:
    """(the image, '') of a path or of a bare file name, or (None, why there is no such image).

    A path may begin anywhere above the class folder, or be absolute. Case and Unicode form decide
    only between images that differ in nothing else.
    """
    parts = [part for part in name.replace('\\', '/').split('/') if part not in ('', '.')]
    for start in range(len(parts)):
      end = '/'.join(parts[start:])
      hits = self._exact.get(end) or self._normal.get(normal(end))
      if hits:
        return (hits[0], '') if len(hits) == 1 else (None, _several(hits))
    hits = self._bare.get(normal(parts[0]), []) if len(parts) == 1 else []
    same = [image for image in hits if image.path.name == parts[0]]
    hits = same or hits
    if len(hits) > 1:
      return None, _several(hits)
    return (hits[0], '') if hits else (None, 'there is no such image')


def _several(hits: list[Found]) -> str:
  first = ' and '.join(f'{image.folder}/{image.name}' for image in hits[:2])
  return f'{len(hits)} images have this name ({first} …): write the path of the one that is meant'
