"""Packages ImageNet images with the annotation byproducts of ImageNet-AB, see README.md here."""

import contextlib
import pathlib
import posixpath
import re
from collections.abc import Iterator

import tensorflow_datasets as tfds
from tensorflow_datasets.datasets.imagenet2012 import imagenet2012_dataset_builder as imagenet2012

from luab_jax import archives
from luab_jax.byproducts import BadRecord
from luab_jax.byproducts import imagenet as byproducts
from luab_jax.errors import UserError
from luab_jax.image_files import BadImage
from tfds_builders import build_summary, image_checks
from tfds_builders.imagenet_ab import example
from tfds_builders.imagenet_ab.xml_store import XmlStore

XML_SOURCE = ('https://huggingface.co/datasets/coallaoh/ImageNet-AB/resolve/main/'
              'imagenet_ab_v1_0.tar.gz')
XML_SHA256 = '38e67940a68adb5a3d436a25a0656d8c99023731077395b60097d01cd97868b1'
IMAGE_SOURCE = 'https://image-net.org/download-images (after registration)'
LOCAL_SOURCE = 'the images of your own, see tfds_builders/imagenet_ab/README.md'
_VALIDATION_NAME = re.compile(r'ILSVRC2012_val_(\d{8})\.JPEG')
_LOCAL_SPLIT = re.compile(r'(?:[^.].*_)?img_([A-Za-z0-9_]+?)(?:\.tar)?')  # no ._companions
_SPLIT_NAMES = {'val': 'validation'}


