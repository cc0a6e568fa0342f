"""The files of a build and how their contents become examples.

Used by the plain build and by the Beam pipeline: a Release holds no open file and can be sent to
workers.
"""

import dataclasses
import pathlib
import posixpath
import re
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow_datasets as tfds
from tensorflow_datasets.datasets.imagenet2012 import imagenet2012_dataset_builder as imagenet2012

from luab_jax.byproducts import BadRecord
from luab_jax.byproducts import imagenet_ab as byproducts
from luab_jax.byproducts.archives import reader
from luab_jax.data.image_files import BadImage, EncodedImage, Reduction
from luab_jax.errors import UserError
from tfds_builders.build_summary import BuildSummary
from tfds_builders.imagenet_ab import example

XML_SOURCE = (
  'https://huggingface.co/datasets/coallaoh/ImageNet-AB/resolve/main/imagenet_ab_v1_0.tar.gz'
)
XML_SHA256 = '38e67940a68adb5a3d436a25a0656d8c99023731077395b60097d01cd97868b1'
IMAGE_SOURCE = 'https://image-net.org/download-images (after registration)'
BOX_SOURCE = 'https://image-net.org'
LOCAL_SOURCE = 'your own images, see tfds_builders/imagenet_ab/README.md'
COUNTS = ('images read', 'images written', 'with XML', 'selected', 'clicks', 'boxes')
BOX_FOLDER = 'val'  # within the archive of boxes
_VALIDATION_NAME = re.compile(r'ILSVRC2012_val_(\d{8})\.JPEG')
_LOCAL_SPLIT = re.compile(r'(?:[^.].*_)?img_([A-Za-z0-9_]+?)(?:\.tar)?')  # no ._companions
_SPLIT_NAMES = {'val': 'validation'}


class Joined(NamedTuple):
  """An image and the XMLs that belong to it."""

  label: str  # name of its class
  file_name: str
  data: bytes
  xml: bytes | None  # its byproducts; None: there are none
  box_xml: bytes | None  # boxes for an image whose own XML has none; None for 'train'


@dataclasses.dataclass(frozen=True)
class Release:
  """Where the files are."""

  images: dict[str, pathlib.Path]  # the archive or folder of each split
  classes: dict[str, int]  # name -> index
  xmls: pathlib.Path
  xml_sha256: str  # '': not checked
  boxes: pathlib.Path | None  # None: there is none
  is_local: bool
  reduction: Reduction | None  # for large images; None: all keep their size

  @property
  def image_source(self) -> str:
    return LOCAL_SOURCE if self.is_local else IMAGE_SOURCE

  def has_class_parts(self, split: str) -> bool:
    """Whether the split is laid out by class; the validation tar of ILSVRC2012 is flat."""
    return self.is_local or split == 'train'

  def iter_images(
    self,
    split: str,
    summary: BuildSummary,
    *,
    progress: reader.Progress | None = None,
    part: int | None = None,
  ) -> Iterator[tuple[str, str, bytes]]:
    """Yields (class name, file name, bytes) of every image of a split, or of one part of it."""
    path = self.images[split]
    refused = _refused(path, summary)
    if self.has_class_parts(split):
      for label, file_name, data in reader.iter_class_members(
        path, source=self.image_source, refused=refused, progress=progress, part=part
      ):
        if label in self.classes:
          yield label, file_name, data
        else:
          refused(f'{label}/{file_name}', 'its class is not one of the 1000 of ILSVRC2012')
      return
    labels = pathlib.Path(tfds_file('validation_labels.txt')).read_text().split()
    for name, data in reader.iter_members(
      path, source=self.image_source, refused=refused, progress=progress
    ):
      match = _VALIDATION_NAME.fullmatch(posixpath.basename(name))
      if match and 1 <= int(match[1]) <= len(labels):
        yield labels[int(match[1]) - 1], match[0], data
      else:
        refused(name, 'it is not a validation image of ILSVRC2012')

  def iter_xmls(
    self, summary: BuildSummary, *, progress: reader.Progress | None = None
  ) -> Iterator[tuple[str, str, bytes]]:
    """Yields (class name, stem, bytes) of the byproducts; the sha256 is checked first."""
    yield from _iter_xmls(self.xmls, XML_SOURCE, self.xml_sha256, summary, progress)

  def iter_boxes(
    self, summary: BuildSummary, *, progress: reader.Progress | None = None
  ) -> Iterator[tuple[str, str, bytes]]:
    """Yields (folder, stem, bytes) of the XMLs with boxes."""
    if self.boxes:
      yield from _iter_xmls(self.boxes, BOX_SOURCE, '', summary, progress)

  def example(
    self, split: str, image: Joined, encoded: EncodedImage | BadImage, summary: BuildSummary
  ) -> dict | None:
    """Returns an example, or None if the image cannot be used.

    Args:
      split: name of the split.
      image: the image and its XMLs.
      encoded: the image as it is stored, or why it cannot be used.
      summary: counts the image, what belongs to it, and what is wrong with either.
    """
    label, file_name, data, xml, box_xml = image
    stem = posixpath.splitext(file_name)[0]
    if isinstance(encoded, BadImage):
      summary.skip('undecodable image', f'{self.images[split]}: {label}/{file_name}', encoded)
      return None
    size, is_reduced = encoded.stored_size, encoded.stored_size != encoded.size
    data = encoded.data if self.is_local or is_reduced else _rgb_jpeg(file_name, data)
    record = _record(xml, f'{self.xmls}: {label}/{stem}.xml', summary)
    header = record
    if not (record and record.boxes) and box_xml is not None:
      header = _record(box_xml, f'{self.boxes}: {BOX_FOLDER}/{stem}.xml', summary)
    objects, without_area = example.encode_boxes(header, encoded.size)
    summary.note('boxes without area, left out', without_area)
    summary.note('images reduced', is_reduced)
    summary.add('images written')
    summary.add('boxes', len(objects['bbox']))
    if record:
      summary.add('with XML')
      summary.add('selected', any(block.selected for block in record.blocks))
      summary.add('clicks', len(record.clicks.x))
    return example.encode(data, file_name, self.classes[label], size, record, objects)

  def skip_duplicate_image(
    self, split: str, label: str, file_name: str, summary: BuildSummary
  ) -> None:
    """Counts an image whose name has been read before."""
    summary.skip(
      'image given twice', f'{self.images[split]}: {label}/{file_name}', 'the first one is used'
    )


