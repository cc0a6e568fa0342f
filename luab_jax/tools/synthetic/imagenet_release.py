"""Writes the synthetic ImageNet-AB: image tars, XML byproducts and the boxes of the other splits.

| file | content |
|---|---|
| ILSVRC2012_img_train.tar | a tar of `<class>.tar` of `<stem>.JPEG`, textures correlated |
| ILSVRC2012_img_val.tar | the same layout and correlation |
| ILSVRC2012_img_uncorrelated.tar | the same layout, textures independent of the class |
| imagenet_ab_v1_0.tar.gz | train_xml/<class>/<stem>.xml of most training images |
| ILSVRC2012_bbox_val_v3.tgz | val/<stem>.xml, boxes of the images of both other splits |
"""

import io
import math
import pathlib
import tarfile

import numpy as np
from PIL import Image
from tqdm import tqdm

from luab_jax.byproducts import imagenet_ab_writer
from luab_jax.byproducts.archives import writer
from luab_jax.byproducts.imagenet_ab import Box
from luab_jax.tools.synthetic import behaviour, scene

CLASSES = tuple(f'synthetic_{shape}' for shape in scene.SHAPES)
SPLITS = ('train', 'val', 'uncorrelated')

# Radius of the object as a fraction of the short side; of 48 pixels: 8 to 12.5, and 4.5 to 14.
_RADIUS = {'alike': (0.17, 0.26), 'varied': (0.095, 0.29)}
_COUNTED = (
  'training images',
  'with XML',
  'with a box',
  'selected',
  'clicks',
  'validation images',
  'uncorrelated images',
)
_FIRST_NUMBER = {'train': 1, 'val': 1_000_001, 'uncorrelated': 2_000_001}  # stems never collide
# Companion files that macOS adds to a tar: an AppleDouble header and no entries that matter.
_APPLE_DOUBLE = bytes.fromhex('0005160700020000') + b'Mac OS X        ' + bytes(120)


def draw(
  seed: int, split: str, index: int, correlation: float, size: int, objects: str = 'alike'
) -> tuple[scene.Scene, str]:
  """Draws image `index` of a split, independently of the number of images.

  Args:
    seed: non-negative.
    split: one of SPLITS; for 'uncorrelated', `correlation` has no effect.
    index: from 0; the class is `index % len(CLASSES)`.
    correlation: probability that the texture is that of the class.
    size: short side in pixels.
    objects: how large they are: 'alike' or 'varied'.

  Returns:
    (scene with one object, file name without extension).
  """
  rng = np.random.default_rng([seed, 1, SPLITS.index(split), index, 0])
  label = index % len(CLASSES)
  texture = scene.choose_texture(
    rng, label, scene.UNIFORM if split == 'uncorrelated' else correlation
  )
  drawn = scene.draw_scene(rng, [label], texture, size, _RADIUS[objects])
  return drawn, f'{CLASSES[label]}_{_FIRST_NUMBER[split] + index}'


def simulate(seed: int, index: int, drawn: scene.Scene) -> list[imagenet_ab_writer.Showing]:
  """Simulates what is recorded of the workers who see training image `index`."""
  rng = np.random.default_rng([seed, 1, SPLITS.index('train'), index, 1])
  target = behaviour.target_of(drawn.objects[0], drawn)
  return behaviour.simulate_showings(rng, target, drawn.width, drawn.height)


def write(
  out: pathlib.Path,
  seed: int,
  train: int,
  validation: int,
  correlation: float,
  size: int,
  objects: str,
) -> dict[str, int]:
  """Writes the five files.

  Args:
    out: existing folder.
    seed, correlation, size, objects: see `draw`.
    train, validation: numbers of images; 'uncorrelated' has as many as validation.

  Returns:
    {what: how many}.
  """
  counts = dict.fromkeys(_COUNTED, 0)
  bar = tqdm(total=train + 2 * validation, unit='image', desc='imagenet_ab', disable=None)
  with bar:
    with (
      writer.tar_of_tars(out / 'ILSVRC2012_img_train.tar', CLASSES) as tars,
      writer.tar_gz(out / 'imagenet_ab_v1_0.tar.gz') as byproducts,
    ):
      for index in range(train):
        drawn, stem = draw(seed, 'train', index, correlation, size, objects)
        name = CLASSES[index % len(CLASSES)]
        writer.add_to_tar(tars[name], f'{stem}.JPEG', encode_jpeg(drawn.pixels))
        counts['training images'] += 1
        _add_byproducts(byproducts, seed, index, drawn, name, stem, counts)
        bar.update()
    with writer.tar_gz(out / 'ILSVRC2012_bbox_val_v3.tgz') as boxes:
      for split, what in (('val', 'validation images'), ('uncorrelated', 'uncorrelated images')):
        with writer.tar_of_tars(out / f'ILSVRC2012_img_{split}.tar', CLASSES) as tars:
          for index in range(validation):
            drawn, stem = draw(seed, split, index, correlation, size, objects)
            name = CLASSES[index % len(CLASSES)]
            writer.add_to_tar(tars[name], f'{stem}.JPEG', encode_jpeg(drawn.pixels))
            record = imagenet_ab_writer.to_record(
              [], boxes=[_box_of(drawn, name)], size=(drawn.width, drawn.height)
            )
            xml = imagenet_ab_writer.to_xml(
              record, folder='val', stem=stem, database=scene.LABEL, indent=False
            )
            writer.add_to_tar(boxes, f'val/{stem}.xml', xml)
            counts[what] += 1
            bar.update()
  return counts


def encode_jpeg(pixels: np.ndarray) -> bytes:
  """Encodes u8[H, W, 3] as JPEG, without chroma subsampling since the objects are small."""
  file = io.BytesIO()
  Image.fromarray(pixels).save(
    file, 'JPEG', quality=92, subsampling=0, comment=scene.LABEL.encode()
  )
  return file.getvalue()


def _add_byproducts(
  tar: tarfile.TarFile,
  seed: int,
  index: int,
  drawn: scene.Scene,
  class_name: str,
  stem: str,
  counts: dict[str, int],
) -> None:
  """Adds the XML of training image `index`, if it has one, and counts its content."""
  rng = np.random.default_rng([seed, 1, SPLITS.index('train'), index, 2])
  has_xml, has_box, has_companion = rng.random(3) < (0.96, 0.45, 0.1)
  if not has_xml:
    return
  record = imagenet_ab_writer.to_record(simulate(seed, index, drawn))
  if has_box:
    record = record._replace(boxes=[_box_of(drawn, class_name)], size=(drawn.width, drawn.height))
  xml = imagenet_ab_writer.to_xml(record, folder=class_name, stem=stem, database=scene.LABEL)
  folder = f'train_xml/{class_name}'
  writer.add_to_tar(tar, f'{folder}/{stem}.xml', xml)
  if has_companion:
    writer.add_to_tar(tar, f'{folder}/._{stem}.xml', _APPLE_DOUBLE)
  counts['with XML'] += 1
  counts['with a box'] += int(has_box)
  counts['selected'] += any(block.selected for block in record.blocks)
  counts['clicks'] += len(record.clicks.x)


def _box_of(drawn: scene.Scene, class_name: str) -> Box:
  """Returns the smallest box of whole pixels that contains the object."""
  xmin, ymin, xmax, ymax = drawn.objects[0].box
  corners = (math.floor(xmin), math.floor(ymin), math.ceil(xmax), math.ceil(ymax))
  return Box(class_name, *corners, truncated=0, difficult=0)
