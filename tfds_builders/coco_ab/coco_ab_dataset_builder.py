"""Packages COCO 2014 images with the annotation byproducts of COCO-AB, see README.md here."""

import contextlib
import pathlib
import posixpath
import sys
from collections.abc import Iterator

# `tfds build` imports this file by its own path, from whatever folder the user stands in, so the
# repository it belongs to has to be made importable first.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import tensorflow_datasets as tfds  # noqa: E402
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError  # noqa: E402

from luab_jax.byproducts import coco_ab  # noqa: E402
from luab_jax.byproducts.archives import reader  # noqa: E402
from luab_jax.errors import UserError  # noqa: E402
from tfds_builders import build_summary, packing  # noqa: E402
from tfds_builders.coco_ab import example, worker  # noqa: E402
from tfds_builders.coco_ab.join import ANNOTATIONS_URL, Join, class_names  # noqa: E402
from tfds_builders.workers import Workers  # noqa: E402

URLS = {
  'train2014.zip': 'http://images.cocodataset.org/zips/train2014.zip',
  'val2014.zip': 'http://images.cocodataset.org/zips/val2014.zip',
  'annotations_trainval2014.zip': ANNOTATIONS_URL,
  coco_ab.FILE_NAME: coco_ab.URL,
}
_SPLITS = {'train': 'train2014', 'validation': 'val2014'}
_COUNTS = ('images', 'instances', 'records', 'with a record', 'icons', 'actions', 'trace points')


class Builder(tfds.core.GeneratorBasedBuilder):
  """Builder of coco_ab."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First release.'}
  BUILDER_CONFIGS = [
    tfds.core.BuilderConfig(
      name='2014',
      description='COCO 2014 and COCO-AB 1.0 as released, downloaded or from manual_dir; '
      'the checksum of every file is verified.',
    ),
    tfds.core.BuilderConfig(
      name='local', description='Files of the same names and formats from manual_dir, any content.'
    ),
  ]
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    f'Put {", ".join(URLS)} into manual_dir. For the config 2014, files that are not there are '
    'downloaded (20 GB).'
  )

  def _info(self) -> tfds.core.DatasetInfo:
    # The classes of `local` are known only when it is built.
    own = self.builder_config.name == 'local'
    return self.dataset_info_from_configs(
      features=example.features(None) if own else example.features(),
      homepage='https://github.com/naver-ai/NeglectedFreeLunch',
    )

  def _download_and_prepare(self, dl_manager, download_config):
    """Wraps TFDS's: here a failure still removes the half-built data, and messages are ours."""
    build_summary.warn_of_beam(self.name, download_config)
    folder = pathlib.Path(self.data_dir)  # where space is planned for; a bucket cannot be used
    with (
      build_summary.one_line_errors(),
      build_summary.small_shuffle_buffer(),
      contextlib.closing(Join(folder if folder.is_dir() else None)) as self._join,
      contextlib.ExitStack() as self._open,
    ):
      self._summary = build_summary.BuildSummary(f'{self.name}/{self.builder_config.name}', _COUNTS)
      super()._download_and_prepare(dl_manager, download_config)
      images, records, instances = self._join.unused()
      self._summary.note('listed images that were not read', images)
      self._summary.note('instances of images that were not read', instances)
      self._summary.note('records without an image', records)
      self._summary.check()
    print(self._summary)

  def _generate_splits(self, dl_manager, download_config):
    """Called by TFDS to write all splits; an example comes as its bytes."""
    return packing.write_splits(
      self._split_generators(dl_manager),
      self._get_filename_template,
      download_config,
      self.info.file_format,
    )

  def _split_generators(self, dl_manager):
    files = self._files(dl_manager)
    if self.builder_config.name == 'local':
      names = class_names(files['annotations_trainval2014.zip'], map(_instances, _SPLITS.values()))
      self.info.features['labels'].feature.names = names  # one label, which the others are too
      self._join.class_index = {name: index for index, name in enumerate(names)}
    images = [files[f'{folder}.zip'] for folder in _SPLITS.values()]
    # Before the records are read: processes take a while to start.
    self._workers = self._open.enter_context(
      Workers(
        worker.Encoder(self._join.class_index),
        worker.__name__,
        self._join.class_index,
        sum(build_summary.input_bytes(path) for path in images),
      )
    )
    self._read_records(files[coco_ab.FILE_NAME])
    return {
      split: self._generate_examples(
        files[f'{folder}.zip'], files['annotations_trainval2014.zip'], folder
      )
      for split, folder in _SPLITS.items()
    }

  def _files(self, dl_manager) -> dict[str, pathlib.Path]:
    if self.builder_config.name == 'local':
      try:
        folder = dl_manager.manual_dir
      except AssertionError as error:  # TFDS's word for a missing or empty folder
        raise UserError(
          f'{str(error).splitlines()[0]}: give --manual_dir a folder with {", ".join(URLS)}'
        ) from error
      return {name: reader.require(folder / name, url) for name, url in URLS.items()}
    try:
      # Takes a file of the registered name from manual_dir if it is there, and verifies it too.
      return dl_manager.download(URLS)
    except NonMatchingChecksumError as error:
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
      for twin in self._join.add_records(records):
        self._summary.skip(
          'duplicate record',
          f'{path}: record {twin.number}',
          f'image_id {twin.image_id} was there before',
        )

  def _readable(self, records) -> Iterator[coco_ab.CocoRecord]:
    for record in records:
      self._summary.add('records')
      if isinstance(record, coco_ab.CorruptRecord):
        self._summary.skip('corrupt record', record.path, record)
      else:
        yield record

  def _generate_examples(self, images, annotations, folder) -> Iterator[tuple[str, bytes]]:
    """Yields (key, record) of a split."""
    self._join.add_instances(annotations, _instances(folder))
    with build_summary.progress_bar(images, f'Packing {folder}') as progress:
      written = False
      for record in self._workers.records(self._joined(images, folder, progress), self._summary):
        written = True
        yield record
    self._summary.check()
    if not written:
      raise UserError(
        f'{images} holds no usable image that {_instances(folder)} lists: get it '
        f'again from {URLS[f"{folder}.zip"]}'
      )

  def _joined(self, images, folder, progress) -> Iterator[worker.Item]:
    """Yields what belongs to one image, of every listed image that was not there before."""
    for name, data in reader.iter_members(
      images,
      source=URLS[f'{folder}.zip'],
      progress=progress,
      refused=lambda name, why: self._summary.skip('refused member', f'{images}: {name}', why),
    ):
      self._summary.add('images')
      where = f'{images}: {name}'
      listed = self._join.listed(posixpath.basename(name))
      if listed is None:
        self._summary.skip('not in the instances file', where, 'left out')
      elif not self._join.take_image(listed.image_id):
        self._summary.skip('image given twice', where, 'the first one counts')
      else:
        yield (
          where,
          data,
          listed,
          self._join.instances(listed.image_id),
          self._join.take_record(listed.image_id),
        )


def _instances(folder: str) -> str:
  return f'annotations/instances_{folder}.json'