def skip_duplicate_xml(path: pathlib.Path, folder: str, stem: str, summary: BuildSummary) -> None:
  """Counts an XML whose name has been read before."""
  summary.skip('XML given twice', f'{path}: {folder}/{stem}.xml', 'the first one is used')


def find(
  manual_dir: pathlib.Path, names: list[str] | None, reduction: Reduction | None = None
) -> Release:
  """Returns the release in a folder.

  Args:
    manual_dir: the folder.
    names: the classes; None for `local`, where the folders are the classes.
    reduction: for large images; None: all keep their size.

  Raises:
    UserError: a file is missing or its headers are damaged.
  """
  images = (
    _local_splits(manual_dir)
    if names is None
    else {
      'train': reader.require(manual_dir / 'ILSVRC2012_img_train.tar', IMAGE_SOURCE),
      'validation': reader.require(manual_dir / 'ILSVRC2012_img_val.tar', IMAGE_SOURCE),
    }
  )
  classes = (
    names
    if names is not None
    else sorted(set().union(*(reader.class_names(path) for path in images.values())))
  )
  xmls = manual_dir / 'imagenet_ab_v1_0.tar.gz'
  if names is None and not xmls.exists() and (manual_dir / 'train_xml').is_dir():
    xmls = manual_dir / 'train_xml'
  boxes = manual_dir / 'ILSVRC2012_bbox_val_v3.tgz'
  return Release(
    images,
    {name: index for index, name in enumerate(classes)},
    reader.require(xmls, XML_SOURCE),
    '' if names is None else XML_SHA256,
    boxes if boxes.exists() else None,
    is_local=names is None,
    reduction=reduction,
  )


def tfds_file(name: str) -> str:
  """Returns the path of a file of TFDS's own imagenet2012."""
  return str(tfds.core.tfds_path(f'datasets/imagenet2012/{name}'))


def _iter_xmls(path, source, sha256, summary, progress):
  for folder, name, data in reader.iter_class_members(
    path,
    sha256=sha256,
    source=source,
    max_bytes=byproducts.MAX_XML_BYTES,
    refused=_refused(path, summary),
    progress=progress,
  ):
    stem, extension = posixpath.splitext(name)
    if extension == '.xml':
      yield folder, stem, data
    else:
      summary.note('other files among the XMLs, left out')


def _refused(path: pathlib.Path, summary: BuildSummary) -> reader.Refused:
  return lambda name, reason: summary.skip('refused member', f'{path}: {name}', reason)


def _record(xml: bytes | None, where: str, summary: BuildSummary) -> byproducts.Record | None:
  """Returns the record of an XML; None if there is none or it is bad."""
  try:
    return None if xml is None else byproducts.parse_xml(xml)
  except BadRecord as error:
    summary.skip('corrupt XML', where, error)
    return None


def _rgb_jpeg(file_name: str, data: bytes) -> bytes:
  """Re-encodes the 22 CMYK images and the PNG of ILSVRC2012, as TFDS's imagenet2012 does."""
  if file_name in imagenet2012.CMYK_IMAGES:
    return tfds.core.utils.jpeg_cmyk_to_rgb(data)
  if file_name in imagenet2012.PNG_IMAGES:
    return tfds.core.utils.png_to_jpeg(data)
  return data


def _local_splits(manual_dir: pathlib.Path) -> dict[str, pathlib.Path]:
  """Returns the archive or folder of each split: train, validation, then the others by name."""
  splits = {}
  for path in sorted(manual_dir.iterdir()):
    match = _LOCAL_SPLIT.fullmatch(path.name)
    if match and (path.is_dir() or path.suffix == '.tar'):
      name = match[1]
    elif path.is_dir() and path.name in ('train', 'val'):
      name = path.name
    else:
      continue
    name = _SPLIT_NAMES.get(name, name)
    if name in splits:
      raise UserError(f'{splits[name]} and {path} are both the split {name}: keep one of them')
    splits[name] = path
  if not splits:
    raise UserError(
      f'{manual_dir} holds no *_img_<split>.tar or folder of that name: put the '
      'images there, see tfds_builders/imagenet_ab/README.md'
    )
  order = ('train', 'validation')
  return dict(sorted(splits.items(), key=lambda item: (item[0] not in order, item[0])))
