"""Reads Caltech-101 as published: photographs, and outlines that its authors drew by hand.

Li, Andreeto, Ranzato, Perona (2022), Caltech 101 (1.0), CaltechDATA, doi:10.22002/D1.20086,
CC BY 4.0. An outline is a MATLAB file whose `obj_contour` f64[2, V] (x, y) is relative to the
corner of `box_coord` [top, bottom, left, right], in MATLAB's pixels, the first of which has its
centre at 1 (the authors' show_annotation.m).
"""

import io
import pathlib
import posixpath
import re
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.io import loadmat
from tqdm import tqdm

from luab_jax.byproducts.archives import reader
from luab_jax.errors import UserError
from luab_jax.tools.composites import masks
from luab_jax.tools.own_data.problems import Problems

IMAGES, OUTLINES = '101_ObjectCategories.tar.gz', 'Annotations.tar'
SOURCE = 'caltech-101.zip of https://doi.org/10.22002/D1.20086'

# Without the classes that are mostly drawings, and car_side, which is all grey.
CLASSES = tuple(
  'airplanes ant barrel beaver bonsai butterfly camera ceiling_fan cellphone crab crayfish '
  'crocodile dolphin dragonfly elephant emu flamingo kangaroo panda'.split()
)
# Scenes, each of whole photographs of other classes; class number i has scene number i modulo ten.
SCENES = {
  'leopard': ('Leopards',),
  'sea': ('ketch', 'schooner', 'ferry'),
  'stone': ('trilobite',),
  'food': ('pizza', 'strawberry'),
  'flowers': ('sunflower', 'lotus', 'water_lilly'),
  'hall': ('chandelier', 'grand_piano'),
  'road_sign': ('stop_sign',),
  'desert': ('joshua_tree', 'pyramid'),
  'tower': ('minaret', 'pagoda'),
  'underwater': ('hawksbill', 'starfish'),
}

_OUTLINE_FOLDERS = {'Airplanes_Side_2': 'airplanes'}  # the others are named like those of images
_FILE = {
  IMAGES: re.compile(r'image_(\d{4})\.jpg'),
  OUTLINES: re.compile(r'annotation_(\d{4})\.mat'),
}
_MOST = 130  # photographs of a class: bonsai has 128, airplanes 800
_LEAST_AREA = 0.01  # fraction of the image inside the outline
_LONGEST = 3  # times the short side


class Photograph(NamedTuple):
  """One photograph.

  Attributes:
    name: such as airplanes_0003.
    pixels: u8[H, W, 3] RGB.
    outline: f64[V, 2] (x right, y down) in pixels from the top left corner; of a scene f64[0, 2].
  """

  name: str
  pixels: np.ndarray
  outline: np.ndarray

  @property
  def size(self) -> tuple[int, int]:
    """(width, height)."""
    return self.pixels.shape[1], self.pixels.shape[0]


def read(
  folder: pathlib.Path, seed: int, problems: Problems
) -> tuple[dict[str, list[Photograph]], dict[str, list[Photograph]]]:
  """Reads both archives.

  Args:
    folder: holds IMAGES and OUTLINES.
    seed: seed of the random choice of _MOST photographs from a larger class.
    problems: counts what is left out.

  Returns:
    ({class: its photographs that have an outline}, {scene: its photographs}), in order of names.

  Raises:
    UserError: an archive is missing or damaged, or has too few files of a class.
  """
  scenery = [label for labels in SCENES.values() for label in labels]
  images = _read_archive(folder / IMAGES, [*CLASSES, *scenery], problems)
  outlines = _read_archive(folder / OUTLINES, CLASSES, problems)
  objects = {}
  for label in CLASSES:
    for number in sorted(images[label].keys() - outlines[label].keys()):
      problems.add('photograph without an outline, left out', f'{label}/image_{number}.jpg')
    numbers = sorted(images[label].keys() & outlines[label].keys())
    if len(numbers) > _MOST:
      problems.count(f'photograph of {label} left out at random', len(numbers) - _MOST)
      numbers = sorted(np.random.default_rng(seed).choice(numbers, _MOST, replace=False).tolist())
    objects[label] = [
      photo
      for number in numbers
      if (photo := _object(label, number, images[label], outlines[label], problems))
    ]
    if len(objects[label]) < 2:
      raise UserError(
        f'{folder / OUTLINES}: {label} has fewer than two photographs with a usable outline'
        f'{problems.first("outline")}'
      )
  scenes = {
    scene: [
      Photograph(f'{label}_{number}', pixels, np.empty((0, 2)))
      for label in labels
      for number, data in sorted(images[label].items())
      if (pixels := _decode(data, f'{label}/image_{number}.jpg', problems)) is not None
    ]
    for scene, labels in SCENES.items()
  }
  for scene, photos in scenes.items():
    if len(photos) < 2:
      raise UserError(
        f'{folder / IMAGES}: fewer than two photographs of {SCENES[scene]} are readable'
      )
  return objects, scenes


