"""Builds COCO images with the byproducts of COCO-AB or Localized Narratives, see README.md here."""

import posixpath
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from luab_jax.byproducts import coco_ab, localized_narratives
from luab_jax.byproducts.archives import reader
from luab_jax.data.image_files import BadImage, EncodedImage
from luab_jax.errors import UserError
from tfds_builders import build_summary, content_digest
from tfds_builders.coco_ab import example
from tfds_builders.coco_ab.files import CocoConfig, find_files
from tfds_builders.coco_ab.join import Join, Joined, class_names
from tfds_builders.image_check import check_images
from tfds_builders.image_config import with_reduced


class Builder(tfds.core.GeneratorBasedBuilder):
  """COCO images, their instances, and what annotators did on them."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First release.'}
  BUILDER_CONFIGS = with_reduced(
    CocoConfig(
      name='2014',
      description='COCO 2014 and COCO-AB 1.0 as released, downloaded or from manual_dir; '
      'the checksum of every file is verified.',
    ),
    CocoConfig(
      name='local', description='Your own files of the same names and formats, from manual_dir.'
    ),
    CocoConfig(
      name='narratives',
      narrated=True,
      description='COCO 2017, downloaded or from manual_dir and verified, and its Localized '
      'Narratives from manual_dir.',
    ),
    CocoConfig(
      name='local_narratives',
      narrated=True,
      description='Files with the names and formats of COCO 2017 and any Localized Narratives '
      '(*_localized_narratives*.jsonl), from manual_dir.',
    ),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'Put the files listed in tfds_builders/coco_ab/README.md into manual_dir. For the configs 2014 '
    'and narratives, zips and COCO-AB are downloaded (20 GB) if missing.'
  )

  def _info(self) -> tfds.core.DatasetInfo:
    # The classes of `local` are known only when it is built.
    config = self.builder_config
    names = None if config.is_local else coco_ab.CLASS_NAMES
    return self.dataset_info_from_configs(
      features=example.features(names, config.byproducts),
      homepage='https://github.com/naver-ai/NeglectedFreeLunch',
      metadata=config.metadata,
    )

  def download_and_prepare(self, **kwargs) -> None:
    """Builds the data set and prints a summary of the input; a UserError stops it."""
    self._summary = None
    build_summary.warn_about_beam(self.name, kwargs.get('download_config'))
    with build_summary.one_line_errors(self.data_dir_root):
      super().download_and_prepare(**kwargs)
      if self._summary:
        images, unused, instances = self._join.unused()
        self._summary.note('listed images that were not read', images)
        self._summary.note('instances of images that were not read', instances)
        self._summary.note(f'{self.builder_config.counts[2]} without an image', unused)
        print(self._summary)

  def _split_generators(self, dl_manager):
    config = self.builder_config
    self._summary = build_summary.BuildSummary(f'{self.name}/{config.name}', config.counts)
    self._join = Join()
    files = find_files(config, dl_manager)
    if not config.reduction:
      build_summary.check_room(
        self.data_dir_root, [files[f'{folder}.zip'] for folder in config.splits.values()]
      )
    annotations = files[config.annotations]
    if config.is_local:
      names = class_names(annotations, map(_instances, config.splits.values()))
      self.info.features['labels'].feature.names = names  # shared by all label features
      self._join.class_index = {name: index for index, name in enumerate(names)}
    for name in sorted(files.keys() - config.urls):
      self._read_narratives(files[name])
    if not config.narrated:
      self._read_records(files[coco_ab.FILE_NAME])
    examples = {
      split: self._generate_examples(files[f'{folder}.zip'], annotations, folder)
      for split, folder in config.splits.items()
    }
    return {
      split: content_digest.digested(generator, self.info.metadata, split)
      for split, generator in examples.items()
    }

  def _read_records(self, path) -> None:
    with build_summary.progress_bar(path, 'Reading byproducts') as progress:
      records = self._readable(coco_ab.read_records(path, progress=progress))
      for replaced in self._join.add_records(records):
        self._summary.skip(
          'duplicate record',
          f'{path}: record {replaced.number}',
          f'image_id {replaced.image_id} occurs again: the last one is used',
        )

  def _read_narratives(self, path) -> None:
    with build_summary.progress_bar(path, f'Reading {path.name}') as progress:
      for line in self._without_bad(localized_narratives.read_lines(path, progress=progress)):
        self._summary.add('narratives')
        self._join.add_line(line)

  def _without_bad(self, items: Iterable) -> Iterator:
    for item in items:
      if isinstance(item, localized_narratives.BadLine):
        self._summary.skip('corrupt narrative', item.path, item)
      else:
        yield item

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
        f'again from {self.builder_config.urls[f"{folder}.zip"]}'
      )

  def _joined(self, images, folder, progress) -> Iterator[Joined]:
    """Yields the listed images, each with what belongs to it; only the first of duplicates."""
    for name, data in reader.iter_members(
      images,
      source=self.builder_config.urls[f'{folder}.zip'],
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
        self._summary.skip('image given twice', where, 'the first one is used')
      else:
        instances, byproducts = found
        if isinstance(byproducts, list):
          byproducts = list(self._without_bad(map(localized_narratives.read, byproducts)))
        yield Joined(where, file_name, data, listed, instances, byproducts)

  def _example(self, joined: Joined, image: EncodedImage | BadImage) -> dict | None:
    """Returns an example, or None if the image cannot be used."""
    if isinstance(image, BadImage):
      self._summary.skip('undecodable image', joined.where, image)
      return None
    if image.size != (joined.listed.height, joined.listed.width):
      self._summary.note('images of another size than listed')
    self._summary.note('images reduced', image.stored_size != image.size)
    self._summary.add('instances', len(joined.instances))
    built = example.build_example(
      joined._replace(data=image.data),
      image.stored_size,
      self._join.class_index,
      self.builder_config.byproducts,
    )
    self._count(built, joined.byproducts)
    return built

  def _count(self, built: dict[str, Any], byproducts: Any) -> None:
    """Counts the byproducts of an example."""
    _, _, _, with_byproducts, _, steps, _ = self.builder_config.counts
    self._summary.add(with_byproducts, built['has_record'])
    self._summary.add('icons', len(built['icons']['label']))
    self._summary.add(steps, len(built[steps]['time_ms' if steps == 'actions' else 'start_ms']))
    self._summary.add('trace points', len(built['trace']['x']))
    if self.builder_config.narrated:
      empty = sum(not len(narrative.trace_xy) for narrative in byproducts or ())
      self._summary.note('narratives without a trace', empty)
    elif byproducts and (unknown := set(byproducts.actions.icon) - self._join.class_index.keys()):
      self._summary.note('records with icons of unknown classes')
      logging.warning(
        '%s: record %d (image_id %d): unknown icons are not replayed: %r',
        coco_ab.FILE_NAME,
        byproducts.number,
        byproducts.image_id,
        sorted(unknown),
      )


def _instances(folder: str) -> str:
  return f'annotations/instances_{folder}.json'
