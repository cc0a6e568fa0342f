"""Writes images in class folders and their clicks in the layout of `imagenet_ab/local`.

| in the layout | content |
|---|---|
| train/CLASS/, val/CLASS/ | links to the images; copies only of those that had to be written anew |
| imagenet_ab_v1_0.tar.gz | train_xml/CLASS/NAME.xml of each image with clicks, each click a block |
"""

import os
import pathlib
import xml.etree.ElementTree as ET

from tqdm import tqdm

from luab_jax.byproducts.archives import writer
from luab_jax.errors import UserError
from luab_jax.tools.own_data import images, points
from luab_jax.tools.own_data.problems import Report, class_table
from luab_jax.tools.synthetic import behaviour, imagenet_release

NAME = 'imagenet_ab/local'
HEADS = ('train', 'of these clicked', 'validation', 'of these clicked')


def convert(args, out: pathlib.Path, report: Report) -> list[str]:
  """Converts what the arguments of the command name; returns the table of the classes.

  Raises:
    UserError: what cannot be converted as a whole.
  """
  found = images.find(args.images, 'train', report, classes=True)
  images.check_levels(found, args.images, set(), report)
  if args.validation:
    validation = images.find(args.validation, 'val', report, classes=True)
    images.check_levels(validation, args.validation, {image.label for image in found}, report)
    found += validation
  else:
    found = images.split_off(found, args.validation_share)
  found = images.name_anew(found, report)
  clicks = {}
  if args.clicks:
    names = images.Names(found)
    clicks = points.read(args.clicks, names, args.click_units, report, what='clicks')
  placer = points.Placer(args.clicks, args.click_units, report, what='clicks')
  images.check_classes(found, report)
  table = {label: [0, 0, 0, 0] for label in sorted({image.label for image in found})}
  with writer.tar_gz(out / 'imagenet_ab_v1_0.tar.gz') as tar:
    for image in tqdm(found, unit='image', desc='own data', disable=None, leave=False):
      checked = images.check(image, report)
      of_image = clicks.pop(image.path, [])
      if checked is None:
        for point in of_image:
          report.problem('clicks of an unreadable image, left out', point.where, image.name)
        continue
      _place(image, checked, out, report)
      kept = placer.inside(of_image, image, checked.size)
      _add_clicks(tar, image, kept)
      column = 0 if image.split == 'train' else 2
      table[image.label][column] += 1
      table[image.label][column + 1] += bool(kept)
      report.count('images in train' if image.split == 'train' else 'images in validation')
  if args.clicks:
    placer.check_units()
  for column, split in ((0, 'training'), (2, 'validation')):
    if not sum(row[column] for row in table.values()):
      raise UserError(
        f'{args.images}: no {split} image is left: mend those that are unreadable, or add images'
      )
  return class_table(table, HEADS)


def _place(image, checked, out, report):
  """Puts an image into its class folder without copying it where that is possible."""
  target = out / image.split / image.label / image.new_name
  target.parent.mkdir(parents=True, exist_ok=True)
  if checked.anew:
    target.with_suffix('.jpg').write_bytes(checked.data)
    return
  source = image.path.resolve()
  try:
    os.link(source, target)
  except OSError:  # on another disk, or one that knows no hard links
    target.symlink_to(source)
    report.count('images linked by name: keep them where they are until the data are built')


def _add_clicks(tar, image, kept):
  """Appends the XML of an image with clicks: each is a time that the image was shown."""
  if not kept:
    return
  root = ET.Element('annotation')
  for point, x, y in kept:
    block = behaviour.Block('', '', '', None, None, selected=True, clicks=[(point.time, x, y)])
    root.append(imagenet_release.metadata(block, None, None))
  stem = pathlib.PurePath(image.new_name).stem
  writer.add_to_tar(tar, f'train_xml/{image.label}/{stem}.xml', ET.tostring(root))
