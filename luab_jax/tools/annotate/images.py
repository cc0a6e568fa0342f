"""Finds the images of a folder, and renders them as workers see them: upright, without metadata."""

import concurrent.futures
import hashlib
import io
import pathlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from PIL import Image, ImageOps

from luab_jax import cores
from luab_jax.tools import image_folders
from luab_jax.tools.own_data.problems import Problems

EXTENSIONS = (
  *('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.gif', '.webp', '.tif', '.tiff', '.avif'),
)
# Modes that training accepts, see data/image_files.py: others would be lost at the very end.
_MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr')
_PNG_DEPTH = 24  # offset of the bits per channel in a PNG file, which Pillow does not expose
_MAX_PIXELS = 90_000_000
_MAX_RATIO = 50

LONGEST = 1600  # longer side of a rendition in px, at most
_EXAMPLE = 320  # of an example of a class
_ICON = 160  # of a drawing on an icon
_QUALITY = 90
_CLUTTER = ('thumbs.db', 'desktop.ini')


Renderer = Callable[[pathlib.Path], 'Rendition | str']


class Rendition(NamedTuple):
  """An image as it is shown."""

  name: str  # 32 random hex digits and its extension: cannot be guessed
  data: bytes
  sha256: str  # of the original file
  width: int  # of the original, upright, in px
  height: int


def find(folder: pathlib.Path, problems: Problems) -> list[str]:
  """Paths of the images below a folder, relative to it, sorted; the rest is counted."""

  def skipped(path: pathlib.Path, reason: str) -> None:
    problems.add('folder unreadable, skipped', str(path), reason)

  found = []
  for path in image_folders.iter_files(folder, skipped):
    name = path.relative_to(folder).as_posix()
    if name.startswith('.') or '/.' in name or path.name.lower() in _CLUTTER:
      problems.count('file hidden, ignored')
    elif path.suffix.lower() not in EXTENSIONS:
      problems.add('file without an image extension, skipped', name)
    else:
      found.append(name)
  return found


def render_all(
  folder: pathlib.Path, names: Iterable[str], problems: Problems
) -> Iterator[tuple[str, Rendition]]:
  """Yields (name, rendition) of the images that can be used, in order; others are reported."""
  with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
    for name, made in zip(
      names, pool.map(lambda name: _render_or_reason(folder / name), names), strict=True
    ):
      if isinstance(made, str):
        problems.add('image unreadable, skipped', name, made)
      else:
        yield name, made


def _render_or_reason(path: pathlib.Path) -> Rendition | str:
  try:
    return render(path.read_bytes())
  except Exception as error:  # on a damaged or hostile file, decoders may raise anything
    return str(error) or type(error).__name__


def render(data: bytes, longest: int = LONGEST) -> Rendition:
  """Renders an image file as a JPEG.

  Args:
    data: content of the file.
    longest: longer side of the rendition in px, at most.

  Raises:
    ValueError: it has more than 8 bits per channel, too many pixels, or an extreme aspect ratio.
    Exception: whatever Pillow raises for a damaged file.
  """
  with Image.open(io.BytesIO(data)) as image:
    if image.mode not in _MODES or (image.format == 'PNG' and data[_PNG_DEPTH] > 8):
      raise ValueError('it has more than 8 bits per channel')
    if image.width * image.height > _MAX_PIXELS:
      raise ValueError(f'it has {image.width} × {image.height} pixels, more than {_MAX_PIXELS}')
    if max(image.size) > _MAX_RATIO * min(image.size):
      raise ValueError(f'one side is more than {_MAX_RATIO} times as long as the other')
    width, height = image.size
    image.draft('RGB', (longest, longest))  # a large JPEG is decoded at a fraction of its size
    decoded = image.size
    shown = ImageOps.exif_transpose(image)
    if shown.size != decoded:
      width, height = height, width
    shown = shown.convert('RGB')
    shown.thumbnail((longest, longest), Image.Resampling.LANCZOS)
  return Rendition(
    f'{secrets.token_hex(16)}.jpg',
    _encode(shown, 'JPEG', quality=_QUALITY),
    hashlib.sha256(data).hexdigest(),
    width,
    height,
  )


def render_example(path: pathlib.Path) -> Rendition | str:
  """A small rendition for the strip of examples, or why there is none."""
  try:
    return render(path.read_bytes(), _EXAMPLE)
  except Exception as error:  # as above
    return str(error) or type(error).__name__


def render_icon(path: pathlib.Path) -> Rendition | str:
  """A drawing for an icon as a PNG that keeps its transparency, or why there is none."""
  try:
    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as image:
      size = image.size
      shown = ImageOps.exif_transpose(image).convert('RGBA')
    shown.thumbnail((_ICON, _ICON), Image.Resampling.LANCZOS)
    name = f'{secrets.token_hex(16)}.png'
    return Rendition(name, _encode(shown, 'PNG'), hashlib.sha256(data).hexdigest(), *size)
  except Exception as error:  # as above
    return str(error) or type(error).__name__


def _encode(image: Image.Image, form: str, **options: int) -> bytes:
  """An image file without EXIF, comment or colour profile."""
  clean, file = image.copy(), io.BytesIO()
  clean.info = {}  # else Pillow copies comments and profiles from the original
  clean.save(file, form, **options)
  return file.getvalue()
