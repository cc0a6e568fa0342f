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
import xml.etree.ElementTree as ET

import numpy as np
from PIL import Image
from tqdm import tqdm

from luab_jax.byproducts.archives import writer
from luab_jax.tools.synthetic import behaviour, scene

CLASSES = tuple(f'synthetic_{shape}' for shape in scene.SHAPES)
SPLITS = ('train', 'val', 'uncorrelated')

_RADIUS = (0.17, 0.26)  # of the short side: 8 to 12.5 of 48 pixels
_FIRST_NUMBER = {'train': 1, 'val': 1_000_001, 'uncorrelated': 2_000_001}  # stems never collide
# What macOS puts beside each file in a tar: an AppleDouble header without entries that matter.
_APPLE_DOUBLE = bytes.fromhex('0005160700020000') + b'Mac OS X        ' + bytes(120)


def draw(seed, split, index, correlation, size):
  """The image `index` of a split; it depends on nothing else, whatever the number of images.

  Args:
    seed: int >= 0.
    split: one of SPLITS; in 'uncorrelated' `correlation` has no effect.
    index: from 0; the class is `index % len(CLASSES)`.
    correlation: probability that the texture is the one of the class.
    size: short side in pixels.

  Returns:
    (scene.Scene with one object, stem of the file).
  """
  rng = np.random.default_rng([seed, 1, SPLITS.index(split), index, 0])
  label = index % len(CLASSES)
  texture = scene.choose_texture(
    rng, label, scene.UNIFORM if split == 'uncorrelated' else correlation
  )
  drawn = scene.draw_scene(rng, [label], texture, size, _RADIUS)
  return drawn, f'{CLASSES[label]}_{_FIRST_NUMBER[split] + index}'


def watch(seed, index, drawn):
  """What the workers recorded on training image `index`: a list of behaviour.Block."""
  rng = np.random.default_rng([seed, 1, SPLITS.index('train'), index, 1])
  target = behaviour.target_of(drawn.objects[0], drawn)
  return behaviour.simulate_blocks(rng, target, drawn.width, drawn.height)


def write(out, seed, train, validation, correlation, size):
  """Writes the five files into the folder `out`; returns {what: how many}.

  Args:
    out: pathlib.Path of an existing folder.
    seed, correlation, size: see `draw`.
    train, validation: numbers of images; 'uncorrelated' has as many as validation.
  """
  counts = dict.fromkeys(
    (
      'training images',
      'with XML',
      'with a box',
      'selected',
      'clicks',
      'validation images',
      'uncorrelated images',
    ),
    0,
  )
  bar = tqdm(total=train + 2 * validation, unit='image', desc='imagenet_ab', disable=None)
  with bar:
    with (
      writer.tar_of_tars(out / 'ILSVRC2012_img_train.tar', CLASSES) as tars,
      writer.tar_gz(out / 'imagenet_ab_v1_0.tar.gz') as byproducts,
    ):
      for index in range(train):
        drawn, stem = draw(seed, 'train', index, correlation, size)
        name = CLASSES[index % len(CLASSES)]
        writer.add_to_tar(tars[name], f'{stem}.JPEG', encode_jpeg(drawn.pixels))
        counts['training images'] += 1
        _add_byproducts(byproducts, seed, index, drawn, name, stem, counts)
        bar.update()
    with writer.tar_gz(out / 'ILSVRC2012_bbox_val_v3.tgz') as boxes:
      for split, what in (('val', 'validation images'), ('uncorrelated', 'uncorrelated images')):
        with writer.tar_of_tars(out / f'ILSVRC2012_img_{split}.tar', CLASSES) as tars:
          for index in range(validation):
            drawn, stem = draw(seed, split, index, correlation, size)
            name = CLASSES[index % len(CLASSES)]
            writer.add_to_tar(tars[name], f'{stem}.JPEG', encode_jpeg(drawn.pixels))
            root = _voc_annotation(drawn, 'val', stem, name)
            writer.add_to_tar(boxes, f'val/{stem}.xml', ET.tostring(root))
            counts[what] += 1
            bar.update()
  return counts


def encode_jpeg(pixels):
  """JPEG bytes of u8[H, W, 3]; full colour resolution, because the objects are small."""
  file = io.BytesIO()
  Image.fromarray(pixels).save(
    file, 'JPEG', quality=92, subsampling=0, comment=scene.LABEL.encode()
  )
  return file.getvalue()


