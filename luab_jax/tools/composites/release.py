"""Writes the pictures, boxes and simulated byproducts in the format of ImageNet-AB."""

import io
import pathlib
from collections.abc import Iterator

import numpy as np
from PIL import Image
from tqdm import tqdm

from luab_jax.byproducts import imagenet_ab_writer
from luab_jax.byproducts.archives import writer
from luab_jax.byproducts.imagenet_ab import Box
from luab_jax.tools.composites import clicks, masks
from luab_jax.tools.composites.caltech import CLASSES, SCENES
from luab_jax.tools.composites.pictures import SPLITS, Picture, Pictures

DATABASE = 'Caltech-101 composites, simulated clicks'
CREDIT = (
  'Li, Andreeto, Ranzato, Perona (2022): Caltech 101, CaltechDATA, doi:10.22002/D1.20086, '
  'CC BY 4.0. Changed: resized or composed. Clicks are simulated.'
)

_QUALITY = 90


def write(out: pathlib.Path, pictures: Pictures) -> dict[str, list[int]]:
  """Writes all files but README.txt into an existing folder.

  Returns:
    {class: number of pictures in each of SPLITS, in that order}.
  """
  counts = {label: dict.fromkeys(SPLITS, 0) for label in CLASSES}
  scenes = ['image\tscene\tphotograph of Caltech-101']
  with (
    tqdm(total=pictures.count(), unit='image', desc='composites', disable=None) as bar,
    writer.tar_gz(out / 'imagenet_ab_v1_0.tar.gz') as byproducts,
    writer.tar_gz(out / 'ILSVRC2012_bbox_val_v3.tgz') as boxes,
  ):
    for split, make in SPLITS.items():
      with writer.tar_of_tars(out / f'caltech_img_{split}.tar', CLASSES) as tars:
        for picture in make(pictures):
          data = encode_jpeg(picture.pixels)
          writer.add_to_tar(tars[picture.label], f'{picture.stem}.JPEG', data)
          if split.startswith('train'):
            folder = f'train_xml/{picture.label}'
            xml = _to_xml(picture, picture.label, pictures.rng('click', picture.place))
            writer.add_to_tar(byproducts, f'{folder}/{picture.stem}.xml', xml)
          elif picture.mask is not None:
            writer.add_to_tar(boxes, f'val/{picture.stem}.xml', _to_xml(picture, 'val', None))
          counts[picture.label][split] += 1
          if picture.scene:
            scenes.append(f'{picture.stem}\t{picture.scene}\t{picture.source}')
          bar.update()
  (out / 'scenes.tsv').write_text('\n'.join(scenes) + '\n')
  rows = {label: list(row.values()) for label, row in counts.items()}
  (out / 'counts.tsv').write_text('\n'.join(_table(rows)) + '\n')
  return rows


def _to_xml(picture: Picture, folder: str, rng: np.random.Generator | None) -> bytes:
  """Returns the XML of a picture with an object; given `rng`, with a simulated worker."""
  assert picture.mask is not None
  height, width = picture.mask.shape
  box = Box(picture.label, *masks.box(picture.mask), truncated=0, difficult=0)
  showings = [clicks.simulate(rng, picture.mask)] if rng else []
  record = imagenet_ab_writer.to_record(showings, boxes=[box], size=(width, height))
  return imagenet_ab_writer.to_xml(
    record, folder=folder, stem=picture.stem, database=DATABASE, indent=rng is not None
  )


def encode_jpeg(pixels: np.ndarray) -> bytes:
  """Encodes u8[H, W, 3] as a JPEG whose comment gives credit, as the licence requires."""
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'JPEG', quality=_QUALITY, comment=CREDIT.encode())
  return file.getvalue()


def _table(rows: dict[str, list[int]]) -> Iterator[str]:
  """Yields the lines of counts.tsv."""
  yield '\t'.join(['class', 'scene', *SPLITS])
  scenes = list(SCENES)
  for number, (label, row) in enumerate(rows.items()):
    yield '\t'.join([label, scenes[number % len(scenes)], *map(str, row)])
