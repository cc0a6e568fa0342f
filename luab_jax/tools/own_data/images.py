"""Finds images in a user's folders, gives each a unique name, and holds some out for validation."""

import hashlib
import itertools
import operator
import pathlib
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from luab_jax.byproducts.archives import member_names, reader
from luab_jax.data import image_files
from luab_jax.errors import UserError
from luab_jax.tools import image_folders, output_folder
from luab_jax.tools.own_data.problems import Problems

_MAX_STEM = 255 - len('.jpeg')  # bytes; file systems allow 255 for a name
_CLUTTER = ('thumbs.db', 'desktop.ini')


class ImageFile(NamedTuple):
  """One of the user's image files."""

  path: pathlib.Path
  folder: pathlib.Path  # as given by the user
  name: str  # path below that folder, with '/'
  label: str  # name of the class folder; '' without class folders
  split: str  # 'train' or 'val'
  new_name: str = ''  # file name in the output
  sha256: str = ''  # of the file that was annotated; '': unknown
  size: tuple[int, int] | None = None  # (height, width) upright, as annotated; None: unknown


def normalize(text: str) -> str:
  """Returns a name without differences in case or Unicode normalization form."""
  return unicodedata.normalize('NFC', text).casefold()


def find_images(
  folder: pathlib.Path,
  split: str,
  problems: Problems,
  *,
  has_classes: bool,
  out: pathlib.Path,
  without: pathlib.Path | None = None,
) -> list[ImageFile]:
  """Lists the images of a folder in sorted order and counts everything else.

  Args:
    folder: holds class folders, possibly nested, or images.
    split: 'train' or 'val'.
    problems: records what is skipped.
    has_classes: whether the folders in `folder` are the classes.
    out: the output folder, which must not hold any of the images, even through a link.
    without: the other split's folder, left out if it lies in `folder`.

  Raises:
    UserError: no such folder, no images in it, or a class folder whose name cannot be a class.
  """
  if not folder.is_dir():
    raise UserError(f'{folder} is not a folder: give the one that holds the images')
  found = []

  def skipped(path: pathlib.Path, reason: str) -> None:
    problems.add('folder unreadable, skipped', str(path), reason)

  for path in image_folders.iter_files(folder, skipped, without):
    name = path.relative_to(folder).as_posix()
    escaped = f'{folder}/{member_names.escape(name)}'
    if name.startswith('.') or '/.' in name or path.name.lower() in _CLUTTER:
      problems.count('file hidden, ignored')
    elif path.suffix.lower() not in image_files.EXTENSIONS:
      problems.add('file without an image extension, skipped', escaped)
    else:
      problems.count('image found')
      label = name.partition('/')[0] if has_classes and '/' in name else ''
      if label and (problem := member_names.class_problem(label)):
        raise UserError(f'{escaped}: {problem}: rename the folder {label!r}')
      if not path.is_file():
        problems.add('image unreadable, skipped', escaped, 'not a regular file, or a broken link')
      elif problem := member_names.normalize(name)[1]:
        problems.add('image with an unusable name, skipped', escaped, problem)
      elif has_classes and not label:
        problems.add('image outside the class folders, skipped', escaped)
      else:
        found.append(ImageFile(path, folder, name, label, split))
  if not found:
    where = 'class folders (FOLDER/CLASS/xxx.jpg)' if has_classes else 'it'
    raise UserError(
      f'{folder} holds no images in {where}: image files end in {", ".join(image_files.EXTENSIONS)}'
    )
  output_folder.refuse_overlap(out, sorted({image.path.parent for image in found}))
  output_folder.refuse_overlap(out, (i.path for i in found if i.path.is_symlink()))
  return found


def hold_out(images: list[ImageFile], fraction: float) -> list[ImageFile]:
  """Moves a fraction of each class to the split 'val': the same images on every machine.

  Of each class with two images or more, at least one is held out and at least one is kept.
  """
  by_class: dict[str, list[ImageFile]] = {}
  for image in images:
    by_class.setdefault(image.label, []).append(image)
  chosen = set()
  for members in by_class.values():
    count = min(max(round(fraction * len(members)), 1), len(members) - 1)
    members = sorted(members, key=lambda i: hashlib.blake2b(normalize(i.name).encode()).digest())
    chosen |= {image.name for image in members[:count]}
  return [image._replace(split='val') if image.name in chosen else image for image in images]


def rename_unique(images: list[ImageFile], problems: Problems) -> list[ImageFile]:
  """Gives each image a file name whose stem no other image of its class has, in either split.

  The builders join clicks and images by class and stem. Names that differ only in extension, case
  or Unicode normalization may be the same image twice: these are reported.
  """
  taken: dict[tuple[str, str], ImageFile] = {}
  renamed = []
  for image in images:
    flat = pathlib.PurePath(image.name.removeprefix(f'{image.label}/').replace('/', '_'))
    stem, number = _shorten(flat.stem), 1
    problems.count('image renamed: its path is too long for a file name', stem != flat.stem)
    other = taken.get((image.label, normalize(stem)))
    while (image.label, normalize(stem)) in taken:
      number += 1
      stem = _shorten(f'{flat.stem}_{number}')
    if other:
      if other.folder == image.folder and other.path.parent == image.path.parent:
        problems.add(
          'image with nearly the same name as another, kept',
          str(image.path),
          f'similar to {other.path.name}: the same image twice?',
        )
      problems.count('image renamed to keep names unique')
    taken[image.label, normalize(stem)] = image
    renamed.append(image._replace(new_name=stem + flat.suffix))
  return renamed


