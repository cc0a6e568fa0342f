"""Builds ImageNet images with the annotation byproducts of ImageNet-AB, see README.md here."""

import contextlib
import os
import pathlib
import posixpath
from collections.abc import Iterator

import tensorflow_datasets as tfds

from luab_jax.errors import UserError
from tfds_builders import build_summary, content_digest
from tfds_builders.image_check import check_images
from tfds_builders.image_config import ImageConfig, with_reduced
from tfds_builders.imagenet_ab import example, release
from tfds_builders.imagenet_ab.xml_store import XmlStore


class Builder(tfds.core.GeneratorBasedBuilder):
  """Images, labels and the annotation byproducts of the workers who selected them."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'ImageNet-AB v1.0.'}
  BUILDER_CONFIGS = with_reduced(
    ImageConfig(name='ilsvrc2012', description='The 1000 classes of ILSVRC2012, as released.'),
    ImageConfig(
      name='local', description='Any images in the same layout; the folders are the classes.'
    ),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  ilsvrc2012: put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar (https://image-net.org) and
  imagenet_ab_v1_0.tar.gz (https://huggingface.co/datasets/coallaoh/ImageNet-AB) into manual_dir;
  ILSVRC2012_bbox_val_v3.tgz as well for boxes of the validation images.
  local: your own files in the same formats, see tfds_builders/imagenet_ab/README.md.
  """

  _beam = None  # the module beam_pipeline, where it is used

  def _info(self) -> tfds.core.DatasetInfo:
    """Returns the metadata; the classes of `local` are known only when it is built."""
    names = {} if self.builder_config.is_local else {'names_file': release.tfds_file('labels.txt')}
    return self.dataset_info_from_configs(
      features=example.features(tfds.features.ClassLabel(doc='Class of the image.', **names)),
      supervised_keys=('image', 'label'),
      homepage='https://github.com/naver-ai/NeglectedFreeLunch',
      metadata=self.builder_config.metadata,
    )

  def download_and_prepare(self, **kwargs) -> None:
    """Builds the data set and prints a summary of the input; a UserError stops it."""
    self._summary = self._beam = None
    with build_summary.one_line_errors(self.data_dir_root), contextlib.ExitStack() as self._open:
      if build_summary.wants_beam(kwargs.get('download_config')):
        from tfds_builders.imagenet_ab import beam_pipeline  # importing Beam takes seconds

        self._beam = beam_pipeline
        self._open.enter_context(beam_pipeline.worker_errors())
      super().download_and_prepare(**kwargs)
      if self._summary:
        if not self._beam:
          self._summary.note('XMLs without an image', self._xmls.unused())
        print(self._summary)

  def _split_generators(self, dl_manager):
    try:
      manual_dir = pathlib.Path(dl_manager.manual_dir)
    except (AssertionError, OSError) as error:
      raise UserError(' '.join(str(error).split())) from error
    self._summary = build_summary.BuildSummary(
      f'{self.name}/{self.builder_config.name}', release.COUNTS
    )
    label = self.info.features['label']
    if self._beam:
      manual_dir = pathlib.Path(os.path.abspath(manual_dir))  # workers may run in another folder
    is_local, reduction = self.builder_config.is_local, self.builder_config.reduction
    self._release = release.find(manual_dir, None if is_local else label.names, reduction)
    if not reduction:
      build_summary.check_room(
        self.data_dir_root, [*self._release.images.values(), self._release.xmls]
      )
    if is_local:
      label.names = list(self._release.classes)
    if self._beam:
      self._beam_build = self._beam.BeamBuild(self._release, self.data_dir)
      return self._beam_build.splits()
    self._index_xmls()
    return {
      split: content_digest.digested(self._generate_examples(split), self.info.metadata, split)
      for split in self._release.images
    }

  def _process_pipeline_result(self, pipeline_result):
    """Called by TFDS once a Beam pipeline is done."""
    del pipeline_result  # its metrics count retried work twice
    self._beam_build.finish(self._summary, self.info.metadata)

  def _index_xmls(self) -> None:
    """Reads all XMLs once, into temporary files."""
    files = self._release
    self._xmls = self._new_store()
    with build_summary.progress_bar(files.xmls, 'Reading XMLs') as progress:
      self._fill(self._xmls, files.xmls, files.iter_xmls(self._summary, progress=progress))
    self._boxes = self._new_store()
    if files.boxes:
      with build_summary.progress_bar(files.boxes, 'Reading XMLs') as progress:
        self._fill(self._boxes, files.boxes, files.iter_boxes(self._summary, progress=progress))
    self._seen = self._new_store()  # names only

  def _new_store(self) -> XmlStore:
    # In the folder of the build, where space is planned for; a bucket has no files to seek in.
    folder = pathlib.Path(self.data_dir)
    return self._open.enter_context(XmlStore(folder if folder.is_dir() else None))

  def _fill(self, store: XmlStore, path: pathlib.Path, xmls) -> None:
    """Stores all XMLs of an archive or folder."""
    for folder, stem, data in xmls:
      if not store.add(folder, stem, data):
        release.skip_duplicate_xml(path, folder, stem, self._summary)

  def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
    """Yields (key, example) of a split."""
    path = self._release.images[split]
    written = 0
    with build_summary.progress_bar(path, f'Reading {split} images') as progress:
      for image, encoded in check_images(
        self._joined(split, progress), lambda image: image.data, self._release.reduction
      ):
        example = self._release.example(split, image, encoded, self._summary)
        if example:
          written += 1
          yield f'{image.label}/{image.file_name}', example
    self._summary.check()
    if not written:
      raise UserError(f'{path} holds no images: expected <class>.tar or <class>/<image> in it')

  def _joined(self, split: str, progress) -> Iterator[release.Joined]:
    """Yields the images of a split, each with its XMLs; only the first of duplicates."""
    for label, file_name, data in self._release.iter_images(
      split, self._summary, progress=progress
    ):
      self._summary.add('images read')
      if not self._seen.add(f'{split}/{label}', file_name, b''):
        self._release.skip_duplicate_image(split, label, file_name, self._summary)
        continue
      stem = posixpath.splitext(file_name)[0]
      box_xml = None if split == 'train' else self._boxes.get(release.BOX_FOLDER, stem)
      yield release.Joined(label, file_name, data, self._xmls.get(label, stem), box_xml)
