"""Splits the photographs of a class into training and validation, near duplicates together."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps
from scipy.sparse import csgraph

from luab_jax.tools.composites.caltech import Photograph

_VALIDATION = 0.3
_ALIKE = 6  # differing bits of 64, at most


def divide(
  photos: Sequence[Photograph], rng: np.random.Generator
) -> tuple[list[Photograph], list[Photograph]]:
  """Returns (training, validation), each in the order of `photos` and with one photograph or more.

  Photographs that look alike, mirrored or not, go to the same part; if all of them do, they are
  split at random.
  """
  groups = group_alike(photos)
  if len(set(groups)) == 1:
    groups = list(range(len(photos)))
  wanted = max(round(_VALIDATION * len(photos)), 1)
  validation: set[int] = set()
  order = rng.permutation(sorted(set(groups))).tolist()
  for group in sorted(order, key=groups.count):  # stable: small groups, which fit, first
    members = {index for index, other in enumerate(groups) if other == group}
    if not validation or len(validation) + len(members) <= wanted:
      validation |= members
  return (
    [photo for index, photo in enumerate(photos) if index not in validation],
    [photo for index, photo in enumerate(photos) if index in validation],
  )


def group_alike(photos: Sequence[Photograph]) -> list[int]:
  """Returns a number for each photograph, the same for those that look alike, mirrored or not."""
  images = [Image.fromarray(photo.pixels) for photo in photos]
  hashes = np.stack([difference_hash(image) for image in images])
  mirrored = np.stack([difference_hash(ImageOps.mirror(image)) for image in images])
  alike = np.zeros((len(photos), len(photos)), bool)
  for other in (hashes, mirrored):
    alike |= (hashes[:, None] != other[None]).sum(axis=-1) <= _ALIKE
  return csgraph.connected_components(alike, directed=False)[1].tolist()


def difference_hash(image: Image.Image) -> np.ndarray:
  """Returns bool[64]: where the image, at 9 × 8 pixels and grey, gets brighter to the right."""
  grey = np.asarray(image.convert('L').resize((9, 8), Image.Resampling.LANCZOS), np.int16)
  return (np.diff(grey, axis=1) > 0).ravel()