def _shorten(stem: str) -> str:
  """Returns a stem that fits into a file name: a long one is cut and gets a hash of the rest."""
  if len(stem.encode()) <= _MAX_STEM:
    return stem
  digest = hashlib.blake2b(stem.encode(), digest_size=8).hexdigest()
  return f'{stem.encode()[: _MAX_STEM - 17].decode(errors="ignore")}_{digest}'


def encode(
  image: ImageFile, problems: Problems, short_side: int = 0
) -> image_files.EncodedImage | None:
  """Reads an image upright, as the input pipeline will; reports an unusable one and returns None.

  A larger image is reduced to a short side of `short_side` pixels; 0 keeps its size.
  """
  try:
    raw = image.path.read_bytes()
    if len(raw) > reader.MAX_MEMBER_BYTES:
      raise image_files.BadImage(f'it has {len(raw)} bytes, more than {reader.MAX_MEMBER_BYTES}')
    if image.sha256 and hashlib.sha256(raw).hexdigest() != image.sha256:
      problems.add('image changed since it was annotated, skipped', str(image.path))
      return None
    encoded = image_files.encode(
      raw, upright=True, reduction=image_files.Reduction(short_side) if short_side else None
    )
  except (OSError, image_files.BadImage) as error:
    problems.add('image unreadable, skipped', str(image.path), error)
    return None
  if image.size not in (None, encoded.size):
    problems.add('image annotated in another orientation, skipped', str(image.path))
    return None
  if encoded.stored_size != encoded.size:
    problems.count(f'image reduced to a short side of {short_side} px')
  elif encoded.suffix:
    form = 'PNG' if encoded.suffix == '.png' else 'JPEG'
    problems.count(f'image re-encoded as {form}: rotated by EXIF or in another format')
  if encoded.has_alpha:
    problems.count('image with transparency, read as opaque')
  return encoded


class ImageIndex:
  """Finds images by the names that a user writes."""

  def __init__(self, images: list[ImageFile], *, absent: str = 'no such image') -> None:
    """`images`: those of both splits; `absent`: the reason given when no image matches."""
    self._images, self._absent = images, absent
    self._complete: dict[str, list[ImageFile]] = {}  # by normalized name
    self._partial: dict[str, list[ImageFile]] = {}  # by shorter ends of it
    for image in images:
      parts = image.name.split('/')
      for start in range(len(parts)):
        names = self._partial if start else self._complete
        names.setdefault(_join(parts[start:]), []).append(image)
    self._roots = {
      folder: [
        normalize(path.as_posix()).split('/') for path in (folder.absolute(), folder.resolve())
      ]
      for folder in {image.folder for image in images}
    }

  def renamed(self, rename: Callable[[str], str]) -> 'ImageIndex':
    """Returns an index that finds the same images by other names."""
    images = [image._replace(name=rename(image.name)) for image in self._images]
    return ImageIndex(images, absent=self._absent)

  def find(self, name: str, split: str = '') -> tuple[ImageFile | None, str]:
    """Returns (image, '') for a path or a bare file name, or (None, why no image matches).

    A path may be absolute or start anywhere, even above the given folder; if it tells the two
    folders apart, only the named one is searched. Case and Unicode form matter only between images
    whose names differ in nothing else.

    Args:
      name: as written.
      split: where to look, 'train' or 'val'; '' for both.
    """
    parts = [part for part in name.replace('\\', '/').split('/') if part not in ('', '.')]
    for start in range(len(parts)):
      hits = self._complete.get(_join(parts[start:]), [])
      if hits := self._in_folder_named(parts[:start], hits, split):
        return _choose(hits, '/'.join(parts[start:]))
    hits = self._in_folder_named([], self._partial.get(_join(parts), []), split)
    return _choose(hits, '/'.join(parts)) if hits else (None, self._absent)

  def _in_folder_named(
    self, prefix: list[str], hits: list[ImageFile], split: str
  ) -> list[ImageFile]:
    """Returns the hits of a split in the folders whose paths share most of the end of `prefix`."""
    hits = [image for image in hits if split in ('', image.split)]
    if not hits or not prefix:
      return hits
    prefix = normalize('/'.join(prefix)).split('/')
    common = {
      folder: max(_common_end(prefix, root) for root in roots)
      for folder, roots in self._roots.items()
    }
    return [image for image in hits if common[image.folder] == max(common.values())]


def _common_end(a: list[str], b: list[str]) -> int:
  """Returns the length of the common suffix."""
  pairs = zip(reversed(a), reversed(b), strict=False)
  return len(list(itertools.takewhile(lambda pair: operator.eq(*pair), pairs)))


def _join(parts: list[str]) -> str:
  return normalize('/'.join(parts)).strip()


def _choose(hits: list[ImageFile], name: str) -> tuple[ImageFile | None, str]:
  """Returns the only image, or the only one with exactly this spelling, or why there is none."""
  hits = [image for image in hits if image.name.endswith(name)] or hits
  return (hits[0], '') if len(hits) == 1 else (None, _format_ambiguous(hits))


def _format_ambiguous(hits: list[ImageFile]) -> str:
  first = ' and '.join(str(image.path) for image in hits[:2])
  return f'{len(hits)} images match, write a longer path: {first}{" …" if len(hits) > 2 else ""}'