class Builder(tfds.core.GeneratorBasedBuilder):
  """Images, labels and the annotation byproducts of the workers who selected them."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'ImageNet-AB v1.0.'}
  BUILDER_CONFIGS = [
      tfds.core.BuilderConfig(
          name='ilsvrc2012', description='The 1000 classes of ILSVRC2012, as released.'),
      tfds.core.BuilderConfig(
          name='local', description='Any images in the same layout; the folders are the classes.'),
  ]
  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  ilsvrc2012: put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar (https://image-net.org) and
  imagenet_ab_v1_0.tar.gz (https://huggingface.co/datasets/coallaoh/ImageNet-AB) into manual_dir;
  ILSVRC2012_bbox_val_v3.tgz as well for boxes of the validation images.
  local: the same files of your own, see tfds_builders/imagenet_ab/README.md.
  """

  def _info(self) -> tfds.core.DatasetInfo:
    """Returns the metadata; the classes of `local` are known only when it is built."""
    names = {} if self._is_local else {'names_file': _tfds_file('labels.txt')}
    return self.dataset_info_from_configs(
        features=example.features(tfds.features.ClassLabel(doc='Class of the image.', **names)),
        supervised_keys=('image', 'label'),
        homepage='https://github.com/naver-ai/NeglectedFreeLunch',
    )

  @property
  def _is_local(self) -> bool:
    return self.builder_config.name == 'local'

  def download_and_prepare(self, **kwargs) -> None:
    """Builds the data set and prints what became of the input; a UserError stops it."""
    self._summary = None
    with build_summary.one_line_errors(), build_summary.small_shuffle_buffer(), \
        contextlib.ExitStack() as self._open:
      super().download_and_prepare(**kwargs)
      if self._summary:
        self._summary.note('XMLs of no image', self._xmls.unused())
        print(self._summary)

  def _split_generators(self, dl_manager):
    try:
      manual_dir = pathlib.Path(dl_manager.manual_dir)
    except (AssertionError, OSError) as error:
      raise UserError(' '.join(str(error).split())) from error
    self._summary = build_summary.BuildSummary(
        f'{self.name}/{self.builder_config.name}',
        ('images read', 'images written', 'with XML', 'selected', 'clicks', 'boxes'))
    sources = _local_splits(manual_dir) if self._is_local else {
        'train': archives.require(manual_dir / 'ILSVRC2012_img_train.tar', IMAGE_SOURCE),
        'validation': archives.require(manual_dir / 'ILSVRC2012_img_val.tar', IMAGE_SOURCE),
    }
    if self._is_local:
      names = set().union(*(archives.class_names(path) for path in sources.values()))
      self.info.features['label'].names = sorted(names)
    self._index_xmls(manual_dir)
    return {split: self._generate_examples(split, path) for split, path in sources.items()}

  def _index_xmls(self, manual_dir: pathlib.Path) -> None:
    """Reads all XMLs once, into temporary files."""
    self._xml_path = manual_dir / 'imagenet_ab_v1_0.tar.gz'
    if self._is_local and not self._xml_path.exists() and (manual_dir / 'train_xml').is_dir():
      self._xml_path = manual_dir / 'train_xml'
    self._xmls = self._new_store()
    self._fill(self._xmls, self._xml_path, XML_SOURCE, '' if self._is_local else XML_SHA256)
    self._box_path = manual_dir / 'ILSVRC2012_bbox_val_v3.tgz'
    self._boxes = self._new_store()
    if self._box_path.exists():
      self._fill(self._boxes, self._box_path, 'https://image-net.org')
    self._seen = self._new_store()  # of names only

  def _new_store(self) -> XmlStore:
    # In the folder of the build, where space is planned for; a bucket has no files to seek in.
    folder = pathlib.Path(self.data_dir)
    return self._open.enter_context(XmlStore(folder if folder.is_dir() else None))

  def _fill(self, store: XmlStore, path: pathlib.Path, source: str, sha256: str = '') -> None:
    """Stores all XMLs of an archive or folder."""
    with build_summary.progress_bar(archives.require(path, source), 'Reading XMLs') as progress:
      for folder, name, data in archives.iter_class_members(
          path, sha256=sha256, source=source, max_bytes=byproducts.MAX_XML_BYTES,
          refused=self._refused(path), progress=progress):
        stem, extension = posixpath.splitext(name)
        if extension != '.xml':
          self._summary.note('other files among the XMLs, left out')
        elif not store.add(folder, stem, data):
          self._summary.skip('XML given twice', f'{path}: {folder}/{name}', 'the first one counts')

  def _refused(self, path: pathlib.Path) -> archives.Refused:
    return lambda name, reason: self._summary.skip('refused member', f'{path}: {name}', reason)

  def _generate_examples(self, split: str, path: pathlib.Path):
    written = 0
    with build_summary.progress_bar(path, f'Reading {split} images') as progress:
      images = image_checks.with_sizes(self._images(split, path, progress))
      for (label, file_name, data), size in images:
        self._summary.add('images read')
        item = self._example(split, path, label, file_name, data, size)
        if item:
          written += 1
          yield f'{label}/{file_name}', item
    self._summary.check()
    if not written:
      raise UserError(f'{path} holds no images: expected <class>.tar or <class>/<image> in it')

  def _images(self, split, path, progress) -> Iterator[tuple[str, str, bytes]]:
    """Yields (class name, file name, bytes) of every image of a split."""
    source = LOCAL_SOURCE if self._is_local else IMAGE_SOURCE
    refused = self._refused(path)
    if self._is_local or split == 'train':
      classes = set(self.info.features['label'].names)
      for label, file_name, data in archives.iter_class_members(
          path, source=source, refused=refused, progress=progress):
        if label in classes:
          yield label, file_name, data
        else:
          refused(f'{label}/{file_name}', 'it belongs to none of the 1000 classes of ILSVRC2012')
      return
    labels = pathlib.Path(_tfds_file('validation_labels.txt')).read_text().split()
    for name, data in archives.iter_members(
        path, source=source, refused=refused, progress=progress):
      match = _VALIDATION_NAME.fullmatch(posixpath.basename(name))
      if match and 1 <= int(match[1]) <= len(labels):
        yield labels[int(match[1]) - 1], match[0], data
      else:
        refused(name, 'it is no validation image of ILSVRC2012')

  def _example(self, split, path, label, file_name, data, size) -> dict | None:
    """Returns an example, or None if the image cannot be used."""
    where = f'{path}: {label}/{file_name}'
    if not self._seen.add(f'{split}/{label}', file_name, b''):
      self._summary.skip('image given twice', where, 'the first one counts')
      return None
    stem = posixpath.splitext(file_name)[0]
    xml = self._xmls.get(label, stem)
    if isinstance(size, BadImage):
      self._summary.skip('undecodable image', where, size)
      return None
    if not self._is_local:
      data = _fixed_image(file_name, data)
    record = self._record(xml, f'{self._xml_path}: {label}/{stem}.xml')
    header = record
    if split != 'train' and not (record and record.boxes):
      header = self._record(self._boxes.get('val', stem), f'{self._box_path}: val/{stem}.xml')
    objects, without_area = example.encode_boxes(header, size)
    self._summary.note('boxes without area, left out', without_area)
    self._summary.add('images written')
    self._summary.add('boxes', len(objects['bbox']))
    if record:
      self._summary.add('with XML')
      self._summary.add('selected', any(block.selected for block in record.blocks))
      self._summary.add('clicks', len(record.clicks.x))
    return example.encode(data, file_name, label, size, record, objects)

  def _record(self, xml: bytes | None, where: str) -> byproducts.Record | None:
    """Returns the record of an XML; None if there is none or it is bad."""
    try:
      return None if xml is None else byproducts.parse_xml(xml)
    except BadRecord as error:
      self._summary.skip('corrupt XML', where, error)
      return None


def _tfds_file(name: str) -> str:
  """Returns the path of a file of TFDS's own imagenet2012."""
  return str(tfds.core.tfds_path(f'datasets/imagenet2012/{name}'))


def _fixed_image(file_name: str, data: bytes) -> bytes:
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
    raise UserError(f'{manual_dir} holds no *_img_<split>.tar or folder of that name: put the '
                    'images there, see tfds_builders/imagenet_ab/README.md')
  order = ('train', 'validation')
  return dict(sorted(splits.items(), key=lambda item: (item[0] not in order, item[0])))