def _add_byproducts(tar, seed, index, drawn, class_name, stem, counts):
  """Appends the XML of training image `index`, if it has one, and counts what is in it."""
  rng = np.random.default_rng([seed, 1, SPLITS.index('train'), index, 2])
  has_xml, has_box, has_companion = rng.random(3) < (0.96, 0.45, 0.1)
  if not has_xml:
    return
  if has_box:
    root = _voc_annotation(drawn, class_name, stem, class_name)
  else:
    root = ET.Element('annotation')
    _add(root, 'filename', stem)
    _add(root, 'folder', class_name)
  blocks = watch(seed, index, drawn)
  for block in blocks:
    root.append(metadata(block, drawn.width, drawn.height))
  ET.indent(root)
  folder = f'train_xml/{class_name}'
  writer.add_to_tar(tar, f'{folder}/{stem}.xml', ET.tostring(root) + b'\n')
  if has_companion:
    writer.add_to_tar(tar, f'{folder}/._{stem}.xml', _APPLE_DOUBLE)
  counts['with XML'] += 1
  counts['with a box'] += int(has_box)
  counts['selected'] += any(block.selected for block in blocks)
  counts['clicks'] += sum(len(block.clicks) for block in blocks)


def _voc_annotation(drawn, folder, stem, class_name):
  """The layout with a VOC header; whole pixels that hold the object."""
  root = ET.Element('annotation')
  _add(root, 'folder', folder)
  _add(root, 'filename', stem)
  _add(ET.SubElement(root, 'source'), 'database', scene.LABEL)
  size = ET.SubElement(root, 'size')
  for tag, value in (('width', drawn.width), ('height', drawn.height), ('depth', 3)):
    _add(size, tag, value)
  _add(root, 'segmented', 0)
  for obj in drawn.objects:
    element = ET.SubElement(root, 'object')
    for tag, value in (
      ('name', class_name),
      ('pose', 'Unspecified'),
      ('truncated', 0),
      ('difficult', 0),
    ):
      _add(element, tag, value)
    xmin, ymin, xmax, ymax = obj.box
    box = ET.SubElement(element, 'bndbox')
    for tag, value in (
      ('xmin', np.floor(xmin)),
      ('ymin', np.floor(ymin)),
      ('xmax', np.ceil(xmax)),
      ('ymax', np.ceil(ymax)),
    ):
      _add(box, tag, int(value))
  return root


def metadata(block, width, height):
  """One `metadata` element, its children in alphabetical order; empty lists as empty elements.

  Args:
    block: behaviour.Block; its estimate_time may be None, and is then left out.
    width, height: of the image in pixels; used where the block says how it was shown.
  """
  root = ET.Element('metadata')
  _add(root, 'assignment_id', block.assignment_id)
  if block.estimate_time is not None:
    _add(root, 'estimateTime', block.estimate_time)
  _add(root, 'hit_id', block.hit_id)
  for time, action in block.hovers or [(None, None)]:
    element = ET.SubElement(root, 'hoveredRecord')
    if action:
      _add(element, 'action', action)
      _add(element, 'time', time)
  if block.shown:
    _add(root, 'imageHeight', block.shown.height)
    position = ET.SubElement(root, 'imagePosition')
    _add(position, 'x', block.shown.left)
    _add(position, 'y', block.shown.top)
    _add(root, 'imageWidth', block.shown.width)
  _add_points(root, 'mouseTracking', block.track)
  if block.shown:
    _add(root, 'originalImageHeight', height)
    _add(root, 'originalImageWidth', width)
    _add(root, 'page_idx', block.shown.page)
  _add(root, 'selected', block.selected)
  _add(root, 'selectedCount', len(block.clicks))
  if block.clicks:  # unlike the other lists, this one leaves nothing behind when it is empty
    _add_points(root, 'selectedRecord', block.clicks)
  _add(root, 'worker_id', block.worker_id)
  return root


def _add_points(parent, tag, points):
  if not points:
    ET.SubElement(parent, tag)
  for time, x, y in points:
    element = ET.SubElement(parent, tag)
    _add(element, 'time', time)
    _add(element, 'x', x)
    _add(element, 'y', y)


def _add(parent, tag, value):
  ET.SubElement(parent, tag).text = str(value)
