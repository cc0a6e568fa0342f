"""Writes a small release, with the files of the real one, for tests and the benchmark."""

import io
import json
import pathlib
import tarfile

import numpy as np
from PIL import Image

from tfds_builders.backgrounds_challenge.release import (
  ARCHIVE_NAME,
  MAPPING_NAME,
  MASKS,
  VARIATIONS,
)

CLASSES = (
  '00_dog',
  '01_bird',
  '02_wheeled vehicle',
  '03_reptile',
  '04_carnivore',
  '05_insect',
  '06_musical instrument',
  '07_primate',
  '08_fish',
)
SIZE = (32, 24)  # width, height
IMAGES = 3  # per class and variation
# Both ways to say that an ImageNet class has no label: -1 for 9, 19, ..., no entry from 997 on.
MAPPING = {str(index): index % 10 if index % 10 < 9 else -1 for index in range(997)}
_MASK_TYPES = (np.bool_, np.uint8, np.int64, np.float64)


def paint(variation: str, label: int, index: int, *, size=SIZE) -> bytes:
  """Returns a JPEG in a colour of its own."""
  file = io.BytesIO()
  color = (30 * VARIATIONS.index(variation), 30 * label, 50 * index)
  Image.new('RGB', size, color).save(file, 'JPEG')
  return file.getvalue()


def foreground(label: int, index: int, *, size=SIZE) -> np.ndarray:
  """Returns a mask, bool [H, W]: a rectangle in a place of its own."""
  mask = np.zeros(size[::-1], bool)
  mask[index : index + 9, label : label + 12] = True
  return mask


def npy(array) -> bytes:
  """Returns the npy file of an array."""
  file = io.BytesIO()
  np.save(file, array)
  return file.getvalue()


def files(images=IMAGES, make_image=paint, make_mask=foreground) -> dict[str, bytes]:
  """Returns {path: bytes} of a release, masks last; the masks have several dtypes."""
  release = {
    f'{variation}/val/{name}/n{label}_{index}.JPEG': make_image(variation, label, index)
    for variation in VARIATIONS
    for label, name in enumerate(CLASSES)
    for index in range(images)
  }
  for label, name in enumerate(CLASSES):
    for index in range(images):
      mask = make_mask(label, index).astype(_MASK_TYPES[(label + index) % len(_MASK_TYPES)])
      release[f'{MASKS}/val/{name}/n{label}_{index}.npy'] = npy(mask)
  return release


def write_mapping(folder: pathlib.Path) -> pathlib.Path:
  """Creates the folder with a mapping in it and returns it."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / MAPPING_NAME).write_text(json.dumps(MAPPING))
  return folder


def write_archive(folder, members, *, leading='bg_challenge/') -> pathlib.Path:
  """Writes {path: bytes} as the archive, and the mapping; returns the folder."""
  write_mapping(folder)
  with tarfile.open(folder / ARCHIVE_NAME, 'w:gz', compresslevel=1) as tar:
    for name, data in members.items():
      info = tarfile.TarInfo(leading + name)
      info.size = len(data)
      tar.addfile(info, io.BytesIO(data))
  return folder


def write_folder(folder, members, *, leading='bg_challenge/') -> pathlib.Path:
  """Writes {path: bytes} unpacked, and the mapping; returns the folder."""
  write_mapping(folder)
  for name, data in members.items():
    path = folder / leading / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
  return folder
