"""Packages the Backgrounds Challenge (ImageNet-9) for evaluation, see README.md here."""

import contextlib
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from luab_jax.data import image_files
from luab_jax.errors import UserError
from tfds_builders import build_summary
from tfds_builders.backgrounds_challenge import release


class Builder(tfds.core.GeneratorBasedBuilder):
  """The eight variations of ImageNet-9, or the foregrounds of its original images."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'The release of 2020.'}
  BUILDER_CONFIGS = [
    tfds.core.BuilderConfig(
      name='variations', description='One split for each of the eight variations.'
    ),
    tfds.core.BuilderConfig(
      name='foregrounds',
      description='Original images with the mask of their foreground, to be placed on the '
      'backgrounds of other images.',
    ),
  ]
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    f'Put {release.ARCHIVE_NAME} ({release.ARCHIVE_URL}), or what it unpacks to, and '
    f'{release.MAPPING_NAME} ({release.MAPPING_URL}) into manual_dir.'
  )

  def _info(self) -> tfds.core.DatasetInfo:
    """Returns the metadata; the names of the nine classes are known only when it is built."""
    features = {
      'image': tfds.features.Image(
        encoding_format='jpeg', doc='The file as released, byte for byte.'
      ),
      'file_name': tfds.features.Text(doc='<class folder>/<file>.'),
      'label': tfds.features.ClassLabel(doc='One of the nine classes of ImageNet-9.'),
      'right_labels': tfds.features.Sequence(
        tfds.features.ClassLabel(
          names_file=str(tfds.core.tfds_path('datasets/imagenet2012/labels.txt'))
        ),
        doc='The ImageNet classes that belong to the label, ascending.',
      ),
    }
    if self._has_masks:
      features['mask'] = tfds.features.Image(
        shape=(None, None, 1), encoding_format='png', doc='255 on the foreground, else 0.'
      )
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict(features),
      supervised_keys=('image', 'label'),
      homepage='https://github.com/MadryLab/backgrounds_challenge',
    )

  @property
  def _has_masks(self) -> bool:
    return self.builder_config.name == 'foregrounds'

  def download_and_prepare(self, **kwargs) -> None:
    """Builds the data set and prints a summary of the input; a UserError stops it."""
    self._summary = None
    build_summary.warn_about_beam(self.name, kwargs.get('download_config'))
    with build_summary.one_line_errors(self.data_dir_root), contextlib.ExitStack() as self._open:
      super().download_and_prepare(**kwargs)
      if self._summary:
        print(self._summary)

  def _split_generators(self, dl_manager):
    try:
      manual_dir = pathlib.Path(dl_manager.manual_dir)
    except (AssertionError, OSError) as error:
      raise UserError(' '.join(str(error).split())) from error
    self._summary = build_summary.BuildSummary(
      f'{self.name}/{self.builder_config.name}',
      ('images read', *(['masks read'] if self._has_masks else []), 'images written'),
    )
    self._right_labels = release.read_mapping(manual_dir / release.MAPPING_NAME)
    self._source = release.find(manual_dir)
    if not self._has_masks:  # foregrounds need only part of the release
      build_summary.check_room(self.data_dir_root, [self._source])
    folders = ('original', release.MASKS) if self._has_masks else release.VARIATIONS
    self._read(folders)
    self.info.features['label'].names = release.class_names(self._spool, folders, self._source)
    if self._has_masks:
      return {'test': self._generate_examples('original')}
    return {folder: self._generate_examples(folder) for folder in folders}

  def _read(self, folders: tuple[str, ...]) -> None:
    """Reads the release once, into a temporary file."""
    folder = pathlib.Path(self.data_dir)  # where space is planned for; a bucket cannot be used
    self._spool = self._open.enter_context(release.Spool(folder if folder.is_dir() else None))
    for name, data in release.iter_files(self._source, folders, self._summary):
      self._summary.add('masks read' if name[0] == release.MASKS else 'images read')
      if not self._spool.add(name, data):
        self._summary.skip('file given twice', self._where(name), 'the first one is used')

  def _where(self, name: release.Name) -> str:
    return f'{self._source}: {name[0]}/val/{name[1]}/{name[2]}'

  def _generate_examples(self, folder: str):
    masks = {release.stem(name): name for name in self._spool.names(release.MASKS)}
    written = 0
    for name in self._spool.names(folder):
      item = self._example(name, masks.pop(release.stem(name), None))
      if item:
        written += 1
        yield item['file_name'], item
    for name in masks.values():
      self._summary.skip('mask without an image', self._where(name), 'left out')
    self._summary.add('images written', written)
    self._summary.check()
    if not written:
      raise UserError(
        f'{self._source} holds no usable image of {folder}: get '
        f'{release.ARCHIVE_NAME} again from {release.ARCHIVE_URL}'
      )

  def _example(self, name: release.Name, mask: release.Name | None) -> dict | None:
    """Returns an example, or None if the image or its mask cannot be used."""
    data = self._spool.get(name)
    try:
      image = image_files.encode(data)
    except image_files.BadImage as error:
      self._summary.skip('undecodable image', self._where(name), error)
      return None
    if not image.data.startswith(b'\xff\xd8'):
      self._summary.skip('undecodable image', self._where(name), 'it is not a JPEG')
      return None
    label = self.info.features['label'].str2int(name[1])
    item = {
      'image': image.data,
      'file_name': f'{name[1]}/{name[2]}',
      'label': label,
      'right_labels': self._right_labels[label],
    }
    if not self._has_masks:
      return item
    foreground = self._mask(name, mask, image.size)
    return None if foreground is None else {**item, 'mask': foreground}

  def _mask(self, image: release.Name, mask: release.Name | None, size) -> np.ndarray | None:
    """Returns uint8 [H, W, 1] of 0 and 255, or None if there is no usable mask."""
    if mask is None:
      self._summary.skip('image without a mask', self._where(image), 'left out')
      return None
    try:
      foreground = release.read_mask(self._spool.get(mask), size)
    except release.BadMask as error:
      self._summary.skip('bad mask', self._where(mask), error)
      return None
    return np.where(foreground, np.uint8(255), np.uint8(0))[..., None]
