"""Builds COCO 2014 images with the annotation byproducts of COCO-AB, see README.md here."""

import pathlib
import posixpath
from collections.abc import Iterator

import tensorflow_datasets as tfds
from absl import logging

from luab_jax.byproducts import coco_ab
from luab_jax.byproducts.archives import reader
from luab_jax.data.image_files import BadImage, EncodedImage
from luab_jax.errors import UserError
from tfds_builders import build_summary, content_digest
from tfds_builders.coco_ab import example
from tfds_builders.coco_ab.join import ANNOTATIONS_URL, Join, Joined, class_names
from tfds_builders.image_check import check_images
from tfds_builders.image_config import ImageConfig, with_reduced

URLS = {
  'train2014.zip': 'http://images.cocodataset.org/zips/train2014.zip',
  'val2014.zip': 'http://images.cocodataset.org/zips/val2014.zip',
  'annotations_trainval2014.zip': ANNOTATIONS_URL,
  coco_ab.FILE_NAME: coco_ab.URL,
}
_SPLITS = {'train': 'train2014', 'validation': 'val2014'}
_COUNTS = ('images', 'instances', 'records', 'with a record', 'icons', 'actions', 'trace points')


class Builder(tfds.core.GeneratorBasedBuilder):
  """COCO images, their instances, and what the workers of COCO-AB did on them."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First release.'}
  BUILDER_CONFIGS = with_reduced(
    ImageConfig(
      name='2014',
      description='COCO 2014 and COCO-AB 1.0 as released, downloaded or from manual_dir; '
      'the checksum of every file is verified.',
    ),
    ImageConfig(
      name='local', description='Your own files of the same names and formats from manual_dir.'
    ),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    f'Put {", ".join(URLS)} into manual_dir. For the config 2014, files that are not there are '
    'downloaded (20 GB).'
  )

  def _info(self) -> tfds.core.DatasetInfo:
    # The classes of `local` are known only when it is built.
    own = self.builder_config.is_local
    return self.dataset_info_from_configs(
      features=example.features(None) if own else example.features(),
      homepage='https://github.com/naver-ai/NeglectedFreeLunch',
      metadata=self.builder_config.metadata,
    )

  def download_and_prepare(self, **kwargs) -> None:
    """Builds the data set and prints a summary of the input; a UserError stops it."""
    self._summary = None
    build_summary.warn_about_beam(self.name, kwargs.get('download_config'))
    with build_summary.one_line_errors(self.data_dir_root):
      super().download_and_prepare(**kwargs)
      if self._summary:
        images, records, instances = self._join.unused()
        self._summary.note('listed images that were not read', images)
        self._summary.note('instances of images that were not read', instances)
        self._summary.note('records without an image', records)
        print(self._summary)

  def _split_generators(self, dl_manager):
    self._summary = build_summary.BuildSummary(f'{self.name}/{self.builder_config.name}', _COUNTS)
    self._join = Join()
    files = self._files(dl_manager)
    if not self.builder_config.reduction:
      build_summary.check_room(
        self.data_dir_root, [files[f'{folder}.zip'] for folder in _SPLITS.values()]
      )
    if self.builder_config.is_local:
      names = class_names(files['annotations_trainval2014.zip'], map(_instances, _SPLITS.values()))
      self.info.features['labels'].feature.names = names  # one label, which the others are too
      self._join.class_index = {name: index for index, name in enumerate(names)}
    self._read_records(files[coco_ab.FILE_NAME])
    annotations = files['annotations_trainval2014.zip']
    examples = {
      split: self._generate_examples(files[f'{folder}.zip'], annotations, folder)
      for split, folder in _SPLITS.items()
    }
    return {
      split: content_digest.digested(generator, self.info.metadata, split)
      for split, generator in examples.items()
    }

  def _files(self, dl_manager) -> dict[str, pathlib.Path]:
    if self.builder_config.is_local:
      try:
        folder = dl_manager.manual_dir
      except AssertionError as error:  # raised by TFDS for a missing or empty folder
        raise UserError(
          f'{str(error).splitlines()[0]}: give --manual_dir a folder with {", ".join(URLS)}'
        ) from error
      return {name: reader.require(folder / name, url) for name, url in URLS.items()}
    try:
      # Takes a file of the registered name from manual_dir if it is there, and verifies it too.
      return dl_manager.download(URLS)
    except tfds.download.download_manager.NonMatchingChecksumError as error:
      what = ' '.join(str(error).partition('To debug')[0].split())
      raise UserError(
        f'{what}: get the file again, or build other files with --config=local'
      ) from error
    except (OSError, tfds.download.DownloadError) as error:
      raise UserError(
        f'a download failed ({" ".join(str(error).split())}): put {", ".join(URLS)} '
        'into a folder and give it as --manual_dir'
      ) from error

  def _read_records(self, path) -> None:
    with build_summary.progress_bar(path, 'Reading byproducts') as progress:
      records = self._readable(coco_ab.read_records(path, progress=progress))
      for replaced in self._join.add_records(records):
        self._summary.skip(
          'duplicate record',
          f'{path}: record {replaced.number}',
          f'image_id {replaced.image_id} comes again, and the last one counts',
        )

  def _readable(self, records) -> Iterator[coco_ab.CocoRecord]:
    for record in records:
      self._summary.add('records')
      if isinstance(record, coco_ab.CorruptRecord):
        self._summary.skip('corrupt record', record.path, record)
      else:
        yield record

  def _generate_examples(self, images, annotations, folder) -> Iterator[tuple[str, dict]]:
    """Yields (key, example) of a split."""
    self._join.add_instances(annotations, _instances(folder))
    with build_summary.progress_bar(images, f'Reading {folder}') as progress:
      written = False
      for joined, image in check_images(
        self._joined(images, folder, progress), lambda i: i.data, self.builder_config.reduction
      ):
        if built := self._example(joined, image):
          written = True
          yield built['file_name'], built
    self._summary.check()
    if not written:
      raise UserError(
        f'{images} holds no usable image that {_instances(folder)} lists: get it '
        f'again from {URLS[f"{folder}.zip"]}'
      )

  def _joined(self, images, folder, progress) -> Iterator[Joined]:
    """Yields the listed images, each with what belongs to it; of duplicates the first."""
    for name, data in reader.iter_members(
      images,
      source=URLS[f'{folder}.zip'],
      progress=progress,
      refused=lambda name, why: self._summary.skip('refused member', f'{images}: {name}', why),
    ):
      self._summary.add('images')
      where = f'{images}: {name}'
      file_name = posixpath.basename(name)
      listed = self._join.listed(file_name)
      if listed is None:
        self._summary.skip('not in the instances file', where, 'left out')
      elif (found := self._join.take(listed.image_id)) is None:
        self._summary.skip('image given twice', where, 'the first one counts')
      else:
        yield Joined(where, file_name, data, listed, *found)

  def _example(self, joined: Joined, image: EncodedImage | BadImage) -> dict | None:
    """Returns an example, or None if the image cannot be used."""
    if isinstance(image, BadImage):
      self._summary.skip('undecodable image', joined.where, image)
      return None
    if image.size != (joined.listed.height, joined.listed.width):
      self._summary.note('images of another size than listed')
    self._summary.note('images reduced', image.stored_size != image.size)
    self._summary.add('instances', len(joined.instances))
    if joined.record:
      self._count(joined.record)
    return example.build_example(
      joined._replace(data=image.data), image.stored_size, self._join.class_index
    )

  def _count(self, record: coco_ab.CocoRecord) -> None:
    icons, unknown = coco_ab.replay_icons(record.actions, self._join.class_index)
    self._summary.add('with a record')
    self._summary.add('icons', len(icons))
    self._summary.add('actions', len(record.actions.action))
    self._summary.add('trace points', len(record.trace_xy))
    if unknown:
      self._summary.note('records with icons of no known class')
      logging.warning(
        '%s: record %d (image_id %d): unknown icons are not replayed: %r',
        coco_ab.FILE_NAME,
        record.number,
        record.image_id,
        unknown,
      )


def _instances(folder: str) -> str:
  return f'annotations/instances_{folder}.json'