def _read_archive(
  path: pathlib.Path, labels: Collection[str], problems: Problems
) -> dict[str, dict[str, bytes]]:
  """Returns {class: {number of the file, such as '0003': its bytes}}."""
  if not path.exists() and (path.parent / 'caltech-101.zip').exists():
    raise UserError(f'{path} is missing: unzip caltech-101.zip and name the folder that it makes')
  found: dict[str, dict[str, bytes]] = {label: {} for label in labels}
  size = path.stat().st_size if path.exists() else None
  with tqdm(total=size, unit='B', unit_scale=True, desc=path.name, disable=None) as bar:
    members = reader.iter_members(
      path,
      source=SOURCE,
      refused=lambda name, reason: problems.add('file refused, left out', name, reason),
      progress=bar.update,
    )
    for name, data in members:
      label = posixpath.basename(posixpath.dirname(name))
      label = _OUTLINE_FOLDERS.get(label, label)
      number = _FILE[path.name].fullmatch(posixpath.basename(name))
      if number and label in found:
        found[label][number[1]] = data
  for label, files in found.items():
    if not files:
      raise UserError(f'{path} has no files of the class {label}: get it again from {SOURCE}')
  return found


def _object(
  label: str, number: str, images: dict[str, bytes], outlines: dict[str, bytes], problems: Problems
) -> Photograph | None:
  """Returns a photograph with its outline, or None, with a problem added, if either is unusable."""
  where = f'{label}/annotation_{number}.mat'
  pixels = _decode(images[number], f'{label}/image_{number}.jpg', problems)
  if pixels is None:
    return None
  try:
    outline = read_outline(outlines[number])
  except ValueError as error:
    problems.add('outline unreadable, left out', where, str(error))
    return None
  height, width, _ = pixels.shape
  if max(width, height) > _LONGEST * min(width, height):
    problems.add(
      f'photograph with an aspect ratio above {_LONGEST}:1, left out', f'{label}/image_{number}.jpg'
    )
    return None
  if masks.coverage(outline, (width, height)).mean() < _LEAST_AREA:
    problems.add(f'outline around less than {_LEAST_AREA:.0%} of the image, left out', where)
    return None
  return Photograph(f'{label}_{number}', pixels, outline)


def read_outline(data: bytes) -> np.ndarray:
  """Reads the outline in a MATLAB file.

  Returns:
    f64[V, 2] (x right, y down) in pixels from the image's top left corner.

  Raises:
    ValueError: it is damaged or holds no outline; the message is one line.
  """
  try:
    variables = loadmat(io.BytesIO(data), variable_names=('obj_contour', 'box_coord'))
    contour = np.asarray(variables['obj_contour'], np.float64)
    top, _, left, _ = np.asarray(variables['box_coord'], np.float64).ravel()
  except Exception as error:  # scipy raises anything on a damaged file
    raise ValueError(f'{type(error).__name__}: {str(error).partition(chr(10))[0]:.100}') from error
  if contour.ndim != 2 or contour.shape[0] != 2 or contour.shape[1] < 3:
    raise ValueError(f'obj_contour has shape {contour.shape}, not (2, 3 or more)')
  outline = contour.T + np.array([left, top]) - 0.5
  if not np.abs(outline).max() < 1e5:  # also true for NaN
    raise ValueError('a corner is not finite, or far outside the image')
  return outline


def _decode(data: bytes, where: str, problems: Problems) -> np.ndarray | None:
  """Returns u8[H, W, 3] as stored: outlines were drawn without regard to an EXIF orientation."""
  try:
    with Image.open(io.BytesIO(data)) as image:
      return np.asarray(image.convert('RGB'))
  except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
    problems.add('photograph unreadable, left out', where, str(error))
    return None
